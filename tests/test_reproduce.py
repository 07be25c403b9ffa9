"""The ledger: what an experiment needs, what is skipped, how a claim is judged, what is printed; and the paper's numbers."""
import json
import os
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from psr_fer.figures import MODEL_COLORS
from psr_fer.ledger import (beside, cell_text, claims_of, judge_claim, left_over, paper_text, plot_cut, plot_numbers, read_ledger,
                            read_numbers, read_size_change, rows_of, sections, size_change_table)
from psr_fer.paper import CONVOLUTIONS, EXPERIMENTS, FIGURES, NAMES, Claim, cell_recipe, experiment_cells, stated
from psr_fer.recipes import RECIPES, change, changes_of
from psr_fer.reproduce import _change_recipes, _change_sizes, estimate, estimate_text, figure_numbers, plan, reproduce, run_cells
from psr_fer.results_page import all_parts, render_results

TINY = (("epochs", 1), ("base", ()), ("size", 32), ("sr", (1, 4)), ("sr_epochs", 0), ("views_n", 2), ("batch_size", 16))


class FakeRun:
    def __init__(self, n): self.n = n
    def right(self): return dict(fused=np.ones(self.n, bool))


def record(recipe, seed, wa, n=1000, sha="x", minutes=6.):
    rng = np.random.default_rng(abs(hash((recipe, seed))) % 2**32)
    right = np.zeros(n, bool); right[rng.permutation(n)[:round(wa*n)]] = True
    return dict(recipe=recipe, seed=seed, minutes=minutes, device="CPU", command="psr-fer ...", data=dict(sha256=sha, protocol="paper"), weights="none",
                test=dict(wa=wa, ua=wa - .1, macro_f1=wa - .05), targets="0"*n, predictions="".join("0" if o else "1" for o in right))


def test_papers_numbers_are_those_of_its_tables():
    value = lambda name, key: dict(next(c for c in experiment_cells(name, "vgg16_bn") if c.key == key).paper)
    assert value("table4", "psr") == dict(wa=88.98, ua=80.78) and value("table4", "baseline") == dict(wa=85.89, ua=76.27)
    assert value("table5", "psr") == dict(wa=89.56, ua=69.54, macro_f1=74.88) and value("table5", "baseline") == dict(wa=85.89)
    assert value("table6", "psr")["wa"] == 60.68 and value("table6-7", "psr")["wa"] == 63.77
    assert value("table7", "no-stn") == dict(wa=88.62, ua=79.57)
    assert [value("table8", f"{m}-{l}")["wa"] for m in ("baseline", "psr") for l in ("ce", "ls", "pdls")] == [85.66, 85.89, 85.77, 87.78, 88.56, 88.98]
    for name, e in EXPERIMENTS.items():  # the difference that a claim cites is that of the cells
        cells = {c.key: dict(c.paper) for c in e.cells}
        for c in e.claims:
            if c.paper is not None: assert c.paper == pytest.approx(cells[c.a][c.metric] - cells[c.b][c.metric]), (name, c)


def test_the_base_line_is_trained_with_the_loss_that_its_number_had():  # Table 8: 85.89 is LS, 85.77 PDLS
    loss = lambda name, key: dict(next(c for c in EXPERIMENTS[name].cells if c.key == key).sets).get("loss")
    assert loss("table4", "baseline") == loss("table7", "baseline") == "ls"
    assert {dict(c.paper)["wa"]: c.key for c in EXPERIMENTS["table8"].cells if c.model == "baseline"} == {85.66: "baseline-ce", 85.89: "baseline-ls", 85.77: "baseline-pdls"}
    assert loss("table5", "baseline") is None  # the paper names no loss for FER+
    jobs = {(j.experiment, j.cell.key): j.recipe for j in plan(["table4", "table5", "table7"], "rafdb", "paper")}
    assert jobs["table4", "baseline"].loss == "ls" and jobs["table4", "psr"].loss == "pdls"
    assert len(plan(["table4", "table7"], "rafdb", "paper")) == 3  # one base-line for both


@pytest.mark.parametrize("dataset", ["ferplus", "rafdb", "affectnet8", "synthetic"])
def test_losses_are_compared_on_single_labels(dataset):
    assert [j.recipe.soft for j in plan(["table8"], dataset)] == [False]*6
    assert [j.recipe.loss for j in plan(["table8"], dataset)] == ["ce", "ls", "pdls"]*2


def test_the_paper_compares_no_base_line_on_affectnet():
    for name in ("table6", "table6-7"):
        assert [c.key for c in EXPERIMENTS[name].cells] == ["psr"] and EXPERIMENTS[name].claims == ()


def test_fig9_is_drawn_without_stn():
    assert [j.recipe.stn for j in plan(["fig9"], "rafdb", "paper")] == [False]
    assert [(j.recipe.model, j.recipe.loss) for j in plan(["fig7", "fig8"], "rafdb", "paper")] == [("psr", "pdls"), ("baseline", "ls")]


