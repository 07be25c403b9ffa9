"""Runs: what they leave, that they go on after being killed with the same result, and that their numbers can be had again."""
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

import psr_fer.runs as runs
from psr_fer.data.datasets import read_dataset
from psr_fer.recipes import RECIPES, get_recipe
from psr_fer.runs import evaluate_run, load_model, train_run

TINY = ["epochs=2", "base=[[24,1]]", "size=32", "sr=[1,4]", "sr_epochs=1", "views=paper", "views_n=2", "batch_size=16"]
READ = dict(labels="label.csv")


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")/"whole"
    return out, train_run(get_recipe("synthetic-demo", TINY), faces, out, seed=5, say=lambda o: None, command="test", **READ)


@pytest.mark.slow
def test_what_a_run_leaves(finished):
    out, m = finished
    config, history = json.loads((out/"config.json").read_text()), pd.read_csv(out/"history.csv")
    assert config["seed"] == 5 and config["recipe"]["epochs"] == 2 and len(config["data"]["sha256"]) == 64
    assert history["stage"].tolist() == ["base-1-24px", "fit", "fit"] and {"lr_stn", "lr_head", "wa", "ua", "macro_f1"} <= set(history)
    fit = history[history["stage"] == "fit"]
    assert m["selected"].startswith(f"epoch {fit['wa'].tolist()[::-1].index(fit['wa'].max())*-1 + 2} of 2 by WA on the validation split")
    assert m == runs.RunRecord.load(out/"metrics.json") and m["test"]["n"] == m["data"]["faces"]["test"]
    assert len(m["fusion_weights"]) == 3 and len(m["test"]["branches"]) == 3
    assert not [o for o in out.iterdir() if o.name.startswith(".")]  # nothing half-done left


@pytest.mark.slow
def test_same_numbers_from_the_saved_weights(finished, faces):
    out, m = finished
    got = evaluate_run(out, faces, tta=2, say=lambda o: None)
    assert got == m["test"]
    assert evaluate_run(out, faces, split="valid", tta=2, say=lambda o: None) == m["valid"]
    model, about = load_model(out)
    assert about["classes"] == list(m["test"]["recall"]) and about["config"]["size"] in ([32, 32], 32)


@pytest.mark.slow
def test_enough_validation_faces_calibrate_a_run(finished, faces, tmp_path, monkeypatch):
    from psr_fer.predict import Predictor
    first, m = finished
    assert m.temperature == 1 and not m.calibration and Predictor(first, device="cpu").temperature == 1  # a handful of validation faces says nothing
    for o in (*first.glob("stage-*"), first/"history.csv", first/"repeated.json", first/"sr.json"): (tmp_path/o.name).write_bytes(o.read_bytes())
    monkeypatch.setattr("psr_fer.runs.ENOUGH", 10)
    said = []
    m = train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path, seed=5, say=said.append, **READ)  # all stages are done: it only evaluates
    predictor, c = Predictor(tmp_path, device="cpu"), m["calibration"]
    assert predictor.temperature == m["temperature"] != 1 and c["temperature_from"] == "valid"
    assert f"temperature {m['temperature']:.2f}, expected calibration error of the test faces {c['before']:.3f} -> {c['after']:.3f}" in said[-1]
    assert m["test"] == finished[1]["test"]  # it changes no decision


def test_a_finished_run_is_not_run_again(finished, faces):
    out, m = finished
    before = (out/"model.safetensors").stat().st_mtime_ns
    assert train_run(get_recipe("synthetic-demo", TINY), faces, out, seed=5, say=lambda o: None, **READ) == m
    assert (out/"model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds another run \\(seed differ"): train_run(get_recipe("synthetic-demo", TINY), faces, out, seed=6, say=lambda o: None, **READ)


def test_run_folder_of_an_earlier_release_is_the_same_run(finished, faces, tmp_path):
    out, m = finished
    for o in out.iterdir():
        if o.is_file(): (tmp_path/o.name).write_bytes(o.read_bytes())
    file = tmp_path/"config.json"
    config = json.loads(file.read_text())
    recipe = {dict(tta="views", n_tta="views_n").get(k, k): v for k, v in config["recipe"].items() if k != "mixup"}
    file.write_text(json.dumps(dict(config, recipe=dict(recipe, source="as it was worded then"))))
    assert train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path, seed=5, say=lambda o: None, **READ) == m
    file.write_text(json.dumps(dict(config, recipe=dict(recipe, views="none"))))
    with pytest.raises(ValueError, match="holds another run"): train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path, seed=5, say=lambda o: None, **READ)


def test_the_table_of_a_run_that_left_bad_rows_out(faces):
    classes = read_dataset("synthetic", faces, **READ).classes
    about = dict(dataset="synthetic", seed=0, classes=classes, read=dict(READ, skip_bad=True))
    assert len(runs.table_of(about, faces, skip_bad=True)) == len(runs.table_of(about, faces))  # asked for twice, done once


