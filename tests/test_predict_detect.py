"""Finding faces."""
import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from psr_fer.data.synthetic import draw_face
from psr_fer.predict import detect as D

cv2 = pytest.importorskip("cv2")


def boxes_of(im, margin=.05): return D.find_boxes(D.HaarDetector(), np.asarray(im), margin)


def test_haar_several_faces_largest_first():
    im = Image.new("RGB", (420, 240), "#b8c4c8")
    places = ((20, 200, 1), (260, 130, 0))
    for x, s, seed in places: im.paste(draw_face("neutral", size=s, seed=seed, yaw=0, rotation=0), (x, 20))
    found = boxes_of(im)
    assert len(found) == 2 and all(isinstance(v, int) for o in found for v in o)
    for (left, t, r, b), (x, s, _) in zip(found, places, strict=True):
        assert r - left == b - t and x - .1*s <= left < r <= x + 1.1*s and 10 <= t < b <= 230 and r - left > .5*s


@pytest.mark.slow
def test_haar_photograph():
    with cbook.get_sample_data("grace_hopper.jpg") as f: im = Image.open(f).convert("RGB")
    [hopper] = boxes_of(im)
    assert np.allclose(hopper, (139, 93, 390, 344), atol=12)
    assert boxes_of(im.transpose(Image.Transpose.ROTATE_90)) == []
    [small] = boxes_of(im.resize((102, 120))) # enlarged before looking
    assert np.allclose(np.array(small)*5, hopper, atol=25)
    [mirrored] = boxes_of(im.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.allclose(im.size[0] - np.array(mirrored)[[2, 0]], np.array(hopper)[[0, 2]], atol=12)


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 1, 3), (3, 3, 3), (100, 100)])
def test_haar_odd_shapes(shape): assert D.HaarDetector()(np.zeros(shape, np.uint8)) == []


def test_haar_opencv_5(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ImportError, match="opencv-python-headless<5"): D.HaarDetector()


def test_get_detector_by_name():
    assert isinstance(D.get_detector("haar"), D.HaarDetector) and isinstance(D.get_detector(None), D.CenterFace)
    assert D.get_detector(len) is len
    with pytest.raises(ValueError, match="no detector is called 'mtcnn'; choose auto, centerface, haar, or pass a function"): D.get_detector("mtcnn")


def test_get_detector_auto_takes_the_best_installed(monkeypatch):
    def missing(): raise ImportError("pip install better-faces")
    monkeypatch.setattr(D, "DETECTORS", dict(better=missing, haar=D.HaarDetector))
    assert isinstance(D.get_detector("auto"), D.HaarDetector)
    with pytest.raises(ImportError, match="better-faces"): D.get_detector("better")
    monkeypatch.setattr(D, "DETECTORS", dict(better=missing))
    with pytest.raises(ImportError, match="better-faces"): D.get_detector("auto")


def test_find_boxes_with_scores_and_landmarks():
    def detector(a): return [D.Detection((0, 0, 10, 10), .8), D.Detection((20, 20, 60, 60), .9, ((30, 30), (50, 30))), (-30, -30, 10, 10)]
    assert D.find_boxes(detector, np.zeros((100, 100, 3), np.uint8)) == [(20, 20, 60, 60), (0, 0, 40, 40), (0, 0, 10, 10)]
