"""What a training survives, and what it says when it cannot go on: stops, full disks, NaN, too little memory; options of a run."""
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback

import psr_fer.runs as runs
from psr_fer.checkpoints import atomic_write, load_model, save_model, transfer_weights
from psr_fer.models.psr import PSR, Baseline
from psr_fer.recipes import get_recipe
from psr_fer.runs import train_run, train_seeds

pytestmark = pytest.mark.slow

TINY = get_recipe("synthetic-demo", ["epochs=2", "base=[[24,1]]", "size=32", "sr=[1,4]", "sr_epochs=0", "views_n=2", "batch_size=16", "views=none"])
PLAIN = replace(TINY, model="baseline", base=(), name="plain", precision="float32")  # whatever the processor


def train(recipe, faces, out, **kw): return train_run(recipe, faces, out, kw.pop("seed", 5), labels="label.csv", say=kw.pop("say", lambda o: None), **kw)


@pytest.fixture(scope="module")
def plain(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")/"run"
    return out, train(PLAIN, faces, out)


def start(faces, out, *args):
    "The command line in a process of its own."
    sets = [f"{k}={json.dumps(getattr(PLAIN, k))}" for k in ("model", "epochs", "base", "size", "sr", "sr_epochs", "views_n", "views", "batch_size", "precision")]
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", "psr_fer.cli", "train", "synthetic-demo", "--data", str(faces), "--labels", "label.csv", "--out", str(out), "--seed", "5",
                             *[o for s in sets for o in ("--set", s)], *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(p, cond):
    while p.poll() is None and not cond(): time.sleep(.01)


def test_kill_within_an_epoch(plain, faces, tmp_path):
    out = tmp_path/"run"
    p = start(faces, out, "--minutes", 0)
    state = out/".last-fit.pt"
    wait_for(p, state.exists)
    time.sleep(.15)
    p.send_signal(signal.SIGKILL)
    p.wait()
    kept = torch.load(state, weights_only=True)
    config = json.loads((out/"config.json").read_text())
    p = start(faces, out)
    text = p.communicate()[0]
    assert p.returncode == 0 and f"resuming after epoch {kept['epoch']}" in text and kept["batch"] + kept["epoch"] > 0
    m = runs.RunRecord.load(out/"metrics.json")
    assert m["test"] == plain[1]["test"] and m["valid"] == plain[1]["valid"] and config["seed"] == 5
    cols = ["train_loss", "valid_loss", "wa", "ua", "lr_head"]
    pd.testing.assert_frame_equal(pd.read_csv(out/"history.csv")[cols], pd.read_csv(plain[0]/"history.csv")[cols])


def test_ctrl_c_saves_and_says_how_to_go_on(plain, faces, tmp_path):
    out = tmp_path/"run"
    p = start(faces, out, "--minutes", 0)
    wait_for(p, (out/".last-fit.pt").exists)
    p.send_signal(signal.SIGINT)
    err = p.communicate()[1]
    assert p.returncode == 130 and "the same command (without --fresh) resumes" in err and "Traceback" not in err
    assert not (out/"metrics.json").exists() and not list(out.glob(".*.[0-9]*"))
    assert train(replace(PLAIN, name="synthetic-demo"), faces, out)["test"] == plain[1]["test"]


class Poison(Callback):
    run_valid = False
    def __init__(self, epoch, batch): self.at = epoch, batch
    def after_pred(self):
        if (self.epoch, self.iter) == self.at: self.learn.pred = self.pred*float("nan")


def test_nan_stops_names_the_files_and_keeps_good_weights(faces, tmp_path, monkeypatch):
    make = runs.baseline_learner
    def poisoned(*args, **kw):
        learn = make(*args, **kw)
        learn.add_cb(Poison(1, 2))
        return learn
    monkeypatch.setattr(runs, "baseline_learner", poisoned)
    with pytest.raises(FloatingPointError, match="the loss became nan in fit, epoch 2, batch 3; the last checkpoint is kept. A smaller learning rate usually helps: --set lr=..."): train(PLAIN, faces, tmp_path/"run")
    names = json.loads((tmp_path/"run"/"nan-batch.json").read_text())
    assert len(names) == 16 and all((faces/o).exists() for o in names)
    state = torch.load(tmp_path/"run"/".last-fit.pt", weights_only=True)
    assert state["epoch"] == 1 and all(torch.isfinite(o).all() for o in state["model"].values() if o.is_floating_point())


def test_a_full_disk_gets_a_sentence_and_the_run_goes_on_later(plain, faces, tmp_path, monkeypatch):
    real, calls = runs.Run.save_state, []
    def full(self, stage, state):
        calls.append(1)
        if len(calls) == 2: raise OSError(errno.ENOSPC, "No space left on device")
        real(self, stage, state)
    monkeypatch.setattr(runs.Run, "save_state", full)
    with pytest.raises(OSError, match="No space left"): train(PLAIN, faces, tmp_path/"run")
    monkeypatch.undo()
    assert train(PLAIN, faces, tmp_path/"run")["test"] == plain[1]["test"]


def test_a_really_full_disk(tmp_path):
    "The system refuses to write more: nothing half-written stays, the old file is whole."
    code = f"""
import resource, signal
from psr_fer.checkpoints import atomic_write
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
p = Path({str(tmp_path/'a.bin')!r})
atomic_write(p, b'old')
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try: atomic_write(p, b'x'*10_000)
except OSError as e: print(e.strerror)
"""
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert "the disk is full; free some space and give the same command again" in r.stdout
    assert [o.name for o in tmp_path.iterdir()] == ["a.bin"] and (tmp_path/"a.bin").read_bytes() == b"old"


def test_out_of_gpu_memory_says_what_to_try(faces, tmp_path, monkeypatch):
    def forward(*args, **kw): raise torch.OutOfMemoryError("CUDA out of memory.")
    monkeypatch.setattr(Baseline, "forward", forward)
    with pytest.raises(ValueError, match="out of GPU memory with batch_size 16; try --set batch_size=8 --set accumulate=2"): train(PLAIN, faces, tmp_path/"run")


def test_same_seed_same_numbers_other_seed_others(plain, faces, tmp_path):
    assert train(PLAIN, faces, tmp_path/"same")["valid"] == plain[1]["valid"]
    other = train(PLAIN, faces, tmp_path/"other", seed=6)
    assert pd.read_csv(tmp_path/"other"/"history.csv")["train_loss"].tolist() != pd.read_csv(plain[0]/"history.csv")["train_loss"].tolist() and other["seed"] == 6


def test_several_seeds(faces, tmp_path):
    r = train_seeds(replace(PLAIN, epochs=1), faces, tmp_path, [1, 2], say=lambda o: None, labels="label.csv")
    both = [json.loads((tmp_path/f"plain__s{s}"/"metrics.json").read_text())["test"]["wa"] for s in (1, 2)]
    assert r["wa"]["values"] == both and r["wa"]["mean"] == pytest.approx(np.mean(both)) and r["wa"]["sd"] == pytest.approx(np.std(both, ddof=1))
    assert json.loads((tmp_path/"plain__seeds.json").read_text()) == r


@pytest.mark.parametrize("change", [dict(precision="bf16"), dict(accumulate=2, batch_size=8), dict(compile=True), dict(channels_last=False), dict(sgd_epochs=1), dict(ema=0.)])
def test_options_of_a_recipe_train(faces, tmp_path, change):
    if change.get("compile") and not shutil.which("g++"): pytest.skip("torch.compile on a CPU needs a C++ compiler")
    m = train(replace(PLAIN, epochs=1, **change), faces, tmp_path/"run")
    recipe, first = json.loads((tmp_path/"run"/"config.json").read_text())["recipe"], pd.read_csv(tmp_path/"run"/"history.csv")["train_loss"][0]
    assert 0 < m["test"]["wa"] <= 1 and {k: recipe[k] for k in change} == change
    train(replace(PLAIN, epochs=1), faces, tmp_path/"plain")
    loss = pd.read_csv(tmp_path/"plain"/"history.csv")["train_loss"][0]
    exact = {"sgd_epochs"} & set(change)  # the first stage is the same
    assert (first == loss) if exact else (first != loss or "channels_last" in change or "compile" in change or "ema" in change) and abs(first - loss) < .5
    if "sgd_epochs" in change: assert pd.read_csv(tmp_path/"run"/"history.csv")["stage"].tolist() == ["fit", "sgd"]


def test_auto_precision_is_decided_once(faces, tmp_path, monkeypatch):
    from psr_fer.callbacks import Autocast, precision_callbacks, resolve_precision
    monkeypatch.setattr("psr_fer.callbacks.time_precisions", lambda *args: dict(float32=1., bf16=.8))
    assert resolve_precision("auto", "cpu") == "bf16" and isinstance(precision_callbacks("auto", "cpu")[0], Autocast)
    r = replace(PLAIN, epochs=1, precision="auto")
    m = train(r, faces, tmp_path/"run")
    monkeypatch.setattr("psr_fer.callbacks.time_precisions", lambda *args: dict(float32=1., bf16=.95))
    assert resolve_precision("auto", "cpu") == "float32" and precision_callbacks("auto", "cpu") == []
    (tmp_path/"run"/"metrics.json").unlink()
    again = train(r, faces, tmp_path/"run")  # the folder was begun in bfloat16
    assert m["precision"] == again["precision"] == "bf16" and train(r, faces, tmp_path/"other")["precision"] == "float32"


@pytest.mark.parametrize("units,half", [(False, "fp16"), (True, "bf16")])
def test_auto_precision_takes_fp16_on_a_card_without_bf16_units(monkeypatch, units, half):
    from psr_fer.callbacks import resolve_precision
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: units or including_emulation) # Turing emulates bf16
    asked = []
    monkeypatch.setattr("psr_fer.callbacks.time_precisions", lambda model, size, bs, device: asked.append((model, size, bs)) or {"float32": 1., half: .5})
    net = torch.nn.Conv2d(3, 3, 3)
    assert resolve_precision("auto", "cuda", net, 96, 64) == half and asked == [(net, 96, 64)] # the network itself at its size and batch
    monkeypatch.setattr("psr_fer.callbacks.time_precisions", lambda *args: {"float32": 1., half: 1.2})
    assert resolve_precision("auto", "cuda", net, 96, 64) == "float32"