def test_a_fig9_with_stn_is_not_shown_as_the_papers(tmp_path):
    old = json.loads((Path(__file__).resolve().parent.parent/"results"/"fig8-synthetic.json").read_text()) | dict(name="fig9", recipes=["synthetic-demo"])
    old["columns"], old["data"] = ["faces", "fused"], [[100, .5] for _ in old["index"]]
    file = tmp_path/"fig9-synthetic.json"
    file.write_text(json.dumps(old))
    assert read_numbers(tmp_path, "fig9", "synthetic") is None
    parts = all_parts(tmp_path)
    assert not any(p.name == "fig9" and p.measured for p in parts)
    assert "fig9-synthetic" in set(parts[-1].table["Record"])
    file.write_text(json.dumps(old | dict(recipes=["synthetic-demo+stn=false"])))
    assert list(read_numbers(tmp_path, "fig9", "synthetic")) == ["faces", "fused"]
    assert any(p.name == "fig9" and p.measured for p in all_parts(tmp_path))


@pytest.mark.parametrize("dataset,level,names,sizes", [
    ("rafdb", "paper", ["fig11"], (64, 100, 150, 64)),  # half of 50 is less than the 32 px that VGG16 needs
    ("rafdb", "paper", ["fig2"], (50, 100, 150, 50)), ("ferplus", "paper", ["fig2"], (48, 96, 192, 48)),
    ("ferplus", "paper", ["fig11"], (64, 96, 192, 64)), ("rafdb", "lite", ["fig11"], (50, 100, 150, 50))])
def test_sizes_that_a_branch_cannot_take_are_raised(dataset, level, names, sizes):
    recipes = _change_recipes(names, dataset, level, ())
    assert _change_sizes(dataset, level, recipes.values()) == sizes
    if "fig11" in names and level == "paper":  # PSR with the double step needs twice as much
        assert min(_change_sizes(dataset, level, [change(recipes["psr"], kstep=2)])) == 128


def test_fig11_says_which_sizes_it_takes(folders, tmp_path):
    said = []
    reproduce(["fig11"], folders["rafdb"], "paper", results=tmp_path, dry_run=True, say=said.append)
    assert "64, 100, 150, 64 px" in said[-1] and "the paper's 50, 100, 150, 50 px" in said[-1] and "VGG16 needs" in said[-1]


def test_fig10_has_a_box_per_cut_at_its_place():
    cells = experiment_cells("fig10", "vgg8_bn")
    ledger = {}
    for p, was in ((0, (.6, .7, .8)), (2, (.7, .71, .9)), (5, (.8,))):
        name = cell_recipe(cells[p], "synthetic").name
        ledger |= {(name, s): record(name, s, wa) for s, wa in enumerate(was)}
    ax = plot_cut(rows_of("fig10", ledger, "synthetic")).axes[0]
    medians = {round(float(np.mean(o.get_xdata())), 3): float(o.get_ydata()[0]) for o in ax.lines if len(o.get_xdata()) == 2 and o.get_color() == MODEL_COLORS[0]}
    assert medians == {0: pytest.approx(70), 2: pytest.approx(71), 5: pytest.approx(80)}
    boxes = [o for o in ax.lines if len(o.get_xdata()) == 5]
    assert [(min(o.get_ydata()), max(o.get_ydata())) for o in boxes][0] == pytest.approx((65, 75))  # quartiles


def test_a_mean_stands_beside_the_papers_mean_and_its_maximum():
    name = cell_recipe(EXPERIMENTS["table5"].cells[0], "ferplus").name
    row = rows_of("table5", {(name, s): record(name, s, w) for s, w in ((0, .89), (1, .90))}, "ferplus")[0]
    assert paper_text(row) == "89.56 ± 0.03, maximum 89.75"
    assert cell_text(row) == "89.50 ± 0.71 (-0.06), maximum 90.00"
    text = (Path(__file__).resolve().parent.parent/"results"/"README.md").read_text()
    assert "| PSR | WA | 89.56 ± 0.03, maximum 89.75 |" in text


def test_ua_is_compared_class_by_class():
    import sklearn.metrics as skm
    rng = np.random.default_rng(0)
    true = np.array(list("0"*300 + "1"*60 + "2"*12))
    def answers(good): return np.where(rng.random(len(true)) < [good[int(c)] for c in true], true, "9")
    a, b = answers((.9, .6, .5)), answers((.92, .4, .2))
    made = lambda o: dict(recipe="x", seed=0, targets="".join(true), predictions="".join(o))
    got = judge_claim(Claim("a beats b", "a", "b", 4.51, "ua"), [made(a)], [made(b)])
    ua = lambda o: 100*skm.recall_score(true, o, labels=["0", "1", "2"], average="macro", zero_division=0)
    assert got["points"] == pytest.approx(ua(a) - ua(b)) and got["by_seed"] == pytest.approx([got["points"]]) and got["verdict"] == "held"
    groups = [np.flatnonzero(true == c) for c in "012"]
    difference = (a == true).astype(float) - (b == true)
    resampled = 100*np.mean([difference[rng.choice(g, (4000, len(g)))].mean(1) for g in groups], 0)  # the bootstrap itself, within the classes
    np.testing.assert_allclose((got["low"], got["high"]), np.quantile(resampled, (.025, .975)), atol=.8)
    assert judge_claim(Claim("a beats b", "a", "b"), [made(a)], [made(b)])["points"] == pytest.approx(100*difference.mean())


