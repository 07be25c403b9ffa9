"""Time and memory of PSR: python benchmarks/model.py [--arch vgg16_bn] [--sizes 96 100] [--batches 64 1] [--out results/bench-model.csv]

One row per task, size, batch and way of running: `plain` (branch after branch, as the authors' code), `ours` (channels-last, folded batch normalisation,
branches of one size together), `ours bf16` or `ours fp16` where the device computes in half precision. Ways are timed in turns on the same machine.
"""
import argparse
import copy
import platform
import resource
from contextlib import nullcontext

import pandas as pd
import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from psr_fer.callbacks import half_precision
from psr_fer.losses import CELoss
from psr_fer.models.psr import PSR, fold_bn


class Plain(nn.Module):
    "A PSR run branch after branch, nothing shared between their computations."
    def __init__(self, model):
        super().__init__()
        self.m = model
    def forward(self, x):
        m = self.m
        scores = torch.stack([m.head(m.pool(m.shared(low(im)))) for low, im in zip(m.low, m.images(x), strict=True)], 1)
        return scores if self.training else m.fuse(scores)


def machine(device) -> str:
    "What is measured on."
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}"


def gflop(model, size, train, device):  # per image
    x = torch.randn(2, 3, size, size, device=device)
    with FlopCounterMode(display=False) as c:
        if train: model(x).float().sum().backward()
        else:
            with torch.no_grad(): model(x)
    return c.get_total_flops()/2e9


def call(model, x, y, way, train):  # function without arguments
    m = copy.deepcopy(model).train(train)
    if way == "plain": m = Plain(m).train(train)
    elif not train: m = fold_bn(m)
    if way != "plain": m, x = m.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(way.split()[-1])
    cast = (lambda: torch.autocast(x.device.type, half)) if half else nullcontext
    if not train:
        def predict():
            with torch.inference_mode(), cast(): return m(x)
        return predict
    loss, opt = CELoss(), torch.optim.Adam(m.parameters(), lr=1e-5)
    def step():
        with cast(): o = loss(m(x), y)
        opt.zero_grad()
        o.backward()
        opt.step()
    return step


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arch", default="vgg16_bn")
    p.add_argument("--sizes", type=int, nargs="+", default=[96, 100])
    p.add_argument("--ksteps", type=int, nargs="+", default=[1, 2])
    p.add_argument("--batches", type=int, nargs="+", default=[64, 1])
    p.add_argument("--seconds", type=float, default=2., help="measuring time of each row")
    p.add_argument("--out", help="CSV file")
    a = p.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = machine(device)
    print(name)
    rows = []
    for size in a.sizes:
        for kstep in a.ksteps:
            try: model = PSR(a.arch, size=size, kstep=kstep).to(device)
            except ValueError: model = PSR(a.arch, size=size, kstep=kstep, step=1.5).to(device)
            for train in (True, False):
                work = gflop(copy.deepcopy(model).train(train), size, train, device)
                for bs in a.batches:
                    if train and bs == 1: continue
                    x, y = torch.randn(bs, 3, size, size, device=device), torch.arange(bs, device=device) % 8
                    ways = {o: call(model, x, y, o, train) for o in ("plain", "ours", f"ours {half_precision(device)}")}
                    for f in ways.values(): f()
                    times = {o: [] for o in ways}
                    for _ in range(3):
                        for o, f in ways.items(): times[o].append(Timer("f()", globals=dict(f=f), num_threads=torch.get_num_threads()).blocked_autorange(min_run_time=a.seconds/3).median)
                    for o, t in times.items():
                        t = sorted(t)[1]
                        memory = torch.cuda.max_memory_allocated()/2**20 if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
                        rows.append(dict(task="train" if train else "predict", size=size, kstep=kstep, step=model.step, batch=bs, variant=o, ms_per_image=1000*t/bs,
                                         speedup=sorted(times["plain"])[1]/t, gflop_per_image=work, peak_mib_so_far=memory, arch=a.arch, machine=name))
                        print("{task:8}{size:5} px kstep {kstep} batch {batch:3} {variant:10} {ms_per_image:8.2f} ms/image {speedup:5.2f}x".format(**rows[-1]), flush=True)
    if a.out: pd.DataFrame(rows).to_csv(a.out, index=False)


if __name__ == "__main__": main()
