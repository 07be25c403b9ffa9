"""Inputs that people have (issue 17), each with the right answer; a case is named by what its user would say."""
import array
import base64
import copy
import io
import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import makers
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from psr_fer.checkpoints import load_model, save_model
from psr_fer.data.affectnet import affectnet_table
from psr_fer.data.custom import custom_table
from psr_fer.data.datasets import detect_dataset, read_folder
from psr_fer.data.ferplus import VOTES, ferplus_table
from psr_fer.data.loaders import OpenFace, PixelCache
from psr_fer.data.rafdb import rafdb_table
from psr_fer.data.synthetic import draw_face, synthetic_faces
from psr_fer.data.table import DataError, look, open_face
from psr_fer.predict import Predictor
from psr_fer.predict import command as C
from psr_fer.predict.command import predict_paths
from psr_fer.predict.images import open_image, read_video, sources, walk

FACE = draw_face("happiness", size=96, seed=3)
GREY = np.asarray(FACE.convert("L"))
CASES, SLOW = {}, set()


def case(f, slow=False): # a row of the table
    CASES[f.__name__] = f
    if slow: SLOW.add(f.__name__)
    return f


def slow(f): return case(f, True)


@lru_cache(1)
def predictor(): return Predictor()


def probabilities(image): return np.array(list(predictor().predict(image, detect=False)[0].probabilities.values()))


def saved(im, path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as f: im.save(f, kind or {"jpg": "JPEG", "tif": "TIFF"}.get(path.suffix[1:].lower(), path.suffix[1:].upper()))
    return path


def noise(seed): return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8))


def folders(root, names=("happy", "sad"), n=12, ext="png", kind="PNG"):
    for k, name in enumerate(names):
        for i in range(n): saved(noise(100*k + i), root/name/f"{i}{ext and '.' + ext}", kind)
    return root


def run(paths, **kwargs): # report as text, what predict_paths returns
    lines = []
    return "\n".join([str(o) for o in [predict_paths(paths, predictor(), detect=False, say=lines.append, progress=False, **kwargs)]][:0] + lines), lines


def message(f, *args, kind=DataError, **kwargs):
    with pytest.raises(kind) as e: f(*args, **kwargs)
    assert str(e.value).count("\n") < 25
    return str(e.value)


# ---- opening: the same answer as for the same face in eight bits

PIXELS = dict(
    sixteen_bit_grey_png=lambda: Image.fromarray(GREY.astype(np.uint16)*257), twelve_bit_grey_png=lambda: Image.fromarray((GREY/255*4095).round().astype(np.uint16)),
    big_endian_tif=lambda: Image.frombytes("I;16B", FACE.size, (GREY.astype(">u2")*257).tobytes()), integer_tif=lambda: Image.fromarray(GREY.astype(np.int32)*257),
    float_tif=lambda: Image.fromarray((GREY/255).astype(np.float32)), float_255_tif=lambda: Image.fromarray(GREY.astype(np.float32)),
    grey_alpha_png=lambda: FACE.convert("LA"), opaque_alpha_png=lambda: FACE.convert("RGBA"), ycbcr_jpg=lambda: FACE.convert("YCbCr"), cmyk_jpg=lambda: FACE.convert("CMYK"),
    palette_png=lambda: FACE.quantize(256), j2k_jp2=lambda: FACE, avif_avif=lambda: FACE, webp_webp=lambda: FACE, tga_tga=lambda: FACE, ico_ico=lambda: FACE)


@pytest.mark.parametrize("kind", PIXELS)
def test_pixel_format_predicts_like_eight_bit(kind, tmp_path):
    file = tmp_path/f"a.{kind.split('_')[-1]}"
    try: saved(PIXELS[kind](), file, "JPEG2000" if kind.startswith("j2k") else None)
    except (KeyError, OSError) as e: pytest.skip(f"this Pillow does not write it: {e}")
    grey = "grey" in kind or kind.startswith(("big", "integer", "float"))
    assert np.abs(probabilities(file) - probabilities(FACE.convert("L") if grey else FACE)).max() < (.02 if grey or "alpha" in kind else .25)
    # training, learn.predict and the page open it in the same place: the same bytes
    want = np.asarray(open_image(file).convert("RGB"))
    assert np.array_equal(open_face(tmp_path, file.name).convert("RGB"), want) and np.array_equal(np.asarray(OpenFace("")(file)), want)
    table = pd.DataFrame(dict(path=[file.name], split="train", label="anger"))
    assert np.array_equal(PixelCache(table, tmp_path, 96)([0])[0].permute(1, 2, 0).numpy(), want) or FACE.size != open_image(file).size
    assert look(tmp_path, file.name) == (*open_image(file).size, open_image(file).mode == "L")
    from psr_fer.app.app import read_upload
    assert np.array_equal(read_upload(file), want)


