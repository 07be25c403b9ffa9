"""The ledger: what an experiment needs, what is skipped, how a claim is judged, what is printed; and the paper's numbers."""
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from psr_fer.recipes import RECIPES, changes_of
from psr_fer.reproduce import CONVOLUTIONS, EXPERIMENTS, NAMES, Claim, cell_recipe, cell_text, claims_of, estimate, experiment_cells, figure_numbers, judge_claim, plan, read_ledger, read_numbers, reproduce, rows_of, run_cells, sections

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
    assert value("table5", "psr") == dict(wa=89.75, ua=69.54, macro_f1=74.88) and value("table5", "baseline") == dict(wa=85.89)
    assert value("table6", "psr")["wa"] == 60.68 and value("table6-7", "psr")["wa"] == 63.77
    assert value("table7", "no-stn") == dict(wa=88.62, ua=79.57)
    assert [value("table8", f"{m}-{l}")["wa"] for m in ("baseline", "psr") for l in ("ce", "ls", "pdls")] == [85.66, 85.89, 85.77, 87.78, 88.56, 88.98]
    for name, e in EXPERIMENTS.items():  # the difference that a claim cites is that of the cells
        cells = {c.key: dict(c.paper).get("wa") for c in e.cells}
        for c in e.claims:
            if c.paper is not None: assert c.paper == pytest.approx(cells[c.a] - cells[c.b]), (name, c)


def test_the_cut_goes_through_all_convolutions():
    from psr_fer.models.backbone import base_network
    import torch
    for arch, n in CONVOLUTIONS.items(): assert sum(isinstance(m, torch.nn.Conv2d) for m in base_network(arch)[0].modules()) == n
    assert [dict(c.sets)["pos"] for c in experiment_cells("fig10", "vgg16_bn")] == list(range(14))


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
    assert len(todo) == 7 - 4 and said[0].startswith("7 trainings, 4 in the ledger, 3 to run: about 0.3 hours")
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
    assert cell_text(wa) == "85.50 ± 0.71 (-4.25)" and cell_text(rows[-1]) == "not run"
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
    assert len(read_ledger(tmp_path/"results")) == 2 and any(o.startswith("  PSR is more accurate than the base-line: ") for o in said)
    which = next((tmp_path/"results").glob("reduced-*.json")).stem.removeprefix("reduced-")
    assert which.startswith("synthetic+") and "+epochs=1+" in which  # changed recipes do not pass for the plain ones
    assert {o.name for o in (tmp_path/"figures").iterdir()} == {f"{n}-{which}.png" for n in ("fig6", "fig7", "fig8", "fig9", "reduced")}
    assert read_numbers(tmp_path/"results", "reduced", "synthetic") is None
    numbers = read_numbers(tmp_path/"results", "reduced", which)  # what a figure shows stands in the ledger
    assert shlex.split(numbers.attrs["command"])[:5] == ["psr-fer", "reproduce", "reduced", "--data", "DATA"] and "epochs=1" in numbers.attrs["command"]
    assert list(numbers) == ["PSR", "PSR: 1/2", "PSR: SR x2", "PSR: original", "baseline"] and numbers.attrs["seeds"] == [0] and numbers.to_numpy().max() <= 1
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
    said = []
    reproduce(["fig11"], faces, epochs=1, results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", sets=tuple(o for o in TINY if o[0] not in ("epochs", "base")), say=said.append)
    both = json.loads(next((tmp_path/"results").glob("size-change-synthetic+*.json")).read_text())
    assert [o["model"] for o in both] == ["baseline", "psr"] and all(len(o["jumps"]) == 3 and len(o["valid_loss"]) == 4 for o in both)
    assert next((tmp_path/"figures").glob("size-change-synthetic+*.png")).exists()


def test_ray_gives_the_records_of_this_process(faces, tmp_path):
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    jobs = dict(names=["table5"], data=faces, dataset="synthetic", sets=TINY, read=dict(labels="label.csv"), say=lambda o: None)
    run_cells(**jobs, results=tmp_path/"ray", runs=tmp_path/"r1", engine="ray")
    run_cells(**jobs, results=tmp_path/"here", runs=tmp_path/"r2")
    a, b = (read_ledger(tmp_path/o) for o in ("ray", "here"))
    assert set(a) == set(b) and all(a[k]["test"]["n"] == b[k]["test"]["n"] for k in a)
    if all(a[k]["device"] == b[k]["device"] for k in a): assert [a[k]["test"] for k in a] == [b[k]["test"] for k in a]


def test_tables_2_and_3_on_the_real_data(ferplus_root, tmp_path):
    said = []
    reproduce(["table2", "table3"], ferplus_root, results=tmp_path, say=said.append)
    assert "table3: 24 of 24 cells equal to the paper's" in said and "table2: 64 of 64 cells equal to the paper's" in said
    assert json.loads((tmp_path/"table2-ferplus.json").read_text())["equal"] == 64
    assert len(list(Path(tmp_path).glob("*.json"))) == 2
