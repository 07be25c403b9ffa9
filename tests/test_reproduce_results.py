"""Folders of results: what is read, compared, shown and left over; and trainings that fill them."""
import json
import os
import random
import re
import shlex
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from psr_fer.recipes import change, changes_of, run_file
from psr_fer.reproduce import reproduce
from psr_fer.reproduce.paper import EXPERIMENTS, NAMES, Claim, configuration_recipe
from psr_fer.reproduce.report import parts_of_results, plot_cut, plot_numbers, render_results, size_change_table
from psr_fer.reproduce.results import (
    all_sections,
    check_claims,
    compare_runs,
    left_over,
    read_numbers,
    read_results,
    read_size_change,
    section,
)
from psr_fer.reproduce.run import figure_numbers, plan, run_experiments
from psr_fer.runs import RunRecord

RESULTS = Path(__file__).resolve().parent.parent/"results"
TINY = (("epochs", 1), ("base", ()), ("size", 32), ("sr", (1, 4)), ("sr_epochs", 0), ("views_n", 2), ("batch_size", 16))


def record(name, seed, wa, n=1000, **fields):
    rng, targets = np.random.default_rng(zlib.crc32(f"{name}{seed}".encode())), np.zeros(n, np.uint8)
    fused = np.ones(n, np.uint8)
    fused[rng.permutation(n)[:round(wa*n)]] = 0
    return RunRecord(name, seed, dict(wa=wa, ua=wa - .1, macro_f1=wa - .05), **{**dict(minutes=6., device="CPU", data=dict(protocol="paper"), command="psr-fer ...", weights="none"), **fields},
                     predictions=dict(targets=targets, fused=fused))


def write(folder, *records):
    for o in records: o.save(run_file(folder, o.recipe, o.seed))


def test_read_results_every_record_of_the_repository():
    records = read_results(RESULTS)
    old = records["ferplus-lite", 0]
    assert len(records) >= 20 and old.test["wa"] == pytest.approx(old.correct().mean()) and old.preset == "ferplus-lite" and len(old.predictions["fused"]) == 3160


def test_record_saved_and_loaded_is_the_same(tmp_path):
    a = record("a", 0, .8, changed=dict(size=32), fusion_weights={"1/2": .5})
    write(tmp_path, a)
    b = read_results(tmp_path)["a", 0]
    assert a == b and (a.correct() == b.correct()).all() and "predictions" not in json.loads((tmp_path/"a__s0.json").read_text())


def test_read_results_two_files_of_one_run(tmp_path):
    for o in ("a__s0.json", "a__s0 (copy).json"): record("a", 0, .8).save(tmp_path/o)
    with pytest.raises(ValueError, match=r"a__s0 \(copy\).json and a__s0.json in .* are both records of a, seed 0; keep one"): read_results(tmp_path)


def test_claims_three_seeds_decide_and_two_do_not():
    claim = Claim("a beats b", "a", "b", 3.)
    a, b = ([record(k, s, wa) for s in range(3)] for k, wa in (("a", .9), ("b", .8)))
    verdicts = lambda x, y: check_claims([claim], dict(a=x, b=y))[0].verdict
    assert [verdicts(a, b), verdicts(b, a), verdicts(a[:2], b[:2]), verdicts([], b)] == ["supported", "contradicted", "inconclusive", "not run"]
    close = compare_runs([record("a", s, .801) for s in range(3)], [record("b", s, .8) for s in range(3)], n=500)
    assert close.low < 0 < close.high and close.estimate == pytest.approx(.1)
    text = str(check_claims([claim], dict(a=a, b=b))[0])
    assert text.startswith("a beats b: supported (+10.00 points") and "paper +3.00" in text and "3 seeds: +10.00, +10.00, +10.00" in text


def test_claims_pair_seeds_and_need_the_same_faces():
    c = compare_runs([record("a", 0, .9), record("a", 1, .7)], [record("b", 1, .8), record("b", 2, .95)], n=100)
    assert c.seeds == 1 and c.by_seed == pytest.approx([-10]) and compare_runs([record("a", 0, .9)], [record("b", 1, .8)]) is None
    with pytest.raises(ValueError, match="different faces"): compare_runs([record("a", 0, .9)], [record("b", 0, .8, n=900)])


