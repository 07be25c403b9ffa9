"""Predictions: what goes in, what comes out, and that a bad file stops nothing."""
import builtins
import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import psr_fer
from psr_fer import predict as P
from psr_fer.checkpoints import save_model
from psr_fer.data.ferplus import ferplus_dls
from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS
from psr_fer.models.psr import PSR, Baseline
from psr_fer.predict import Predictor, annotate_faces, backends, command, open_image, predict_paths
from psr_fer.predict import predictor as predictor_module

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
    for x,y in zip(a, b, strict=True): torch.testing.assert_close(list(x.probabilities.values()), list(y.probabilities.values()), atol=tol, rtol=0)


# what comes out

def test_predict_one_in_one_out_several_in_a_list_out(predictor, face, photos):
    one = predictor.predict(face, detect=False)
    assert isinstance(one, P.Picture) and len(one) == 1 and one[0].box == (0,0,96,96) and one.size == (96,96)
    for many in ([face, face], (face, face), (o for o in (face, face)), np.stack([np.asarray(face)]*2), torch.stack([torch.tensor(np.asarray(face)).permute(2,0,1)]*2)):
        got = predictor.predict(many, detect=False)
        assert type(got) is list and [len(o) for o in got] == [1,1] and [o.source for o in got] == ["#0","#1"]
        same(got[1], one)
    assert predictor.predict([]) == []
    assert [o.source for o in predictor.predict(str(photos), detect=False)] == [str(photos/o) for o in ("a.png","broken.jpg","b/black.png","b/z.JPG")]
    assert len(predictor.predict([photos, face], detect=False)) == 5


def test_predict_probabilities_are_the_networks_own(predictor, run, face):
    f = predictor.predict(face, detect=False, branches=True)[0]
    assert list(f.probabilities) == list(CLASSES) and abs(sum(f.probabilities.values()) - 1) < 1e-9
    x = torch.tensor(predictor.crop(face))[None].float()/255
    x = (x - torch.tensor([.485,.456,.406]).view(3,1,1))/torch.tensor([.229,.224,.225]).view(3,1,1)
    with torch.no_grad(): logp, raw = network()(x)[0], network().branches(x)[0]
    torch.testing.assert_close(torch.tensor(list(f.probabilities.values())).float(), (logp/1.5).softmax(0), atol=1e-5, rtol=0) # the temperature is in it
    assert f.label == CLASSES[int(logp.argmax())] and f.confidence == max(f.probabilities.values())
    assert list(f.branches) == ["1/2","SR x2","original"]
    for p,r in zip(f.branches.values(), raw, strict=True):
        assert list(p) == list(CLASSES)
        torch.testing.assert_close(torch.tensor(list(p.values())).float(), (r/1.5).softmax(0), atol=1e-5, rtol=0)
    assert predictor.predict(face, detect=False)[0].branches is None and predictor.card == dict(ece=.02)
    with pytest.raises(AttributeError): f.label = "other"


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_of_bytes_and_of_shares(predictor, face, channels): # as the page does, which changes the faces in between
    crops = np.stack([predictor.crop(face), predictor.crop(face.rotate(20))])[:,:channels]
    (fused, each), (a, b) = predictor.probabilities(crops), predictor.probabilities(crops/np.float32(255))
    assert fused.shape == (2,8) and each.shape == (2,3,8) and (fused[0] != fused[1]).any()
    np.testing.assert_allclose(fused, a, atol=1e-6)
    np.testing.assert_allclose(each, b, atol=1e-6)


def test_branch_names_are_the_models(tmp_path, face):
    save_model(network(Baseline), tmp_path/"b.safetensors", classes=CLASSES)
    f = Predictor(tmp_path/"b.safetensors", device="cpu").predict(face, detect=False, branches=True)[0]
    assert list(f.branches) == ["original"] and f.branches["original"] == pytest.approx(f.probabilities)
    assert P.branch_names(PSR("resnet18", size=64, pos=2, kstep=2, sr=dict(n_resblocks=1, n_feats=4))) == ["1/4","SR x2","SR x4","original"]