def test_timing_a_precision_changes_nothing():
    from psr_fer.callbacks import time_precisions
    model = PSR("vgg8_bn", size=32, pos=3, sr=dict(n_resblocks=1, n_feats=4))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    times = time_precisions(model, 32, 2, torch.device("cpu"), rounds=1)
    assert set(times) == {"float32", "bf16"} and min(times.values()) > 0
    for k, v in model.state_dict().items(): torch.testing.assert_close(v, before[k], rtol=0, atol=0)
    assert all(o.grad is None for o in model.parameters()) and torch.equal(state, torch.get_rng_state())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["ferplus-paper", "ferplus-authors", "rafdb-paper", "rafdb-authors"])
def test_recipe_fits_an_11_gb_card(name):
    from psr_fer.recipes import RECIPES
    from psr_fer.runs import build_model
    recipe = RECIPES[name]
    torch.cuda.set_per_process_memory_fraction(min(1., 11*2**30/torch.cuda.get_device_properties(0).total_memory))
    try:
        model = build_model(recipe, 8).cuda().train()
        opt = torch.optim.Adam(o for o in model.parameters() if o.requires_grad)
        for _ in range(2): # the second step has the optimiser's state, too
            model(torch.rand(recipe.batch_size, 3, recipe.size, recipe.size, device="cuda")).sum().backward()
            opt.step(); opt.zero_grad()
    finally: torch.cuda.set_per_process_memory_fraction(1.)


