"""The DataBlocks: what a fastai user does with them, which path the batches take, and how much memory they hold."""
import gc
import os
from dataclasses import replace

import fastai.callback.progress  # noqa: F401 - gives Learners no_bar
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.mixup import MixUp
from fastai.data.block import DataBlock
from fastai.data.transforms import Normalize, RandomSplitter
from fastai.metrics import accuracy
from fastai.vision.augment import FlipItem, RandomResizedCrop, Resize, ResizeMethod
from fastai.vision.core import PILImage, TensorImage
from fastai.vision.learner import vision_learner
from fasttransform import Transform
from makers import few, rafdb_list
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torchvision.models import resnet18

from psr_fer.data import loaders
from psr_fer.data.affectnet import affectnet_block
from psr_fer.data.custom import custom_block
from psr_fer.data.ferplus import ferplus_block, ferplus_dls
from psr_fer.data.loaders import FERBlock, PixelCache, dls_from_table, is_plain
from psr_fer.data.rafdb import rafdb_block
from psr_fer.data.table import finish_table
from psr_fer.emotions import EMOTIONS, EMOTIONS7

IMAGENET = torch.tensor([.485, .456, .406]).view(3, 1, 1), torch.tensor([.229, .224, .225]).view(3, 1, 1)


def tensor(x): return x.as_subclass(torch.Tensor).cpu()


class Blacken(Transform):
    "An item transform whose result is known: the image becomes black."
    order = 2
    def encodes(self, x: PILImage): return PILImage.create(np.zeros((x.height, x.width, 3), np.uint8))


def black(x): return (tensor(x) - (0 - IMAGENET[0])/IMAGENET[1]).abs().max() < 1e-5


@pytest.fixture
def colour(tmp_path):
    "Thirty images in colour, 20 train, 6 valid and 4 test, with votes."
    rng, rows = np.random.default_rng(0), []
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)).save(tmp_path/f"{i}.png")
        label = EMOTIONS[i % 2]
        rows.append(dict(path=f"{i}.png", split="train" if i < 20 else "valid" if i < 26 else "test", label=label,
                         **{e: .825 if e == label else .025 for e in EMOTIONS}))
    return finish_table(pd.DataFrame(rows), tmp_path, "made up")


@pytest.mark.parametrize("soft", [False, True])
def test_ferplus_block(faces, soft):
    block = ferplus_block(size=32, labels="label.csv", soft=soft, augment=None)
    assert isinstance(block, DataBlock)
    dls, short = block.dataloaders(faces, bs=8), ferplus_dls(faces, size=32, bs=8, labels="label.csv", soft=soft, augment=None)
    assert dls.train.cached and dls.vocab == list(EMOTIONS) and len(dls.loaders) == 3 and dls.c == 8
    assert dls.train.one_batch()[1].shape == ((8, 8) if soft else (8,))
    for a, b in zip(dls.valid, short.valid, strict=True):
        for o, p in zip(a, b, strict=True): assert_close(tensor(o), tensor(p))


def test_rafdb_block(tmp_path):
    root = rafdb_list(tmp_path, few(EMOTIONS7))
    dls = rafdb_block(size=24, fold=1).dataloaders(root, bs=8)
    assert dls.train.cached and dls.vocab == list(EMOTIONS7) and [len(o.dataset) for o in dls] == [56, 14, 35]
    assert dls.one_batch()[0].shape == (8, 3, 24, 24)


def test_affectnet_block(tmp_path):
    for split, n in (("train", 10), ("val", 4)):
        for k in range(8):
            (tmp_path/split/str(k)).mkdir(parents=True)
            for i in range(n): Image.new("RGB", (30, 30), (9*k, i, 0)).save(tmp_path/split/str(k)/f"{i}.png")
    with pytest.warns(UserWarning, match="not the AffectNet benchmark"):
        dls = affectnet_block(size=24, classes="affectnet", valid_share=.2).dataloaders(tmp_path, bs=8)
    assert dls.train.cached and [len(o.dataset) for o in dls] == [64, 16, 32] and dls.one_batch()[0].shape == (8, 3, 24, 24)
    with pytest.raises(ValueError, match="valid_share must be above 0"): affectnet_block(valid_share=0)


def test_own_block(tmp_path):
    for name in ("calm", "bored"):
        (tmp_path/name).mkdir()
        for i in range(20): Image.new("RGB", (30, 30), (5*i, 0, 0)).save(tmp_path/name/f"{i}.png")
    dls = custom_block(size=24).dataloaders(tmp_path, bs=4)
    assert dls.train.cached and list(dls.vocab) == ["bored", "calm"] and [len(o.dataset) for o in dls] == [28, 6, 6]