def test_predict_alone_and_in_a_batch_the_same(predictor, run):
    faces = [draw_face("fear", size=40 + 7*i, seed=i) for i in range(5)]
    for bs in (1, 4):
        for a,b in zip(Predictor(run, device="cpu", bs=bs).predict(faces, detect=False), faces, strict=True): same(a, predictor.predict(b, detect=False))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.slow
def test_crop_goes_the_way_of_training(faces, tmp_path, grey):
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
    crops = torch.tensor(np.stack([p.crop(open_image(o)) for o in files]))
    torch.testing.assert_close(crops, dls.valid.cache(dls.valid.rows[:len(x)]), atol=0, rtol=0)
    torch.testing.assert_close((crops.float()/255 - p.network.mean)/p.network.std, x.as_subclass(torch.Tensor), atol=1e-6, rtol=0)
    if grey: np.testing.assert_array_equal(p.crop(draw_face("anger", size=32, seed=1)), p.crop(draw_face("anger", size=32, seed=1).convert("L"))) # colour pictures become grey


def test_predictor_missing_weights(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is not there; a checkpoint is"): Predictor(tmp_path)
    assert backends.DEFAULT == Path(psr_fer.__file__).parent/"assets"/"default.safetensors"
    monkeypatch.setattr(backends, "DEFAULT", tmp_path/"assets"/"default.safetensors")
    with pytest.raises(FileNotFoundError, match="give the folder of a run"): Predictor()
    (tmp_path/"assets").mkdir()
    save_model(network(), tmp_path/"assets"/"default.safetensors", half=True, classes=CLASSES)
    assert Predictor(device="cpu").temperature == 1


@pytest.mark.slow
def test_predict_imports_only_what_it_needs(face, tmp_path): # together they take longer to import than torch
    face.save(tmp_path/"face.png")
    code = """import sys, torch
before = set(sys.modules)
from psr_fer.predict import predict_paths
for detect in (True, False): predict_paths(sys.argv[1], detect=detect, progress=False)
print([o for o in ("fastai","matplotlib","pandas","scipy","sklearn","timm","torchvision","torch._dynamo") if o in set(sys.modules) - before])"""
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path/"face.png"], capture_output=True, text=True, env=env)
    assert "1 face in 1 image" in r.stdout and r.stdout.splitlines()[-1] == "[]", r.stdout + r.stderr


# what goes in

def test_predict_every_form_of_input(predictor, face, tmp_path):
    face.save(tmp_path/"a.png")
    a, want = np.asarray(face), predictor.predict(face, detect=False)
    t = torch.tensor(a).permute(2,0,1)
    for o in (tmp_path/"a.png", str(tmp_path/"a.png"), (tmp_path/"a.png").read_bytes(), a, a/255, (a/255).astype(np.float32), np.dstack([a, a[...,:1]]), t, t.float()/255, face.convert("RGBA")):
        same(predictor.predict(o, detect=False), want)
    assert predictor.predict(tmp_path/"a.png", detect=False).source == str(tmp_path/"a.png")
    grey = face.convert("L")
    for o in (np.asarray(grey), np.asarray(grey)[...,None], torch.tensor(np.asarray(grey))[None], grey.convert("RGB")): same(predictor.predict(o, detect=False), predictor.predict(grey, detect=False))


@pytest.mark.parametrize("bad,words", [
    (np.zeros((5,5,2), np.uint8), r"must be \(H,W\), \(H,W,3\) or \(H,W,4\), .*got \(5, 5, 2\)"),
    (np.zeros((0,5,3), np.uint8), "got \\(0, 5, 3\\)"),
    (np.zeros((5,5,3), np.int64), "must be uint8 .* got int64"),
    (np.zeros((5,5,3), bool), "got bool"),
    (np.full((5,5,3), 1.01), "must lie in 0 to 1, got 1.01 to 1.01; divide by 255"),
    (np.full((5,5,3), -.1), "must lie in 0 to 1"),
    (np.full((5,5,3), np.nan), "must lie in 0 to 1, got nan"),
    (torch.zeros(5,5,3), r"a tensor \(1,H,W\), \(3,H,W\) or a batch"),
    ("https://example.com/a.png", "without Predictor\\(allow_urls=True\\)"),
    ("HTTP://example.com/a.png", "is a URL"),
    (17, "got int"),
    (None, "got NoneType"),
    (object(), "got object"),
])
def test_predict_bad_input(predictor, face, bad, words):
    with pytest.raises(ValueError, match=words): predictor.predict(bad, detect=False)
    ok, broken, ok2 = predictor.predict([face, bad, face], detect=False)
    assert len(ok) == len(ok2) == 1 and broken == [] and broken.error and broken.size is None


