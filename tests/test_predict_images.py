"""Opening images, walking folders, reading videos."""
import io
import os
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from psr_fer.data.synthetic import draw_face
from psr_fer.predict import images as I
from psr_fer.predict.images import open_image, several, sources, walk


@pytest.fixture(scope="module")
def face(): return draw_face("happiness", size=96, seed=3)


def pixels(im): return np.asarray(im).astype(int)


# ---- open

def test_open_image_every_form(face, tmp_path):
    face.save(tmp_path/"a.png")
    a, content = np.asarray(face), (tmp_path/"a.png").read_bytes()
    t = torch.tensor(a).permute(2, 0, 1)
    with open(tmp_path/"a.png", "rb") as file:
        for o in (tmp_path/"a.png", str(tmp_path/"a.png"), content, bytearray(content), memoryview(content), io.BytesIO(content), file,
                  a, a/255, (a/255).astype(np.float32), np.dstack([a, a[..., :1]]), t, t.float()/255, t.half()/255, face.convert("RGBA")):
            assert np.array_equal(open_image(o), a) or o.dtype == torch.half
    grey = face.convert("L")
    g = np.asarray(grey)
    for o in (g, g[..., None], torch.tensor(g)[None], grey):
        assert open_image(o).mode == "L" and np.array_equal(open_image(o), g)


def test_open_image_bgr(face):
    a = np.asarray(face)
    bgr = a[..., ::-1]
    for o in (bgr, np.dstack([bgr, a[..., :1]]), torch.tensor(bgr.copy()).permute(2, 0, 1)): assert np.array_equal(open_image(o, bgr=True), a)
    assert np.array_equal(open_image(face, bgr=True), a) # a PIL image knows its own order


@pytest.mark.parametrize("bad,words", [
    (np.zeros((5, 5, 2), np.uint8), r"must be \(H,W\), \(H,W,3\) or \(H,W,4\).* got \(5, 5, 2\)"),
    (np.zeros((0, 5, 3), np.uint8), "got \\(0, 5, 3\\)"),
    (np.zeros((5, 5, 3), np.int64), "must be uint8 .* got int64"),
    (np.zeros((5, 5, 3), bool), "got bool"),
    (np.full((5, 5, 3), 1.01), "must lie in 0 to 1, got 1.01 to 1.01; divide by 255"),
    (np.full((5, 5, 3), -.1), "must lie in 0 to 1"),
    (np.full((5, 5, 3), np.nan), "must lie in 0 to 1, got nan"),
    (torch.zeros(5, 5, 3), r"a tensor \(1,H,W\), \(3,H,W\) or a batch .*got \(5, 5, 3\)"),
    ("https://example.com/a.png", "without Predictor\\(allow_urls=True\\)"),
    ("HTTP://example.com/a.png", "is a URL"),
    (17, "got int"), (None, "got NoneType"), (object(), "got object"),
])
def test_open_image_bad_input(bad, words):
    with pytest.raises(ValueError, match=words): open_image(bad)


def test_open_image_rounding_errors_are_accepted(): assert open_image(np.full((5, 5, 3), 1.0000001)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("turn", range(1, 9))
def test_open_image_exif(face, tmp_path, turn):
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn] # the transposition that a camera's tag undoes
    upright = face.crop((0, 0, 96, 80))
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[274] = turn
    stored.save(tmp_path/"a.png", exif=exif)
    assert np.array_equal(open_image(tmp_path/"a.png"), upright)
    with Image.open(tmp_path/"a.png") as im: assert np.array_equal(open_image(im), upright)


@pytest.mark.parametrize("kind", ["16 bits.png", "16 bits.tif", "12 bits.png", "32 bits.tif", "unit float.tif", "float.tif"])
def test_open_image_deep_grey(face, tmp_path, kind):
    a = np.asarray(face.convert("L"))
    values = {"16 bits": a.astype(np.uint16)*257, "12 bits": (a/255*4095).round().astype(np.uint16), "32 bits": a.astype(np.int32)*257,
              "unit float": (a/255).astype(np.float32), "float": a.astype(np.float32)}[kind.split(".")[0]]
    Image.fromarray(values).save(tmp_path/kind)
    got = open_image(tmp_path/kind)
    assert got.mode == "L" and abs(pixels(got) - a).max() <= 1


@pytest.mark.parametrize("values", [np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32), np.full((4, 4), 300, np.float32),
                                    np.full((4, 4), np.nan, np.float32)])