def test_accumulated_batches_make_the_step_of_a_large_one(faces):
    "Without dropout and batch statistics two halves give the gradient of the whole, and one half does not."
    from fastai.callback.training import GradientAccumulation

    from psr_fer.callbacks import seed_all
    from psr_fer.data.ferplus import ferplus_dls
    from psr_fer.learner import baseline_learner

    class Still(Callback):
        def before_batch(self): self.model.eval()

    class One(Callback):
        run_valid = False
        def __init__(self, n): self.n = n
        def after_batch(self):
            if self.iter + 1 == self.n: raise runs_cancel()
    from fastai.callback.core import CancelFitException as runs_cancel
    weight = {}
    for name, bs, batches, cbs in (("whole", 16, 1, []), ("halves", 8, 2, [GradientAccumulation(16)]), ("half", 8, 1, [])):
        dls = ferplus_dls(faces, size=32, bs=bs, labels="label.csv", augment=None, seed=3)
        seed_all(0)
        learn = baseline_learner(dls, "vgg8_bn", model_args=dict(pos=2), opt_func=runs.partial(runs.SGD, mom=0.), rates=False)
        start = learn.model.head[6].weight.detach().clone()
        with learn.no_bar(), learn.no_logging(): learn.fit(1, .1, cbs=[Still(), One(batches), *cbs], wd=0.)
        weight[name] = learn.model.head[6].weight.detach() - start
    size = weight["whole"].abs().max()
    assert size > 1e-4 and (weight["halves"] - weight["whole"]).abs().max() < .01*size < (weight["half"] - weight["whole"]).abs().max()