@pytest.mark.parametrize("bad", [{}, {"a.png": 1}, set(), {"a.png"}, frozenset("a"), pd.DataFrame(dict(path=["a.png"]))], ids=lambda o: type(o).__name__)
def test_predict_input_without_order(predictor, face, bad):
    for call in (predictor.predict, predictor.stream): # at once, though a stream is lazy
        with pytest.raises(TypeError, match=f"a list, tuple or generator, got a {type(bad).__name__}; pass a list"): call(bad)
    ok, broken = predictor.predict([face, bad], detect=False)
    assert len(ok) == 1 and f"got {type(bad).__name__}" in broken.error
    assert predictor.predict([]) == [] and predictor.predict(pd.Series([face, face]), detect=False)[1].source == "#1"


def test_predict_empty_name_is_not_the_current_folder(predictor, face, tmp_path, monkeypatch):
    face.save(tmp_path/"a.png"); monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="the name of an image is empty"): predictor.predict("", detect=False)
    with pytest.raises(FileNotFoundError, match="nothing.png is not there"): predictor.predict("nothing.png")
    assert len(predictor.predict(".", detect=False)) == 1


def test_predict_urls_are_fetched_when_allowed(run, face, monkeypatch):
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


def test_predict_missing_and_broken_files(predictor, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png is not there"): predictor.predict(tmp_path/"nowhere.png")
    with pytest.raises(OSError, match="broken.jpg cannot be read as an image"): predictor.predict(photos/"broken.jpg")
    (tmp_path/"empty").mkdir()
    got = predictor.predict([photos/"a.png", photos/"broken.jpg", tmp_path/"nowhere.png", tmp_path/"empty", photos/"notes.txt", photos/"a.png"], detect=False)
    assert [bool(o.error) for o in got] == [False, True, True, True, True, False] and "holds no image" in got[3].error


AHEAD = min(3, os.cpu_count()) # images that are read ahead with bs=4


def test_stream_reads_only_as_far_as_needed(run, face):
    read = []
    def endless():
        for i in itertools.count(): read.append(i); yield face
    stream = Predictor(run, device="cpu", bs=4).stream(endless(), detect=False)
    assert read == [] and next(stream).source == "#0" and 4 <= len(read) <= 4 + AHEAD
    assert [next(stream).source for _ in range(4)] == ["#1","#2","#3","#4"] and 8 <= len(read) <= 8 + AHEAD
    read.clear()
    stream = Predictor(run, device="cpu", bs=1).stream(endless(), detect=False)
    assert next(stream) and len(read) == 1 and next(stream) and len(read) == 2 # image by image, for who shows them as they come
    assert next(stream).image is None and next(Predictor(run, device="cpu").stream([face], detect=False, keep=True)).image.size == (96,96)


def test_stream_broken_images_do_not_pile_up(run):
    read = []
    def endless():
        for i in itertools.count(): read.append(i); yield b"broken"
    assert next(Predictor(run, device="cpu", bs=4).stream(endless(), detect=False)).error and 4 <= len(read) <= 4 + AHEAD


# finding faces

def test_predict_several_faces_largest_first(predictor, group):
    p = predictor.predict(group)
    assert len(p) == 2 and p.note is None
    for f,(x,s) in zip(p, ((20,200), (260,130)), strict=True):
        l, t, r, b = f.box
        assert r - l == b - t and x - .1*s <= l < r <= x + 1.1*s and 10 <= t < b <= 230 and r - l > .5*s
    assert all(isinstance(v, int) for f in p for v in f.box)


def test_predict_no_face_has_a_note(predictor):
    p = predictor.predict(Image.new("RGB", (200,200), "white"))
    assert p == [] and p.error is None and p.note == "no face found; if this is a cropped face already, use detect=False (--no-detect)" and p.size == (200,200)


def test_predictor_own_detector(run, face):
    seen = []
    def detector(a): seen.append(a.shape); return [(10.4, 20, 50.4, 60), (-30, -30, 10, 10)]
    p = Predictor(run, detector=detector, device="cpu", margin=0).predict(face.convert("L"))
    assert seen == [(96,96,3)] and [o.box for o in p] == [(10,20,50,60), (0,0,40,40)]
    assert Predictor(run, detector=detector, device="cpu", margin=.5).predict(face)[0].box == (0,10,60,70)


@pytest.mark.slow
def test_predictor_margin_of_the_weights(tmp_path, face):
    save_model(network(), tmp_path/"model.safetensors", classes=CLASSES, margin=.5)
    assert Predictor(tmp_path, device="cpu").margin == .5 and Predictor(tmp_path, device="cpu", margin=.1).margin == .1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(h=st.integers(1, 200), w=st.integers(1, 200), seed=st.integers(0, 9), grey=st.booleans())
def test_predict_any_image(predictor, h, w, seed, grey):
    a = np.random.default_rng(seed).integers(0, 256, (h,w) if grey else (h,w,3), dtype=np.uint8)
    for detect in (True, False):
        p = predictor.predict(a, detect=detect)
        assert p.error is None and len(p) >= (not detect)
        for o in p: assert 0 <= o.box[0] < o.box[2] <= w and 0 <= o.box[1] < o.box[3] <= h and abs(sum(o.probabilities.values()) - 1) < 1e-9
    assert annotate_faces(Image.fromarray(a), p).mode == "RGB"


def test_predict_without_opencv(run, face, monkeypatch):
    real = builtins.__import__
    def without(name, *args, **kwargs):
        if name in ("cv2","pyarrow"): raise ImportError(name)
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", without)
    p = Predictor(run, device="cpu")
    assert len(p.predict(face, detect=False)) == 1
    assert len(p.predict([face])) == 1 and p.detector_name == "centerface" # needs none
    with pytest.raises(ImportError, match=r"pip install 'psr_fer\[predict\]'"): Predictor(run, "haar", "cpu").predict([face])
    monkeypatch.setattr(predictor_module, "find_spec", lambda o: None)
    with pytest.raises(ImportError, match="write .csv or .json"): P.check_out("a.parquet")


# videos

@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "Seven frames at ten per second, brighter and brighter."
    path = tmp_path_factory.mktemp("video")/"clip.avi"
    w = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64,64))
    for i in range(7): w.write(np.full((64,64,3), (200,0,30*i), np.uint8)) # BGR
    w.release()
    return path


