"""The table's checks, the pixel cache, the DataLoaders."""
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.core import TensorImage
from PIL import Image

from psr_fer.data import loaders
from psr_fer.data.loaders import PixelCache, dls_from_table
from psr_fer.data.table import DataError, Problem, check_table, finish_table, look, open_face, settle
from psr_fer.emotions import EMOTIONS


@pytest.fixture
def small(tmp_path):
    "Forty faces of unlike sizes, three in four neutral."
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        w = int(rng.integers(20, 60))
        Image.fromarray(rng.integers(0, 255, (w, w + 3, 3), dtype=np.uint8)).save(tmp_path/f"{i}.png")
        label = EMOTIONS[0 if i % 4 else 1 + i % 3]
        rows.append(dict(path=f"{i}.png", split="valid" if i >= 30 else "train", label=label, source="list.csv", row=i + 2,
                         **{e: .6 + .4/8 if e == label else .4/8 for e in EMOTIONS}))
    return finish_table(pd.DataFrame(rows), tmp_path, "made up", splits=("train", "valid"))


def test_sizes_are_those_on_disk(small, tmp_path):
    for _, r in small.sample(5, random_state=0).iterrows(): assert Image.open(tmp_path/r["path"]).size == (r["width"], r["height"])


@pytest.mark.parametrize("change,words", [
    (lambda t: t.drop(columns="label"), "column label missing"),
    (lambda t: t.iloc[:0], "there is no face in it"),
    (lambda t: t.assign(label=["bored", *t["label"][1:]]), "list.csv, row 2: label 'bored' is none of neutral"),
    (lambda t: t.assign(split=["dev", *t["split"][1:]]), "list.csv, row 2: split 'dev' is none of train, valid, test"),
    (lambda t: t.assign(anger=[-.1, *t["anger"][1:]]), "row 2: a vote is negative or not a number"),
    (lambda t: t.assign(anger=[float("nan"), *t["anger"][1:]]), "a vote is negative or not a number"),
    (lambda t: t.assign(**{e: [0., *t[e][1:]] for e in EMOTIONS}), "row 2: the votes are all zero"),
    (lambda t: t.assign(path=["35.png", *t["path"][1:]]), "35.png stands more than once, with different labels or splits"),
])
def test_check_table_says_what_is_wrong(small, change, words):
    assert check_table(small) == []
    found = [str(o) for o in check_table(change(small.copy()))]
    assert any(words in o for o in found), found


@pytest.mark.parametrize("path,words", [("../x.png", "leads out of the data folder"),
    ("/etc/passwd", "leads out of the data folder"), ("a/../../x.png", "leads out"),
                                        ("gone.png", "is missing on disk"), (".", "is missing on disk")])
def test_look_refuses_paths(tmp_path, path, words): assert words in look(tmp_path, path)


def test_boxes(small, tmp_path):
    w, h = int(small["width"][0]), int(small["height"][0])
    assert look(tmp_path, "0.png", (2, 3, 12, 18)) == (10, 15, False)
    assert look(tmp_path, "0.png", (-1, 0, w + 1, h)) == (w, h, False) and "outside its" in look(tmp_path, "0.png", (0, 0, 3*w, h)) and "outside its" in look(tmp_path, "0.png", (5, 5, 5, 9))
    full = np.asarray(open_face(tmp_path, "0.png"))
    assert (np.asarray(open_face(tmp_path, "0.png", (2, 3, 12, 18))) == full[3:18, 2:12]).all()
    boxed = small.assign(left=1, top=2, right=11, bottom=14)
    assert check_table(boxed, tmp_path) == [] and set(boxed["width"]) == {10} and set(boxed["height"]) == {12}


def test_exif_rotation_is_undone(tmp_path):
    im = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    exif = im.getexif()
    exif[274] = 6
    im.save(tmp_path/"turned.jpg", exif=exif)
    assert look(tmp_path, "turned.jpg")[:2] == (20, 30) and open_face(tmp_path, "turned.jpg").size == (20, 30)