def test_two_data_sets_of_one_block_keep_their_classes(colour):
    block = FERBlock(size=16, augment=None)
    first = block.dataloaders(colour, bs=4)
    other = replace(colour, classes=EMOTIONS[:2])
    assert len(block.dataloaders(other, bs=4).vocab) == 2 and len(first.vocab) == 8


def test_summary(faces, capsys):
    ferplus_block(size=32, labels="label.csv").summary(faces)
    out = capsys.readouterr().out
    assert "3 datasets of sizes" in out and "applying OpenFace gives" in out and "applying FERAugment" in out and "32x32" in out


def test_own_splitter(colour):
    dls = FERBlock(size=16, splitter=RandomSplitter(.5, seed=0), augment=None).dataloaders(colour, bs=3)
    assert [len(o.dataset) for o in dls] == [15, 15] and dls.train.cached
    want = colour["label"].iloc[dls.valid.rows].map(EMOTIONS.index).tolist()
    assert torch.cat([y for _, y in dls.valid]).tolist() == want  # rows of the table, not of the split
    plain = FERBlock(size=16, splitter=RandomSplitter(.5, seed=0), augment=None, cache=None).dataloaders(colour, bs=3)
    for (x, _), (p, _) in zip(dls.valid, plain.valid, strict=True): assert_close(tensor(x), tensor(p), atol=1e-5, rtol=0)


@pytest.mark.parametrize("where", ["block", "dataloaders", "after_item"])
def test_own_item_transforms_run(colour, where):
    block = FERBlock(size=16, augment=None, item_tfms=Blacken if where == "block" else None)
    dls = block.dataloaders(colour, bs=4, item_tfms=Blacken() if where == "dataloaders" else None)
    if where == "after_item":
        assert dls.train.cached and not black(dls.train.one_batch()[0])
        dls.train.after_item.add(Blacken())
        assert dls.valid.cached and not black(dls.valid.one_batch()[0])  # added to training only
    x, y = dls.train.one_batch()
    assert not dls.train.cached and x.shape == (4, 3, 16, 16) and y.dtype == torch.int64 and black(x)
    assert all(black(x) for x, _ in dls.train)
    assert block.dataloaders(colour, bs=4).train.cached == (where != "block")  # given once, not for good


def test_an_item_transform_that_sizes_replaces_the_resize(colour):
    own = FERBlock(size=16, item_tfms=RandomResizedCrop(20)).dataloaders(colour, bs=4)
    assert own.one_batch()[0].shape == (4, 3, 20, 20) and not own.train.cached
    assert [f.name.split(" ")[0] for f in own.train.after_item.fs] == ["RandomResizedCrop", "ToTensor"]
    squish = FERBlock(size=16, item_tfms=Resize((12, 20), method=ResizeMethod.Squish)).dataloaders(colour, bs=4)
    assert squish.train.cached and squish.one_batch()[0].shape == (4, 3, 12, 20)  # what the cache holds too
    assert FERBlock(size=16, item_tfms=FlipItem(1.)).dataloaders(colour, bs=4).one_batch()[0].shape == (4, 3, 16, 16)


