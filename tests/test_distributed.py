"""Two processes train one model on CPUs and record what one process computes from their weights."""
import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from psr_fer.checkpoints import load_model
from psr_fer.data.ferplus import ferplus_dls
from psr_fer.learner import fuse_scores, tta_scores
from psr_fer.metrics import judge

pytestmark = pytest.mark.slow

SETS = ["epochs=2", "base=[[24,1]]", "size=32", "sr=[1,4]", "sr_epochs=1", "views_n=2", "batch_size=16", "ema=0", "fusion=mean"]


@pytest.fixture(scope="module")
def together(faces, tmp_path_factory):
    pytest.importorskip("accelerate")
    out = tmp_path_factory.mktemp("processes")/"run"
    command = ["train", "synthetic-demo", "--data", faces, "--labels", "label.csv", "--out", out, *[o for s in SETS for o in ("--set", s)]]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "29571"]
    r = subprocess.run([*launch, "-m", "psr_fer.cli", *map(str, command)], capture_output=True, text=True,
                       env=dict(os.environ, OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true"), timeout=600)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-4000:]
    return out, r.stdout


def test_one_folder_and_one_voice(together):
    out, text = together
    assert text.count("fit epoch 2:") == 1 and text.count("test: WA") == 1
    assert json.loads((out/"config.json").read_text())["device"].endswith("2 processes")
    assert pd.read_csv(out/"history.csv")["stage"].tolist() == ["base-1-24px", "fit", "fit"]


def test_metrics_are_over_all_processes(together, faces):
    "The best epoch's metrics, gathered from two processes, are those that one process computes from its weights."
    out, _ = together
    model, about = load_model(out)
    dls = ferplus_dls(faces, size=32, labels="label.csv", augment=None)
    scores, y = tta_scores(model, dls.valid, views="none")
    got, rows = judge(fuse_scores(model, scores), y, about["classes"]), pd.read_csv(out/"history.csv")
    best = rows[rows["stage"] == "fit"].sort_values(["wa", "epoch"]).iloc[-1]
    for k in ("wa", "ua", "macro_f1"): assert got[k] == pytest.approx(best[k]), k
    assert got["n"] == len(dls.valid_ds)
