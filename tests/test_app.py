"""The page of `psr-fer app`, from end to end in a headless Chromium."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from psr_fer.app import app as A
from psr_fer.checkpoints import save_model
from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS
from psr_fer.models.psr import PSR, Baseline
from psr_fer.predict import Predictor

PATIENCE = 240 # seconds to wait for what should take one or two


# what the page shows, without a browser

@pytest.fixture(scope="module")
def models(tmp_path_factory): # untrained: what comes out is wrong, but always the same
    d = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_model(PSR("resnet18", size=32, pos=2, sr=dict(n_resblocks=1, n_feats=4)), d/"psr.safetensors", classes=EMOTIONS[::-1], temperature=1.5, grey=True)
    save_model(Baseline("resnet18", size=48, pos=2), d/"base.safetensors", classes=EMOTIONS)
    return {"PSR": Predictor(d/"psr.safetensors", device="cpu"), "baseline": Predictor(d/"base.safetensors", device="cpu")}


@pytest.fixture(scope="module")
def face(): return draw_face("anger", size=120, seed=1)


@pytest.mark.slow
def test_at_sizes_largest_is_the_whole_face(models, face):
    seen = A.predict_upload(models, face, crop=True)
    sizes = A.curve_sizes(models)
    assert sizes[-1] == 48 and list(sizes) == sorted(set(sizes))
    for name,rows in A.at_sizes(models, seen.crops[0], sizes).items():
        whole = models[name].predict(face, detect=False)[0].probabilities
        torch.testing.assert_close([rows[-1][k] for k in EMOTIONS], [whole[k] for k in EMOTIONS], atol=1e-5, rtol=0)
        assert rows[0] != rows[-1]


def test_at_sizes_compares_branches_without_a_baseline(models, face):
    alone = {"PSR": models["PSR"]}
    rows = A.at_sizes(alone, A.predict_upload(alone, face, crop=True).crops[0], (16, 32))
    assert list(rows) == ["PSR", "branch 1/2", "branch SR x2", "branch original"]
    f = models["PSR"].predict(face, detect=False, branches=True)[0]
    torch.testing.assert_close(list(rows["branch original"][1].values()), list(f.branches["original"].values()), atol=1e-5, rtol=0)


def test_smaller_computes_one_size_per_move(models, face, monkeypatch):
    seen, asked, real = A.predict_upload(models, face, crop=True), [], A.at_sizes
    monkeypatch.setattr(A, "at_sizes", lambda p, c, sizes: asked.append(tuple(sizes)) or real(p, c, sizes))
    for px in (16, 20, 16, 4, 1000): A.smaller(models, seen, px)
    assert asked == [A.curve_sizes(models), (16,), (20,), (8,), (48,)]


def test_stable_down_to_ends_at_the_first_change():
    a, b = dict(x=.9, y=.1), dict(x=.1, y=.9)
    assert A.stable_down_to([a, b, a, a], (8, 16, 24, 32)) == 24
    assert A.stable_down_to([a, a], (8, 16)) == 8
    assert A.stable_down_to([b, a], (8, 16)) == 16


def test_bars_escape_class_names(models):
    assert "<b>" not in A.bars({"<b>": 1.}) and "&lt;b&gt;" in A.bars({"<b>": 1.})


def test_caution_names_classes_that_are_rarely_found(models, monkeypatch): # recall is None without test faces
    monkeypatch.setattr(models["PSR"], "card", dict(test=dict(n=9, recall=dict(anger=.8, fear=None, disgust=.1))))
    assert A.caution(models["PSR"], "anger").endswith("found 80% of those that people called anger. They rarely find: disgust (10%).")
    assert A.caution(models["PSR"], "fear") == "No test face shows fear: it is not known how often these weights find it."


@pytest.mark.slow
def test_inside_steps_of_psr_and_baseline(models, face):
    crops = A.predict_upload(models, face, crop=True).crops[0]
    steps = A.inside(models["PSR"], crops["PSR"])
    assert [o["title"] for o in steps] == ["The face", "After the STN", "Branch 1/2", "Branch SR x2", "Branch original"]
    assert [o["images"][0].size[0] for o in steps] == [32, 32, 16, 32, 32] and A.cards(steps).count("<img") == 2*5
    assert len(A.inside(models["baseline"], crops["baseline"])) == 1


def test_moved_in_words():
    assert A.moved(SimpleNamespace(rotation=-3.2, zoom=1.08, right=.2, down=-2.1)) == "turned 3° counter-clockwise, enlarged to 108%, moved 2 px up"
    assert A.moved(SimpleNamespace(rotation=.1, zoom=1., right=0., down=0.)) == "not turned, size kept, not moved"


def png(width, height): # the head of a PNG, and hardly more: what it unpacks to shall never be made
    def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bad_files(d): # name -> what is said
    ok = d/"face.jpg"
    draw_face("fear", size=200, seed=1).save(ok, quality=95)
    for name,content in {"text.png": b"no image", "empty.png": b"", "damaged.jpg": ok.read_bytes()[:1500], "large.png": png(7000, 6000), "bomb.png": png(60_000, 60_000)}.items(): (d/name).write_bytes(content)
    return {"text.png": "not an image that can be read", "empty.png": "not an image that can be read", "damaged.jpg": "damaged", "large.png": "42 million pixels", "bomb.png": "more than 179 million pixels"}


@pytest.mark.parametrize("name", ["text.png", "empty.png", "damaged.jpg", "large.png", "bomb.png"])
def test_read_upload_bad_file(name, tmp_path):
    with pytest.raises(ValueError, match=bad_files(tmp_path)[name]): A.read_upload(tmp_path/name)


def test_read_upload_large_file_is_not_opened(tmp_path, monkeypatch):
    with open(tmp_path/"heavy.png", "wb") as f: f.truncate(A.MAX_BYTES + 2**20)
    monkeypatch.setattr(Image, "open", lambda o: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match="has 16 MB; give an image of up to 15 MB"): A.read_upload(tmp_path/"heavy.png")
    with pytest.raises(ValueError, match="removed"): A.read_upload(tmp_path/"gone.png")


# the page in a browser

def _chromium(playwright): # how to launch one, or None
    path = next((o for o in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")) if o), None)
    if path: return dict(executable_path=path)
    return {} if Path(playwright.chromium.executable_path).exists() else None


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'psr_fer[app]'")
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'psr_fer[predict]'")
    with sync_api.sync_playwright() as p:
        how = _chromium(p)
        if how is None: pytest.skip("there is no Chromium: apt install chromium, or playwright install chromium")
        b = p.chromium.launch(**how, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                                            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"], timeout=1000*PATIENCE)
        yield b
        b.close()


@contextmanager
def serving(temp, *args): # the page as people start it; its temporary files lie in `temp`
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    p = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "psr_fer.cli", "app", "--no-browser", "--port", str(port), *map(str, args)], env=dict(os.environ, TMPDIR=str(temp)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    p.url, p.temp, end = f"http://127.0.0.1:{port}", temp, time.monotonic() + 2*PATIENCE # imports, on a busy machine
    try:
        while True:
            try: urllib.request.urlopen(p.url, timeout=PATIENCE).close(); break
            except OSError:
                assert p.poll() is None and time.monotonic() < end, f"the page did not start: {p.stdout.read() if p.poll() is not None else 'too slow'}"
                time.sleep(.3)
        yield p
    finally:
        if p.poll() is None: p.kill()


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("temp")) as p: yield p


ASKED = [] # addresses that any page of these tests asked for


@pytest.fixture(scope="module")
def compared(browser, tmp_path_factory):
    "The page with a baseline, here an untrained one, and what it compares."
    d = tmp_path_factory.mktemp("compared")
    torch.manual_seed(0)
    model = Baseline("resnet18", size=48, pos=2)
    with torch.no_grad(): model.head[6].weight *= 30 # opinions that differ from face to face
    save_model(model, d/"base.safetensors", classes=EMOTIONS, grey=True)
    (d/"temp").mkdir()
    with serving(d/"temp", "--baseline", d/"base.safetensors") as p:
        p.models = {"PSR": Predictor(), "baseline": Predictor(d/"base.safetensors")}
        yield p


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport=dict(width=1280, height=900), color_scheme="light", permissions=["camera"])
    context.set_default_timeout(1000*PATIENCE)
    page = context.new_page()
    page.on("request", lambda r: ASKED.append(r.url))
    page.goto(server.url)
    page.locator("#given input[type=file]").wait_for(state="attached")
    yield page
    context.close()


def give(page, path, says): # drop a file, wait for the sentence
    page.locator("#given input[type=file]").set_input_files(path)
    page.locator("#say", has_text=re.compile(says)).wait_for()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    d = tmp_path_factory.mktemp("images")
    A.example().save(d/"two.png")
    one = Image.new("RGB", (500,400), "#b8c4c8")
    one.paste(draw_face("anger", size=240, seed=1, yaw=0, rotation=0), (130, 80))
    one.save(d/"one.jpg", quality=95)
    Image.new("RGB", (300,200), "#557799").save(d/"none.png")
    draw_face("surprise", size=60, seed=1, yaw=0, rotation=0).crop((8,12,52,56)).save(d/"crop.png")
    return d


def overflow(page): return page.evaluate("document.documentElement.scrollWidth") - page.viewport_size["width"]


@pytest.mark.slow
def test_page_shows_boxes_bars_curve_and_cards(page, images):
    assert "No image yet" in page.locator("#marked").inner_text() and not page.locator("#results").is_visible()
    give(page, images/"one.jpg", "1 face found")
    page.locator("#shown .bars li").nth(7).wait_for()
    assert page.locator("#shown .name").first.inner_text() == "anger"
    box, frame = page.locator("#marked .box").bounding_box(), page.locator("#marked .annotated").bounding_box()
    assert .3 < (box["x"] + box["width"]/2 - frame["x"])/frame["width"] < .7 and .3 < box["width"]/frame["width"] < .6 # the face, not the image
    compared = ["PSR", "baseline"] if A.bundled_baseline() else ["PSR", "branch 1/2", "branch SR x2", "branch original"]
    assert page.locator("#small .rows .who").all_inner_texts() == compared
    assert page.locator("#small svg polyline").count() == len(compared)
    page.locator("#inside .cards li").nth(4).wait_for()
    assert page.locator("#inside h3").all_inner_texts() == ["The face", "After the STN", "Branch 1/2", "Branch SR x2", "Branch original"]
    assert not page.locator("#which").is_visible() and overflow(page) <= 0


@pytest.mark.slow
def test_page_chooses_between_faces(page, images):
    give(page, images/"two.png", "2 faces found")
    page.locator("#inside .cards li").nth(4).wait_for()
    shown = page.locator("#shown .verdict b")
    assert shown.inner_text() == "happiness"
    page.locator("#marked .box").nth(1).click()
    page.locator("#shown .verdict b", has_text="surprise").wait_for()
    page.locator("#marked .box").nth(1).and_(page.locator("[aria-pressed=true]")).wait_for()
    page.locator("#inside", has_text="surprise").wait_for()
    page.locator("#which input").nth(0).press(" ") # by keyboard
    page.locator("#shown .verdict b", has_text="happiness").wait_for()
    page.locator("#marked .box").nth(1).press("Enter")
    page.locator("#shown .verdict b", has_text="surprise").wait_for()
    page.locator("#inside", has_text="surprise").wait_for()
    page.get_by_label("Remove Image").click() # with the second face chosen: what is left of it may not come back as an error
    page.locator("#marked", has_text="No image yet").wait_for()
    give(page, images/"one.jpg", "1 face found")
    page.locator("#inside", has_text="anger").wait_for()
    assert not page.get_by_text("Error", exact=True).is_visible()


@pytest.mark.slow
def test_page_slider_changes_the_small_face_alone(page, images):
    give(page, images/"one.jpg", "1 face found")
    page.locator("#inside .cards li").nth(4).wait_for()
    page.evaluate("document.querySelector('#shown ol').mark = document.querySelector('#inside ol').mark = 1")
    before = page.locator("#small").inner_html()
    slider = page.locator("#px input[type=range]")
    slider.focus()
    for _ in range(4): slider.press("ArrowLeft")
    page.locator("#small figcaption", has_text="20 × 20 pixels").wait_for()
    assert page.locator("#small").inner_html() != before
    assert page.evaluate("[document.querySelector('#shown ol').mark, document.querySelector('#inside ol').mark]") == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_page_slider_with_baseline_shows_both(browser, compared, images, width):
    context = browser.new_context(viewport=dict(width=width, height=900))
    context.set_default_timeout(1000*PATIENCE)
    page = context.new_page()
    page.goto(compared.url)
    give(page, images/"one.jpg", "1 face found")
    page.locator("#inside .cards li").nth(4).wait_for()
    seen, told = A.predict_upload(compared.models, A.read_upload(images/"one.jpg")), {}
    slider = page.locator("#px input[type=range]")
    slider.focus()
    for px, steps in ((24, 0), (16, 8)):
        for _ in range(steps): slider.press("ArrowLeft")
        page.locator("#small figcaption", has_text=f"{px} × {px} pixels").wait_for()
        assert page.locator("#small .rows .who").all_inner_texts() == ["PSR", "baseline"] and page.locator("#small svg polyline").count() == 2
        told[px] = page.locator("#small .rows li").all_inner_texts()
        for text, (name, rows) in zip(told[px], A.at_sizes(compared.models, seen.crops[0], (px,)).items(), strict=True):
            label = max(rows[0], key=rows[0].get)
            assert name in text and label in text and A.percent(rows[0][label]) in text
    assert told[24] != told[16] and told[24][0].removeprefix("PSR") != told[24][1].removeprefix("baseline") # each network's own numbers, at each size
    assert overflow(page) <= 0
    context.close()


@pytest.mark.slow
def test_page_no_face_and_checkbox(page, images):
    give(page, images/"none.png", "No face found")
    assert page.locator("#marked img").is_visible() and not page.locator("#results").is_visible()
    page.get_by_label("the image is one face").check()
    page.locator("#say", has_text="1 face found").wait_for()
    page.locator("#shown .bars li").nth(7).wait_for()
    before = page.locator("#marked img").get_attribute("src")
    give(page, images/"crop.png", "1 face found")  # the message is that of the image before
    page.wait_for_function("old => document.querySelector('#marked img').getAttribute('src') != old", arg=before)
    box, frame = page.locator("#marked .box").bounding_box(), page.locator("#marked .annotated").bounding_box()
    assert abs(box["width"] - frame["width"]) < 2
    page.get_by_label("the image is one face").uncheck()


@pytest.mark.slow
def test_page_bad_files_get_a_message(page, images, tmp_path):
    for name,says in bad_files(tmp_path).items():
        if name != "empty.png":
            give(page, tmp_path/name, says)
            assert not page.locator("#results").is_visible()
            page.locator("#given img").wait_for(state="detached") # the bad file is taken away
    (tmp_path/"heavy.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(A.MAX_BYTES + 2**20))
    give(page, tmp_path/"heavy.png", "has 16 MB; give an image of up to 15 MB")
    (tmp_path/"notes.txt").write_text("no image")
    page.locator("#given input[type=file]").set_input_files(tmp_path/"notes.txt")
    page.get_by_text("Invalid file type").first.wait_for()
    give(page, images/"one.jpg", "1 face found")


@pytest.mark.slow
def test_page_on_a_phone_in_the_dark(browser, server, images):
    context = browser.new_context(viewport=dict(width=390, height=844), color_scheme="dark", has_touch=True, is_mobile=True)
    context.set_default_timeout(1000*PATIENCE)
    page = context.new_page()
    page.on("request", lambda r: ASKED.append(r.url))
    page.goto(server.url)
    give(page, images/"two.png", "2 faces found")
    page.locator("#inside .cards li").nth(4).wait_for()
    assert overflow(page) <= 0
    wide = page.evaluate("[...document.querySelectorAll('#results *, #marked *:not(.box span)')].filter(o => o.getBoundingClientRect().right > 391).map(o => o.className)")
    assert not wide
    def light(what): return sum(map(int, re.findall(r"\d+", page.evaluate("o => getComputedStyle(document.querySelector(o)).backgroundColor", what))[:3]))
    assert light("body") < 150
    context.close()


@pytest.mark.slow
def test_page_camera(page): # Chromium's own test pattern, mostly without a face
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("[...document.querySelectorAll('#given video')].some(o => o.readyState >= 2 && o.videoWidth)") # before the first frame, gradio takes no photo and says nothing
    page.get_by_label("capture photo").click()
    page.locator("#say", has_text="face").wait_for()
    assert page.locator("#marked img").is_visible()


@pytest.mark.slow
def test_page_video_gets_a_curve(page, tmp_path):
    from psr_fer.predict import VideoWriter
    film = VideoWriter(tmp_path/"film.mp4")
    for t in range(40):
        im = Image.new("RGB", (400, 300), "#b8c4c8")
        im.paste(draw_face("happiness" if t < 20 else "surprise", size=160, seed=1, yaw=0, rotation=0), (60 + t, 70))
        film.add(im, t/10)
    film.close()
    page.locator("#video button").first.click()
    page.locator("#film input[type=file]").set_input_files(tmp_path/"film.mp4")
    picture = page.locator("#curves img.film")
    picture.wait_for()
    assert picture.get_attribute("alt") == "Expressions of one person over time" and overflow(page) <= 0
    if shots := os.environ.get("PSR_SCREENSHOTS"): page.screenshot(path=f"{shots}/video.png", full_page=True)
    (tmp_path/"text.mp4").write_text("no film")
    page.locator("#film").get_by_label(re.compile("Clear|Remove")).first.click()
    page.locator("#film input[type=file]").set_input_files(tmp_path/"text.mp4")
    page.locator("#curves .wrong", has_text="cannot be read as a video").wait_for()


@pytest.mark.slow
def test_page_makes_no_request_elsewhere(server):
    assert len(ASKED) > 20
    assert not [o for o in ASKED if not o.startswith((server.url, "data:", "blob:"))]


@pytest.mark.slow
def test_page_end_removes_uploads(server): # the last one: it ends the server
    left = [o for o in server.temp.rglob("*") if o.is_file()]
    assert any(o.suffix in (".jpg", ".png") for o in left) # there was something to remove
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0, server.stdout.read()
    assert not list(server.temp.glob("psr_fer-app-*"))


@pytest.mark.slow
def test_run_app_taken_port(monkeypatch, tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'psr_fer[app]'")
    monkeypatch.setattr(A.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(A, "Predictor", lambda *_: pytest.fail("it loads weights before it says so"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(ValueError) as e: A.run_app(port=port, open_browser=False, block=False)
        said = re.fullmatch(rf"port {port} is taken by another program; port (\d+) is free: give --port (\d+)\.", str(e.value))
        assert said and said[1] == said[2] and A.port_problem(int(said[1])) == ""
    assert A.port_problem(port) == "" and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_run_app_port_taken_meanwhile(models, monkeypatch, tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'psr_fer[app]'")
    monkeypatch.setattr(A.tempfile, "tempdir", str(tmp_path))
    for o in (*A.OFFLINE, "GRADIO_TEMP_DIR"): monkeypatch.setenv(o, os.environ.get(o, "")) # put back afterwards
    with socket.socket() as s:
        def load(weights, detector): # somebody is quicker
            if s.getsockname()[1] == 0: s.bind(("127.0.0.1", port)); s.listen()
            return models["PSR"]
        with socket.socket() as o:
            o.bind(("127.0.0.1", 0))
            port = o.getsockname()[1]
        monkeypatch.setattr(A, "Predictor", load)
        with pytest.raises(ValueError, match=f"port {port} is taken by another program; port .* is free"): A.run_app("w", port=port, open_browser=False, block=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("weights,bundled,used", [(None, True, ["PSR", "baseline"]), (None, False, ["PSR"]), ("own", True, ["PSR"])])
def test_run_app_compares_bundled_weights(monkeypatch, tmp_path, weights, bundled, used):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'psr_fer[app]'")
    if bundled: save_model(Baseline("resnet18", size=32, pos=2), tmp_path/"baseline.safetensors", classes=EMOTIONS)
    assert A.bundled_baseline(tmp_path) == (tmp_path/"baseline.safetensors" if bundled else None)
    (tmp_path/"half").mkdir()
    (tmp_path/"half"/"baseline.safetensors").write_bytes(b"")
    assert A.bundled_baseline(tmp_path/"half") is None # without its description
    monkeypatch.setattr(A, "bundled_baseline", partial(A.bundled_baseline, tmp_path))
    monkeypatch.setattr(A, "Predictor", lambda o, detector="auto": o)
    for o in (*A.OFFLINE, "GRADIO_TEMP_DIR"): monkeypatch.setenv(o, os.environ.get(o, "")) # put back afterwards
    made = []
    def make(predictors): made.append(predictors); raise KeyError("enough") # the page itself is not needed
    monkeypatch.setattr(A, "make_app", make)
    with pytest.raises(KeyError): A.run_app(weights, port=0, open_browser=False, block=False)
    assert list(made[0]) == used and made[0]["PSR"] == weights