def test_the_papers_ua_claims():
    ua = {(name, c.a, c.b): c.paper for name in ("table4", "table5", "table7") for c in EXPERIMENTS[name].claims if c.metric == "ua"}
    assert ua == {("table4", "psr", "baseline"): 4.51, ("table5", "psr", "baseline"): None, ("table7", "no-stn", "baseline"): 3.30, ("table7", "full", "no-stn"): 1.21}


def test_records_stand_only_in_cells_that_ask_for_them():
    ledger = read_ledger(Path(__file__).resolve().parent.parent/"results")
    for s in sections(ledger):
        for row in s["rows"]:
            made = [o for (name, _), o in ledger.items() if name == row["recipe"]]
            changed = [o["changed"] for o in made]
            if s["name"] == "table8": assert all(o.get("soft") is False for o in changed)
            if s["name"] in ("table4", "table7") and row["what"].startswith("Base-line"): assert all(o.get("loss") == "ls" for o in changed)
    left = left_over(ledger)
    assert "synthetic-demo-baseline+loss=ce" in set(left["Record"]) and "synthetic-demo-baseline+loss=ls" not in set(left["Record"])
    assert left.set_index("Record")["Why it is in no table"]["synthetic-demo+loss=ce"].startswith("Trained on vote shares")


def test_the_cut_goes_through_all_convolutions():
    from psr_fer.models.backbone import base_network
    import torch
    for arch, n in CONVOLUTIONS.items(): assert sum(isinstance(m, torch.nn.Conv2d) for m in base_network(arch)[0].modules()) == n
    assert [dict(c.sets)["pos"] for c in experiment_cells("fig10", "vgg16_bn")] == list(range(13))  # 0 to 12, as the paper says
    assert [dict(c.sets)["pos"] for c in experiment_cells("fig10", "vgg8_bn")] == list(range(8))


@pytest.mark.parametrize("level", ["lite", "paper", "authors"])
@pytest.mark.parametrize("dataset", ["ferplus", "rafdb", "affectnet8", "affectnet7", "synthetic"])
def test_every_cell_has_a_recipe(dataset, level):
    if dataset.startswith("affectnet") and level == "authors":  # they published none
        with pytest.raises((ValueError, KeyError)): plan(["table5"], dataset, level)
        return
    jobs = plan(list(EXPERIMENTS), dataset, level, (0, 1))
    names = [(j.recipe.name, j.seed) for j in jobs]
    assert len(set(names)) == len(names)
    for j in jobs:
        base = RECIPES[j.recipe.name.split("+")[0]]
        assert j.recipe.model == j.cell.model == base.model
        for k, v in j.cell.sets:
            if j.cell.model == "psr": assert getattr(j.recipe, k) == v


def test_shared_cells_are_trained_once_and_the_ledger_is_skipped(tmp_path):
    for j in plan(["table7", "table8"], "ferplus", seeds=(0,))[:4]: (tmp_path/f"{j.recipe.name}__s0.json").write_text(json.dumps(record(j.recipe.name, 0, .8)))
    said = []
    todo = run_cells(["table7", "table8", "table5"], "nowhere", "ferplus", results=tmp_path, dry_run=True, say=said.append)
    assert len(todo) == 10 - 4 and said[0].startswith("10 trainings, 4 in the ledger, 6 to run: about 0.6 hours")
    assert estimate(todo, {}) != estimate(todo, {})  # nothing comparable: nan


def test_the_estimate_goes_with_epochs_and_pixels():
    ledger = {("ferplus-lite-baseline", 0): dict(record("ferplus-lite-baseline", 0, .8), minutes=60.)}
    r = RECIPES["ferplus-lite-baseline"]
    whole = sum(s*s*e for s, e in r.base) + r.size**2*r.epochs
    job = next(j for j in plan(["changes"], "ferplus") if j.cell.key == "as-is")
    assert estimate([job], ledger) == pytest.approx(24*24*4/whole)
    assert estimate([job, job], {(job.recipe.name, 0): dict(record(job.recipe.name, 0, .8), minutes=3., changed=dict(size=24, base=[], epochs=4))}) == pytest.approx(.1)


def test_data_with_one_size_says_what_to_use_instead(tmp_path):
    table = pd.DataFrame(dict(split="test", width=48, height=48, label="anger"), index=range(30))
    with pytest.raises(ValueError, match="48 pixels; use `reduced`"): figure_numbers("fig7", [FakeRun(30)], [FakeRun(30)], table)


