"""Size, time, agreement and accuracy of a model as PyTorch, ONNX and int8, in one run: python benchmarks/export.py RUN DATA --out table.csv

All are timed in turns, so that a busy moment of the machine hits all alike; onnxruntime gets as many threads as PyTorch. "PyTorch, branch
by branch" computes a pyramid as the authors do, one branch after the other; "PyTorch" is the model as it was trained, both in float32;
"PyTorch, folded" has its batch normalisation folded, as the exported files have.
"""
import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from psr_fer.checkpoints import checkpoint_files, load_model
from psr_fer.export import ExportModel, dataset_faces, export_model, quantize, runner

sys.path.insert(0, str(Path(__file__).resolve().parent))
from model import Plain, machine  # noqa: E402 - benchmarks/model.py


def run_all(f, faces): return np.concatenate([f(o) for o in np.array_split(faces, max(1, len(faces)//64))]) # (N,C) probabilities


def median_seconds(calls, seconds, rounds=5): # name -> median seconds of a call, measured in turns
    times = {k: [] for k in calls}
    for _ in range(rounds):
        for k, call in calls.items():
            call() # threads of the one before come to rest
            stop = time.perf_counter() + seconds/rounds
            while True:
                start = time.perf_counter()
                call()
                times[k].append(time.perf_counter() - start)
                if time.perf_counter() > stop: break
    return {k: float(np.median(v)) for k, v in times.items()}


def accuracy(probs, y): # WA and UA in percent
    right = probs.argmax(1) == y
    return 100*right.mean(), 100*np.mean([right[y == k].mean() for k in np.unique(y)])


def compare(files, faces, targets, batches=(1, 64), seconds=1.): # name -> (file, function); faces (N,3,H,W) in [0,1] -> DataFrame
    got = {k: run_all(f, faces) for k, (_, f) in files.items()}
    first, rows = next(iter(got)), {k: {"MB": Path(o).stat().st_size/1e6} for k, (o, _) in files.items()}
    for b in batches:
        x = np.resize(faces, (b, *faces.shape[1:]))
        took = median_seconds({k: partial(f, x) for k, (_, f) in files.items()}, seconds)
        for k, row in rows.items(): row |= {f"ms per face, batch {b}": 1000*took[k]/b, f"times as fast, batch {b}": took[first]/took[k]}
    for k, o in got.items():
        wa, ua = accuracy(o, targets)
        rows[k] |= {"largest difference": float(np.abs(o - got[first]).max()), "WA, %": wa, "UA, %": ua,
                    "change of WA": wa - accuracy(got[first], targets)[0]}
    return pd.DataFrame(rows).T


def compare_run(run, data, folder, n=320, **kwargs): # the table of the docstring; files are written into `folder`
    (model, about), (weights, _) = load_model(run), checkpoint_files(run)
    file = export_model(run, Path(folder)/"export.onnx")
    small = quantize(file, dataset_faces(about, data, "valid", n)[0], Path(folder)/"export.int8.onnx")
    files = {}
    if about["model"] == "PSR":
        plain = ExportModel(Plain(model), about, fold=False).eval()
        files["PyTorch, branch by branch"] = weights, torch.no_grad()(lambda x: plain(torch.from_numpy(np.ascontiguousarray(x))).numpy())
    files |= {"PyTorch": (weights, runner(run, fold=False)), "PyTorch, folded": (weights, runner(run)),
              "ONNX": (file, runner(file)), "ONNX int8": (small, runner(small))}
    return compare(files, *dataset_faces(about, data, "test"), **kwargs)


def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("run", help="run folder, checkpoint, or default")
    p.add_argument("data", type=Path, help="folder of its data set")
    p.add_argument("--out", type=Path, help="CSV file for the table")
    p.add_argument("--n", type=int, default=320, help="validation faces that calibrate")
    p.add_argument("--seconds", type=float, default=1., help="measuring time of each line")
    a = p.parse_args(args)
    with tempfile.TemporaryDirectory() as d:
        table = compare_run(a.run, a.data, d, a.n, seconds=a.seconds)
    print(table.round(3).to_string())
    if a.out: table.rename_axis("variant").reset_index().assign(run=a.run, machine=machine(torch.device("cpu"))).to_csv(a.out, index=False)


if __name__ == "__main__": main()