@case
def grey_values_that_do_not_tell_what_is_white_are_an_error(d):
    for i, a in enumerate((GREY.astype(np.float32)*3, GREY.astype(np.int32)*10**6, GREY.astype(np.float32) - 50)):
        Image.fromarray(a).save(d/f"{i}.tif")
        assert "which of them is white" in message(open_image, d/f"{i}.tif", kind=OSError) and "which of them is white" in look(d, f"{i}.tif")

@case
def people_under_transparent_pixels_are_not_seen(d):
    hidden = FACE.copy()
    hidden.putalpha(0)
    for im in (hidden, hidden.convert("LA"), hidden.convert("LA").convert("La"), hidden.convert("RGBa")): assert np.asarray(open_image(im)).min() == 255
    assert np.asarray(open_face(d, saved(hidden, d/"a.png").name)).min() == 255

@case
def motion_photo_with_a_trailer_is_fine(d):
    for name, tail in (("a.jpg", b"\0"*5000 + b"ftypmp42" + b"x"*5000), ("b.png", b"trailing text"*20)):
        file = saved(FACE, d/name)
        file.write_bytes(file.read_bytes() + tail)
        assert look(d, name) == (96, 96, False)
    for name in ("a.jpg", "c.webp", "d.bmp", "e.tif"): # while one that was cut off is not
        file = saved(FACE, d/name)
        file.write_bytes(file.read_bytes()[:-400])
        assert isinstance(look(d, name), str), name

@case
def face_box_one_pixel_outside_is_clipped(d):
    saved(FACE, d/"a.png")
    assert look(d, "a.png", (-1, 0, 97, 96)) == (96, 96, False) and open_face(d, "a.png", (-1, -1, 97, 97)).size == (96, 96)
    for box in ((100, 100, 140, 140), (90, 0, 186, 96), (5, 5, 5, 9)): assert "outside its 96 x 96 pixels" in look(d, "a.png", box)

@case
def animated_gif_says_that_one_frame_was_read(d):
    frames = [draw_face(o, size=96, seed=1) for o in ("happiness", "sadness", "fear")]
    for name in ("a.gif", "b.webp", "c.png"): frames[0].save(d/name, save_all=True, append_images=frames[1:], duration=500)
    saved(FACE, d/"d.png")
    p = predictor().predict(d/"a.gif", detect=False)
    assert len(p) == 1 and p.note == "first of 3 frames; video=True (--video) reads all"
    assert "only the first frame of 3 animated images was read; --video reads all" in run(d)[0]
    assert [at for _, at, _ in sources(d/"a.gif", video=True)] == [0, .5, 1] and len(list(sources(d, video=True))) == 10
    assert predictor().predict(FACE, detect=False).note is None

