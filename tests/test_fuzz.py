"""Generated lists, folders, images and checkpoints: never a traceback, nothing left out unsaid, no class in another's place.

The quick suite tries 50 of each, the slow one 500: `pytest tests/test_fuzz.py -m "slow or not slow"`."""
import io
import json
import shutil
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from psr_fer.checkpoints import load_model, save_model
from psr_fer.data.custom import COLUMN_WORDS, custom_table
from psr_fer.data.ferplus import VOTES, ferplus_table
from psr_fer.data.rafdb import rafdb_table
from psr_fer.data.table import DataError, look
from psr_fer.emotions import EMOTIONS, ORDERS
from psr_fer.predict.images import open_image, walk

KINDS = dict(jpg="JPEG", png="PNG", bmp="BMP", gif="GIF", webp="WEBP", tif="TIFF", ppm="PPM")


@lru_cache(None)
def content(kind, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    im = Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).convert("RGB" if mode.startswith(("I", "F")) else mode)
    if mode == "I;16": im = Image.fromarray(rng.integers(0, 65535, (12, 12), np.uint16))
    if mode == "F": im = Image.fromarray(rng.random((12, 12), np.float32))
    im.save(out := io.BytesIO(), kind)
    return out.getvalue()


def fuzz(strategy): # the same check twice
    def both(check):
        @pytest.mark.parametrize("examples", [50, pytest.param(500, marks=pytest.mark.slow)])
        def test(examples):
            how = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
            how(given(strategy)(lambda o: check(o)))()
        return test
    return both


class Folder:
    def __enter__(self): self.path = Path(tempfile.mkdtemp(prefix="fuzz-")); return self.path
    def __exit__(self, *_): shutil.rmtree(self.path)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda o: o[0] != "." and len(o.encode()) < 200 and not o.endswith(".faces.jpg"))
suffixes = st.sampled_from(["", *(f".{o}" for o in KINDS), ".JPG", ".jpeg ", ".download", ".txt", ".mp4", ".heic", ".csv2", ".npy"])
bodies = st.one_of(st.binary(max_size=64), st.sampled_from([*map(content, KINDS.values())]))


@fuzz(st.lists(st.tuples(st.lists(names, max_size=2), names, suffixes, bodies), max_size=8))
def test_folder_walked(files):
    with Folder() as d:
        made = set()
        for folder, name, suffix, body in files:
            try:
                file = d.joinpath(*folder, name + suffix)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(body)
                made.add(file)
            except OSError: pass # a folder has that name
        left_out = Counter()
        found = list(walk(d, left_out=left_out))
        assert len(found) + sum(left_out.values()) == len(made) and set(found) <= made
        for o in found:
            try: assert open_image(o).mode in ("L", "RGB")
            except OSError as e: assert "cannot be read as an image" in str(e) and len(str(e)) < 1000


modes = st.sampled_from([("PNG", o) for o in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [("TIFF", o) for o in ("1", "L", "LA", "RGB", "RGBA", "CMYK", "LAB", "F", "I;16", "YCbCr")]
                        + [("JPEG", o) for o in ("L", "RGB", "CMYK", "YCbCr")] + [(o, "RGB") for o in KINDS.values()])


@fuzz(st.tuples(modes, st.integers(0, 9), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.one_of(st.none(), st.integers(0, 400))))
def test_image_damaged(o):
    (kind, mode), seed, changes, cut = o
    data = bytearray(content(kind, "RGB" if mode == "LAB" else mode, seed))
    for at, value in changes: data[at % len(data)] = value
    with Folder() as d:
        (d/"a.bin").write_bytes(bytes(data[:cut]))
        try: size = open_image(d/"a.bin").size
        except OSError as e: size, e = None, str(e)
        seen = look(d, "a.bin")
        assert isinstance(seen, (str, tuple)) and (size is None) <= isinstance(seen, str), (size, seen) # training refuses what cannot be opened
        if isinstance(seen, tuple): assert seen[:2] == size


cells = st.one_of(st.sampled_from([*EMOTIONS, "Happy", "sad", "7", ""]), st.text(max_size=6))


@fuzz(st.tuples(st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(COLUMN_WORDS["path"]), st.sampled_from(COLUMN_WORDS["label"]),
                st.lists(st.sampled_from(["happy", "Sad", "bored", "Anger"]), min_size=20, max_size=30), st.lists(st.tuples(st.integers(0, 29), cells), max_size=3),
                st.sampled_from(["a.csv", "labels.tsv", "list.txt"]), st.booleans()))
def test_list_of_faces(o):
    sep, encoding, path, label, labels, changes, name, swapped = o
    with Folder() as d:
        for i in range(len(labels)): (d/f"{i}.png").write_bytes(content("PNG", "RGB", i))
        wanted = {f"{i}.png": k for i, k in enumerate(labels)}
        rows = [[k, v] for k, v in wanted.items()]
        for at, cell in changes: rows[at % len(rows)][1] = cell
        lines = [sep.join(o[::-1] if swapped else o) for o in [[path, label], *rows]]
        (d/name).write_bytes("\n".join(lines).encode(encoding))
        try: t = custom_table(d, least=1)
        except DataError as e: assert changes or len(set(labels)) < 2 or path == "name" or "no face in the split train" in str(e), e
        else:
            known = dict(happy="happiness", Sad="sadness", bored="bored", Anger="anger")
            touched = {f"{at % len(rows)}.png" for at, _ in changes}
            assert {p: k for p, k in zip(t["path"], t["label"], strict=True) if p not in touched} == {p: known[k] for p, k in wanted.items() if p not in touched}
            assert [o for o in EMOTIONS if o in t.classes] == list(t.classes)[:sum(o in EMOTIONS for o in t.classes)]
            assert set(t["path"]) | touched == set(wanted)


@fuzz(st.tuples(st.lists(st.integers(0, 7), min_size=12, max_size=24), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 11), st.one_of(cells, st.integers(-5, 20).map(str))), max_size=3)))
def test_label_file_of_ferplus(o):
    classes, changes = o
    with Folder() as d:
        rows, use = [], ("Training", "PublicTest", "PrivateTest")
        for i, k in enumerate(classes): rows.append([use[i % 3], f"fer{i:07}.png", *("10" if c == k else "0" for c in range(10))])
        for split, part in zip(use, ("Train", "Valid", "Test"), strict=True):
            (d/f"FER2013{part}").mkdir()
            for r in rows:
                if r[0] == split: (d/f"FER2013{part}"/r[1]).write_bytes(content("PNG", "L", 1))
        for row, column, cell in changes: rows[row % len(rows)][column] = cell.replace(",", "").replace("\n", "").replace("\r", "").replace('"', "")
        (d/"fer2013new.csv").write_text("\n".join([",".join(["Usage", "Image name", *VOTES]), *map(",".join, rows)]) + "\n", encoding="utf-8")
        try: t = ferplus_table(d)
        except DataError as e: assert changes and len(str(e)) < 10_000, e
        else:
            touched = {row % len(rows) for row, *_ in changes}
            got = dict(zip(t["path"].str[-11:-4].astype(int), t["label"], strict=True))
            assert all(got[i] == EMOTIONS[k] for i, k in enumerate(classes) if i not in touched)


