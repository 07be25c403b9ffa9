"""Predictions: what goes in, what comes out, and that a bad file stops nothing."""
import builtins
import csv
import io
import itertools
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import cbook
from PIL import Image

import psr_fer
import psr_fer.predict as P
from psr_fer.calibration import ece, fit_temperature, reliability, scale_log_probs
from psr_fer.checkpoints import save_model
from psr_fer.data.ferplus import ferplus_dls
from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS
from psr_fer.models.psr import PSR, Baseline
from psr_fer.predict import Predictor, draw_faces, open_picture, predict_paths, read_video

cv2 = pytest.importorskip("cv2")
CLASSES = EMOTIONS[::-1] # not the usual order: names must follow the weights


@lru_cache
def network(cls=PSR): # untrained: what comes out is wrong, but always the same
    torch.manual_seed(0)
    sr = dict(sr=dict(n_resblocks=1, n_feats=4)) if cls is PSR else {}
    return cls("resnet18", size=32, pos=2, **sr).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A folder with weights, as a training leaves them."
    out = tmp_path_factory.mktemp("run")
    save_model(network(), out/"model.safetensors", classes=CLASSES, dataset="synthetic", temperature=1.5, card=dict(ece=.02))
    return out


@pytest.fixture(scope="module")
def predictor(run): return Predictor(run, device="cpu", bs=4)


@pytest.fixture(scope="module")
def face(): return draw_face("happiness", size=96, seed=3)


@pytest.fixture(scope="module")
def group(): # two faces that the detector finds
    im = Image.new("RGB", (420, 240), "#b8c4c8")
    for x,s,seed in ((20,200,1), (260,130,0)): im.paste(draw_face("neutral", size=s, seed=seed, yaw=0, rotation=0), (x, 20))
    return im


@pytest.fixture
def photos(tmp_path, group, face):
    "A folder as people have them: sub-folders, other files, hidden files, a broken picture, an upper-case ending."
    d = tmp_path/"photos"
    (d/"b").mkdir(parents=True)
    group.save(d/"a.png"); face.save(d/"b"/"z.JPG", quality=95); Image.new("RGB", (64,64)).save(d/"b"/"black.png")
    (d/"broken.jpg").write_bytes((d/"b"/"z.JPG").read_bytes()[:500])
    (d/"notes.txt").write_text("no picture"); (d/".hidden.png").write_bytes(b"")
    return d


def same(a, b, tol=1e-5): # the same judgement
    assert [o.box for o in a] == [o.box for o in b] and [o.label for o in a] == [o.label for o in b]
    for x,y in zip(a, b): torch.testing.assert_close(list(x.probabilities.values()), list(y.probabilities.values()), atol=tol, rtol=0)


# what comes out

def test_one_in_one_out_several_in_a_list_out(predictor, face, photos):
    one = predictor.predict(face, detect=False)
    assert isinstance(one, P.Picture) and len(one) == 1 and one[0].box == (0,0,96,96) and one.size == (96,96)
    for many in ([face, face], (face, face), (o for o in (face, face)), np.stack([np.asarray(face)]*2), torch.stack([torch.tensor(np.asarray(face)).permute(2,0,1)]*2)):
        got = predictor.predict(many, detect=False)
        assert type(got) is list and [len(o) for o in got] == [1,1] and [o.source for o in got] == ["#0","#1"]
        same(got[1], one)
    assert predictor.predict([]) == []
    assert [o.source for o in predictor.predict(str(photos), detect=False)] == [str(photos/o) for o in ("a.png","broken.jpg","b/black.png","b/z.JPG")]
    assert len(predictor.predict([photos, face], detect=False)) == 5


def test_names_and_probabilities_are_the_networks_own(predictor, run, face):
    f = predictor.predict(face, detect=False, branches=True)[0]
    assert list(f.probabilities) == list(CLASSES) and abs(sum(f.probabilities.values()) - 1) < 1e-9
    x = predictor.crop(face)[None].float()/255
    x = (x - torch.tensor([.485,.456,.406]).view(3,1,1))/torch.tensor([.229,.224,.225]).view(3,1,1)
    with torch.no_grad(): logp, raw = network()(x)[0], network().branches(x)[0]
    torch.testing.assert_close(torch.tensor(list(f.probabilities.values())).float(), (logp/1.5).softmax(0), atol=1e-5, rtol=0) # the temperature is in it
    assert f.label == CLASSES[int(logp.argmax())] and f.confidence == max(f.probabilities.values())
    assert list(f.branches) == ["reduced","super-resolved","original"]
    for (name,p),r in zip(f.branches.items(), raw):
        assert list(p) == list(CLASSES)
        torch.testing.assert_close(torch.tensor(list(p.values())).float(), (r/1.5).softmax(0), atol=1e-5, rtol=0)
    assert predictor.predict(face, detect=False)[0].branches is None and predictor.card == dict(ece=.02)
    with pytest.raises(AttributeError): f.label = "other"


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_may_be_judged_in_two_steps(predictor, face, channels): # as the page does, which changes the faces in between
    crops = torch.stack([predictor.crop(face), predictor.crop(face.rotate(20))])[:,:channels]
    x = predictor.batch(crops)
    mean, std = [torch.tensor(o).view(3,1,1) for o in ([.485,.456,.406], [.229,.224,.225])]
    torch.testing.assert_close(x*std + mean, crops.expand(-1,3,-1,-1)/255, atol=1e-6, rtol=0)
    (fused, each), (a, b) = predictor.judge(x), predictor.probabilities(crops)
    assert fused.shape == (2,8) and each.shape == (2,3,8) and (fused[0] != fused[1]).any()
    np.testing.assert_array_equal(fused, a)
    np.testing.assert_array_equal(each, b)