def test_open_image_unknown_white(tmp_path, values):
    Image.fromarray(values).save(tmp_path/"a.tif")
    with pytest.raises(OSError, match="cannot be read as an image .*which of them is white"): open_image(tmp_path/"a.tif")


def test_open_image_transparent_parts_are_white(face, tmp_path):
    hidden = face.copy()
    hidden.putalpha(Image.new("L", face.size, 0))
    hidden.paste(face, (0, 0), Image.new("L", face.size, 0))
    hidden.save(tmp_path/"hidden.png")
    assert pixels(open_image(tmp_path/"hidden.png")).min() == 255
    palette = face.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path/"p.png")
    assert open_image(tmp_path/"p.png").getpixel((0, 0)) == (255, 255, 255)
    grey = face.convert("LA")
    grey.putalpha(0)
    assert open_image(grey).mode == "L" and pixels(open_image(grey)).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_open_image_every_mode(face, mode):
    if mode == "LAB":
        from PIL import ImageCms
        im = ImageCms.profileToProfile(face, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    else: im = face.convert("P").convert("PA") if mode == "PA" else face.convert(mode)
    got = open_image(im)
    assert got.mode == ("L" if mode in ("1", "L", "LA") else "RGB")
    if mode != "1": assert abs(pixels(got.convert("L")) - pixels(face.convert("L"))).mean() < (12 if "P" in mode else 3)


def test_open_image_broken_files(face, tmp_path, recwarn):
    face.save(tmp_path/"cut.jpg", quality=95)
    (tmp_path/"cut.jpg").write_bytes((tmp_path/"cut.jpg").read_bytes()[:-600])
    (tmp_path/"text.jpg").write_text("no image at all")
    (tmp_path/"zero.png").write_bytes(b"")
    (tmp_path/"photo.heic").write_bytes(b"?")
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try: Image.new("1", (20_000, 20_000)).save(tmp_path/"bomb.png") # a few kilobytes that claim 400 million pixels
    finally: Image.MAX_IMAGE_PIXELS = limit
    for name, words in (("cut.jpg", "truncated"), ("text.jpg", "of no kind that Pillow knows"), ("zero.png", "it is empty"),
                        ("photo.heic", "pip install pillow-heif"), ("bomb.png", "more than 178 million pixels; make it smaller first")):
        with pytest.raises(OSError, match=f"{name} cannot be read as an image .*{words}"): open_image(tmp_path/name)
    with pytest.raises(OSError, match="it is empty"): open_image(b"")
    with pytest.raises(FileNotFoundError, match="nowhere.jpg is not there"): open_image(tmp_path/"nowhere.jpg")
    assert not [o for o in recwarn if "bomb" in str(o.message).lower()]


# ---- walk

def test_walk_counts_what_is_left_out(face, tmp_path):
    (tmp_path/"b").mkdir()
    for o in ("a.png", "b/z.JPG", "b/c.JPE", "b/d.jfif"): face.save(tmp_path/o, "JPEG")
    for o in ("no_suffix", "d.jpg_large", "b/x.JPG "): face.save(tmp_path/o, "PNG") # known by their content
    for o in ("notes.txt", "film.mp4", ".hidden.png", "a.faces.jpg", "README"): (tmp_path/o).write_bytes(b"?")
    left_out = Counter()
    got = [o.relative_to(tmp_path).as_posix() for o in walk(tmp_path, left_out=left_out)]
    assert got == ["a.png", "d.jpg_large", "no_suffix", "b/c.JPE", "b/d.jfif", "b/x.JPG ", "b/z.JPG"]
    assert left_out == {".txt": 1, "video": 1, "without a suffix": 1}
    assert [o.name for o in walk(tmp_path, ("video",))] == ["film.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_walk_follows_links_and_breaks_loops(face, tmp_path):
    (tmp_path/"in"/"sub").mkdir(parents=True)
    (tmp_path/"out").mkdir()
    face.save(tmp_path/"out"/"a.png")
    (tmp_path/"in"/"linked").symlink_to(tmp_path/"out")
    (tmp_path/"in"/"sub"/"loop").symlink_to(tmp_path/"in")
    (tmp_path/"in"/"gone.png").symlink_to(tmp_path/"gone.png")
    os.mkfifo(tmp_path/"in"/"pipe") # reading it would wait for ever
    left_out = Counter()
    assert [o.parent.name for o in walk(tmp_path/"in", left_out=left_out)] == ["linked"]
    assert left_out["broken link or device"] == 2 and sum(left_out.values()) == 3 and any("sub" in o and "loop" in o for o in left_out)


def test_walk_names_a_closed_folder(tmp_path, monkeypatch):
    (tmp_path/"closed").mkdir()
    real = os.scandir
    def scandir(o):
        if str(o).endswith("closed"): raise PermissionError(13, "Permission denied")
        return real(o)
    monkeypatch.setattr(I.os, "scandir", scandir)
    left_out = Counter()
    assert list(walk(tmp_path, left_out=left_out)) == [] and list(left_out) == [f"folder that cannot be opened, {tmp_path/'closed'} (Permission denied)"]


# ---- videos and sources

@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "Seven frames at ten per second, brighter and brighter."
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("video")/"clip.avi"
    w = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for i in range(7): w.write(np.full((64, 64, 3), (200, 0, 30*i), np.uint8)) # BGR
    w.release()
    return path


def test_read_video_frames_with_their_time(clip):
    got = list(I.read_video(clip, 3))
    assert [at for _, at in got] == [0, .3, .6]
    for (o, _), i in zip(got, (0, 3, 6), strict=True): assert np.allclose(o[32, 32], (30*i, 0, 200), atol=6) # RGB
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"): next(I.read_video(clip, 0))


def test_read_video_without_a_video(tmp_path):
    pytest.importorskip("cv2")
    (tmp_path/"bad.mp4").write_bytes(b"nothing")
    with pytest.raises(OSError, match="cannot be read as a video"): next(I.read_video(tmp_path/"bad.mp4"))
    with pytest.raises(FileNotFoundError, match="is not there"): next(I.read_video(tmp_path/"none.mp4"))


def test_sources_read_only_what_is_asked_for(clip, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    grabbed, real = [], cv2.VideoCapture
    class Capture:
        def __init__(self, *a): self.v = real(*a)
        def __getattr__(self, k): return getattr(self.v, k)
        def grab(self):
            grabbed.append(1)
            return self.v.grab()
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    frames = sources(clip)
    next(frames), next(frames)
    assert len(grabbed) == 2


def test_sources_errors_stay_in_their_place(face, tmp_path):
    (tmp_path/"empty").mkdir()
    got = list(sources([face, tmp_path/"empty", "nowhere.mp4", "a.jpg", face]))
    assert [name for name, *_ in got] == ["#0", str(tmp_path/"empty"), "nowhere.mp4", "a.jpg", "#1"]
    assert "holds no image that can be read" in str(got[1][2]) and isinstance(got[2][2], FileNotFoundError)


def test_sources_videos_in_folders_and_under_other_names(clip, face, tmp_path):
    (tmp_path/"v").mkdir()
    (tmp_path/"v"/"a.avi").write_bytes(clip.read_bytes())
    face.save(tmp_path/"v"/"b.png")
    (tmp_path/"clip.bin").write_bytes(clip.read_bytes())
    assert [len(list(sources(tmp_path/"v", video=o))) for o in (False, True)] == [1, 8]
    assert [len(list(sources(tmp_path/"clip.bin", video=o))) for o in (False, True)] == [1, 7]
    assert len(list(sources(clip))) == 7 and len(list(sources([clip], every=3))) == 3 # its name is enough


def test_several(face, tmp_path, clip):
    a = np.asarray(face)
    for one in (face, a, a[None, 0], "a.jpg", b"...", bytearray(), memoryview(b""), io.BytesIO(), torch.zeros(3, 5, 5)): assert not several(one)
    for many in ([], (face,), iter([face]), a[None], torch.zeros(2, 3, 5, 5), tmp_path, clip, "webcam", pd.Series([face])): assert several(many)
    for bad in ({}, {"a.png"}, frozenset("a"), pd.DataFrame(dict(path=["a.png"]))):
        with pytest.raises(TypeError, match=f"a list, tuple or generator, got a {type(bad).__name__}; pass a list"): several(bad)


def test_names_that_are_no_files(tmp_path, monkeypatch, face):
    monkeypatch.chdir(tmp_path)
    assert I.is_camera("7") and I.is_camera("webcam") and not I.is_camera("123")
    (tmp_path/"7").mkdir()
    assert not I.is_camera("7") and I.is_folder("7") # a folder of that name comes first
    assert I.why_unusable("") == "the name of an image is empty." and not I.is_folder("")


def test_why_unusable_points_to_videos(tmp_path):
    for o in ("a.mp4", "b.AVI"): (tmp_path/o).write_bytes(b"?")
    assert I.why_unusable(tmp_path) == f"{tmp_path} holds no image that can be read. It holds 2 videos: --video (video=True) reads them."
    assert I.why_unusable(tmp_path, video=True) is None
