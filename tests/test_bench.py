"""The model benchmark counts and compares what it says; training an EDSR leaves what the pyramid reads."""
import json

import pytest
import torch

from psr_fer.bench import bench_model, gflop_per_image, matmul_peak, peak_memory, prepare, profile_call, time_call
from psr_fer.models.edsr import load_edsr
from psr_fer.models.psr import PSR
from psr_fer.recipes import get_recipe
from psr_fer.runs import train_run
from psr_fer.super_resolution import train_upscaler

CPU = torch.device("cpu")


def test_table_of_a_small_model():
    lines = []
    t = bench_model("vgg8_bn", sizes=(48,), ksteps=(1,), batches=(4, 1), seconds=0, device="cpu",
        model_args=dict(pos=3, sr=dict(n_resblocks=1, n_feats=4)), log=lines.append)
    assert set(zip(t["task"], t["batch"])) == {("train", 4), ("predict", 4), ("predict", 1)} and {"plain", "ours"} <= set(t["variant"])
    plain = t[t["variant"] == "plain"]
    assert (plain["speedup"] == 1).all() and (t["ms_per_image"] > 0).all() and len(lines) == 2 + len(t)
    assert (t[t["task"] == "predict"]["off"] < 1e-4).all()  # the same probabilities
    train, predict = (t[t["task"] == o]["gflop_per_image"].iloc[0] for o in ("train", "predict"))
    assert 2.5 < train/predict < 3.1  # forward once, backward twice, but none into the image
    # a single call on a machine that others use may be off, not most of them
    assert t["of_peak"].median() < 1.5 and t["of_peak"].between(.01, 4).all()
    with pytest.raises(ValueError, match="tasks holds 'both'"): bench_model(tasks=("both",), log=None)


def test_where_two_steps_of_two_are_too_many_they_are_smaller():
    args = dict(batches=(2,), tasks=("predict",), seconds=0, device="cpu", log=None)
    t = bench_model("vgg16", sizes=(96,), ksteps=(1, 2), model_args=dict(sr=dict(n_resblocks=1, n_feats=4)), **args)
    assert dict(zip(t["kstep"], t["step"])) == {1: 2, 2: 1.5}
    with pytest.raises(ValueError, match="too small"): bench_model("vgg16", sizes=(96,), ksteps=(2,), model_args=dict(step=2), **args)


def test_operations_are_counted():
    layer = torch.nn.Linear(100, 50).eval()
    assert gflop_per_image(layer, torch.randn(4, 100)) == pytest.approx(2*100*50/1e9)


def test_memory_and_time_of_known_calls():
    big = lambda: torch.ones(64, 2**20).sum()  # 256 MiB
    assert 200 < peak_memory(big, CPU) < 400
    import time
    assert time_call(lambda: time.sleep(.02), CPU, seconds=0) >= .02
    assert matmul_peak(CPU, n=256, seconds=.05) > .1


def test_plain_and_prepared_training_steps_agree():
    torch.manual_seed(0)
    model = PSR("vgg8_bn", size=48, pos=2, stn=False, sr=dict(n_resblocks=1, n_feats=4))
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout): m.p = 0.
    x, y = torch.randn(8, 3, 48, 48), torch.arange(8)
    losses = [prepare(model, True, **how)(x, y) for how in ({}, dict(channels_last=True))]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)


def test_profile_names_the_convolution():
    conv, x = torch.nn.Conv2d(16, 16, 3), torch.randn(4, 16, 32, 32)
    t = profile_call(lambda: conv(x))
    assert t["operation"].str.contains("conv").any() and 0 < t["share"].sum() <= 1 + 1e-9


def test_own_upscaler_is_read_by_a_recipe(faces, tmp_path):
    from psr_fer.data.ferplus import ferplus_table
    said = []
    r = train_upscaler(ferplus_table(faces, "label.csv"), tmp_path/"sr", blocks=1, features=4, size=32, say=said.append)
    about = json.loads((tmp_path/"sr"/"edsr.json").read_text())
    assert about == json.loads(json.dumps(r)) and r["psnr"] > 15
    last = said[-1 - (r["psnr"] < r["bicubic_psnr"])]  # but for the advice where it is worse
    assert f"PSNR {r['psnr']:.2f} dB (bicubic {r['bicubic_psnr']:.2f})" in last
    assert (tmp_path/"sr"/"edsr.png").stat().st_size > 5000
    sets = ["epochs=1", "base=[]", "size=32", "views=none", "batch_size=16", "sr_epochs=0",
        f"sr_weights={tmp_path/'sr'/'edsr.safetensors'}"]
    m = train_run(get_recipe("synthetic-demo", sets), faces, tmp_path/"run", labels="label.csv", say=lambda o: None)
    assert m["weights"].endswith("edsr.safetensors") and load_edsr(tmp_path/"sr"/"edsr.safetensors", scale=2).n_feats == 4
    with pytest.raises(ValueError, match="scale 2, but scale 3"): load_edsr(tmp_path/"sr"/"edsr.safetensors", scale=3)