def test_predict_video_frames_with_their_time(predictor, clip):
    got = predictor.predict(clip, every=3, detect=False, keep=True)
    assert [o.time for o in got] == [0, .3, .6] and {o.source for o in got} == {str(clip)} and got[1][0].time == .3
    for o,i in zip(got, (0,3,6), strict=True): assert np.allclose(np.asarray(o.image)[32,32], (30*i, 0, 200), atol=6) # RGB
    assert [o.time for o in predictor.predict([clip], detect=False)] == [0, .1, .2, .3, .4, .5, .6]
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"): predictor.predict(clip, every=0)


def test_predict_videos_in_folders_and_under_other_names(predictor, clip, tmp_path, face):
    (tmp_path/"v").mkdir(); (tmp_path/"v"/"a.avi").write_bytes(clip.read_bytes()); face.save(tmp_path/"v"/"b.png"); (tmp_path/"clip.bin").write_bytes(clip.read_bytes())
    assert [len(predictor.predict(tmp_path/"v", detect=False, video=o)) for o in (False, True)] == [1, 8]
    assert len(predictor.predict(tmp_path/"clip.bin", detect=False, video=True)) == 7
    (tmp_path/"bad.mp4").write_bytes(b"nothing")
    assert "cannot be read as a video" in predictor.predict(tmp_path/"bad.mp4")[0].error
    assert "is not there" in predictor.predict(tmp_path/"none.mp4")[0].error


def test_predict_paths_camera(predictor, monkeypatch, face, tmp_path, capfd):
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