def test_a_baseline_and_two_super_resolution_branches(tmp_path, face):
    save_model(network(Baseline), tmp_path/"b.safetensors", classes=CLASSES)
    f = Predictor(tmp_path/"b.safetensors", device="cpu").predict(face, detect=False, branches=True)[0]
    assert list(f.branches) == ["original"] and f.branches["original"] == pytest.approx(f.probabilities)
    assert P.branch_names(PSR("resnet18", size=64, pos=2, kstep=2, sr=dict(n_resblocks=1, n_feats=4))) == ["reduced","super-resolved 1","super-resolved 2","original"]


def test_alone_and_in_a_batch_the_same(predictor, run):
    faces = [draw_face("fear", size=40 + 7*i, seed=i) for i in range(5)]
    for bs in (1, 4):
        for a,b in zip(Predictor(run, device="cpu", bs=bs).predict(faces, detect=False), faces): same(a, predictor.predict(b, detect=False))


@pytest.mark.parametrize("grey", [False, True])
def test_a_crop_goes_the_way_of_training(faces, tmp_path, grey):
    root = faces
    if grey: # FER+ is grey, and the weights know it
        root = tmp_path/"grey"
        for o in faces.rglob("*"):
            if o.is_dir(): continue
            (root/o.relative_to(faces)).parent.mkdir(parents=True, exist_ok=True)
            if o.suffix == ".png": Image.open(o).convert("L").save(root/o.relative_to(faces))
            else: (root/o.relative_to(faces)).write_bytes(o.read_bytes())
    dls = ferplus_dls(root, labels="label.csv", size=32, bs=8, device="cpu")
    save_model(network(), tmp_path/"model.safetensors", classes=EMOTIONS, dataset="ferplus" if grey else "synthetic")
    p = Predictor(tmp_path, device="cpu")
    assert p.grey == grey and dls.valid.cache.channels == (1 if grey else 3)
    x = dls.valid.one_batch()[0]
    files = [root/dls.valid.cache.places[i][0] for i in dls.valid.rows[:len(x)]]
    crops = torch.stack([p.crop(open_picture(o)) for o in files])
    torch.testing.assert_close(crops, dls.valid.cache(dls.valid.rows[:len(x)]), atol=0, rtol=0)
    torch.testing.assert_close((crops.float()/255 - p.mean)/p.std, x.as_subclass(torch.Tensor), atol=1e-6, rtol=0)
    if grey: torch.testing.assert_close(p.crop(draw_face("anger", size=32, seed=1)), p.crop(draw_face("anger", size=32, seed=1).convert("L")), atol=0, rtol=0) # colour pictures become grey


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is not there; a checkpoint is"): Predictor(tmp_path)
    assert P.DEFAULT == Path(psr_fer.__file__).parent/"assets"/"default.safetensors"
    monkeypatch.setattr(P, "DEFAULT", tmp_path/"assets"/"default.safetensors")
    with pytest.raises(FileNotFoundError, match="give the folder of a training"): Predictor()
    (tmp_path/"assets").mkdir()
    save_model(network(), tmp_path/"assets"/"default.safetensors", half=True, classes=CLASSES)
    assert Predictor(device="cpu").temperature == 1


def test_what_a_prediction_does_not_need_stays_out(face, tmp_path): # together they take longer to import than torch
    face.save(tmp_path/"face.png")
    code = """import sys, torch
before = set(sys.modules)
from psr_fer.predict import predict_paths
for detect in (True, False): predict_paths(sys.argv[1], detect=detect, progress=False)
print([o for o in ("fastai","matplotlib","pandas","scipy","sklearn","timm","torchvision","torch._dynamo") if o in set(sys.modules) - before])"""
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path/"face.png"], capture_output=True, text=True, env=env)
    assert "1 face in 1 picture" in r.stdout and r.stdout.splitlines()[-1] == "[]", r.stdout + r.stderr


# what goes in

def test_one_face_in_every_form(predictor, face, tmp_path):
    face.save(tmp_path/"a.png")
    a, want = np.asarray(face), predictor.predict(face, detect=False)
    t = torch.tensor(a).permute(2,0,1)
    for o in (tmp_path/"a.png", str(tmp_path/"a.png"), (tmp_path/"a.png").read_bytes(), a, a/255, (a/255).astype(np.float32), np.dstack([a, a[...,:1]]), t, t.float()/255, face.convert("RGBA")):
        same(predictor.predict(o, detect=False), want)
    assert predictor.predict(tmp_path/"a.png", detect=False).source == str(tmp_path/"a.png")
    grey = face.convert("L")
    for o in (np.asarray(grey), np.asarray(grey)[...,None], torch.tensor(np.asarray(grey))[None], grey.convert("RGB")): same(predictor.predict(o, detect=False), predictor.predict(grey, detect=False))


def test_bgr_is_said_not_guessed(predictor, face):
    a, want = np.asarray(face), predictor.predict(face, detect=False)
    same(predictor.predict(a[...,::-1], bgr=True, detect=False), want)
    same(predictor.predict(np.dstack([a[...,::-1], a[...,:1]]), bgr=True, detect=False), want) # BGRA
    same(predictor.predict(torch.tensor(a[...,::-1].copy()).permute(2,0,1), bgr=True, detect=False), want)
    assert predictor.predict(a[...,::-1], detect=False)[0].probabilities != pytest.approx(want[0].probabilities, abs=1e-4)
    same(predictor.predict(face, bgr=True, detect=False), want) # a PIL image knows its own order