def test_a_claim_is_judged_by_the_faces():
    claim = Claim("a beats b", "a", "b", 3.)
    assert judge_claim(claim, [record("a", 0, .9)], [record("b", 0, .8)])["verdict"] == "held"
    assert judge_claim(claim, [record("a", 0, .7)], [record("b", 0, .8)])["verdict"] == "failed"
    open_ = judge_claim(claim, [record("a", 0, .801)], [record("b", 0, .8)])
    assert open_["verdict"] == "open" and open_["low"] < 0 < open_["high"] and open_["points"] == pytest.approx(.1)
    assert judge_claim(claim, [], [record("b", 0, .8)]) == dict(claim="a beats b", verdict="not run", paper=3., seeds=0)
    with pytest.raises(ValueError, match="different faces"): judge_claim(claim, [record("a", 0, .9)], [dict(record("b", 0, .8), targets="1"*1000)])
    assert judge_claim(claim, [record("a", 0, .9), record("a", 1, .88, sha="y")], [record("b", 0, .8)])["seeds"] == 1  # validation splits of seeds differ, test faces do not


def test_seeds_are_paired_by_their_number():
    claim = Claim("a beats b", "a", "b")
    got = judge_claim(claim, [record("a", 0, .9), record("a", 1, .7)], [record("b", 1, .8), record("b", 2, .95)])
    assert got["seeds"] == 1 and got["by_seed"] == pytest.approx([-10]) and got["verdict"] == "failed"
    assert judge_claim(claim, [record("a", 0, .9)], [record("b", 1, .8)])["verdict"] == "not run"


def test_other_weights_at_the_start_have_a_section_of_their_own():
    def trained(cell, wa):
        recipe = cell_recipe(cell, "ferplus", "paper", (("weights", "none"), ("sr_weights", "none")))
        return dict(record(recipe.name, 0, wa), changed=changes_of(recipe))
    ledger = {(o["recipe"], 0): o for o in map(trained, EXPERIMENTS["table5"].cells, (.88, .86))}
    found = [s for s in sections(ledger) if any(r["seeds"] for r in s["rows"])]
    assert {s["name"] for s in found} >= {"table5"} and all(s["level"] == "paper" and dict(s["sets"]) == dict(weights="none", sr_weights="none") for s in found)
    first = next(s for s in found if s["name"] == "table5")
    assert first["rows"][0]["ours"] == pytest.approx(88) and first["claims"][0]["seeds"] == 1


def trained(name, dataset, sets, keys, seed=0):  # records of some cells of an experiment, trained with changed settings
    recipes = [cell_recipe(c, dataset, "lite", sets) for c in EXPERIMENTS[name].cells if c.key in keys]
    return {(r.name, seed): dict(record(r.name, seed, .8), changed=json.loads(json.dumps(changes_of(r)))) for r in recipes}


def test_settings_changed_for_all_cells_have_a_section_of_their_own():
    short, shorter = (("epochs", 3), ("size", 32)), (("epochs", 1),)
    ledger = trained("table7", "ferplus", short, ("full", "no-stn", "baseline")) | trained("table8", "ferplus", short, ("psr-ce", "baseline-ce"))
    ledger |= trained("table5", "ferplus", short, ("baseline",))
    ledger |= trained("table7", "ferplus", shorter, ("full",))  # alone, it is no table
    ledger |= trained("changes", "ferplus", (), ("as-is", "ce"))  # a plain network, without a pyramid
    found = {(s["name"], s["dataset"], s["sets"]): s for s in sections(ledger) if any(r["seeds"] for r in s["rows"])}
    assert set(found) == {("table5", "ferplus", short), ("table7", "ferplus", short), ("table8", "ferplus", short), ("changes", "ferplus", ())}
    assert [r["seeds"] for r in found["table7", "ferplus", short]["rows"] if r["metric"] == "WA"] == [1, 1, 1]
    assert [r["seeds"] for r in found["table8", "ferplus", short]["rows"]] == [1, 0, 0, 1, 0, 0]
    assert all(c["seeds"] == 1 for c in found["table7", "ferplus", short]["claims"])
    assert found["table8", "ferplus", short]["rows"][1]["commands"] == ["psr-fer reproduce table8 --data DATA --set epochs=3 --set size=32"]


def test_records_with_fields_of_another_version_have_no_section():
    foreign = {("ferplus-lite+warmth=3", 0): dict(record("ferplus-lite+warmth=3", 0, .8), changed=dict(warmth=3))}
    assert not any(r["seeds"] for s in sections(foreign) for r in s["rows"])


def test_a_claim_stays_open_where_seeds_disagree():
    claim = Claim("a beats b", "a", "b")
    apart = judge_claim(claim, [record("a", 0, .95), record("a", 1, .78)], [record("b", 0, .8), record("b", 1, .8)])
    assert apart["low"] > 0 and apart["verdict"] == "open" and apart["by_seed"] == pytest.approx([15, -2])
    assert judge_claim(claim, [record("a", 0, .95), record("a", 1, .83)], [record("b", 0, .8), record("b", 1, .8)])["verdict"] == "held"