def test_own_batch_transforms_replace_the_augmentation(colour):
    class Zero(Transform):
        order = 50
        def encodes(self, x: TensorImage): return x*0
    def names(dls): return [f.name.split(" ")[0] for f in dls.train.after_batch.fs]
    block = FERBlock(size=16)
    assert [o for o in names(block.dataloaders(colour)) if o != "FERAugment"] == ["IntToFloatTensor", "Normalize"]
    dls = block.dataloaders(colour, bs=4, batch_tfms=[Zero(), Normalize.from_stats(*[[.5]*3]*2, cuda=False)])
    assert dls.train.cached and names(dls) == ["IntToFloatTensor", "Zero", "Normalize"]
    assert_close(tensor(dls.one_batch()[0]), torch.full((4, 3, 16, 16), -1.))  # (0 - .5)/.5


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_plain_vision_learner_finds_its_loss(colour, soft):
    dls = dls_from_table(colour, size=32, bs=4, soft=soft, augment=None, device="cpu")
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=accuracy)
    scores = torch.tensor([[2., 0, 0, 0, 0, 0, 0, 0], [0., 1, 0, 0, 0, 0, 0, 0]])
    want = nn.functional.cross_entropy(scores, torch.tensor([0, 1]))
    assert_close(tensor(learn.loss_func(scores, torch.tensor([0, 1]))), want)
    assert_close(tensor(learn.loss_func(scores, torch.eye(8)[:2])), want)  # a distribution that is sure is the class index
    with learn.no_bar(): learn.fit(1, 1e-3, cbs=MixUp())
    p, y = learn.get_preds()
    assert p.shape == (6, 8) and y.tolist() == colour["label"][20:26].map(EMOTIONS.index).tolist()
    assert_close(p.sum(1), torch.ones(6))  # the loss's activation
    assert torch.isfinite(torch.tensor(learn.recorder.values)).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_rotation_is_honoured_on_every_way(colour, tmp_path, orientation):
    a = np.zeros((24, 36, 3), np.uint8)
    a[:8, :12] = 255, 60, 0  # a corner that tells the rotation
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(a).save(tmp_path/"0.jpg", exif=exif, quality=95)
    table = colour.copy()
    table.loc[20, "path"] = "0.jpg"
    dls = dls_from_table(table, tmp_path, size=16, bs=6, augment=None, device="cpu")
    want = tensor(dls.valid.one_batch()[0])[0]
    file = tmp_path/"0.jpg"
    upright = np.asarray(loaders.open_face("", file))
    assert upright.shape[:2] == ((24, 36) if orientation in (1, 3) else (36, 24))
    ways = [file, str(file), Image.open(file), PILImage.create(file), file.read_bytes(), upright, torch.from_numpy(upright.copy())]
    for way in ways:
        x = tensor(dls.test_dl([way]).one_batch()[0])[0]
        assert_close(x, want, atol=1e-5, rtol=0)
    corner = {1: (0, 0), 3: (-1, -1), 6: (0, -1), 8: (-1, 0)}[orientation]
    assert upright[corner][0] > 200 and upright[-1 - corner[0], -1 - corner[1]][0] < 50


def test_predict_on_a_path_and_an_image(colour, tmp_path):
    dls = dls_from_table(colour, size=32, bs=4, augment=None, device="cpu")
    learn = vision_learner(dls, resnet18, pretrained=False)
    with learn.no_bar():
        want = learn.get_preds()[0][0]
        for item in (tmp_path/"20.png", Image.open(tmp_path/"20.png")):
            name, index, p = learn.predict(item)
            assert_close(tensor(p), tensor(want), atol=1e-5, rtol=0)
            assert name == EMOTIONS[int(index)] and int(index) == int(want.argmax())


def test_grey_data_set_sees_colour_images_in_grey(faces, tmp_path):
    for i in range(4): Image.new("L", (20, 20), 60*i).save(tmp_path/f"{i}.png")
    rows = [dict(path=f"{i}.png", split="train" if i < 2 else "valid", label=EMOTIONS[i % 2]) for i in range(4)]
    table = finish_table(pd.DataFrame(rows), tmp_path, "made up", splits=("train", "valid"))
    dls = dls_from_table(table, size=16, bs=2, augment=None, device="cpu")
    x = tensor(dls.test_dl([Image.new("RGB", (20, 20), (200, 30, 90))]).one_batch()[0])[0]
    grey = Image.new("RGB", (1, 1), (200, 30, 90)).convert("L").getpixel((0, 0))/255
    assert_close(x, ((grey - IMAGENET[0])/IMAGENET[1]).expand(3, 16, 16), atol=1e-5, rtol=0)


def test_test_dl_with_and_without_labels(colour, tmp_path):
    dls = dls_from_table(colour, size=16, bs=4, soft=True, augment="ferplus", device="cpu")
    part = colour.iloc[20:23]
    want = tensor(dls.valid.one_batch()[0])[:3]
    b = dls.test_dl([tmp_path/o for o in part["path"]]).one_batch()
    assert len(b) == 1
    assert_close(tensor(b[0]), want, atol=1e-5, rtol=0)
    x, y = dls.test_dl(part, with_labels=True).one_batch()
    assert_close(tensor(x), want, atol=1e-5, rtol=0)
    assert y.tolist() == part["label"].map(EMOTIONS.index).tolist()


def test_new_loaders_read_the_same_cache(colour):
    dls = dls_from_table(colour, size=16, bs=4, augment=None, balanced=True)
    train, valid = dls.new(bs=5), dls.valid.new(bs=5)  # fastai hands `dls.new` to the training loader
    for o in (train, valid): assert o.bs == 5 and o.cached and o.cache is dls.train.cache
    assert (train.balanced, train.shuffle, train.drop_last) == (True, True, True)
    assert (valid.balanced, valid.shuffle, valid.drop_last) == (False, False, False)
    assert len(dls.train.new(shuffle=False, drop_last=False, bs=6)) == 4