@pytest.mark.parametrize("bad,words", [
    (np.zeros((5,5,2), np.uint8), r"must be \(H,W\), \(H,W,3\) or \(H,W,4\), got \(5, 5, 2\)"),
    (np.zeros((0,5,3), np.uint8), "got \\(0, 5, 3\\)"),
    (np.zeros((5,5,3), np.int64), "must be uint8 .* got int64"),
    (np.zeros((5,5,3), bool), "got bool"),
    (np.full((5,5,3), 1.01), "must lie in 0 to 1, got 1.01 to 1.01; divide by 255"),
    (np.full((5,5,3), -.1), "must lie in 0 to 1"),
    (np.full((5,5,3), np.nan), "must lie in 0 to 1, got nan"),
    (torch.zeros(5,5,3), r"must be \(3,H,W\), \(1,H,W\) or a batch"),
    ("https://example.com/a.png", "unless you ask for it with Predictor\\(allow_urls=True\\)"),
    ("HTTP://example.com/a.png", "is an address"),
    (17, "got int"),
    (None, "got NoneType"),
    (object(), "got object"),
])
def test_what_is_no_picture_gets_a_sentence(predictor, face, bad, words):
    with pytest.raises(ValueError, match=words): predictor.predict(bad, detect=False)
    ok, broken, ok2 = predictor.predict([face, bad, face], detect=False)
    assert len(ok) == len(ok2) == 1 and broken == [] and broken.error and broken.size is None


@pytest.mark.parametrize("bad", [{}, {"a.png": 1}, set(), {"a.png"}, frozenset("a"), pd.DataFrame(dict(path=["a.png"]))], ids=lambda o: type(o).__name__)
def test_what_has_no_order_of_pictures_is_refused(predictor, face, bad):
    for call in (predictor.predict, predictor.stream): # at once, though a stream is lazy
        with pytest.raises(TypeError, match=f"a list, tuple or generator, got a {type(bad).__name__}; pass a list"): call(bad)
    ok, broken = predictor.predict([face, bad], detect=False)
    assert len(ok) == 1 and f"got {type(bad).__name__}" in broken.error
    assert predictor.predict([]) == [] and predictor.predict(pd.Series([face, face]), detect=False)[1].source == "#1"


def test_an_empty_name_is_not_the_current_folder(predictor, face, tmp_path, monkeypatch):
    face.save(tmp_path/"a.png"); monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="the name of a picture is empty"): predictor.predict("", detect=False)
    with pytest.raises(FileNotFoundError, match="nothing.png is not there"): predictor.predict("nothing.png")
    assert len(predictor.predict(".", detect=False)) == 1


def test_addresses_are_fetched_when_asked_for(run, face, monkeypatch):
    buf = io.BytesIO(); face.save(buf, "PNG")
    asked = []
    def urlopen(request, timeout): asked.append(request.full_url); return io.BytesIO(buf.getvalue())
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    p = Predictor(run, device="cpu", allow_urls=True)
    got = p.predict("https://example.com/a.png", detect=False)
    assert asked == ["https://example.com/a.png"] and got.source == asked[0] and got.size == (96,96)
    with pytest.raises(ValueError, match="or --urls on the command line"): predict_paths("https://example.com/a.png", Predictor(run, device="cpu"))
    s = predict_paths(["https://example.com/a.png", "https://example.com/b.png"], p, detect=False, say=lambda o: None, progress=False)
    assert s["pictures"] == 2 and len(asked) == 3


def test_files_that_are_missing_or_broken(predictor, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png is not there"): predictor.predict(tmp_path/"nowhere.png")
    with pytest.raises(OSError, match="broken.jpg cannot be read as a picture"): predictor.predict(photos/"broken.jpg")
    (tmp_path/"empty").mkdir()
    got = predictor.predict([photos/"a.png", photos/"broken.jpg", tmp_path/"nowhere.png", tmp_path/"empty", photos/"notes.txt", photos/"a.png"], detect=False)
    assert [bool(o.error) for o in got] == [False, True, True, True, True, False] and "holds no picture" in got[3].error


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation(predictor, face, tmp_path, turn):
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn] # the transposition that a camera's tag undoes
    upright = face.crop((0, 0, 96, 80))
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    exif = Image.Exif(); exif[274] = turn
    stored.save(tmp_path/"a.png", exif=exif)
    got = predictor.predict(tmp_path/"a.png", detect=False)
    assert got.size == (96,80) and got[0].box == (0,0,96,80)
    same(got, predictor.predict(upright, detect=False))
    same(predictor.predict(Image.open(tmp_path/"a.png"), detect=False), got)


def test_a_generator_is_read_only_as_far_as_needed(run, face):
    read = []
    def endless():
        for i in itertools.count(): read.append(i); yield face
    stream = Predictor(run, device="cpu", bs=4).stream(endless(), detect=False)
    assert read == [] and next(stream).source == "#0" and len(read) == 4
    assert [next(stream).source for _ in range(4)] == ["#1","#2","#3","#4"] and len(read) == 8
    assert next(stream).image is None and next(Predictor(run, device="cpu").stream([face], detect=False, keep=True)).image.size == (96,96)


def test_faceless_and_broken_pictures_do_not_pile_up(run):
    read = []
    def endless():
        for i in itertools.count(): read.append(i); yield b"broken"
    assert next(Predictor(run, device="cpu", bs=4).stream(endless(), detect=False)).error and len(read) == 4


# finding faces

def test_several_faces_largest_first(predictor, group):
    p = predictor.predict(group)
    assert len(p) == 2 and p.note is None
    for f,(x,s) in zip(p, ((20,200), (260,130))):
        l, t, r, b = f.box
        assert r - l == b - t and x - .1*s <= l < r <= x + 1.1*s and 10 <= t < b <= 230 and r - l > .5*s
    assert all(isinstance(v, int) for f in p for v in f.box)