def test_settle():
    t = pd.DataFrame(dict(path=list("abc")))
    row = Problem("f.csv", 3, "is bad.", 1)
    with pytest.raises(DataError, match="f.csv, row 3: is bad"): settle(t, "root", [row])
    kept = settle(t, "root", [row], skip_bad=True)
    assert kept["path"].tolist() == ["a", "c"] and kept.skipped == 1
    with pytest.raises(DataError, match="cannot be skipped"):
        settle(t, "root", [row, Problem("f.csv", None, "is not there.")], skip_bad=True)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_cache_decodes_each_face_once(small, tmp_path, where, monkeypatch):
    opened = []
    real = loaders.open_face
    monkeypatch.setattr(loaders, "open_face", lambda root, path, box=None: opened.append(path) or real(root, path, box))
    folder = "memory" if where == "memory" else tmp_path/"cache"
    cache = PixelCache(small, tmp_path, 24, folder)
    a = cache([3, 1, 3])
    b = cache([1, 3])
    assert a.shape == (3, 3, 24, 24) and a.dtype == torch.uint8 and sorted(opened) == ["1.png", "3.png"]
    torch.testing.assert_close(a[:2], b.flip(0))
    again = PixelCache(small, tmp_path, 24, folder)
    again([1])
    assert len(opened) == (3 if where == "memory" else 2)  # a cache on disk outlives the object


def test_batches_are_those_of_plain_fastai(small, tmp_path):
    fast, plain = [dls_from_table(small, tmp_path, size=32, bs=4, augment=None, cache=c, device="cpu") for c in ("memory", None)]
    for (x, y), (px, py) in zip(fast.valid, plain.valid, strict=True):
        torch.testing.assert_close(x.as_subclass(torch.Tensor), px.as_subclass(torch.Tensor), atol=1e-5, rtol=0)
        torch.testing.assert_close(y.as_subclass(torch.Tensor), py.as_subclass(torch.Tensor))


def test_an_epoch_has_every_face_once(small, tmp_path):
    dls = dls_from_table(small, tmp_path, size=16, bs=7, augment=None)
    seen = sum(len(x) for x, _ in dls.train), sum(len(x) for x, _ in dls.valid)
    assert seen == (28, 10)  # drop_last in training only
    order = [tuple(y.tolist()) for _, y in dls.train]
    assert order != [tuple(y.tolist()) for _, y in dls.train]  # shuffled anew


def test_targets_soft_in_training_hard_in_validation(small, tmp_path):
    dls = dls_from_table(small, tmp_path, size=16, bs=4, soft=True, augment=None)
    (_, y), (_, yv) = dls.train.one_batch(), dls.valid.one_batch()
    assert y.shape == (4, 8) and y.dtype == torch.float32 and yv.dtype == torch.int64
    torch.testing.assert_close(y.sum(1).as_subclass(torch.Tensor), torch.ones(4))
    assert [EMOTIONS[i] for i in yv] == small["label"][30:34].tolist()


def test_balanced_draws_the_rare_classes_as_often(small, tmp_path):
    dls = dls_from_table(small, tmp_path, size=16, bs=10, augment=None, balanced=True, seed=0)
    y = torch.cat([torch.cat([y for _, y in dls.train]) for _ in range(30)])
    share = torch.bincount(y.as_subclass(torch.Tensor), minlength=8)/len(y)
    present = share[share > 0]
    assert len(present) == 4 and (present - .25).abs().max() < .06
    plain = dls_from_table(small, tmp_path, size=16, bs=10, augment=None)
    assert max(torch.bincount(torch.cat([y for _, y in plain.train]).as_subclass(torch.Tensor))) > 20


def test_same_seed_same_order(small, tmp_path):
    def ys(): return [y.tolist() for _, y in dls_from_table(small, tmp_path, size=16, bs=5, augment=None, seed=3).train]
    assert ys() == ys()


def test_a_broken_file_at_training_time_is_named(small, tmp_path):
    dls = dls_from_table(small, tmp_path, size=16, bs=30, augment=None)
    (tmp_path/"3.png").write_text("no more")
    with pytest.raises(OSError, match="3.png cannot be read .*psr-fer data"): dls.train.one_batch()


def test_augmentation_touches_training_only(small, tmp_path):
    dls = dls_from_table(small, tmp_path, size=16, bs=10, augment="ferplus")
    a, b = dls.valid.one_batch()[0], dls.valid.one_batch()[0]
    torch.testing.assert_close(a, b)
    cache = dls.train.cache(dls.train.rows)
    shown = torch.cat([x for x, _ in dls.train])
    assert isinstance(shown, TensorImage) and shown.shape[1:] == cache.shape[1:] and not torch.equal(shown[:10], a)