@pytest.mark.slow
def test_killed_and_started_again_ends_the_same(finished, faces, tmp_path):
    _, m = finished
    code = ("from psr_fer.recipes import get_recipe\nfrom psr_fer.runs import train_run\n"
            f"train_run(get_recipe('synthetic-demo', {TINY!r}), {str(faces)!r}, {str(tmp_path/'killed')!r}, seed=5, labels='label.csv', say=lambda *a: print(*a, flush=True))")
    history, killed = tmp_path/"killed"/"history.csv", 0
    for rows in (1, 2):  # kill -9 after the base stage, and again after the first epoch of the pyramid
        p = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None:
            if history.exists() and len(pd.read_csv(history)) >= rows:
                os.kill(p.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(.02)
        p.wait()
    assert killed == 2 and not (tmp_path/"killed"/"metrics.json").exists()
    again = train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path/"killed", seed=5, say=lambda o: None, **READ)
    assert again["test"] == m["test"] and again["valid"] == m["valid"]


def test_weights_are_no_pickle_and_say_what_they_are(finished, tmp_path):
    out, _ = finished
    assert (out/"model.safetensors").read_bytes()[8:9] == b"{"
    with pytest.raises(FileNotFoundError, match="a checkpoint is a .safetensors file with a .json next to it"): load_model(tmp_path/"nothing.safetensors")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete(name):
    r = RECIPES[name]
    assert r.name == name and r.source and (r.model == "psr" or "baseline" in name or "vgg16" in name or name.endswith("-start"))


@pytest.mark.slow
def test_evaluate_refuses(finished, faces):
    out, _ = finished
    with pytest.raises(ValueError, match="split must be one of train, valid, test"): evaluate_run(out, faces, split="dev")
    assert torch.is_tensor(load_model(out)[0].fusion)


@pytest.mark.slow
def test_a_record_says_what_it_was_trained_with(finished, faces, tmp_path, monkeypatch):
    out, m = finished
    history = pd.read_csv(out/"history.csv", dtype=dict(commit=str))
    sr = json.loads((out/"sr.json").read_text())
    assert m["training_seconds"] == pytest.approx(history["seconds"].sum() + sum(o["seconds"] for o in sr), abs=.1) and sr[0]["seconds"] > 0
    assert m["minutes"] == pytest.approx((m["training_seconds"] + m["evaluation_seconds"])/60, abs=.06) and m["wall_minutes"] >= 0
    assert m["device"] == history["device"][0] and m["finished"] == history["finished"].iloc[-1] and m.evaluated_on is None
    for o in (*out.glob("stage-*"), *(out/k for k in ("history.csv", "repeated.json", "sr.json", "config.json"))): (tmp_path/o.name).write_bytes(o.read_bytes())
    monkeypatch.setattr(runs, "device_name", lambda: "another machine")  # evaluated there, a year later, with other code
    monkeypatch.setattr(runs, "now", lambda: "2099-01-01T00:00:00+00:00")
    monkeypatch.setattr(runs, "revision", lambda: dict(commit="fffffff", dirty=True))
    later = train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path, seed=5, say=lambda o: None, **READ)
    for k in ("device", "finished", "started", "commit", "dirty", "training_seconds"): assert later[k] == m[k], k
    assert later["evaluated_on"] == "another machine" and later["evaluated"].startswith("2099") and later["wall_minutes"] > 1e6 and later["minutes"] < 5
    old = history.drop(columns=["device", "commit", "finished"])  # a history of before
    old.to_csv(tmp_path/"history.csv", index=False)
    (tmp_path/"metrics.json").unlink()
    assert train_run(get_recipe("synthetic-demo", TINY), faces, tmp_path, seed=5, say=lambda o: None, **READ)["device"] == m["device"]  # config.json knows it


def git(folder, *args): subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", folder, *args], check=True, capture_output=True)


def test_the_commit_of_a_clone_and_of_nothing_else(tmp_path, monkeypatch):
    package = tmp_path/"psr_fer"
    package.mkdir()
    (package/"__init__.py").write_text("")
    monkeypatch.setattr(runs.psr_fer, "__file__", str(package/"__init__.py"))
    ask = runs.revision.__wrapped__
    nothing = dict(commit=None, dirty=None)
    assert ask() == nothing  # no repository
    git(tmp_path, "init")
    assert ask() == nothing  # somebody else's, with the package installed in it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = ask()
    assert len(clean["commit"]) >= 7 and clean["dirty"] is False
    (tmp_path/"notes.txt").write_text("not the package's")
    assert ask() == clean
    (package/"__init__.py").write_text("1")
    assert ask() == dict(clean, dirty=True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert ask() == nothing