def test_a_photograph(predictor):
    with cbook.get_sample_data("grace_hopper.jpg") as f: im = Image.open(f).convert("RGB")
    [hopper] = predictor.predict(im)
    assert np.allclose(hopper.box, (139, 93, 390, 344), atol=12)
    turned = predictor.predict(im.transpose(Image.Transpose.ROTATE_90))
    assert len(turned) == 0 and "no face found" in turned.note
    [small] = predictor.predict(im.resize((102, 120))) # enlarged before looking
    assert np.allclose(np.array(small.box)*5, hopper.box, atol=25)
    mirrored = predictor.predict(im.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.allclose(im.size[0] - np.array(mirrored[0].box)[[2,0]], np.array(hopper.box)[[0,2]], atol=12)


def test_no_face_is_said(predictor):
    p = predictor.predict(Image.new("RGB", (200,200), "white"))
    assert p == [] and p.error is None and p.note == "no face found; if this is a cropped face already, use detect=False (--no-detect)" and p.size == (200,200)


def test_ones_own_detector(run, face):
    seen = []
    def detector(a): seen.append(a.shape); return [(10.4, 20, 50.4, 60), (-30, -30, 10, 10)]
    p = Predictor(run, detector=detector, device="cpu", margin=0).predict(face.convert("L"))
    assert seen == [(96,96,3)] and [o.box for o in p] == [(10,20,50,60), (0,0,40,40)]
    assert Predictor(run, detector=detector, device="cpu", margin=.5).predict(face)[0].box == (0,10,60,70)


def test_the_margin_may_come_with_the_weights(tmp_path, face):
    save_model(network(), tmp_path/"model.safetensors", classes=CLASSES, margin=.5)
    assert Predictor(tmp_path, device="cpu").margin == .5 and Predictor(tmp_path, device="cpu", margin=.1).margin == .1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(h=st.integers(1, 200), w=st.integers(1, 200), seed=st.integers(0, 9), grey=st.booleans())
def test_any_picture_is_survived(predictor, h, w, seed, grey):
    a = np.random.default_rng(seed).integers(0, 256, (h,w) if grey else (h,w,3), dtype=np.uint8)
    for detect in (True, False):
        p = predictor.predict(a, detect=detect)
        assert p.error is None and len(p) >= (not detect)
        for o in p: assert 0 <= o.box[0] < o.box[2] <= w and 0 <= o.box[1] < o.box[3] <= h and abs(sum(o.probabilities.values()) - 1) < 1e-9
    assert draw_faces(Image.fromarray(a), p).mode == "RGB"


@pytest.mark.parametrize("size", [(1,4000), (4000,1), (3,3)])
def test_odd_shapes(predictor, size): assert predictor.predict(Image.new("RGB", size)).error is None


def test_without_opencv(run, face, monkeypatch):
    real = builtins.__import__
    def without(name, *args, **kwargs):
        if name in ("cv2","pyarrow"): raise ImportError(name)
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", without)
    p = Predictor(run, device="cpu")
    assert len(p.predict(face, detect=False)) == 1
    with pytest.raises(ImportError, match=r"pip install 'psr_fer\[predict\]'"): p.predict([face])
    with pytest.raises(ImportError, match="write .csv or .json"): P.check_out("a.parquet")


def test_opencv_5(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ImportError, match="opencv-python-headless<5"): P.HaarDetector()


# videos

@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "Seven frames at ten per second, brighter and brighter."
    path = tmp_path_factory.mktemp("video")/"clip.avi"
    w = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64,64))
    for i in range(7): w.write(np.full((64,64,3), (200,0,30*i), np.uint8)) # BGR
    w.release()
    return path


def test_frames_with_their_time(predictor, clip):
    got = predictor.predict(clip, every=3, detect=False, keep=True)
    assert [o.time for o in got] == [0, .3, .6] and {o.source for o in got} == {str(clip)} and got[1][0].time == .3
    for o,i in zip(got, (0,3,6)): assert np.allclose(np.asarray(o.image)[32,32], (30*i, 0, 200), atol=6) # RGB
    assert [o.time for o in predictor.predict([clip], detect=False)] == [0, .1, .2, .3, .4, .5, .6]
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"): predictor.predict(clip, every=0)


def test_a_video_is_read_lazily(clip, run, monkeypatch):
    grabbed, real = [], cv2.VideoCapture
    class Capture:
        def __init__(self, *a): self.v = real(*a)
        def __getattr__(self, k): return getattr(self.v, k)
        def grab(self): grabbed.append(1); return self.v.grab()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    next(Predictor(run, device="cpu", bs=2).stream(clip, detect=False))
    assert len(grabbed) == 2


def test_videos_in_folders_and_under_other_names(predictor, clip, tmp_path, face):
    (tmp_path/"v").mkdir(); (tmp_path/"v"/"a.avi").write_bytes(clip.read_bytes()); face.save(tmp_path/"v"/"b.png"); (tmp_path/"clip.bin").write_bytes(clip.read_bytes())
    assert [len(predictor.predict(tmp_path/"v", detect=False, video=o)) for o in (None, True, False)] == [1, 8, 1]
    assert len(predictor.predict(tmp_path/"clip.bin", detect=False, video=True)) == 7
    with pytest.raises(OSError, match="cannot be read as a picture"): predictor.predict(clip, video=False, detect=False)
    (tmp_path/"bad.mp4").write_bytes(b"nothing")
    assert "cannot be read as a video" in predictor.predict(tmp_path/"bad.mp4")[0].error
    assert "is not there" in predictor.predict(tmp_path/"none.mp4")[0].error


def test_a_camera(predictor, monkeypatch, face, tmp_path, capfd):
    frame = np.ascontiguousarray(np.asarray(face)[...,::-1])
    class Camera:
        opened = []
        def __init__(self, number): self.opened.append(number); self.n = 0
        def isOpened(self): return self.opened[-1] < 2
        def get(self, key): return 0.
        def grab(self): self.n += 1; return True
        def retrieve(self):
            if self.n > 3: raise KeyboardInterrupt # somebody presses Ctrl-C
            return True, frame
        def release(self): self.opened.append("released")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.chdir(tmp_path)
    lines = []
    s = predict_paths("webcam", predictor, out="r.csv", detect=False, say=lines.append)
    assert s["stopped"] and s["pictures"] == 3 and Camera.opened == [0, "released"] # at once, though the predictor takes four at a time
    assert len(pd.read_csv("r.csv")) == 3 and "stopped early" in "\n".join(lines) and any(o.strip().endswith("%") and " s  " in o for o in lines)
    assert next(predictor.stream("1", detect=False)).time >= 0 and Camera.opened[2] == 1
    assert "no camera answers as 7" in predictor.predict("7")[0].error
    face.save("7"+".png"); (tmp_path/"8").mkdir(); face.save(tmp_path/"8"/"a.png")
    assert len(predictor.predict("8", detect=False)) == 1 # a folder of that name comes first