def test_claims_ua_class_by_class():
    import sklearn.metrics as skm
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], (300, 60, 12))
    def answers(good): return np.where(rng.random(len(true)) < np.array(good)[true], true, 9)
    a, b = answers((.9, .6, .5)), answers((.92, .4, .2))
    made = lambda o: RunRecord("x", 0, dict(wa=.5, ua=.5, macro_f1=.5), 1., "CPU", {}, predictions=dict(targets=true, fused=o))
    ua = lambda o: 100*skm.recall_score(true, o, labels=[0, 1, 2], average="macro", zero_division=0)
    assert compare_runs([made(a)], [made(b)], "ua", n=100).estimate == pytest.approx(ua(a) - ua(b))
    assert compare_runs([made(a)], [made(b)], n=100).estimate == pytest.approx(100*np.mean((a == true).astype(float) - (b == true)))


def test_row_mean_beside_the_papers_mean_and_maximum():
    name = configuration_recipe(EXPERIMENTS["table5"].configurations[0], "ferplus").name
    row = section("table5", {(name, s): record(name, s, w) for s, w in ((0, .89), (1, .90))}, "ferplus", "lite").rows[0]
    assert (row.paper_text(), row.ours_text()) == ("89.56 ± 0.03, maximum 89.75", "89.50 ± 0.71 (-0.06), maximum 90.00")
    assert "| PSR | WA | 89.56 ± 0.03, maximum 89.75 |" in (RESULTS/"README.md").read_text()
    other = section("table4", {}, "rafdb", "paper").rows[0]
    assert other.labels == "TTA of 8" and other.weights == "base network: imagenet; super-resolution: published" and other.ours_text() == "not run" and other.commands == ("psr-fer reproduce table4 --data DATA --recipe paper",)


@pytest.mark.slow
def test_sections_records_only_where_they_belong():
    records = read_results(RESULTS)
    sections = all_sections(records)
    for s in sections:
        for row in s.rows:
            changed = [o.changed for (name, _), o in records.items() if name == row.recipe]
            if s.name == "table8": assert all(o.get("soft") is False for o in changed)
            if s.name in ("table4", "table7") and row.what.startswith("Baseline"): assert all(o.get("loss") == "ls" for o in changed)
    left = left_over(records, sections).set_index("Record")["Why it is in no table"]
    assert "synthetic-demo-baseline+loss=ls" not in left and left["synthetic-demo+loss=ce"].startswith("Trained on label distributions")


def trained(name, dataset, overrides, keys, preset="lite", seed=0):  # records of some configurations, trained with changed settings
    recipes = [configuration_recipe(c, dataset, preset, overrides) for c in EXPERIMENTS[name].configurations if c.key in keys]
    return {(r.name, seed): record(r.name, seed, .8, changed=json.loads(json.dumps(changes_of(r)))) for r in recipes}


def test_sections_other_weights_and_settings_have_their_own():
    weights = (("sr_weights", "none"), ("weights", "none"))
    found = [s for s in all_sections(trained("table5", "ferplus", weights, ("psr", "baseline"), "paper")) if s.measured]
    assert "table5" in {s.name for s in found} and all(s.preset == "paper" and s.overrides == weights for s in found)
    few = (("epochs", 1), ("size", 32))
    assert [(s.name, s.overrides) for s in all_sections(trained("table7", "ferplus", few, ("no-stn", "baseline"))) if s.measured] == [("table7", few)]
    assert not [s for s in all_sections({("ferplus-lite+gone=1", 0): record("ferplus-lite+gone=1", 0, .8, changed=dict(gone=1))}) if s.measured]  # a field of another release


