"""Faces per second of the cached loaders and of plain fastai on the same files: python benchmarks/loaders.py --data FERPLUS [--size 96] [--bs 64] [--faces 4096]"""
import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import Normalize
from fastai.vision.augment import Resize, ResizeMethod, aug_transforms
from fastai.vision.data import ImageBlock

from psr_fer.data.datasets import read_folder
from psr_fer.data.loaders import dls_from_table
from psr_fer.emotions import IMAGENET_STATS


def fastai_dls(table, root, size, bs):
    "The usual fastai way: ImageBlock, Resize, aug_transforms with the settings of the paper's code."
    def by_split(t): return [t.index[t["split"] == o].tolist() for o in ("train", "valid")]
    changes = aug_transforms(max_rotate=30., max_zoom=1.2, max_lighting=.2, max_warp=.2)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_x=lambda r: f"{root}/{r.path}", get_y=lambda r: r.label, splitter=by_split,
                      item_tfms=Resize(size, method=ResizeMethod.Squish), batch_tfms=[*changes, Normalize.from_stats(*IMAGENET_STATS, cuda=False)])
    return block.dataloaders(table, bs=bs, num_workers=0)


def rate(dl):
    n, start = 0, time.perf_counter()
    for x, _ in dl: n += len(x)
    if x.is_cuda: torch.cuda.synchronize()
    return n/(time.perf_counter() - start)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    for o, v in dict(size=96, bs=64, faces=4096, rounds=3).items(): p.add_argument(f"--{o}", type=int, default=v)
    a = p.parse_args()
    table = read_folder(a.data, labels="fer2013new.csv" if (Path(a.data)/"fer2013new.csv").exists() else "label.csv")
    root, train = table.root, table.split("train").df
    some = pd.concat([train.sample(min(a.faces, len(train)), random_state=0), table.split("valid").df.head(a.bs)]).reset_index(drop=True)
    some = replace(table, df=some)
    fast, plain = dls_from_table(some, root, a.size, a.bs), fastai_dls(some.df, root, a.size, a.bs)
    print(f"first epoch, which decodes: {rate(fast.train):.0f} faces a second")
    rows = [dict(psr_fer=rate(fast.train), fastai=rate(plain.train)) for _ in range(a.rounds)]
    print(pd.DataFrame(rows).assign(ratio=lambda d: d["psr_fer"]/d["fastai"]).round(1).to_string())


if __name__ == "__main__": main()