def test_warm_up_is_reused_by_the_baseline_and_not_by_another_seed(faces, tmp_path):
    said = []
    train(replace(TINY, name="one", epochs=1), faces, tmp_path/"one")
    m = train(replace(TINY, name="two", epochs=1, model="baseline", pos=2), faces, tmp_path/"two", say=said.append)
    assert any("warm-up taken from one" in o for o in said)
    assert pd.read_csv(tmp_path/"two"/"history.csv")["stage"].tolist() == ["base-1-24px", "fit"] and m["test"]["n"] > 0
    said.clear()
    train(replace(TINY, name="three", epochs=1), faces, tmp_path/"three", seed=6, say=said.append)
    assert not any("warm-up taken" in o for o in said)


def test_frozen_head_stage(faces, tmp_path):
    train(replace(TINY, model="baseline", frozen_epochs=1, epochs=1), faces, tmp_path/"run")
    assert pd.read_csv(tmp_path/"run"/"history.csv")["stage"].tolist() == ["base-0-head", "base-1-24px", "fit"]


def test_init_from_another_run(plain, faces, tmp_path):
    said = []
    train(replace(TINY, epochs=1), faces, tmp_path/"run", init=plain[0], say=said.append)
    line = next(o for o in said if o.startswith(f"from {plain[0]}"))
    assert "shared 28 of 28 tensors" in line and "fresh: none" in line and "stn 0 of" in line
    with pytest.raises(ValueError, match="holds another run \\(init differ"): train(replace(TINY, epochs=1), faces, tmp_path/"run")


def test_transfer_weights_orders_the_last_layer_by_name(tmp_path):
    kw = dict(size=48, pos=2, sr=dict(n_resblocks=1, n_feats=4))
    old = PSR("vgg8_bn", n_classes=3, **kw)
    save_model(old, tmp_path/"old.safetensors", classes=["a", "b", "c"])
    new = PSR("vgg8_bn", n_classes=4, **kw)
    fresh = new.head[6].weight[1].clone()
    report = transfer_weights(new, ["c", "x", "a", "b"], tmp_path/"old")
    torch.testing.assert_close(new.head[6].weight, torch.stack([old.head[6].weight[2], fresh, old.head[6].weight[0], old.head[6].weight[1]]))
    assert report["kept"] == ["c", "a", "b"] and report["fresh"] == ["x"] and report["stn"].startswith(report["stn"].split(" of ")[1].split()[0])
    x = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(new.eval().branches(x)[..., [2, 3, 0]], old.eval().branches(x))


