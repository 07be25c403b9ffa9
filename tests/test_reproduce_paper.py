"""The paper's numbers, and the trainings that its tables need."""
import numpy as np
import pytest
import torch

from psr_fer.models.backbone import base_network
from psr_fer.recipes import RECIPES, change
from psr_fer.reproduce.paper import CONVOLUTIONS, EXPERIMENTS, FIGURES, configurations, figure_text
from psr_fer.reproduce.run import plan


def printed(name, key): return dict(next(c for c in EXPERIMENTS[name].configurations if c.key == key).paper)


def test_numbers_are_those_of_the_tables():
    assert printed("table4", "psr") == dict(wa=88.98, ua=80.78) and printed("table4", "baseline") == dict(wa=85.89, ua=76.27)
    assert printed("table5", "psr") == dict(wa=89.56, ua=69.54, macro_f1=74.88) and printed("table5", "baseline") == dict(wa=85.89)
    assert printed("table6", "psr")["wa"] == 60.68 and printed("table6-7", "psr")["wa"] == 63.77 and printed("table7", "no-stn") == dict(wa=88.62, ua=79.57)
    assert [printed("table8", f"{m}-{k}")["wa"] for m in ("baseline", "psr") for k in ("ce", "ls", "pdls")] == [85.66, 85.89, 85.77, 87.78, 88.56, 88.98]
    ua = {(name, c.a, c.b): c.paper for name in ("table4", "table5", "table7") for c in EXPERIMENTS[name].claims if c.metric == "ua"}
    assert ua == {("table4", "psr", "baseline"): 4.51, ("table5", "psr", "baseline"): None, ("table7", "no-stn", "baseline"): 3.30, ("table7", "full", "no-stn"): 1.21}
    for name, e in EXPERIMENTS.items():  # the difference that a claim cites is that of its configurations
        paper = {c.key: dict(c.paper) for c in e.configurations}
        for c in e.claims:
            if c.paper is not None: assert c.paper == pytest.approx(paper[c.a][c.metric] - paper[c.b][c.metric]), (name, c)


def test_figure_levels_agree_with_the_tables():
    level = lambda name: [y for y, _ in FIGURES[name, "rafdb"].levels]
    assert level("fig7") == [printed("table4", k)["wa"] for k in ("psr", "baseline")] and level("fig10") == [printed("table4", "psr")["wa"]]
    assert level("fig8")[0] == pytest.approx(printed("table4", "psr")["wa"] - printed("table4", "baseline")["wa"]) and level("fig9") == [printed("table7", "no-stn")["wa"]]
    assert figure_text("fig7", "synthetic").levels == () and figure_text("fig1", "ferplus") is None and figure_text("reduced", "ferplus") is None


def test_baseline_has_the_loss_that_its_number_had():  # Table 8: 85.89 is LS, 85.77 PDLS
    loss = lambda name, key: dict(next(c for c in EXPERIMENTS[name].configurations if c.key == key).overrides).get("loss")
    assert loss("table4", "baseline") == loss("table7", "baseline") == "ls" and loss("table5", "baseline") is None  # the paper names no loss for FER+
    jobs = {(j.experiment, j.configuration.key): j.recipe for j in plan(["table4", "table5", "table7"], "rafdb", "paper")}
    assert jobs["table4", "baseline"].loss == "ls" and jobs["table4", "psr"].loss == "pdls"


def test_affectnet_has_no_baseline():
    for name in ("table6", "table6-7"): assert [c.key for c in EXPERIMENTS[name].configurations] == ["psr"] and EXPERIMENTS[name].claims == ()


@pytest.mark.parametrize("dataset", ["ferplus", "rafdb", "affectnet8", "synthetic"])
def test_table8_is_trained_on_single_labels(dataset):
    jobs = plan(["table8"], dataset)
    assert [j.recipe.soft for j in jobs] == [False]*6 and [j.recipe.loss for j in jobs] == ["ce", "ls", "pdls"]*2