@fuzz(st.tuples(st.integers(-1, 1), st.lists(st.integers(1, 7), min_size=40, max_size=60), st.lists(st.tuples(st.integers(0, 60), cells), max_size=2)))
def test_list_of_rafdb(o):
    first, codes, changes = o
    codes = [*range(1, 8)]*2 + codes
    with Folder() as d:
        (d/"EmoLabel").mkdir()
        (d/"Image/aligned").mkdir(parents=True)
        files = [f"{'test' if i % 4 == 3 else 'train'}_{i:05}" for i in range(len(codes))]
        lines = [f"{f}.jpg {k + first}" for f, k in zip(files, codes, strict=True)]
        for f in files: (d/"Image/aligned"/f"{f}_aligned.jpg").write_bytes(content("JPEG"))
        for at, cell in changes: lines[at % len(lines)] = f"{files[at % len(lines)]}.jpg {cell}".replace("\n", "").replace("\r", "")
        (d/"EmoLabel/list_patition_label.txt").write_text("\n".join(lines), encoding="utf-8")
        for skip in (False, True):
            try: t = rafdb_table(d, fold=None, skip_bad=skip)
            except DataError as e: assert first or changes, e
            else:
                touched = {files[at % len(lines)] for at, _ in changes}
                got = {p.split("/")[-1].removesuffix("_aligned.jpg"): k for p, k in zip(t["path"], t["label"], strict=True)}
                assert first == 0 and all(got[f] == ORDERS["rafdb"][k] for f, k in zip(files, codes, strict=True) if f not in touched)


@lru_cache(1)
def checkpoint():
    from psr_fer.models.psr import Baseline
    with Folder() as d:
        save_model(Baseline("vgg8_bn", n_classes=3, size=32, pos=2), d/"a.safetensors", classes=["fear", "no", "yes"], temperature=1., seed=0)
        return (d/"a.safetensors").read_bytes(), (d/"a.json").read_text()

anything = st.recursive(st.none() | st.booleans() | st.integers(-10**12, 10**12) | st.floats() | st.text(max_size=8), lambda o: st.lists(o, max_size=3) | st.dictionaries(st.text(max_size=5), o, max_size=2), max_leaves=5)


@fuzz(st.tuples(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=3), st.one_of(st.none(), st.integers(0, 5000)),
                st.lists(st.tuples(st.sampled_from(["config", "classes", "mean", "std", "model", "format", "temperature", "n_classes", "size", "arch", "pos", "head", "pool", "evil"]), anything), max_size=2)))
def test_checkpoint_damaged(o):
    changes, cut, lies = o
    weights, about = checkpoint()
    weights, about = bytearray(weights), json.loads(about)
    for at, value in changes: weights[at] = value # the header
    for key, value in lies: (about["config"] if isinstance(about["config"], dict) and key in about["config"] else about).update({key: value})
    with Folder() as d:
        (d/"a.safetensors").write_bytes(bytes(weights[:cut]))
        (d/"a.json").write_text(json.dumps(about))
        try: model, said = load_model(d/"a.safetensors")
        except ValueError as e: assert "\n" not in str(e) and len(str(e)) < 2000
        else: assert cut is None and (said["classes"] is None or len(said["classes"]) == model.config["n_classes"] == 3)