# the command

def test_a_folder_with_a_broken_picture(predictor, photos, tmp_path, capsys):
    lines = []
    s = predict_paths(photos, predictor, out=tmp_path/"new"/"r.csv", draw=tmp_path/"drawn", say=lines.append)
    assert s["pictures"] == 3 and s["faces"] == sum(s["labels"].values()) >= 2 and s["without_face"] >= 1 and not s["stopped"]
    assert [o[0] for o in s["broken"]] == [str(photos/"broken.jpg")]
    text = "\n".join(lines)
    assert text.count("broken.jpg") == 1 and "no face" in text and "1 file skipped" in text and "in 3 pictures" in text and "a.png" in text
    t = pd.read_csv(tmp_path/"new"/"r.csv")
    assert list(t) == ["source","time","left","top","right","bottom","label","note",*CLASSES] and len(t) == s["faces"] + s["without_face"] + 1
    assert set(t["source"]) == {str(photos/o) for o in ("a.png","broken.jpg","b/black.png","b/z.JPG")} # none is lost
    without = t[t["label"].isna()].set_index("source")
    assert without.drop(columns="note").isna().all(axis=None) and "no face found" in without.loc[str(photos/"b"/"black.png"), "note"]
    assert without.loc[str(photos/"broken.jpg"), "note"] == s["broken"][0][1]
    t = t.dropna(subset="label")
    assert len(t) == s["faces"] and t["note"].isna().all() and np.allclose(t[list(CLASSES)].sum(axis=1), 1, atol=1e-5) and t["time"].isna().all()
    assert (t["label"] == t[list(CLASSES)].idxmax(axis=1)).all() and t["label"].value_counts().to_dict() == s["labels"]
    assert "a.faces.jpg" in [o.name for o in (tmp_path/"drawn").iterdir()] and not [o for o in (tmp_path/"drawn").iterdir() if "black" in o.name]
    assert "4/4" in capsys.readouterr().err # the bar, the broken one included


def test_the_same_results_in_every_format(predictor, photos, tmp_path, clip):
    pytest.importorskip("pyarrow")
    for kind in ("csv","json","parquet"): predict_paths([photos, clip], predictor, out=tmp_path/f"r.{kind}", detect=False, say=lambda o: None, progress=False)
    c, q, j = pd.read_csv(tmp_path/"r.csv"), pd.read_parquet(tmp_path/"r.parquet"), json.loads((tmp_path/"r.json").read_text())
    assert list(c) == list(q) and len(c) == 11 and c["note"].fillna("").tolist() == q["note"].fillna("").tolist() and c["source"].tolist() == q["source"].tolist() and np.allclose(c[list(CLASSES)], q[list(CLASSES)], atol=1e-6, equal_nan=True)
    assert np.allclose(c["time"], q["time"], equal_nan=True) and c["time"].notna().sum() == 7
    faces = [(p["source"], o["label"], o["box"]) for p in j for o in p["faces"]]
    assert faces == [(r.source, r.label, [r.left, r.top, r.right, r.bottom]) for r in c.dropna(subset="label").itertuples()]
    [bad] = [p for p in j if "error" in p]
    assert bad["source"].endswith("broken.jpg") and bad["faces"] == [] and bad["size"] is None
    assert list(j[0]["faces"][0]["probabilities"]) == list(CLASSES)


@pytest.mark.parametrize("kind", ["csv","json","parquet"])
def test_results_without_a_face_are_a_whole_file(predictor, tmp_path, kind):
    if kind == "parquet": pytest.importorskip("pyarrow")
    Image.new("RGB", (64,64)).save(tmp_path/"a.png")
    lines = []
    predict_paths(tmp_path/"a.png", predictor, out=tmp_path/f"r.{kind}", say=lines.append, progress=False)
    [row] = dict(csv=lambda f: list(csv.DictReader(f.open())), json=lambda f: json.loads(f.read_text()), parquet=lambda f: pd.read_parquet(f).to_dict("records"))[kind](tmp_path/f"r.{kind}")
    assert row["source"] == str(tmp_path/"a.png") and "no face found" in row["note"] and pd.isna(row.get("label") or None) and not row.get("faces") and "use detect=False (--no-detect)" in "\n".join(lines)