def test_balanced_works_on_both_paths(colour):
    table = replace(colour, df=colour.df.assign(label=[EMOTIONS[0] if i % 5 else EMOTIONS[1] for i in range(30)]))
    for cache in ("memory", None):
        train = dls_from_table(table, size=8, bs=20, augment=None, balanced=True, seed=0, cache=cache).train
        y = torch.cat([train.targets[torch.tensor(train.get_idxs())] for _ in range(60)])
        assert train.cached == (cache is not None) and abs(float(y.float().mean()) - .5) < .05  # a fifth without balance


def test_show_batch(colour):
    dls = dls_from_table(colour, size=16, bs=4, soft=True)
    for dl in (dls.train, dls.valid): dl.show_batch(max_n=2, show=False)
    dls.train.show_batch(max_n=2, unique=True, show=False)


def test_is_plain(colour):
    dls = dls_from_table(colour, size=16, bs=4, augment="light")
    assert [is_plain(o) for o in dls] == [False, True, True]
    assert not is_plain(dls.train.new(shuffle=False, drop_last=False))  # augmented
    assert not is_plain(dls.valid.new(shuffle=True)) and not is_plain(dls.valid.new(drop_last=True))  # 6 faces by 4
    assert is_plain(dls.valid.new(drop_last=True, bs=3)) and is_plain(dls.test_dl(colour.iloc[:3]))
    bare = dls_from_table(colour, size=16, bs=4, augment=None)
    assert is_plain(bare.train.new(shuffle=False, drop_last=False)) and not is_plain(bare.train)


def test_building_loaders_leaves_the_random_numbers_alone(colour):
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    dls_from_table(colour, size=16, bs=4, augment="ferplus").train.new(bs=2)
    assert_close(torch.rand(3), want)


# memory

def rows_of(n): return pd.DataFrame(dict(path=[f"{i}.png" for i in range(n)], split="train", label=EMOTIONS[0]))


def cheap(cache):
    "Pixels that tell their row, without an image."
    cache.decode = lambda i: np.full(cache.shape[1:], i % 251, np.uint8)
    return cache


@pytest.mark.slow
def test_a_large_cache_goes_to_a_file_that_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    small, large = [cheap(PixelCache(rows_of(10), "", 10, limit=o)) for o in (3000, 2999)]  # bytes of the ten faces: 3,000
    assert small([3, 7])[:, 0, 0, 0].tolist() == [3, 7] and type(small.pixels) is np.ndarray
    assert not list(tmp_path.iterdir()) and large.pixels is None  # nothing is taken before the first face is asked for
    assert large([3, 7])[:, 0, 0, 0].tolist() == [3, 7] and isinstance(large.pixels, np.memmap) and len(list(tmp_path.iterdir())) == 1
    del large
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_one_large_cache_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    a, b = [cheap(PixelCache(rows_of(10), "", size, limit=2999)) for size in (10, 12)]
    a([1]); b([2])
    assert a.pixels is None and len(list(tmp_path.iterdir())) == 1  # the older one is released first
    assert a([5])[0, 0, 0, 0] == 5 and b.pixels is None  # and decodes again
    x, y = [cheap(PixelCache(rows_of(10), "", 10, limit=6000)) for _ in range(2)]
    x([1]); y([1])
    assert x.pixels is not None and y.pixels is not None  # both fit
    kept = cheap(PixelCache(rows_of(10), "", 10, tmp_path/"kept", limit=0))
    kept([1]); b([1])
    assert kept.pixels is not None  # a folder that the user names stays


@pytest.mark.slow
def test_a_full_disk_is_said_before_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.shutil, "disk_usage", lambda o: type("Usage", (), dict(free=10**9))())
    with pytest.raises(ValueError, match="need 30.0 GB and .* has 1.0 GB free; name another folder with cache="):
        PixelCache(rows_of(10**6), "", 100, tmp_path)([0])


def resident(): # MiB of this process: its own memory and the pages of files
    return next(int(o.split()[1])/1024 for o in open("/proc/self/status") if o.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_of_a_large_data_set_stays_below_the_limit(tmp_path, monkeypatch):
    "A fortieth of AffectNet at 100 px, twice, at a limit of a fortieth: 210 MiB of pixels pass through 39 MiB."
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    n, limit = 291_651//40, loaders.MEMORY//40
    cache, start, most = cheap(PixelCache(rows_of(n), "", 100, limit=limit, workers=1)), None, 0
    for _ in range(2):
        for i in range(0, n, 64):
            x = cache(np.arange(i, min(i + 64, n)))
            assert x[-1, 0, 0, 0] == (min(i + 64, n) - 1) % 251
            if start is None: start = resident()
            most = max(most, resident() - start)
    assert cache.nbytes > 200*2**20 and most < limit/2**20 + 20  # 20 MiB for the C library