def test_predict_paths_ctrl_c_keeps_what_was_read(run, face, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler) # a shell may start tests that ignore Ctrl-C
    for i in range(10): face.save(tmp_path/f"{i}.png")
    seen = itertools.count(1)
    def detector(a): # in threads
        if next(seen) == 3: os.kill(os.getpid(), signal.SIGINT)
        time.sleep(.05)
        return [(0, 0, 96, 96)]
    handler = signal.getsignal(signal.SIGINT)
    s = predict_paths(tmp_path, Predictor(run, detector, device="cpu", bs=64), out=tmp_path/"r.csv", say=lambda o: None, progress=False)
    assert s["stopped"] and 3 <= s["faces"] == len(pd.read_csv(tmp_path/"r.csv")) <= 4 + os.cpu_count() and s["faces"] < 10 and signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_save_results_name_that_is_no_utf8(predictor, face, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as f: face.save(f, "PNG")
    for kind in ("csv", "json", "parquet"):
        if kind == "parquet": pytest.importorskip("pyarrow")
        predict_paths(tmp_path, predictor, out=tmp_path/f"r.{kind}", draw=tmp_path/"drawn", detect=False, say=lambda o: None, progress=False)
        assert "caf\\udce9.png" in (tmp_path/f"r.{kind}").read_text(errors="replace").replace("\\\\", "\\")
    assert len(list((tmp_path/"drawn").iterdir())) == 1


def test_predict_paths_folder_with_a_broken_image(predictor, photos, tmp_path, capsys):
    lines = []
    s = predict_paths(photos, predictor, out=tmp_path/"new"/"r.csv", draw=tmp_path/"drawn", say=lines.append)
    assert s["pictures"] == 3 and s["faces"] == sum(s["labels"].values()) >= 2 and s["without_face"] >= 1 and not s["stopped"]
    assert [o[0] for o in s["broken"]] == [str(photos/"broken.jpg")]
    text = "\n".join(lines)
    assert text.count("broken.jpg") == 1 and "no face" in text and "1 file skipped" in text and "in 3 images" in text and "a.png" in text
    t = pd.read_csv(tmp_path/"new"/"r.csv")
    assert list(t) == ["source","time", "person","left","top","right","bottom","angle","label","note",*CLASSES] and len(t) == s["faces"] + s["without_face"] + 1
    assert set(t["source"]) == {str(photos/o) for o in ("a.png","broken.jpg","b/black.png","b/z.JPG")} # none is lost
    without = t[t["label"].isna()].set_index("source")
    assert without.drop(columns="note").isna().all(axis=None) and "no face found" in without.loc[str(photos/"b"/"black.png"), "note"]
    assert without.loc[str(photos/"broken.jpg"), "note"] == s["broken"][0][1]
    t = t.dropna(subset="label")
    assert len(t) == s["faces"] and t["note"].isna().all() and np.allclose(t[list(CLASSES)].sum(axis=1), 1, atol=1e-5) and t["time"].isna().all()
    assert (t["label"] == t[list(CLASSES)].idxmax(axis=1)).all() and t["label"].value_counts().to_dict() == s["labels"]
    assert "a.faces.jpg" in [o.name for o in (tmp_path/"drawn").iterdir()] and not [o for o in (tmp_path/"drawn").iterdir() if "black" in o.name]
    assert capsys.readouterr().err == "" # no bar where there is no terminal


def test_save_results_same_in_every_format(predictor, photos, tmp_path, clip):
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
def test_save_results_without_a_face(predictor, tmp_path, kind):
    if kind == "parquet": pytest.importorskip("pyarrow")
    Image.new("RGB", (64,64)).save(tmp_path/"a.png")
    lines = []
    predict_paths(tmp_path/"a.png", predictor, out=tmp_path/f"r.{kind}", say=lines.append, progress=False)
    [row] = dict(csv=lambda f: list(csv.DictReader(f.open())), json=lambda f: json.loads(f.read_text()), parquet=lambda f: pd.read_parquet(f).to_dict("records"))[kind](tmp_path/f"r.{kind}")
    assert row["source"] == str(tmp_path/"a.png") and "no face found" in row["note"] and pd.isna(row.get("label") or None) and not row.get("faces") and "use detect=False (--no-detect)" in "\n".join(lines)


def test_save_results_keeps_what_came_before_an_error(predictor, face, tmp_path):
    (tmp_path/"r.csv").write_text("old")
    def pictures(): yield predictor.predict(face, detect=False); raise RuntimeError("power cut")
    with pytest.raises(RuntimeError): P.save_results(tmp_path/"r.csv", pictures(), CLASSES)
    assert len(pd.read_csv(tmp_path/"r.csv")) == 1 and len(list(tmp_path.iterdir())) == 1 # not one hidden file is left


@pytest.mark.parametrize("kind", ["csv","json","parquet"])
def test_predict_paths_nothing_read_leaves_no_results(predictor, tmp_path, kind):
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


def test_save_results_branch_columns(predictor, photos, tmp_path, face):
    pytest.importorskip("pyarrow")
    lines = []
    for kind in ("csv","json","parquet"): predict_paths(photos, predictor, out=tmp_path/f"r.{kind}", detect=False, say=lines.append, progress=False, branches=True)
    c, q = pd.read_csv(tmp_path/"r.csv").set_index("source"), pd.read_parquet(tmp_path/"r.parquet").set_index("source")
    names = ["1/2","SR x2","original"]
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


@pytest.mark.slow
def test_predict_paths_one_line_per_broken_image(predictor, face, tmp_path, recwarn):
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
    assert all(len(o) == 1 and "\n" not in o[0] and "cannot be read as an image" in o[0] for o in said.values())
    for name,words in (("cut.jpg","truncated"), ("text.jpg","of no kind that Pillow knows"), ("zero.png","it is empty"), ("bomb.png","more than 178 million pixels; make it smaller first")): assert words in said[name][0]


def test_predict_paths_counts_videos_in_folders(predictor, clip, face, tmp_path):
    d = tmp_path/"v"; d.mkdir(); face.save(d/"b.png")
    def said(**kwargs):
        lines = []
        return predict_paths(d, predictor, detect=False, say=lines.append, progress=False, **kwargs), "\n".join(lines)
    assert "--video" not in said()[1]
    for o in ("x.avi","y.avi"): (d/o).write_bytes(clip.read_bytes())
    s, text = said()
    assert s["videos_left_out"] == 2 and "2 videos not read; --video reads them too" in text and s["pictures"] == 1
    assert "--video" not in said(video=True)[1]
    (d/"b.png").unlink(); (d/"y.avi").unlink()
    with pytest.raises(FileNotFoundError, match="holds no image .* It holds 1 video: --video .* reads it"): said()


@pytest.mark.parametrize("out,words", [("r.xls", "a .csv, .json or .parquet file, got r.xls"), ("sub.csv", "is a folder")])
def test_check_request_bad_results_file(tmp_path, out, words):
    (tmp_path/"sub.csv").mkdir()
    with pytest.raises(ValueError, match=words): predict_paths("nowhere.png", "no weights either", out=tmp_path/out)
    with pytest.raises(ValueError, match="name at least one image"): predict_paths([])
    (tmp_path/"f").write_text("no folder")
    with pytest.raises(OSError, match="f is a file, so that nothing can be written below it"): predict_paths("nowhere.png", out=tmp_path/"f"/"a"/"r.csv")


def test_check_request_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refused(dir): raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("psr_fer.checkpoints.tempfile.TemporaryFile", refused)
    for args in (dict(out=tmp_path/"new"/"r.csv"), dict(draw=tmp_path/"new")):
        with pytest.raises(PermissionError, match=r"new cannot be written into \(Permission denied\); name another folder"): predict_paths("nowhere.png", **args)
    assert list(tmp_path.iterdir()) == []


def test_predict_paths_annotated_copies_overwrite_nothing(predictor, photos, face):
    face.save(photos/"b"/"a.jpg"); face.save(photos/"z.jpg")
    before = {o: o.read_bytes() for o in photos.rglob("*") if o.is_file()}
    for _ in range(2): # the second time, drawn pictures are no input
        s = predict_paths(photos, predictor, draw=photos, detect=False, say=lambda o: None, progress=False)
        assert s["pictures"] == 5
    assert all(o.read_bytes() == b for o,b in before.items())
    assert sorted(o.name for o in photos.glob("*.faces.jpg")) == ["a-1.faces.jpg","a.faces.jpg","black.faces.jpg","z-1.faces.jpg","z.faces.jpg"]


def test_predict_paths_annotated_video_and_its_curves(predictor, clip, tmp_path):
    predict_paths(clip, predictor, out=tmp_path/"r.csv", draw=tmp_path/"drawn", every=3, detect=False, say=lambda o: None, progress=False)
    assert sorted(o.name for o in (tmp_path/"drawn").iterdir()) == ["clip.faces.mp4", "clip.faces.png"]
    assert Image.open(tmp_path/"drawn"/"clip.faces.png").size[0] > 500
    times = [o for _, o in P.read_video(tmp_path/"drawn"/"clip.faces.mp4")]
    assert 0.6 <= times[-1] <= 1 # as long as the original
    t = pd.read_csv(tmp_path/"r.csv")
    assert t["person"].tolist() == [1, 1, 1] and t["time"].tolist() == [0, .3, .6]
    assert list(P.walk(tmp_path/"drawn", ("image", "video"))) == [] # never an input


def test_predict_paths_smooth_averages_over_time(predictor, clip, tmp_path):
    tables = []
    for smooth in (0, 10):
        predict_paths(clip, predictor, out=tmp_path/"r.csv", detect=False, smooth=smooth, say=lambda o: None, progress=False)
        tables.append(pd.read_csv(tmp_path/"r.csv")[list(predictor.classes)])
    each, mean = tables
    torch.testing.assert_close(torch.tensor(mean.to_numpy()), torch.tensor(each.expanding().mean().to_numpy()), atol=2e-6, rtol=0)


@pytest.mark.parametrize("width", [30, 50, 60, 80, 120])
def test_faces_table_narrow_terminal(width): # names and columns are cut, numbers never
    name = "a_photograph_with_a_very_long_name_that_somebody_gave_it_in_2019_0017.jpg"
    f = P.Face((1000,1203,1215,1418), "happiness", dict(happiness=.5, surprise=.3, neutral=.2))
    [head, row, empty] = P.faces_table([P.Picture([f], name), P.Picture([], "写真" + name, note="none")], width=width).splitlines()
    assert "50%" in row and "215 x 215" in row and "happiness" in row and row.startswith("a_") and "no face" in empty
    assert ("surprise 30%, neutral 20%" in row) == ("then" in head) == (width >= 80) and ("1000, 1203" in row) == ("at" in head.split()) == (width >= 60)
    from rich.cells import cell_len
    if width >= 50: assert max(map(cell_len, (head, row, empty))) <= width
    assert name in P.faces_table([P.Picture([f], name)], width=200)


def test_report_of_a_video_shows_the_changes(predictor, monkeypatch, clip, tmp_path):
    frames = [P.Picture([P.Face((0,0,9,9), o, {o: 1.})] if o else [], "c.avi", (9,9), i/10) for i,o in enumerate(("fear","fear","fear",None,None,"anger","fear"))]
    def said(pictures, out=None):
        report = command._Report()
        for o in pictures: report.add(o)
        return "\n".join(report.lines(out, None))
    text = said(frames)
    assert [o for o in ("0.00","0.10","0.20","0.30","0.40","0.50","0.60") if f"c.avi {o} s" in text] == ["0.00","0.30","0.50","0.60"]
    assert "... 3 frames left out, where the expressions stayed the same; --out results.csv keeps all of them" in text and "5 faces in 7 images" in text
    assert "--out" not in said(frames, "r.csv") and "more image" not in text
    assert "left out" not in said([P.Picture(o, f"{i}.png", (9,9)) for i,o in enumerate(frames)]) # pictures are no frames
    assert "... and 2 more images" in said([P.Picture(frames[0], f"{i}.png", (9,9)) for i in range(P.SHOWN + 2)])


def test_report_of_a_long_run_shows_the_beginning(predictor, face, tmp_path):
    for i in range(P.SHOWN + 5): face.resize((8,8)).save(tmp_path/f"{i:03d}.png")
    lines = []
    assert predict_paths(tmp_path, predictor, detect=False, say=lines.append, progress=False)["pictures"] == P.SHOWN + 5
    text = "\n".join(lines)
    assert "029.png" in text and "030.png" not in text and "... and 5 more images; --out results.csv keeps all of them" in text