def test_rows_have_mean_sd_and_difference():
    recipe = cell_recipe(EXPERIMENTS["table5"].cells[0], "ferplus").name
    ledger = {(recipe, s): record(recipe, s, w) for s, w in ((0, .85), (1, .86))}
    rows = rows_of("table5", ledger, "ferplus")
    wa = rows[0]
    assert wa["ours"] == pytest.approx(85.5) and wa["sd"] == pytest.approx(np.std([85, 86], ddof=1)) and wa["seeds"] == 2
    other = (("labels", "label.csv"),)  # other labels are other numbers
    assert rows_of("table5", ledger, "ferplus", sets=other)[0]["seeds"] == 0 and rows_of("table5", ledger, "ferplus", sets=other)[0]["recipe"] == "ferplus-lite+labels=label.csv"
    assert cell_text(wa) == "85.50 ± 0.71 (-4.06), maximum 86.00" and cell_text(rows[-1]) == "not run"
    assert " (" not in cell_text(rows_of("table4", {(cell_recipe(EXPERIMENTS["table4"].cells[0], "synthetic").name, 0): record("x", 0, .9)}, "synthetic")[0])  # another data set: no difference
    assert claims_of("table5", ledger, "ferplus")[0]["verdict"] == "not run"


def test_broken_ledgers_and_names(tmp_path, faces):
    (tmp_path/"x__s0.json").write_text("{")
    with pytest.raises(ValueError, match="x__s0.json is no record of a run"): read_ledger(tmp_path)
    with pytest.raises(ValueError, match="the paper has no 'table9'.*table2.*fig11"): reproduce(["table9"], faces)
    with pytest.raises(ValueError, match="engine 'slurm'"): run_cells(["table5"], faces, "synthetic", engine="slurm")
    assert {"table2", "table3", "table4", "table5", "table6", "table7", "table8", "fig1", "fig2", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "fig11", "fig12"} <= set(NAMES)