def test_repeated_pictures_are_reported(faces, tmp_path):
    shutil.copytree(faces, tmp_path/"faces")
    train_one, test_one = (next((tmp_path/"faces"/o).glob("*.png")) for o in ("FER2013Train", "FER2013Test"))
    shutil.copy(train_one, test_one)
    said = []
    m = train(replace(PLAIN, epochs=1), tmp_path/"faces", tmp_path/"run", say=said.append)
    assert m["repeated_images"] >= 1 and any("occur in more than one split" in o for o in said)
    assert {f"FER2013Train/{train_one.name}", f"FER2013Test/{test_one.name}"} <= {o for pair in json.loads((tmp_path/"run"/"repeated.json").read_text()) for o in pair}


def test_the_test_split_is_read_once_at_the_end(faces, tmp_path, monkeypatch):
    seen = []
    real = runs.evaluate_model
    monkeypatch.setattr(runs, "evaluate_model", lambda model, dl, *a, **k: (seen.append((len(dl.dataset), (tmp_path/"run"/"stage-fit.safetensors").exists())), real(model, dl, *a, **k))[1])
    m = train(PLAIN, faces, tmp_path/"run")
    n = m["data"]["faces"]
    assert [o for o in seen] == [(n["valid"], True), (n["test"], True), (n["test"], True)] and "the test split chose nothing" in m["selected"]


def test_cache_on_disk_gives_the_same_numbers(plain, faces, tmp_path):
    assert train(PLAIN, faces, tmp_path/"run", cache=str(tmp_path/"pixels"))["test"] == plain[1]["test"]
    assert list((tmp_path/"pixels").glob("*-pixels.npy"))


def test_tracking(faces, tmp_path):
    pytest.importorskip("tensorboard")
    train(replace(PLAIN, epochs=1), faces, tmp_path/"run", track="tensorboard")
    assert list((tmp_path/"run"/"tensorboard").rglob("events.*"))
    with pytest.raises(ValueError, match="none of tensorboard, wandb"): train(replace(PLAIN, epochs=1), faces, tmp_path/"other", track="mlflow")


def test_evaluating_a_broken_checkpoint(plain, tmp_path):
    for o in ("model.safetensors", "model.json"): shutil.copy(plain[0]/o, tmp_path/o)
    (tmp_path/"model.safetensors").write_bytes((tmp_path/"model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"): load_model(tmp_path)
    shutil.copy(plain[0]/"model.safetensors", tmp_path/"model.safetensors")
    about = json.loads((tmp_path/"model.json").read_text())
    (tmp_path/"model.json").write_text(json.dumps(dict(about, config=dict(about["config"], n_classes=3))))
    with pytest.raises(ValueError, match="it names 8 classes, but the model has 3"): load_model(tmp_path)
    (tmp_path/"model.json").write_text(json.dumps(dict(about, config=dict(about["config"], n_classes=3), classes=about["classes"][:3])))
    with pytest.raises(ValueError, match="does not fit its description"): load_model(tmp_path)
    (tmp_path/"model.json").write_text(json.dumps(dict(about, format=9, version="9.0")))
    with pytest.raises(ValueError, match="has format 9, made by psr_fer 9.0"): load_model(tmp_path)


def test_atomic_write_leaves_the_old_file(tmp_path):
    atomic_write(tmp_path/"a", "old")
    def half(p): p.write_text("half"); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): atomic_write(tmp_path/"a", half)
    assert (tmp_path/"a").read_text() == "old" and len(os.listdir(tmp_path)) == 1


def test_memory_stays_flat_over_an_epoch(faces, tmp_path):
    "With the cache on disk an epoch over many faces leaves the process no larger than it was, and decodes nothing twice."
    from dataclasses import replace

    from psr_fer.data.ferplus import ferplus_table
    from psr_fer.data.loaders import dls_from_table
    anon = lambda: next(int(o.split()[1])/1024 for o in open("/proc/self/status") if o.startswith("RssAnon"))  # MiB that belong to the process alone
    if not os.path.exists("/proc/self/status"): pytest.skip("memory is read from /proc")
    t = ferplus_table(faces, "label.csv")
    big = pd.concat([t.split("train").df]*180, ignore_index=True)  # 19,620 rows: 517 MiB of pixels at 96 px
    big = pd.concat([big, t[t["split"] != "train"].df], ignore_index=True)
    big = replace(t, df=big)
    dls = dls_from_table(big, size=96, bs=60, augment=None, cache=tmp_path)  # 60 divides the faces: none is left out of the first epoch
    for _ in dls.train: break
    start = anon()
    for _ in dls.train: pass
    dls.train.cache.decode = None  # would fail
    for _ in dls.train: pass
    pixels = sum(o.stat().st_size for o in tmp_path.glob("*-pixels.npy"))/2**20
    assert pixels > 500 and anon() - start < pixels/2  # the C library keeps some memory for later; the pixels are not in it


