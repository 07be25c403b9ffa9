"""Run the plan of nbs/experiments/sizes.ipynb: train what is missing, in the plan's order, and put every record into a folder.

    python tools/run_sizes.py FERPLUS --out runs/sizes                 # two CPU cores, a quarter of the training faces
    python tools/run_sizes.py FERPLUS --out runs/sizes --train-share 1 --lr 1e-3 --arms A B C --minutes 9   # one GPU

A second call skips what has a record and resumes what was stopped. --minutes starts no training after that time.
"""
import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ARMS = dict(A=["ferplus-sizes-baseline"], B=["ferplus-sizes"], C=["ferplus-sizes-baseline", "--set", "size=160"],
            D=["ferplus-sizes", "--set", "enlarge=bilinear"], E=["ferplus-sizes", "--set", "enlarge=none"])
RATES = "5e-4", "1e-3", "2e-3"


def psr_fer(*args, log):
    "Run the command line of this environment in the folder of `log`, so that no path of the machine gets into a record."
    code = "from psr_fer.cli import main; main()"
    with log.open("a") as f: return subprocess.run([sys.executable, "-c", code, *map(str, args)], stdout=f, stderr=subprocess.STDOUT, cwd=log.parent).returncode


def data(ferplus, out, how, share):
    "The copy of FER+ with the sizes of one condition, made once."
    dest = out/how
    if not dest.exists():
        if psr_fer("data", ferplus, "--resize", how, "--train-share", share, "--out", dest, log=out/"data.txt"): sys.exit(f"data {how}: see {out/'data.txt'}")
    return dest


def test_sizes(root):
    "Original size of each test face, pixels."
    from psr_fer.data.datasets import read_dataset
    return read_dataset("ferplus", root).split("test").df["width"].to_numpy()


def keep(run, records, name, sizes):
    "Put the record of a run into a folder, with the predictions of each branch and of mean fusion."
    from psr_fer.interpret import branch_predictions
    from psr_fer.runs import CompletedRun
    r = CompletedRun(run)
    r.record.predictions = dict(targets=r.targets.astype(np.uint8), **{k: v.numpy().astype(np.uint8) for k, v in branch_predictions(r.model, r.scores).items()},
                                sizes=sizes.astype(np.uint8), mean=r.scores.softmax(-1).mean(1).argmax(1).numpy().astype(np.uint8))
    records.mkdir(parents=True, exist_ok=True)
    r.record.save(records/f"{name}.json")


def run(arm, how, lr, seed, a):
    "One training; its record, or None where it failed."
    name = f"{arm}-{how}-lr{lr}__s{seed}"
    record, folder = a.results/f"{name}.json", a.out/name
    if not record.exists():
        if a.deadline and time.time() > a.deadline: sys.exit(f"{a.minutes} minutes are over; {name} and what follows is not run.")
        sr = ["--set", f"sr_weights={a.edsr.name}"] if arm == "B" else []
        command = ["train", *ARMS[arm], *sr, "--set", f"lr={lr}", "--set", "precision=float32", "--data", data(a.ferplus, a.out, how, a.train_share), "--seed", seed, "--out", folder]
        print(time.strftime("%H:%M"), name, flush=True)
        if psr_fer(*command, log=a.out/f"{name}.txt"): return print("failed:", name, flush=True)
        keep(folder, a.results, name, test_sizes(data(a.ferplus, a.out, how, a.train_share)))
    r = json.loads(record.read_text())
    print(time.strftime("%H:%M"), name, f"valid {r['valid']['wa']:.4f}", flush=True)
    return r


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("ferplus", type=Path, help="folder of FER+")
    p.add_argument("--out", type=Path, default=Path("runs/sizes"), help="folder of data and runs")
    p.add_argument("--results", type=Path, default=Path("results/sizes"), help="folder of the records")
    p.add_argument("--edsr", type=Path, default=Path("results/sizes/edsr.safetensors"), help="weights of EDSR")
    p.add_argument("--train-share", type=float, default=.25, help="share of the training faces")
    p.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    p.add_argument("--lr", help="one learning rate for all arms, instead of the choice among three on the validation faces")
    p.add_argument("--minutes", type=float, help="start no training after this time")
    a = p.parse_args()
    a.out, a.results, a.ferplus = a.out.resolve(), a.results.resolve(), a.ferplus.resolve()
    a.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(a.edsr, a.out/a.edsr.name)
    a.deadline = time.time() + 60*a.minutes if a.minutes else None
    best = {}
    def choose(arm):  # of equal ones the smaller rate
        if arm not in best:
            tried = {lr: run(arm, "mixed", lr, 0, a) for lr in ([a.lr] if a.lr else RATES)}
            best[arm] = max((o for o in tried if tried[o]), key=lambda o: tried[o]["valid"]["wa"])
        return best[arm]
    for arms, how, seeds in (("AB", "mixed", 5), ("AB", "uniform", 3), ("C", "mixed", 3), ("D", "mixed", 3), ("E", "mixed", 3)):
        arms = [o for o in arms if o in a.arms]
        for arm in arms: choose(arm)
        for seed in range(seeds):
            for arm in arms: run(arm, how, choose(arm), seed, a)


if __name__ == "__main__": main()