def test_fig10_box_per_cut_at_its_place():
    records = {}
    for p, was in ((0, (.6, .7, .8)), (2, (.7, .71, .9)), (5, (.8,))):
        name = configuration_recipe(EXPERIMENTS["fig10"].configurations[p], "synthetic").name
        records |= {(name, s): record(name, s, wa) for s, wa in enumerate(was)}
    ax = plot_cut(section("fig10", records, "synthetic", "lite")).axes[0]
    medians = {round(float(np.mean(o.get_xdata())), 3): float(o.get_ydata()[0]) for o in ax.lines if len(o.get_xdata()) == 2 and o.get_color() == "#0072B2"}
    assert medians == {0: pytest.approx(70), 2: pytest.approx(71), 5: pytest.approx(80)}


def test_figure_numbers_reference_lines_of_the_paper(tmp_path):
    d = json.loads((RESULTS/"fig8-synthetic.json").read_text())
    (tmp_path/"fig8-rafdb.json").write_text(json.dumps(d | dict(dataset="rafdb")))
    assert any(o.get_ydata()[0] == 3.09 for o in plot_numbers(read_numbers(tmp_path/"fig8-rafdb.json")).axes[0].lines)
    assert not any(o.get_ydata()[0] == 3.09 for o in plot_numbers(read_numbers(RESULTS/"fig8-synthetic.json")).axes[0].lines)


def test_fig9_with_stn_is_not_shown_as_the_papers(tmp_path):
    old = json.loads((RESULTS/"fig8-synthetic.json").read_text()) | dict(name="fig9", recipes=["synthetic-demo"])
    old["columns"], old["data"] = ["faces", "fused"], [[100, .5] for _ in old["index"]]
    (tmp_path/"fig9-synthetic.json").write_text(json.dumps(old))
    parts = parts_of_results(tmp_path)
    assert not any(p.name == "fig9" and p.measured for p in parts) and "fig9-synthetic" in set(parts[-1].tables[0]["Record"])
    (tmp_path/"fig9-synthetic.json").write_text(json.dumps(old | dict(recipes=["synthetic-demo+stn=false"])))
    assert any(p.name == "fig9" and p.measured for p in parts_of_results(tmp_path))


def test_figure_numbers_one_size_of_faces_says_what_to_use():
    from types import SimpleNamespace
    table = pd.DataFrame(dict(split="test", width=48, height=48, label="anger"), index=range(30))
    run = SimpleNamespace(record=SimpleNamespace(seed=0, recipe="x"))
    with pytest.raises(ValueError, match="48 pixels; use `reduced`"): figure_numbers("fig7", [run], [run], table)


def test_results_page_has_a_part_for_everything(tmp_path):
    render_results(tmp_path)  # nothing was measured
    empty = parts_of_results(tmp_path)
    assert not any(p.measured for p in empty) and {p.name for p in empty} == set(NAMES) - {"changes", "reduced"}  # ours, shown once there is something to show
    for p in empty: assert p.commands and all(o.startswith("psr-fer reproduce ") for o in p.commands) and (any("not run" in n or "not published" in n for n in p.notes) or p.tables), p.heading
    classes = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    for c, wa in zip(EXPERIMENTS["table5"].configurations, (.9, .8), strict=True):
        r = record(configuration_recipe(c, "ferplus").name, 0, wa)
        r.test |= dict(recall=dict.fromkeys(classes, wa), confusion=(np.eye(8)*100).astype(int).tolist())
        write(tmp_path, r)
    (tmp_path/"size-change-ferplus.json").write_text(json.dumps([dict(model=m, sizes=[48, 96], epochs=1, valid_loss=[1, 2], train_loss=[1, 2], jumps=[1.]) for m in ("baseline", "psr")]))
    parts = parts_of_results(tmp_path)
    assert [p.measured for p in parts] == sorted((p.measured for p in parts), reverse=True) and {"table5", "fig6", "fig11", "fig12"} <= {p.name for p in parts if p.measured}
    a, b = (o.correct() for o in read_results(tmp_path).values())
    won = next(p for p in parts if p.name == "fig12" and p.measured).tables[0].iloc[0]
    assert sorted([won["Only PSR"], won["Only the baseline"]]) == sorted([str((a & ~b).sum()), str((~a & b).sum())])
    for p in parts:
        for draw in p.figures.values(): assert draw().axes