@case
def film_that_was_cut_is_not_reported_as_whole(d):
    cv2 = pytest.importorskip("cv2")
    w = cv2.VideoWriter(str(d/"a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for i in range(30): w.write(np.full((64, 64, 3), 8*i, np.uint8))
    w.release()
    assert len(list(read_video(d/"a.avi"))) == 30
    (d/"cut.avi").write_bytes((d/"a.avi").read_bytes()[:(d/"a.avi").stat().st_size//2])
    text, _ = run(d/"cut.avi", out=d/"r.csv")
    assert "cut.avi ends early" in text and "of 30 frames" in text and 2 < len(pd.read_csv(d/"r.csv")) < 30


# ---- one image each

def upload(content):
    class Upload: # as FastAPI has it
        def __init__(self): self.file = io.BytesIO(content)
        async def read(self): return content
    return Upload()

@case
def open_files_bytes_and_uploads_are_one_image(d):
    content = saved(FACE, d/"a.png").read_bytes()
    at_end = io.BytesIO(content)
    at_end.read()
    entry = next(o for o in os.scandir(d))
    for o in (io.BytesIO(content), at_end, open(d/"a.png", "rb"), content, bytearray(content), memoryview(content), array.array("B", content), upload(content), entry):
        assert np.allclose(probabilities(o), probabilities(FACE)), o
    assert "it was opened as text" in message(predictor().predict, open(d/"a.png", encoding="latin-1"), detect=False, kind=OSError)

@case
def misleading_inputs_get_one_short_sentence(d):
    content = saved(FACE, d/"a.png").read_bytes()
    almost = np.asarray(FACE)/255
    almost[0, 0, 0] = 1.0000001
    assert np.allclose(probabilities(almost), probabilities(FACE), atol=.01)
    for text in (base64.b64encode(content).decode(), "data:image/png;base64," + base64.b64encode(content).decode()[:60]):
        assert "base64.b64decode(text)" in message(predictor().predict, text, kind=FileNotFoundError)
    paths = np.array([str(d/"a.png")]*2)
    assert [len(p) for p in predictor().predict(paths, detect=False)] == [1, 1] and len(predictor().predict(paths.astype(object), detect=False)) == 2


# ---- walking: files seen = files reported

@case
def every_kind_of_file_in_a_folder_is_read_or_named(d):
    images = dict(a="JPEG", b="PNG", c="GIF", d="TIFF", e="WEBP", f="BMP", g="PPM", h="JPEG2000", i="ICO")
    for name, kind in images.items():
        saved(FACE, d/name, kind if name != "i" else "PNG") # without a suffix
        saved(FACE, d/f"{name}.download", kind if name != "i" else "PNG")
    for name in ("x.JPG ", "y.jpg_large", "z.jpe", "w.jfif"): saved(FACE, d/name, "JPEG")
    for name in ("n.txt", "m.json", "README"): (d/name).write_text("words")
    for name in "3gp mts ts flv m2ts vob ogv mxf".split(): (d/f"film.{name}").write_bytes(b"?")
    (d/"film").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0"*20)
    (d/"phone").write_bytes(b"\0\0\0\x18ftypheic" + b"\0"*20)
    left_out = Counter()
    found = list(walk(d, left_out=left_out))
    assert len(found) == 2*len(images) + 4 + 1 and left_out == {"video": 9, ".txt": 1, ".json": 1, "without a suffix": 1}
    assert len(found) + sum(left_out.values()) == len(list(d.iterdir()))
    assert "pip install pillow-heif" in message(open_image, d/"phone", kind=OSError)

@case
def nine_photos_of_a_phone_are_named_once(d):
    for i in range(9): (d/f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0"*20)
    saved(FACE, d/"a.png")
    text, lines = run(d)
    assert sum("pillow-heif" in o for o in lines) == 2 and "skipped 8 more files for the same reason" in text and "9 files skipped" in text

@case
def folder_of_unreadable_files_says_what_it_holds(d):
    (d/"a.txt").write_text("?")
    assert "holds no image that can be read. Not read: .txt 1." in message(predict_paths, d, predictor(), kind=FileNotFoundError)

@case
def linked_folders_are_read_and_loops_are_broken(d):
    folders(d/"real")
    for o in ("happy", "sad"):
        (d/"data"/o).mkdir(parents=True)
        (d/"data"/o/"link").symlink_to(d/"real"/o)
    (d/"data"/"sad"/"loop").symlink_to(d/"data")
    t = custom_table(d/"data")
    assert len(t) == 24 and any("link back to a folder above it" in o for o in t.notes)

@pytest.mark.parametrize("ext,kind", [("jpe", "JPEG"), ("jp2", "JPEG2000"), ("tga", "TGA"), ("", "PNG"), ("jpg_large", "JPEG"), ("JPG ", "JPEG")])
def test_class_with_unusual_suffix_does_not_vanish(ext, kind, tmp_path):
    folders(folders(tmp_path), ["shy"], ext=ext, kind=kind)
    t = custom_table(tmp_path)
    assert t.classes == ("happiness", "sadness", "shy") and len(t) == 36

@case
def what_training_leaves_out_is_counted_and_named(d):
    folders(d)
    (d/"happy"/"notes.txt").write_text("?")
    (d/"sad"/"film.mp4").write_bytes(b"?")
    saved(FACE, d/"loose.png")
    notes = " ".join(custom_table(d).notes)
    assert "not read: .txt 1, video 1." in notes and "1 image in no class folder and left out, say loose.png." in notes


# ---- lists

ROWS = [(f"img/{i}.png", ("happy", "sad")[i % 2]) for i in range(24)]
LISTS = dict( # name of the file, header, separator, encoding, what comes first
    filename_emotion=("list.csv", "filename,emotion", ",", "utf-8", ""), image_class=("labels.csv", "image,class", ",", "utf-8", ""),
    file_expression=("a.csv", "File;Expression", ";", "utf-8-sig", ""), utf_16=("list.csv", "path,label", ",", "utf-16", ""),
    utf_16_tabs=("list.txt", "path\tlabel", "\t", "utf-16", ""), tsv=("list.tsv", "path\tlabel", "\t", "utf-8", ""),
    sep_line=("list.csv", "path;label", ";", "utf-8", "sep=;\n"), bars=("list.csv", "image_path|emotion", "|", "utf-8", ""),
    remark=("list.csv", "path,label", ",", "utf-8", "# made by hand\n"), spaces=("list.csv", "path, label", ", ", "utf-8", ""),
    quotes=("list.csv", '"Image name","label"', ",", "utf-8", ""), txt=("labels.txt", "path label", " ", "utf-8", ""))


@pytest.mark.parametrize("kind", LISTS)
def test_list_is_read(kind, tmp_path):
    name, header, sep, encoding, first = LISTS[kind]
    folders(tmp_path, ["img"], 24)
    lines = [header, *(sep.join(o) for o in ROWS)]
    (tmp_path/name).write_bytes((first + "\r\n".join(lines) + "\r\n").encode(encoding))
    t = custom_table(tmp_path)
    assert dict(zip(t["path"], t["label"], strict=True)) == {p: {"happy": "happiness", "sad": "sadness"}[k] for p, k in ROWS}
    assert t["row"].tolist() == list(range(2 + bool(first), 26 + bool(first)))

@case
def list_next_to_session_folders_is_what_trains(d):
    folders(d, ["session1", "session2"])
    for names in ([f"session{1 + i % 2}/{i//2}.png" for i in range(24)], None):
        if names is None: # bare names: found in the folders where they are unmistakable
            for i in range(12): (d/f"session2/{i}.png").rename(d/f"session2/{i + 12}.png")
            names = [f"{i}.png" for i in range(24)]
        (d/"labels.csv").write_text("image,label\n" + "".join(f"{o},{('happy', 'sad')[i // 2 % 2]}\n" for i, o in enumerate(names)))
        t = custom_table(d)
        assert t.classes == ("happiness", "sadness") and t.layout == "own faces: a CSV of faces" and len(t) == 24

@case
def list_next_to_split_folders_is_what_trains(d):
    folders(d/"train", ["a", "b"])
    folders(d/"test", ["a"], 4)
    (d/"labels.csv").write_text("image,label\n" + "".join(f"train/{'ab'[i % 2]}/{i//2}.png,{('happy', 'sad')[i // 2 % 2]}\n" for i in range(24)))
    t = custom_table(d)
    assert t.classes == ("happiness", "sadness") and any(o.startswith("4 images in no list and left out") for o in t.notes)

@case
def list_whose_columns_do_not_fit_is_named(d):
    folders(d, ["session1", "session2"])
    (d/"labels.csv").write_text("image,mood\nsession1/0.png,happy\n")
    assert "labels.csv has the columns image, mood; needed are path (or image, filename, file) and label" in message(custom_table, d)
    (d/"labels.csv").write_text("session1/0.png,happy\n") # no header
    assert "labels.csv has the columns session1/0.png, happy" in message(custom_table, d)
    (d/"labels.csv").write_text("epoch,loss\n1,2\n") # no list of faces
    assert "not read: .csv 1." in custom_table(d).notes

@case
def usage_column_says_the_split(d):
    folders(d, ["img"], 24)
    (d/"a.csv").write_text("image,emotion,Usage\n" + "".join(f"{p},{k},{('Training', 'PublicTest', 'PrivateTest')[i // 8]}\n" for i, (p, k) in enumerate(ROWS)))
    assert custom_table(d)["split"].value_counts().to_dict() == dict(train=8, valid=8, test=8)


# ---- numbering, for the whole data set

RAF = makers.few(list(makers.RAFDB_CODE))

def shift(file, by, sep=" "):
    head, *rows = [o.rsplit(sep, 1) for o in file.read_text().splitlines()]
    rows = [head, *rows] if head[1].isdigit() else rows
    file.write_text("".join(f"{a}{sep}{int(b) + by}\n" for a, b in rows))

@case
def rafdb_list_from_0_to_6_is_refused_whole(d):
    shift(makers.rafdb_list(d, RAF)/"EmoLabel/list_patition_label.txt", -1)
    for skip in (False, True):
        text = message(rafdb_table, d, skip_bad=skip)
        assert "numbered 0 to 6" in text and "--classes" in text and "they cannot be skipped" in text
    t = rafdb_table(d, classes="surprise,fear,disgust,happiness,sadness,anger,neutral")
    makers.rafdb_list(d/"b", RAF)
    assert t["label"].tolist() == rafdb_table(d/"b")["label"].tolist()

@case
def affectnet_list_from_1_to_8_is_refused_whole(d):
    file = makers.affectnet_phase(d, makers.few(list(makers.AFFECTNET_CODE)))/"affectnet.csv"
    rows = [o.split(",") for o in file.read_text().splitlines()]
    file.write_text("\n".join([",".join(rows[0]), *(f"{a},{b},{int(c) + 1}" for a, b, c in rows[1:])]) + "\n")
    assert "pass --classes" in message(affectnet_table, d)

@case
def one_wrong_label_is_one_bad_row(d):
    file = makers.rafdb_list(d, RAF)/"EmoLabel/list_patition_label.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0][:-1] + "0", *lines[1:]]) + "\n")
    assert "1 problem in the data" in message(rafdb_table, d) and len(rafdb_table(d, skip_bad=True)) == 104

@case
def data_train_and_evaluate_take_classes(d):
    from psr_fer.cli import data, evaluate, train
    assert all("classes" in o.__annotations__ for o in (data, train, evaluate))
    makers.rafdb_folders(d, RAF, codes={o: i - 1 for o, i in makers.RAFDB_CODE.items()})
    lines = []
    from psr_fer.data.datasets import overview
    overview(d, classes="surprise,fear,disgust,happiness,sadness,anger,neutral", say=lines.append)
    assert "class numbers as classes= says" in lines[0]


# ---- FER+ and RAF-DB as they lie around

def fer2013(d, n=24, name="fer2013.csv", header="emotion,pixels,Usage", line="0,{p},{u}", votes=True, cell=str):
    d.mkdir(parents=True, exist_ok=True)
    use = [("Training", "PublicTest", "PrivateTest")[i % 3] for i in range(n)]
    pixels = [" ".join(map(str, np.random.default_rng(i).integers(0, 255, 2304))) for i in range(n)]
    if name: (d/name).write_text("\n".join([header, *(line.format(p=p, u=u) for p, u in zip(pixels, use, strict=True))]) + "\n")
    rows = [f"{u},fer{i:07}.png," + ",".join(cell(10*(k == i % 8)) for k in range(10)) for i, u in enumerate(use)]
    if votes: (d/"fer2013new.csv").write_text("\n".join([f"Usage,Image name,{','.join(VOTES)}", *rows]) + "\n")
    return d

@case
def clone_of_ferplus_is_found(d):
    synthetic_faces(d/"FERPlus"/"data", n=64, seed=1)
    (d/"FERPlus"/"data"/"fer2013new.csv").rename(d/"FERPlus"/"fer2013new.csv")
    (d/"FERPlus"/"data"/"faces.csv").unlink(missing_ok=True)
    assert detect_dataset(d/"FERPlus") == "ferplus"
    t = ferplus_table(d/"FERPlus")
    assert len(t) > 50 and t["path"].str.startswith("data/FER2013").all()

@case
def one_bad_pixel_is_one_bad_row(d):
    file = fer2013(d)/"fer2013.csv"
    lines = file.read_text().splitlines()
    lines[6] = lines[6].replace(" ", " x", 1)
    file.write_text("\n".join(lines) + "\n")
    text = message(ferplus_table, d)
    assert "1 problem in the data" in text and "fer2013new.csv, row 7" in text and len(ferplus_table(d, skip_bad=True)) == 23

@case
def challenge_csv_with_spaces_in_its_header_is_read(d):
    want = ferplus_table(fer2013(d/"a"))
    for name, how in dict(b=dict(name="icml_face_data.csv", header="emotion, Usage, pixels", line="0,{u},{p}"), c=dict(header="emotion, pixels, Usage"),
                          e=dict(cell=lambda o: f"{o}.0")).items():
        t = read_folder(fer2013(d/name, **how))
        assert t["label"].tolist() == want["label"].tolist() and np.array_equal(open_face(t.root, t["path"][3]), open_face(want.root, want["path"][3]))

@case
def the_one_missing_file_of_ferplus_is_named(d):
    for name, how, words in (("a", dict(votes=False), "fer2013.csv has no votes: FER+ needs fer2013new.csv"), ("b", dict(name=""), "fer2013new.csv has the votes, but no faces")):
        assert detect_dataset(fer2013(d/name, **how)) == "ferplus" and words in message(read_folder, d/name)

@case
def images_in_capital_letters_are_found(d):
    want = len(ferplus_table(synthetic_faces(d/"a", n=64, seed=1) is not None and d/"a"))
    for o in list((d/"a").rglob("*.png"))[:20]: o.rename(o.with_suffix(".PNG"))
    assert len(ferplus_table(d/"a")) == want
    makers.rafdb_list(d/"b", RAF)
    for o in (d/"b/Image/aligned").glob("*.jpg"): o.rename(o.with_suffix(".JPG"))
    makers.rafdb_list(d/"c", RAF, pictures="Image/aligned/aligned") # an archive unpacked into a folder of its own name
    assert len(rafdb_table(d/"b")) == len(rafdb_table(d/"c")) == 105

@case
def folder_without_its_images_is_one_problem(d):
    makers.rafdb_list(d, RAF)
    for o in (d/"Image/aligned").iterdir(): o.unlink()
    assert "none of the 105 images that are listed for this folder is there" in message(rafdb_table, d)


# ---- writing

@case
def names_of_any_bytes_and_any_length_get_results(d):
    saved(FACE, d/"in"/"c.png")
    for name in (b"b\xff.png", b"bad\xfe.jpg", ("é"*125 + ".png").encode(), b"x"*250 + b".png"):
        try: os.link(d/"in"/"c.png", os.fsencode(d/"in") + b"/" + name)
        except OSError: pytest.skip("this file system has no such names")
    (d/"in"/"bad2.png").write_bytes(b"?")
    os.rename(d/"in"/"bad2.png", os.fsencode(d/"in") + b"/bad\xfd.png")
    for kind in ("csv", "json", "parquet"):
        if kind == "parquet": pytest.importorskip("pyarrow")
        run(d/"in", out=d/f"{kind}.{kind}", draw=d/"drawn")
    t = pd.read_csv(d/"csv.csv")
    assert len(t) == len(json.loads((d/"json.json").read_text())) == len(pd.read_parquet(d/"parquet.parquet")) == 6
    assert len(list((d/"drawn").iterdir())) == 5 and max(len(os.fsencode(o.name)) for o in (d/"drawn").iterdir()) < 255
    run(d/"in", out=d/("z"*250 + ".csv"))
    assert not [o for o in d.iterdir() if o.name.startswith(".")]

@slow
def signals_keep_what_was_predicted(d):
    for i in range(300): (d/"in").mkdir(exist_ok=True) or saved(FACE, d/"in"/f"{i:03}.png")
    code = """import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler) # which shells and nohup set to be ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from psr_fer.predict import predictor
real = predictor.open_image
def slowly(*a, **k):
    time.sleep(.05)
    if a[0].name == "020.png": print("GO", flush=True)
    return real(*a, **k)
predictor.open_image = slowly
sys.argv = ["psr-fer", *sys.argv[1:]]
from psr_fer.cli import main; main()"""
    for number, rc in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        out = d/f"{rc}.csv"
        p = subprocess.Popen([sys.executable, "-c", code, "predict", str(d/"in"), "--no-detect", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "GO" not in p.stdout.readline(): assert p.poll() is None, p.stderr.read()
        p.send_signal(number)
        said, err = p.communicate(timeout=120)
        assert p.returncode == rc and "Traceback" not in err and "stopped early" in said and 20 <= len(pd.read_csv(out)) < 300
    assert not [o for o in d.iterdir() if o.name.startswith(".")]

@slow
def full_disk_keeps_what_was_predicted(d):
    for i in range(60): (d/"in").mkdir(exist_ok=True) or saved(FACE, d/"in"/f"{i:03}.png")
    for kind in ("csv", "json", "parquet"):
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({4000 if kind == 'csv' else 16000},)*2)\nfrom psr_fer.cli import main; main()"
        out = d/f"r.{kind}"
        r = subprocess.run([sys.executable, "-c", code, "predict", str(d/"in"), "--no-detect", "--batch-size", "8", "--out", str(out)], capture_output=True, text=True)
        assert r.returncode == 2 and "Traceback" not in r.stderr and "disk is full" in r.stderr + r.stdout or kind == "parquet" and "results are in" in r.stderr, r.stderr
        n = len(pd.read_csv(out)) if kind == "csv" else len(json.loads(out.read_text())) if kind == "json" else 1
        assert 0 < n < 60

@slow
def consoles_without_the_letters_show_others(d):
    saved(FACE, d/"é😀.png")
    for encoding in ("ascii", "cp1252"):
        r = subprocess.run([sys.executable, "-m", "psr_fer.cli", "predict", str(d), "--no-detect", "--out", str(d/"r.csv")], capture_output=True,
                           env=os.environ | dict(PYTHONIOENCODING=encoding))
        assert r.returncode == 0 and b"1 face in 1 image" in r.stdout and b"?.png" in r.stdout and "é😀" in (d/"r.csv").read_text(encoding="utf-8")

@case
def callers_generator_that_breaks_keeps_what_came_before(d):
    def images():
        yield from [FACE]*3
        raise RuntimeError("the camera fell")
    got = []
    with pytest.raises(RuntimeError, match="fell"):
        for p in predictor().stream(images(), detect=False): got.append(p) # noqa: PERF402 - extend would lose them
    assert len(got) == 3

@case
def log_file_gets_a_line_a_minute(d):
    for i in range(5): saved(FACE, d/f"{i}.png")
    before, C.EVERY, err, sys.stderr = C.EVERY, 0, sys.stderr, io.StringIO()
    try:
        predict_paths(d, predictor(), detect=False, say=lambda o: None)
        lines = sys.stderr.getvalue().splitlines()
    finally: C.EVERY, sys.stderr = before, err
    assert len(lines) == 5 and lines[-1].startswith("5 images, 5 faces in ")

@case
def training_log_tells_step_loss_and_time_left(d):
    from types import SimpleNamespace as N

    from psr_fer.callbacks import Progress
    lines, cb = [], Progress("pyramid", [].append, every=0)
    cb.say = lines.append
    cb.learn = N(epoch=1, n_epoch=4, iter=9, n_iter=40, pct_train=.25, training=True, loss=torch.tensor(2.), recorder=N(smooth_loss=N(value=torch.tensor(1.5))))
    cb.before_fit()
    cb.after_batch()
    cb.learn.pct_train, cb.start = .5, time.monotonic() - 600
    cb.after_batch()
    assert lines[-1] == "pyramid, epoch 2 of 4, step 10 of 40, loss 1.500, 50% of the stage, 20 min left"


# ---- threads, pickles, servers

def expected(): return probabilities(FACE)

@slow
def fresh_predictor_serves_eight_threads(d):
    code = """import threading
from psr_fer.predict import Predictor
from psr_fer.data.synthetic import draw_face
face, p, got, gate = draw_face("happiness", size=200, seed=3), Predictor(), [], threading.Barrier(8)
def go():
    gate.wait()
    try: got.append(str(p.predict(face)))
    except Exception as e: got.append(repr(e))
threads = [threading.Thread(target=go) for _ in range(8)]
for o in threads: o.start()
for o in threads: o.join()
print(len(got), len(set(got)), got[0])"""
    for _ in range(3):
        r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert r.stdout.startswith("8 1 [") or r.stdout.startswith("8 1 <Picture #0: happiness"), r.stdout + r.stderr

@case
def predictor_is_pickled_and_copied_at_any_time(d):
    for p in (Predictor(), predictor()):
        for _ in range(2):
            for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
                assert np.allclose(list(q.predict(FACE, detect=False)[0].probabilities.values()), expected(), atol=1e-6)
            p.predict(FACE) # the detector is loaded now

def _work(p): return p.predict(FACE, detect=False)[0].label

@slow
def workers_that_are_spawned_get_the_predictor(d):
    p = predictor()
    p.predict(FACE)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool: assert list(pool.map(_work, [p]*3)) == ["happiness"]*3

@case
def web_server_with_uploads(d):
    fastapi = pytest.importorskip("fastapi")
    pytest.importorskip("multipart")
    testclient = pytest.importorskip("fastapi.testclient")
    app, p = fastapi.FastAPI(), Predictor()
    def answer(file: fastapi.UploadFile): return p.predict(file, detect=False)[0].probabilities
    app.post("/")(answer)
    content, got = saved(FACE, d/"a.png").read_bytes(), []
    with testclient.TestClient(app) as client:
        def send(): got.append(client.post("/", files=dict(file=("a.png", content, "image/png"))).json())
        threads = [threading.Thread(target=send) for _ in range(8)]
        for o in threads: o.start()
        for o in threads: o.join()
    assert len(got) == 8 and all(np.allclose(list(o.values()), expected(), atol=1e-5) for o in got)


# ---- hostile checkpoints

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from psr_fer.models.psr import Baseline
    path = tmp_path_factory.mktemp("run")/"a.safetensors"
    save_model(Baseline("vgg8_bn", n_classes=2, size=32, pos=2), path, classes=["no", "yes"], temperature=1., seed=0)
    return path

class Evil:
    def __reduce__(self): return os.mkdir, ("/tmp/psr_fer-was-unpickled",)

def _about(**changes): # a change of the description
    def change(weights, about):
        d = json.loads(about.read_text())
        for k, v in changes.items(): d["config"].update(v) if k == "config" and isinstance(v, dict) else d.update({k: v})
        about.write_text(json.dumps(d))
    return change

def _nan(weights, about):
    from safetensors.torch import load_file, save_file
    t = load_file(weights)
    next(v for v in t.values() if v.is_floating_point()).view(-1)[0] = math.nan
    save_file(t, weights)

HOSTILE = dict(
    pickle=lambda w, a: w.write_bytes(pickle.dumps(Evil())), huge_header=lambda w, a: w.write_bytes((2**62).to_bytes(8, "little") + w.read_bytes()[8:]),
    long_header=lambda w, a: w.write_bytes((10**8).to_bytes(8, "little") + b"{" + b" "*1000), cut=lambda w, a: w.write_bytes(w.read_bytes()[:-100]), empty=lambda w, a: w.write_bytes(b""),
    nan_weight=_nan, nan_temperature=_about(temperature=math.nan), zero_std=_about(std=[0, 1, 1]), text_mean=_about(mean="x"), three_names=_about(classes=["a", "b", "c"]),
    same_names=_about(classes=["a", "a"]), escape_names=_about(classes=["\x1b[2J", "b"]), path_as_arch=_about(config=dict(arch="../../etc/passwd")),
    pretrained_path=_about(config=dict(pretrained="/etc/passwd")), billion_classes=_about(config=dict(n_classes=10**9), classes=None), huge_size=_about(config=dict(size=10**9)),
    no_config=_about(config=None), deep_json=lambda w, a: a.write_text("["*100_000), code_as_model=_about(model="os.system"), unknown_option=_about(config=dict(evil=1)))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_checkpoint_is_refused(kind, small, tmp_path):
    for o in (small, small.with_suffix(".json")): (tmp_path/o.name).write_bytes(o.read_bytes())
    load_model(tmp_path/"a.safetensors")
    HOSTILE[kind](tmp_path/"a.safetensors", tmp_path/"a.json")
    text = message(load_model, tmp_path/"a.safetensors", kind=ValueError)
    assert "\n" not in text and len(text) < 600 and not Path("/tmp/psr_fer-was-unpickled").exists()

@case
def pickled_weights_are_named_as_such(d):
    (d/"model.pth").write_bytes(pickle.dumps(Evil()))
    assert "is a pickle, which could run any code" in message(Predictor, d/"model.pth", kind=ValueError)

@slow
def confusion_matrix_of_fastai_has_class_names(d):
    from fastai.interpret import ClassificationInterpretation

    from psr_fer.data.synthetic import synthetic_dls
    from psr_fer.learner import psr_learner
    learn = psr_learner(synthetic_dls(d, n=64, size=64, bs=16), "resnet18")
    i = ClassificationInterpretation.from_learner(learn)
    i.print_classification_report()
    assert list(i.vocab) == ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]


@pytest.mark.parametrize("name", [pytest.param(o, marks=pytest.mark.slow) if o in SLOW else o for o in CASES])
def test_case(name, tmp_path): CASES[name](tmp_path)