def test_results_are_whole_or_not_there(predictor, face, tmp_path):
    (tmp_path/"r.csv").write_text("old")
    def pictures(): yield predictor.predict(face, detect=False); raise RuntimeError("power cut")
    with pytest.raises(RuntimeError): P.save_results(tmp_path/"r.csv", pictures(), CLASSES)
    assert (tmp_path/"r.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["csv","json","parquet"])
def test_nothing_read_leaves_no_results(predictor, tmp_path, kind):
    if kind == "parquet": pytest.importorskip("pyarrow")
    (tmp_path/"a.png").write_bytes(b"?"); (tmp_path/"b.png").write_bytes(b"")
    lines, out = [], tmp_path/f"r.{kind}"
    s = predict_paths([tmp_path/"a.png", tmp_path/"b.png"], predictor, out=out, say=lines.append, progress=False)
    assert s["pictures"] == 0 and len(s["broken"]) == 2 and lines[-1] == f"nothing could be read, so {out} was not written"
    assert sorted(o.name for o in tmp_path.iterdir()) == ["a.png","b.png"]
    with pytest.raises(FileNotFoundError, match="a.jpg is not there. .*b.jpg is not there."): predict_paths([tmp_path/"a.jpg", tmp_path/"b.jpg"], predictor, out=out)
    assert not out.exists()
    Image.new("RGB", (9,9)).save(tmp_path/"c.png")
    s = predict_paths([tmp_path/"a.jpg", tmp_path/"c.png"], predictor, out=out, detect=False, say=lines.append, progress=False)
    assert s["pictures"] == 1 and out.is_file() # one missing file among others is a line of the report


def test_each_branch_has_its_columns(predictor, photos, tmp_path, face):
    pytest.importorskip("pyarrow")
    lines = []
    for kind in ("csv","json","parquet"): predict_paths(photos, predictor, out=tmp_path/f"r.{kind}", detect=False, say=lines.append, progress=False, branches=True)
    c, q = pd.read_csv(tmp_path/"r.csv").set_index("source"), pd.read_parquet(tmp_path/"r.parquet").set_index("source")
    names = ["reduced","super-resolved","original"]
    assert list(c) == list(q) and list(c)[-24:] == [f"branch.{b}.{o}" for b in names for o in CLASSES]
    want = predictor.predict(photos/"a.png", detect=False, branches=True)[0].branches
    for b in names:
        one = c.filter(like=f"branch.{b}.")
        assert one.loc[str(photos/"a.png")].tolist() == pytest.approx(list(want[b].values()), abs=1e-6) and one.loc[str(photos/"broken.jpg")].isna().all()
        np.testing.assert_allclose(one, q.filter(like=f"branch.{b}."), atol=1e-6)
    [a] = [o for o in json.loads((tmp_path/"r.json").read_text()) if o["source"].endswith("a.png")]
    assert {k: list(v.values()) for k,v in a["faces"][0]["branches"].items()} == {k: pytest.approx(list(v.values())) for k,v in want.items()}
    faces = c.dropna(subset="label")
    agree = {b: sum(max(CLASSES, key=lambda o: r[f"branch.{b}.{o}"]) == r["label"] for _,r in faces.iterrows()) for b in names}
    assert f"each branch alone agrees with the result: {', '.join(f'{k} {v}' for k,v in agree.items())} of 3 faces" in lines


def test_each_broken_picture_costs_one_line(predictor, face, tmp_path, recwarn):
    d = tmp_path/"photos"; d.mkdir()
    face.save(d/"good.png"); face.save(d/"cut.jpg", quality=95); (d/"cut.jpg").write_bytes((d/"cut.jpg").read_bytes()[:-600])
    (d/"text.jpg").write_text("no picture at all"); (d/"zero.png").write_bytes(b"")
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try: Image.new("1", (20_000, 20_000)).save(d/"bomb.png") # a few kilobytes that claim 400 million pixels
    finally: Image.MAX_IMAGE_PIXELS = limit
    lines = []
    s = predict_paths(d, predictor, out=tmp_path/"r.csv", detect=False, say=lines.append, progress=False)
    assert s["pictures"] == 1 and len(s["broken"]) == 4 and len(pd.read_csv(tmp_path/"r.csv")) == 5 and not [o for o in recwarn if "bomb" in str(o.message).lower()]
    said = {name: [o for o in lines if o.startswith("skipped") and name in o] for name in ("cut.jpg","text.jpg","zero.png","bomb.png")}
    assert all(len(o) == 1 and "\n" not in o[0] and "cannot be read as a picture" in o[0] for o in said.values())
    for name,words in (("cut.jpg","truncated"), ("text.jpg","of no kind that Pillow knows"), ("zero.png","it is empty"), ("bomb.png","more than 178 million pixels; make it smaller first")): assert words in said[name][0]


def test_videos_in_a_folder_are_counted(predictor, clip, face, tmp_path):
    d = tmp_path/"v"; d.mkdir(); face.save(d/"b.png")
    def said(**kwargs):
        lines = []
        return predict_paths(d, predictor, detect=False, say=lines.append, progress=False, **kwargs), "\n".join(lines)
    assert "--video" not in said()[1]
    for o in ("x.avi","y.avi"): (d/o).write_bytes(clip.read_bytes())
    s, text = said()
    assert s["videos_left_out"] == 2 and "2 videos not read; --video reads them too" in text and s["pictures"] == 1
    for o in (True, False): assert "--video" not in said(video=o)[1] # whoever decided needs no hint
    (d/"b.png").unlink(); (d/"y.avi").unlink()
    with pytest.raises(FileNotFoundError, match="holds no picture .* It holds 1 video: --video .* reads it"): said()


@pytest.mark.parametrize("out,words", [("r.xls", "a .csv, .json or .parquet file, got r.xls"), ("sub.csv", "is a folder")])
def test_a_bad_results_file_is_refused_before_any_work(tmp_path, out, words):
    (tmp_path/"sub.csv").mkdir()
    with pytest.raises(ValueError, match=words): predict_paths("nowhere.png", "no weights either", out=tmp_path/out)
    with pytest.raises(ValueError, match="name at least one picture"): predict_paths([])
    (tmp_path/"f").write_text("no folder")
    with pytest.raises(OSError, match="f is a file, so that nothing can be written below it"): predict_paths("nowhere.png", out=tmp_path/"f"/"a"/"r.csv")


def test_a_folder_that_refuses_is_named_before_any_work(tmp_path, monkeypatch):
    def refused(dir): raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("psr_fer.files.tempfile.TemporaryFile", refused)
    for args in (dict(out=tmp_path/"new"/"r.csv"), dict(draw=tmp_path/"new")):
        with pytest.raises(PermissionError, match=r"new cannot be written into \(Permission denied\); name another folder"): predict_paths("nowhere.png", **args)
    assert list(tmp_path.iterdir()) == []


def test_drawing_never_overwrites_a_photograph(predictor, photos, face):
    face.save(photos/"b"/"a.jpg"); face.save(photos/"z.jpg")
    before = {o: o.read_bytes() for o in photos.rglob("*") if o.is_file()}
    for _ in range(2): # the second time, drawn pictures are no input
        s = predict_paths(photos, predictor, draw=photos, detect=False, say=lambda o: None, progress=False)
        assert s["pictures"] == 5
    assert all(o.read_bytes() == b for o,b in before.items())
    assert sorted(o.name for o in photos.glob("*.faces.jpg")) == ["a-1.faces.jpg","a.faces.jpg","black.faces.jpg","z-1.faces.jpg","z.faces.jpg"]


def test_drawn_frames_carry_their_time(predictor, clip, tmp_path):
    predict_paths(clip, predictor, draw=tmp_path, every=3, detect=False, say=lambda o: None, progress=False)
    assert sorted(o.name for o in tmp_path.iterdir()) == [f"clip-0000{o}s.faces.jpg" for o in ("0.00","0.30","0.60")]


def test_a_drawn_picture_shows_box_and_label_in_the_emotions_colour():
    from psr_fer.emotions import COLORS
    im = Image.new("RGB", (600,600), "white")
    f = P.Face((200,200,400,400), "anger", dict(anger=.7, fear=.2, **{o: .1/6 for o in EMOTIONS if o not in ("anger","fear")}))
    a = np.asarray(draw_faces(im, [f])).astype(int)
    def near(color): return (abs(a - np.array([int(COLORS[color][i:i+2], 16) for i in (1,3,5)])).max(-1) < 12)
    assert near("anger")[200:400,200:204].any() and near("anger")[150:200,200:400].sum() > 500 # box, and label above it
    *_, [(_, (l, t, r, b))] = P.arrange([f], [f.box], im.size, 3)
    assert t > 400
    below = [near(o)[t + 2:b - 2, l + 2:r - 2].sum() for o in ("anger","fear")]
    assert 2.5 < below[0]/below[1] < 4.5 # bars as long as the probabilities: .7 to .2
    assert np.array_equal(np.asarray(im), np.full((600,600,3), 255)) # a copy was drawn on
    assert (a[250:350,250:350] == 255).all() # the face itself stays free


def some_face(box, label="happiness", p=1.): return P.Face(tuple(box), label, {o: p if o == label else (1 - p)/7 for o in EMOTIONS})


def check_layout(boxes, size, top=3): # what holds for every picture; returns labels and bars
    faces = [some_face(b, EMOTIONS[i % 8]) for i,b in enumerate(boxes)]
    full, line, labels, bars = P.arrange(faces, boxes, size, top)
    assert full[0] == size[0] and full[1] >= size[1]
    placed = [o[1] for o in (*labels, *bars) if o]
    for l,t,r,b in placed: assert 0 <= l < r <= full[0] and 0 <= t < b <= full[1]
    for o,k in zip(labels, faces): assert not o or P._font(o[0], True).getlength(P._chip_text(k)) < o[1][2] - o[1][0] # nothing is cut, "100 %" included
    for i,o in enumerate(bars):
        if not o: continue
        assert not any(P._common(o[1], k) for k in (*boxes, *(k[1] for k in labels if k), *(k[1] for j,k in enumerate(bars) if k and j != i)))
        assert all(P._apart(o[1], boxes[i]) <= P._apart(o[1], k) + line for k in boxes) # nearest to its own face
        w, h = P.bars_size(faces[i], o[0], top)
        assert (o[1][2] - o[1][0], o[1][3] - o[1][1]) == (w, h)
    return full, labels, bars


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bars_never_lie_on_faces_and_nothing_leaves_the_picture(data):
    w, h = data.draw(st.integers(40, 1400)), data.draw(st.integers(40, 1400))
    def box(): # anywhere, inside
        s = data.draw(st.integers(8, min(w, h))); l, t = data.draw(st.integers(0, w - s)), data.draw(st.integers(0, h - s))
        return l, t, l + s, t + s
    check_layout([box() for _ in range(data.draw(st.integers(0, 6)))], (w, h))


@pytest.mark.parametrize("boxes,size,bars", [
    ([(20,20,190,190)], (900,600), 1), ([(710,20,880,190)], (900,600), 1), ([(20,420,190,590)], (900,600), 1), ([(710,420,880,590)], (900,600), 1), # each corner
    ([(0,0,320,320)], (320,320), 1), # all of the picture: a strip
    ([(66 + 300*(i % 4), 66 + 380*(i//4), 274 + 300*(i % 4), 274 + 380*(i//4)) for i in range(8)], (1280,800), 8), # a group with room
    ([(34 + 240*(i % 4), 34 + 250*(i//4), 226 + 240*(i % 4), 226 + 250*(i//4)) for i in range(8)], (1000,520), 0), # one without
    ([(65 + 70*i, 205, 105 + 70*i, 245) for i in range(8)], (640,480), 0), # faces too small for bars
], ids=["left top","right top","left bottom","right bottom","fills","group","tight","small"])
def test_bars_are_there_where_they_have_room(boxes, size, bars):
    full, labels, found = check_layout(boxes, size)
    assert sum(map(bool, found)) == bars and all(labels)
    assert not any(P._common(a[1], b[1]) for a,b in itertools.combinations(labels, 2)) # labels of neighbours stay legible


def test_a_free_place_is_found_where_one_is():
    rng = np.random.default_rng(0)
    for _ in range(30): # against looking at every pixel
        boxes = [(l, t, l + s, t + s) for l,t,s in zip(*rng.integers(0, 40, (2,3)), rng.integers(8, 20, 3))]
        w, h, size = 14, 6, (60,60)
        got = P.free_place(boxes[0], w, h, size, boxes[1:], boxes)
        reach = (boxes[0][2] - boxes[0][0])//2
        spots = [(x, y, x + w, y + h) for x in range(size[0] - w + 1) for y in range(size[1] - h + 1)]
        free = [o for o in spots if P._apart(o, boxes[0]) <= reach and not any(P._common(o, k) for k in boxes) and all(P._apart(o, boxes[0]) <= P._apart(o, k) for k in boxes[1:])]
        assert got in free if got else not free


def test_a_thin_strip_is_not_made_huge(predictor):
    for size in ((900,2), (2,900)): assert max(draw_faces(Image.new("RGB", size), predictor.predict(Image.new("RGB", size), detect=False)).size) < 2500


def test_without_bars_nothing_is_put_below_a_face_that_fills_the_picture(face, predictor):
    p = predictor.predict(face, detect=False)
    assert draw_faces(face, p, top=0).size == (320,320) and draw_faces(face, p, top=3).size[1] > 320


@pytest.mark.parametrize("width", [30, 40, 50, 60, 80, 120])
def test_a_narrow_terminal_cuts_names_and_columns_never_numbers(width):
    name = "a_photograph_with_a_very_long_name_that_somebody_gave_it_in_2019_0017.jpg"
    f = P.Face((1000,1203,1215,1418), "happiness", dict(happiness=.5, surprise=.3, neutral=.2))
    [head, row, empty] = P.faces_table([P.Picture([f], name), P.Picture([], "写真" + name, note="none")], width=width).splitlines()
    assert "50%" in row and "215 x 215" in row and "happiness" in row and row.split()[0].endswith("g") and "no face" in empty
    assert ("surprise 30%, neutral 20%" in row) == ("then" in head) == (width >= 80) and ("1000, 1203" in row) == ("at" in head.split()) == (width >= 60)
    from rich.cells import cell_len
    if width >= 50: assert max(map(cell_len, (head, row, empty))) <= width and "7.jpg" in row
    assert name in P.faces_table([P.Picture([f], name)], width=200)


def test_a_video_shows_the_changes(predictor, monkeypatch, clip, tmp_path):
    frames = [P.Picture([P.Face((0,0,9,9), o, {o: 1.})] if o else [], "c.avi", (9,9), i/10) for i,o in enumerate(("fear","fear","fear",None,None,"anger","fear"))]
    def said(pictures, out=None):
        report, lines = P._Report(), []
        for o in pictures: report.add(o)
        report.tell(lines.append, out, None, False)
        return "\n".join(lines)
    text = said(frames)
    assert [o for o in ("0.00","0.10","0.20","0.30","0.40","0.50","0.60") if f"c.avi {o} s" in text] == ["0.00","0.30","0.50","0.60"]
    assert "... 3 frames left out, where the expressions stayed the same; --out results.csv keeps all of them" in text and "5 faces in 7 pictures" in text
    assert "--out" not in said(frames, "r.csv") and "more picture" not in text
    assert "left out" not in said([P.Picture(o, f"{i}.png", (9,9)) for i,o in enumerate(frames)]) # pictures are no frames
    assert "... and 2 more pictures" in said([P.Picture(frames[0], f"{i}.png", (9,9)) for i in range(P.SHOWN + 2)])


def test_a_long_run_shows_the_beginning(predictor, face, tmp_path):
    for i in range(P.SHOWN + 5): face.resize((8,8)).save(tmp_path/f"{i:03d}.png")
    lines = []
    assert predict_paths(tmp_path, predictor, detect=False, say=lines.append, progress=False)["pictures"] == P.SHOWN + 5
    text = "\n".join(lines)
    assert "029.png" in text and "030.png" not in text and "... and 5 more pictures; --out results.csv keeps all of them" in text


# calibration

def test_temperature_by_hand():
    logp = torch.tensor([[.9,.1]]*4).log()
    assert fit_temperature(logp, [0,0,0,1]) == pytest.approx(2, abs=1e-4) # odds of 9 become odds of 3
    assert fit_temperature(logp/2, np.array([0,0,0,1])) == pytest.approx(1, abs=1e-4)
    assert fit_temperature(logp + 5, [[.75,.25]]*4) == pytest.approx(2, abs=1e-4) # shares; any constant is the same
    assert fit_temperature(logp, [0]*4) < .1 and fit_temperature(logp, [1]*4) == pytest.approx(20, rel=1e-3) # near the ends of the range
    assert np.isfinite(fit_temperature([[0, -np.inf], [0, -np.inf]], [0, 1]))
    assert scale_log_probs(logp, 2)[0] == pytest.approx([.75,.25]) and scale_log_probs([[0, -1e9]])[0] == pytest.approx([1,0])


def test_ece_by_hand():
    p = np.array([[.9,.1],[.9,.1],[.1,.9],[.6,.4]])
    assert ece(p, [0,0,1,1], bins=10) == pytest.approx(.75*.1 + .25*.6) and ece(p, [0,0,1,1], bins=1) == pytest.approx(.825 - .75)
    assert ece(torch.eye(3), [0,1,2]) == 0 and ece(np.eye(3), [1,2,0]) == 1 and ece(np.full((4,2), .5), [0,0,1,1]) == 0
    r = reliability(p, [[1,0],[.6,.4],[0,2],[.2,.8]], bins=2)
    assert r["faces"].tolist() == [4] and r["low"].tolist() == [.5] and r["accuracy"].tolist() == [.75]
    edge = reliability(np.array([[.8,.2],[.801,.199]]), [0,0], bins=5)
    assert edge["low"].tolist() == pytest.approx([.6,.8]) # a bin holds its upper end


@pytest.mark.parametrize("call,words", [
    (lambda: fit_temperature([[0.,1.]], [2]), "class numbers from 0 to 1"),
    (lambda: fit_temperature([0.,1.], [1]), r"needs \(N,C\) numbers"),
    (lambda: fit_temperature([[np.nan,1.]], [1]), "none of them NaN"),
    (lambda: ece([[-1.,-2.]], [0]), "take exp of log-probabilities"),
    (lambda: ece([[.5,.5]], [0], bins=0), "bins must be 1 or more"),
    (lambda: scale_log_probs([[0.,1.]], 0), "temperature must be above 0"),
])
def test_calibration_refuses(call, words):
    with pytest.raises(ValueError, match=words): call()