@pytest.fixture(scope="module")
def cut_short(faces, tmp_path_factory):
    "Runs whose process ended at once at the 3rd, 4th ... 8th rename; one start of Python for all, a fork for each."
    d = tmp_path_factory.mktemp("cut")
    sets = [f"{k}={json.dumps(getattr(PLAIN, k))}" for k in ("epochs", "size", "sr", "sr_epochs", "views_n", "views", "batch_size", "precision")]
    code = f"""
import os
import psr_fer.checkpoints as c
from dataclasses import replace
from psr_fer.recipes import get_recipe
from psr_fer.runs import train_run
r = replace(get_recipe('synthetic-demo', {sets!r}), model='baseline', base=(), name='plain')
real, count = os.replace, [0]
def dies(a, b):
    count[0] += 1
    if count[0] == last: os._exit(9)
    real(a, b)
c.os.replace = dies
for n in range(1, 7):
    last = 2 + n
    if not (child := os.fork()):
        train_run(r, {str(faces)!r}, {str(d)!r} + f'/{{n}}', 5, labels='label.csv', say=lambda o: None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    p = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert p.stdout.split() == ["9"]*6, p.stderr
    return d


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_killed_between_any_two_files_ends_with_equal_numbers(plain, faces, cut_short, n):
    out = cut_short/str(n)
    assert train(PLAIN, faces, out)["test"] == plain[1]["test"]
    assert pd.read_csv(out/"history.csv")["wa"].tolist() == pd.read_csv(plain[0]/"history.csv")["wa"].tolist() and not [o for o in out.iterdir() if o.name.startswith(".")]


def test_two_starts_in_one_folder(faces, tmp_path):
    import fcntl
    (tmp_path/"run").mkdir()
    with (tmp_path/"run"/".lock").open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is in use by another start"): train(PLAIN, faces, tmp_path/"run")


def test_weights_that_become_infinite_are_not_saved(faces, tmp_path, monkeypatch):
    make = runs.baseline_learner
    class Spoil(Callback):
        order, run_valid = 60, False
        def after_step(self):
            if self.epoch == 1 and self.iter == self.n_iter - 1: next(self.model.parameters()).data.fill_(float("inf"))
    def spoiled(*args, **kw):
        learn = make(*args, **kw)
        learn.add_cb(Spoil())
        return learn
    monkeypatch.setattr(runs, "baseline_learner", spoiled)
    with pytest.raises(FloatingPointError, match="the weights became infinite or NaN in fit, epoch 2"): train(PLAIN, faces, tmp_path/"run")
    state = torch.load(tmp_path/"run"/".last-fit.pt", weights_only=True)
    assert state["epoch"] == 1 and all(torch.isfinite(o).all() for o in state["model"].values() if o.is_floating_point())


@pytest.mark.parametrize("text,words", [("epochs=2.5", "a whole number"), ("views_n=4.5", "a whole number"), ("batch_size=1e2", "a whole number"), ("base=[48,8]", "base is"), ("base=48", "base is"), ("sr=16", "sr is"),
    ("rates=0.001", "rates gives"), ('rates={"tail": 1}', "rates gives"), ("arch=5", "a text"), ("ema=1", r"ema must be in \[0,1\)"), ("lr=NaN", "at least 1e-07"), ("stn=1", "true or false")])
def test_values_of_the_wrong_kind(text, words):
    with pytest.raises(ValueError, match=words): get_recipe("ferplus-lite", [text])