def test_from_nothing_to_figures_and_on_again(faces, tmp_path):
    said, args = [], dict(results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", sets=TINY)
    reproduce(["table5", "fig6", "fig7", "fig8", "fig9", "reduced"], faces, say=said.append, **args)
    assert len(read_ledger(tmp_path/"results")) == 3 and any(o.startswith("  PSR is more accurate than the base-line: ") for o in said)
    which = next((tmp_path/"results").glob("reduced-*.json")).stem.removeprefix("reduced-")
    assert which.startswith("synthetic+") and "+epochs=1+" in which  # changed recipes do not pass for the plain ones
    assert {o.name for o in (tmp_path/"figures").iterdir()} == {f"{n}-{which}.png" for n in ("fig6", "fig7", "fig8", "fig9", "reduced")}
    assert read_numbers(tmp_path/"results", "reduced", "synthetic") is None
    numbers = read_numbers(tmp_path/"results", "reduced", which)  # what a figure shows stands in the ledger
    assert shlex.split(numbers.attrs["command"])[:5] == ["psr-fer", "reproduce", "reduced", "--data", "DATA"] and "epochs=1" in numbers.attrs["command"]
    assert list(numbers) == ["PSR", "PSR: 1/2", "PSR: SR x2", "PSR: original", "baseline"] and numbers.attrs["seeds"] == [0] and numbers.to_numpy().max() <= 1
    fig9 = json.loads((tmp_path/"results"/f"fig9-{which}.json").read_text())["recipes"]
    assert len(fig9) == 1 and read_ledger(tmp_path/"results")[fig9[0], 0]["changed"]["stn"] is False
    records = {k: o["test"]["wa"] for (k, _), o in read_ledger(tmp_path/"results").items()}
    assert numbers["baseline"].iloc[0] == pytest.approx(next(v for k, v in records.items() if "baseline" in k))  # all pixels of the network are left
    claims = numbers.attrs["claims"] # each size, judged face by face
    assert [o["claim"].split()[1] for o in claims] == [str(o) for o in numbers.index] and all(o["low"] <= o["points"] <= o["high"] and o["seeds"] == 1 for o in claims)
    np.testing.assert_allclose([o["points"] for o in claims], 100*(numbers["PSR"] - numbers["baseline"]), atol=1e-3)
    page = (tmp_path/"results"/"index.html").read_text()
    assert page.count("At 48 pixels PSR is more accurate than the base-line: ") == 1
    assert page.count("<img") == 4 and "http" not in page.replace("http-equiv", "") and "WA of test faces reduced" in (tmp_path/"results"/"README.md").read_text()
    assert read_numbers(tmp_path/"results", "fig7", "rafdb") is None
    said.clear()
    reproduce(["table5"], faces, say=said.append, **args)
    assert said[0].startswith("2 trainings, 2 in the ledger, 0 to run")


def test_changing_the_size_in_mid_training(faces, tmp_path):
    said, tiny = [], tuple(o for o in TINY if o[0] not in ("epochs", "base"))
    args = dict(epochs=1, results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", sets=tiny, say=said.append)
    reproduce(["fig11"], faces, **args)
    file = next((tmp_path/"results").glob("size-change-synthetic+*.json"))
    both = read_size_change(file)
    assert [o["model"] for o in both] == ["baseline", "psr"] and all(len(o["jumps"]) == 3 and len(o["valid_loss"]) == 4 for o in both)
    assert next((tmp_path/"figures").glob("size-change-synthetic+*.png")).exists()
    for o in both:  # before a change the weights are those that the epoch before it ended with
        assert len(o["untrained"]) == 3 and o["sizes"] == [32, 48, 64, 32] and o["command"].startswith("psr-fer reproduce fig11 --data DATA ")
        assert [old for old, _ in o["untrained"]] == pytest.approx(o["valid_loss"][:3], abs=2e-3)
        assert any(abs(new - old) > 1e-4 for old, new in o["untrained"])
    table = size_change_table(both)
    assert len(table) == 4 and list(table["Change of the validation loss"]) == ["the same weights", "an epoch later"]*2
    done, file = file.read_text(), file.rename(tmp_path/"before.json")
    reproduce(["fig11"], faces, **args)  # nothing is trained again
    assert next((tmp_path/"results").glob("size-change-synthetic+*.json")).read_text() == done and not any("epoch 1:" in o for o in said[-2:])


def test_ray_gives_the_records_of_this_process(faces, tmp_path):
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    jobs = dict(names=["table5"], data=faces, dataset="synthetic", sets=TINY, read=dict(labels="label.csv"), say=lambda o: None)
    run_cells(**jobs, results=tmp_path/"ray", runs=tmp_path/"r1", engine="ray")
    run_cells(**jobs, results=tmp_path/"here", runs=tmp_path/"r2")
    a, b = (read_ledger(tmp_path/o) for o in ("ray", "here"))
    assert set(a) == set(b) and all(a[k]["test"]["n"] == b[k]["test"]["n"] for k in a)
    if all(a[k]["device"] == b[k]["device"] for k in a): assert [a[k]["test"] for k in a] == [b[k]["test"] for k in a]


def test_ray_names_what_failed_and_tries_only_that_again(faces, tmp_path):
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    said, jobs = [], dict(names=["table7"], data=faces, dataset="synthetic", sets=TINY, read=dict(labels="label.csv"), results=tmp_path/"results", runs=tmp_path/"runs", engine="ray")
    bad = next(j for j in plan(["table7"], "synthetic", sets=TINY) if j.cell.key == "no-stn").recipe.name
    block = tmp_path/"runs"/(re.sub(r"[^\w.+=-]", "_", bad) + "__s0")  # a file where the run's folder should be
    block.parent.mkdir()
    block.write_text("")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        with pytest.raises(ValueError, match="1 of 3 trainings failed, the others are in the ledger; the same command tries these again: ") as e: run_cells(**jobs, say=said.append)
        assert f"{bad} seed 0 (FileExistsError" in str(e.value) and "\n" not in str(e.value) and sum(o.startswith("failed: ") for o in said) == 1
        assert len(read_ledger(tmp_path/"results")) == 2 and (bad, 0) not in read_ledger(tmp_path/"results")
        done = {o.name: o.stat().st_mtime_ns for o in (tmp_path/"results").iterdir()}
        block.unlink()
        assert [j.recipe.name for j in run_cells(**jobs, say=said.append)] == [bad]
    finally: ray.shutdown()
    assert len(read_ledger(tmp_path/"results")) == 3 and all((tmp_path/"results"/k).stat().st_mtime_ns == v for k, v in done.items())


def drawn_texts(fig): return [t.get_text() for ax in fig.axes for t in ax.texts] + ([fig._supxlabel.get_text()] if fig._supxlabel else [])


def test_the_papers_numbers_are_drawn_over_ours():
    sizes = pd.Index([30., 40., 50., 60., 90.], name="pixels")
    numbers = dict(fig7=pd.DataFrame(dict(faces=[30, 60, 90, 120, 150], PSR=.8, baseline=.7), sizes), fig8=pd.DataFrame(dict(raw=.1, smooth=[.0, .01, .03, .036, .03]), sizes),
                   fig9=pd.DataFrame({"faces": [30, 60, 90, 120, 150], "fused": .8, "1/2": .5, "SR x2": .7, "original": .6}, sizes))
    for name, t in numbers.items():
        t.attrs["dataset"] = "rafdb"
        texts = drawn_texts(plot_numbers(name, t))
        said = FIGURES[name, "rafdb"]
        for _, words in (*said.levels, *said.marks): assert words in texts, (name, words)
        for a, b, words in said.spans: assert (words in texts) == (a <= 92), (name, words)  # those within the picture
        assert any("printed only as a picture" in o or "prints its own only as a picture" in o for o in texts)
        ys = {round(float(o.get_ydata()[0]), 2) for o in plot_numbers(name, t).axes[0].lines}
        assert {y for y, _ in said.levels} <= ys
    assert "PSR is ahead at 4 of the 4 sizes from 40 px on" in beside("fig7", numbers["fig7"])
    assert "+2.3 points from 40 to 55 px" in beside("fig8", numbers["fig8"])
    assert "lowest at 4, and the super-resolved one is ahead of the original size at 4" in beside("fig9", numbers["fig9"])


def test_what_the_text_says_agrees_with_the_tables():
    value = lambda name, key: dict(next(c for c in EXPERIMENTS[name].cells if c.key == key).paper)["wa"]
    level = lambda name: [y for y, _ in FIGURES[name, "rafdb"].levels]
    assert level("fig7") == [value("table4", "psr"), value("table4", "baseline")] and level("fig10") == [value("table4", "psr")]
    assert level("fig8")[0] == pytest.approx(value("table4", "psr") - value("table4", "baseline")) and level("fig9") == [value("table7", "no-stn")]
    assert stated("fig7", "synthetic").levels[0][1].startswith("RAF-DB: ") and stated("fig1", "ferplus") is None and stated("reduced", "ferplus") is None


def test_the_page_has_a_part_for_everything(tmp_path):
    render_results(tmp_path)  # nothing was measured
    empty = all_parts(tmp_path)
    assert not any(p.measured for p in empty)
    covered = {p.name for p in empty} | ({"fig2"} if any("Figs. 2 and 11" in p.heading for p in empty) else set())
    assert covered == set(NAMES) - {"changes"}  # ours, shown once there is something to show
    for p in empty: assert p.commands and all(o.startswith("psr-fer reproduce ") for o in p.commands) and any("not run" in n or "not published" in n for n in p.notes) or p.table is not None, p.heading
    cells = EXPERIMENTS["table5"].cells
    classes = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    for c, wa in zip(cells, (.9, .8)):
        r = record(cell_recipe(c, "ferplus").name, 0, wa)
        r["test"] |= dict(recall=dict.fromkeys(classes, wa), confusion=(np.eye(8)*100).astype(int).tolist())
        (tmp_path/f"{r['recipe']}__s0.json").write_text(json.dumps(r))
    (tmp_path/"size-change-ferplus.json").write_text(json.dumps([dict(model=m, sizes=[48, 96], epochs=1, valid_loss=[1, 2], train_loss=[1, 2], jumps=[1.]) for m in ("baseline", "psr")]))
    parts = all_parts(tmp_path)
    first = [p.name for p in parts if p.measured]
    assert [p.measured for p in parts] == sorted((p.measured for p in parts), reverse=True) and {"table5", "fig6", "fig11", "fig12"} <= set(first)
    texts = drawn_texts(next(p for p in parts if p.name == "fig6" and p.measured).draw())
    assert texts.count(">90") == 3 and "37" in texts and "23" in texts
    assert {"rises much", "rises slightly"} <= set(drawn_texts(next(p for p in parts if p.name == "fig11" and p.measured).draw()))
    won = next(p for p in parts if p.name == "fig12" and p.measured).table.iloc[0]
    a, b = (np.array(list(o["predictions"])) == "0" for o in (read_ledger(tmp_path)[cell_recipe(c, "ferplus").name, 0] for c in cells))
    assert [won["Only PSR"], won["Only the baseline"]] == [str((a & ~b).sum()), str((~a & b).sum())]


def test_a_row_says_how_it_was_measured():
    recipe = cell_recipe(EXPERIMENTS["table5"].cells[0], "ferplus").name
    made = [dict(record(recipe, s, .85), command=f"psr-fer train ferplus-lite --data DATA --seed {s}", views="paper x 8") for s in (0, 1)]
    row = rows_of("table5", {(recipe, s): o for s, o in enumerate(made)}, "ferplus")[0]
    assert row["protocol"] == "paper's labels, 8 views" and row["weights"] == "none" and row["commands"] == [o["command"] for o in made]
    waiting = rows_of("table4", {}, "rafdb", "paper")[0]
    assert waiting["protocol"] == "8 views" and waiting["weights"] == "base network: imagenet; super-resolution: published" and waiting["commands"] == ["psr-fer reproduce table4 --data DATA --recipe paper"]


BROKEN = ["", "{", "[]", "null", "3", '"x"', "["*100_000, '{"recipe": 1}', '{"recipe": [1], "seed": {}}', '{"name": "left-pad", "version": "1.0.0"}', "\xff\xfe{"]


@pytest.mark.parametrize("name", ["x__s0.json", "table2-ferplus.json", "fig1-ferplus.json", "fig4-ferplus.json", "fig7-synthetic.json", "reduced-ferplus.json", "size-change-synthetic.json"])
@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_or_foreign_file_is_named_in_a_sentence(tmp_path, name, text):
    (tmp_path/name).write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=re.escape(name) + ".* is no record of .*; delete it or restore it") as e: render_results(tmp_path)
    assert "\n" not in str(e.value) and not (tmp_path/"README.md").exists()


@pytest.mark.parametrize("seed", range(3))
def test_records_with_fields_spoiled_render_or_are_named(tmp_path, seed):
    rng, junk = random.Random(seed), (None, -1, 1e999, float("nan"), "", "x", [], [[]], {}, True, 10**400)
    real = Path(__file__).resolve().parent.parent/"results"
    for source in ("ferplus-lite-baseline__s0.json", "fig8-synthetic.json", "fig1-synthetic.json", "reduced-ferplus.json"):
        for _ in range(25):
            o = json.loads((real/source).read_text())
            where = o
            while True:  # a field somewhere within
                k = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
                if isinstance(where[k], (dict, list)) and where[k] and rng.random() < .6: where = where[k]; continue
                break
            if rng.random() < .3: where.pop(k)
            else: where[k] = rng.choice(junk)
            (tmp_path/source).write_text(json.dumps(o))
            try: all_parts(tmp_path) and [p.draw() for p in all_parts(tmp_path) if p.draw]
            except ValueError as e: assert source in str(e) and "\n" not in str(e), e
            (tmp_path/source).unlink()


def test_two_files_of_one_run_are_told_apart(tmp_path):
    for o in ("a__s0.json", "a__s0 (copy).json"): (tmp_path/o).write_text(json.dumps(record("a", 0, .8)))
    with pytest.raises(ValueError, match=r"a__s0 \(copy\).json and a__s0.json in .* are both records of a, seed 0; keep one"): read_ledger(tmp_path)


def test_records_of_before_still_read():
    old = record("ferplus-lite", 0, .8)
    for k in ("weights", "command"): del old[k]
    row = rows_of("table5", {("ferplus-lite", 0): old}, "ferplus")[0]
    assert row["ours"] == 80 and row["commands"] == ["psr-fer reproduce table5 --data DATA"]


def test_an_estimate_for_other_faces_goes_by_the_same_network():
    ledger = {("ferplus-lite", 0): dict(record("ferplus-lite", 0, .8), minutes=60., device="CPU, 2 threads", data=dict(faces=dict(train=25371)))}
    psr, base = plan(["table5"], "rafdb")
    pixels = lambda r: sum(s*s*e for s, e in r.base) + 2.2*r.size**2*r.epochs
    assert estimate([psr], ledger) == pytest.approx(12271/25371*pixels(RECIPES["rafdb-lite"])/pixels(RECIPES["ferplus-lite"]))
    assert estimate_text([psr], ledger).endswith("going by ferplus-lite on CPU, 2 threads")
    both = estimate_text([psr, base], ledger)
    assert "for 1 of them" in both and "the others: time unknown, since the ledger has no record of vgg8_bn (plain) to go by" in both
    assert np.isnan(estimate([base], ledger))


@pytest.fixture(scope="module")
def folders(faces, tmp_path_factory):
    from makers import AFFECTNET, RAFDB, affectnet_folders, rafdb_list
    d = tmp_path_factory.mktemp("data")
    return dict(synthetic=faces, rafdb=rafdb_list(d/"raf", {s: dict.fromkeys(c, 3) for s, c in RAFDB.items()}), affectnet=affectnet_folders(d/"affect", {s: dict.fromkeys(c, 3) for s, c in AFFECTNET.items()}))


@pytest.mark.parametrize("dataset", ["synthetic", "rafdb", "affectnet"])
def test_a_dry_run_of_every_name_tells_the_hours_or_why_not(folders, tmp_path, dataset):
    ledger = tmp_path/"results"
    ledger.mkdir()
    made = dict(record("ferplus-lite", 0, .8), minutes=60., data=dict(faces=dict(train=25371)))
    (ledger/"ferplus-lite__s0.json").write_text(json.dumps(made))
    for level in ("lite", "paper"):
        for name in NAMES:
            said = []
            reproduce([name], folders[dataset], level, results=ledger, runs=tmp_path/"runs", out=tmp_path/"figures", dry_run=True, say=said.append)
            assert re.search(r"about \d+\.\d hours|time unknown, since the ledger has no record of|nothing to train|, 0 to run", " ".join(said)), (name, said)
    assert sorted(o.name for o in tmp_path.rglob("*")) == ["ferplus-lite__s0.json", "results"]  # nothing is written


def test_tables_2_and_3_on_the_real_data(ferplus_root, tmp_path):
    said = []
    reproduce(["table2", "table3"], ferplus_root, results=tmp_path, say=said.append)
    assert "table3: 24 of 24 cells equal to the paper's" in said and "table2: 64 of 64 cells equal to the paper's" in said
    assert json.loads((tmp_path/"table2-ferplus.json").read_text())["equal"] == 64
    assert len(list(Path(tmp_path).glob("*.json"))) == 2
    text = (tmp_path/"README.md").read_text()
    assert "| fer2013new.csv | 64 | 64 |" in text and "| fer2013new.csv | 24 | 24 |" in text


def test_hours_pick_what_fits(monkeypatch):
    from psr_fer import reproduce as m
    seen = []
    def timed(recipe, table, seconds):
        seen.append(recipe.name)
        return pd.DataFrame(dict(faces_per_second=[100., 50.], hours=[1., 1. if recipe.model == "baseline" else 3.]), index=["base 32 px", "fit"])
    monkeypatch.setattr(m, "time_recipe", timed)
    said, jobs = [], m.plan(["table7", "table8"], "synthetic", seeds=(0, 1))
    some = m.fitting(jobs, None, 9, said.append)
    assert seen == ["synthetic-demo", "synthetic-demo+stn=false", "synthetic-demo-baseline+loss=ls"]  # the loss and the kind of labels cost no time
    # 1 + 3 for the first, 3 without STN (same base stage), 1 + 1 for the baseline, whose base stage has LS; nothing is left for the others
    assert [(j.recipe.name, j.seed) for j in some] == [("synthetic-demo", 0), ("synthetic-demo+stn=false", 0), ("synthetic-demo-baseline+loss=ls", 0)]
    assert said[-1] == "3 of 18 fit into 9 hours: about 9 hours here" and "50 faces a second, 4 hours" in said[0]
    assert m.fitting(jobs, None, 0, said.append) == [] and len(m.fitting(jobs, None, 1000, said.append)) == 18