def test_fig9_is_without_stn():
    assert [j.recipe.stn for j in plan(["fig9"], "rafdb", "paper")] == [False]
    assert [(j.recipe.model, j.recipe.loss) for j in plan(["fig7", "fig8"], "rafdb", "paper")] == [("psr", "pdls"), ("baseline", "ls")]


def test_fig10_cuts_go_through_all_convolutions():
    for arch, n in CONVOLUTIONS.items(): assert sum(isinstance(m, torch.nn.Conv2d) for m in base_network(arch)[0].modules()) == n
    pos = lambda dataset, preset: [dict(c.overrides)["pos"] for c in configurations("fig10", dataset, preset)]
    assert pos("ferplus", "paper") == list(range(13)) and pos("ferplus", "lite") == list(range(8)) and pos("ferplus", "efficientnet") == list(range(13))


@pytest.mark.parametrize("preset", ["lite", "paper", "authors"])
@pytest.mark.parametrize("dataset", ["ferplus", "rafdb", "affectnet8", "affectnet7", "synthetic"])
def test_every_configuration_has_a_recipe(dataset, preset):
    if dataset.startswith("affectnet") and preset == "authors":  # they published none
        with pytest.raises(ValueError, match="there is no recipe affectnet"): plan(["table5"], dataset, preset)
        return
    jobs = plan(list(EXPERIMENTS), dataset, preset, (0, 1))
    names = [(j.recipe.name, j.seed) for j in jobs]
    assert len(set(names)) == len(names)
    for j in jobs:
        assert j.recipe.model == j.configuration.model == RECIPES[j.recipe.name.partition("+")[0]].model
        for k, v in j.configuration.overrides:
            if j.configuration.model == "psr": assert getattr(j.recipe, k) == v


@pytest.mark.slow
@pytest.mark.parametrize("dataset,preset,names,sizes", [
    ("rafdb", "paper", ["fig11"], (64, 100, 150, 64)),  # half of 50 is less than the 32 px that VGG16 needs
    ("rafdb", "paper", ["fig2"], (50, 100, 150, 50)), ("ferplus", "paper", ["fig2"], (48, 96, 192, 48)),
    ("ferplus", "paper", ["fig11"], (64, 96, 192, 64)), ("rafdb", "lite", ["fig11"], (50, 100, 150, 50))])
def test_change_of_size_takes_what_a_branch_needs(dataset, preset, names, sizes):
    from psr_fer.reproduce.run import change_recipes, change_sizes
    recipes = change_recipes(names, dataset, preset)
    assert change_sizes(dataset, preset, recipes.values()) == sizes
    if "fig11" in names and preset == "paper":  # PSR with the double step needs twice as much
        assert min(change_sizes(dataset, preset, [change(recipes["psr"], kstep=2)])) == 128


@pytest.mark.slow
def test_the_estimate_is_of_this_machine(monkeypatch):
    import psr_fer.reproduce.run as run
    timed = []
    def seconds(model, px, n, precision): timed.append((type(model).__name__, px)); return n/100  # 100 faces a second, whatever the network
    monkeypatch.setattr(run, "_step_seconds", seconds)
    jobs = plan(["table7", "table8"], "synthetic", seeds=(0, 1))
    hours = run.estimate(jobs, 3600, 0)
    kinds = {(j.recipe.model, j.recipe.enlarge) for j in jobs}  # loss, labels and STN cost no time worth a measurement
    assert len(hours) == len(jobs) and set(timed) == {("Baseline", 32), ("EDSR", 24), ("PSR", 48), ("Baseline", 48)} and sum(o == ("PSR", 48) for o in timed) == len(kinds) - 1
    r = RECIPES["synthetic-demo"]
    assert hours[0] == pytest.approx((sum(e for _, e in r.base) + r.sr_epochs + r.epochs)*3600/100/3600)
    assert np.isclose(hours[0], run.training_hours(r, 3600))