BROKEN = ["", "{", "[]", "null", "3", '"x"', "["*100_000, '{"recipe": 1}', '{"recipe": [1], "seed": {}}', '{"name": "left-pad", "version": "1.0.0"}', "\xff\xfe{"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x__s0.json", "table2-ferplus.json", "fig1-ferplus.json", "fig4-ferplus.json", "fig7-synthetic.json", "reduced-ferplus.json", "size-change-synthetic.json"])
@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_render_results_broken_or_foreign_file_is_named(tmp_path, name, text):
    (tmp_path/name).write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=re.escape(name) + ".* is not (a|the) record of .*; delete it or restore it") as e: render_results(tmp_path)
    assert "\n" not in str(e.value) and not (tmp_path/"README.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ferplus-lite-baseline__s0.json", "fig8-synthetic.json", "fig1-synthetic.json", "reduced-ferplus.json"])
def test_render_results_spoiled_fields_render_or_are_named(tmp_path, source):
    rng, junk = random.Random(0), (None, -1, 1e999, float("nan"), "", "x", [], [[]], {}, True, 10**400)
    for _ in range(25):
        o = json.loads((RESULTS/source).read_text())
        where = o
        while True:  # a field somewhere within
            k = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
            if isinstance(where[k], (dict, list)) and where[k] and rng.random() < .6: where = where[k]; continue
            break
        if rng.random() < .3: where.pop(k)
        else: where[k] = rng.choice(junk)
        (tmp_path/source).write_text(json.dumps(o))
        try:
            for p in parts_of_results(tmp_path):
                for draw in p.figures.values(): draw()
        except ValueError as e: assert source in str(e) and "\n" not in str(e), e


def test_run_experiments_skips_what_is_done_and_shares_trainings(tmp_path, faces, monkeypatch):
    import psr_fer.reproduce.run as run
    monkeypatch.setattr(run, "_step_seconds", lambda *args: .01)
    jobs = plan(["table7", "table8"], "synthetic")
    write(tmp_path, *(record(j.recipe.name, 0, .8) for j in jobs[:4]))
    said, args = [], dict(data=faces, dataset="synthetic", results=tmp_path, read=dict(labels="label.csv"), dry_run=True)
    todo = run_experiments(["table7", "table8", "table7"], **args, say=said.append)
    assert len(todo) == len(jobs) - 4 and said[0] == f"{len(jobs)} trainings, 4 done, {len(jobs) - 4} to run" and re.match(r"about [\d.e-]+ hours on this machine", said[1])
    assert run_experiments(["table7"], **args, hours=0., say=said.append) == [] and "0 of 1 fit into 0 hours" in said[-1]


@pytest.mark.slow
def test_reproduce_from_nothing_to_figures_and_again(faces, tmp_path):
    said, args = [], dict(results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", sets=TINY)
    reproduce(["table5", "reduced", "fig6", "fig7", "fig4", "table3"], faces, **args, say=said.append)
    text, done = "\n".join(said), {o.name: o.stat().st_mtime_ns for o in (tmp_path/"results").glob("*__s0.json")}
    assert len(done) == 2 and "ours" in text and (tmp_path/"results"/"README.md").exists() and (tmp_path/"figures").exists()
    n = read_numbers(next((tmp_path/"results").glob("reduced-synthetic*.json")))
    assert shlex.split(n.command)[:5] == ["psr-fer", "reproduce", "reduced", "--data", "DATA"] and list(n.table) == ["PSR", "PSR: 1/2", "PSR: SR x2", "PSR: original", "baseline"]
    assert [c["pixels"] for c in n.claims] == n.table.index.tolist() and {c["verdict"] for c in n.claims} == {"inconclusive"}
    for px, c in zip(n.table.index, n.claims, strict=True): assert c["points"] == pytest.approx(100*(n.table["PSR"][px] - n.table["baseline"][px]), abs=1e-3)
    reproduce(["table5"], faces, **args, say=said.append)
    assert {o.name: o.stat().st_mtime_ns for o in (tmp_path/"results").glob("*__s0.json")} == done and "0 to run" in said[-6] + said[-5] + said[-4] + said[-7] + said[-8]


@pytest.mark.slow
def test_reproduce_change_of_size_in_mid_training(faces, tmp_path):
    said, tiny = [], tuple(o for o in TINY if o[0] not in ("epochs", "base"))
    args = dict(epochs=1, results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", sets=tiny, say=said.append)
    reproduce(["fig11"], faces, **args)
    file = next((tmp_path/"results").glob("size-change-synthetic+*.json"))
    both = read_size_change(file)
    assert [o["model"] for o in both] == ["baseline", "psr"] and next((tmp_path/"figures").glob("size-change-synthetic+*.png")).exists()
    for o in both:  # before a change the weights are those that the epoch before it ended with
        assert len(o["untrained"]) == 3 and o["sizes"] == [32, 48, 64, 32] and o["command"].startswith("psr-fer reproduce fig11 --data DATA ")
        assert [old for old, _ in o["untrained"]] == pytest.approx(o["valid_loss"][:3], abs=2e-3) and any(abs(new - old) > 1e-4 for old, new in o["untrained"])
    assert list(size_change_table(both)["Change of the validation loss"]) == ["the same weights", "an epoch later"]*2
    done = file.read_text()
    reproduce(["fig11"], faces, **args)  # nothing is trained again
    assert file.read_text() == done


@pytest.mark.slow
def test_reproduce_dry_run_names_sizes_and_hours(tmp_path, faces, monkeypatch):
    from makers import RAFDB, rafdb_list

    import psr_fer.reproduce.run as run
    monkeypatch.setattr(run, "_step_seconds", lambda *args: .01)
    rafdb = rafdb_list(tmp_path/"raf", {s: dict.fromkeys(c, 6) for s, c in RAFDB.items()})
    said = []
    for name in NAMES: reproduce([name], faces, results=tmp_path/"results", runs=tmp_path/"runs", out=tmp_path/"figures", dry_run=True, say=said.append)
    assert sum("hours on this machine" in o for o in said) >= len(EXPERIMENTS) and not (tmp_path/"results").exists()
    reproduce(["fig11"], rafdb, "paper", results=tmp_path/"results", dry_run=True, say=said.append)
    assert "64, 100, 150, 64 px" in said[-2] and "the paper's 50, 100, 150, 50 px" in said[-2] and "VGG16 needs" in said[-2]


@pytest.mark.slow
def test_ray_gives_records_and_names_what_failed(faces, tmp_path):
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    said, jobs = [], dict(names=["table5"], data=faces, dataset="synthetic", overrides=TINY, read=dict(labels="label.csv"), results=tmp_path/"results", runs=tmp_path/"runs", engine="ray")
    bad = next(j for j in plan(["table5"], "synthetic", overrides=TINY) if j.configuration.key == "baseline").recipe.name
    block = run_file(tmp_path/"runs", bad, 0).with_suffix("")  # a file where the run's folder should be
    block.parent.mkdir()
    block.write_text("")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        with pytest.raises(ValueError, match="1 of 2 trainings failed, the others are in the results; the same command tries these again: ") as e: run_experiments(**jobs, say=said.append)
        assert f"{bad} seed 0 (FileExistsError" in str(e.value) and "\n" not in str(e.value) and len(read_results(tmp_path/"results")) == 1
        block.unlink()
        assert [j.recipe.name for j in run_experiments(**jobs, say=said.append)] == [bad]
    finally: ray.shutdown()
    assert len(read_results(tmp_path/"results")) == 2


@pytest.mark.slow
def test_tables_2_and_3_on_the_real_data(ferplus_root, tmp_path):
    said = []
    reproduce(["table2", "table3"], ferplus_root, results=tmp_path, say=said.append)
    assert "table3: 24 of 24 cells equal to the paper's" in said and "table2: 64 of 64 cells equal to the paper's" in said
    text = (tmp_path/"README.md").read_text()
    assert "| fer2013new.csv | 64 | 64 |" in text and "| fer2013new.csv | 24 | 24 |" in text


def test_changed_recipe_is_another_run():
    from psr_fer.recipes import RECIPES, run_name
    assert run_name(change(RECIPES["ferplus-lite"], pos=0)) == "ferplus-lite+pos=0" != run_name(RECIPES["ferplus-lite"])
