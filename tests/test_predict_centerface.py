"""CenterFace on scenes with faces at known places, levelled faces, and which detector is taken."""
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS
from psr_fer.predict import Predictor, annotate_faces, save_results
from psr_fer.predict import detect as D

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"benchmarks"))
import detect as B  # noqa: E402


@pytest.fixture(scope="module")
def centerface(): return D.CenterFace(threads=1)


@pytest.fixture(scope="module")
def synthetic(): return B.synthetic(24)


@pytest.fixture(scope="module")
def hopper():
    with cbook.get_sample_data("grace_hopper.jpg") as f: return Image.open(f).convert("RGB")


def middle(box): return (box[0] + box[2])/2, (box[1] + box[3])/2


@pytest.mark.parametrize("scene", [dict(), dict(tilt=30), dict(tilt=60), dict(size=16), dict(light=18), dict(crowd=12)], ids=str)
def test_centerface_finds_each_face_once(centerface, synthetic, scene):
    found, false, second, n = 0, 0, 0, 0
    for seed in range(3):
        im, truth, _ = B.make_scene(np.random.default_rng(seed), synthetic, B.Scene(**scene))
        hit, no, again = B.compare(D.find_boxes(centerface, np.asarray(im), .05), truth)
        found, false, second, n = found + hit, false + no, second + again, n + len(truth)
    assert n >= 15 and found >= .9*n and false <= 1 and second == 0


def test_centerface_photograph_at_any_angle(centerface, hopper):
    [face] = centerface(np.asarray(hopper))
    (x, y), side = middle(face.box), face.box[3] - face.box[1]
    assert abs(x - 265) < 25 and abs(y - 215) < 40 and 180 < side < 330 and abs(face.angle) < 15
    for angle in (-90, -40, 40, 90): # clockwise
        turned = hopper.rotate(-angle, expand=True)
        o, *more = centerface(np.asarray(turned)) # best first; a medal may pass for a tiny face
        assert len(more) <= 1
        want = D.map_back(np.array([x, y]), hopper.size, np.array(turned.size)/2, 1, angle)
        assert np.abs(np.array(middle(o.box)) - want).max() < 30 and abs(o.angle - face.angle - angle) < 20


def test_centerface_boxes_share_little(centerface, synthetic):
    im, _, _ = B.make_scene(np.random.default_rng(1), synthetic, B.Scene(crowd=20, size=50))
    boxes = [o.box for o in centerface(np.asarray(im))]
    assert len(boxes) >= 10
    for i, a in enumerate(boxes):
        for b in boxes[:i]: assert D.overlap(a, b) <= .4*min(D.overlap(a, a), D.overlap(b, b))


def test_centerface_grey_image_and_empty_scenes(centerface, synthetic):
    im, truth, _ = B.make_scene(np.random.default_rng(2), synthetic, B.Scene())
    assert B.compare(D.find_boxes(centerface, np.asarray(im.convert("L"))), truth)[0] >= 4
    for seed in range(3): assert centerface(np.asarray(B.make_scene(np.random.default_rng(seed), synthetic, B.Scene(crowd=0))[0])) == []


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 1, 3), (3, 3, 3), (100, 100)])
def test_centerface_odd_shapes(centerface, shape): assert centerface(np.zeros(shape, np.uint8)) == []


def test_auto_without_onnxruntime_is_haar(monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert D.detector_name(D.get_detector("auto")) == "haar"
    with pytest.raises(ImportError, match="pip install onnxruntime"): D.get_detector("centerface")


def test_bundled_detector_is_small_and_licensed():
    assert D.CENTERFACE.stat().st_size < 4e6
    licence = D.CENTERFACE.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in licence and "github.com/Star-Clouds/CenterFace" in licence


def test_cut_face_without_a_tilt_is_a_crop():
    im = draw_face("fear", size=96, seed=1)
    assert np.array_equal(D.cut_face(im, (10, 10, 70, 70)), im.crop((10, 10, 70, 70)))
    assert np.array_equal(D.cut_face(im, (10, 10, 70, 70), side=48), im.crop((10, 10, 70, 70)).resize((48, 48), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("angle", [-75, -30, 12, 45])
def test_cut_face_undoes_a_rotation(angle):
    im = draw_face("happiness", size=128, seed=3, rotation=0)
    level, again = (np.asarray(o, float) for o in (im.crop((32, 32, 96, 96)), D.cut_face(im.rotate(-angle, Image.Resampling.BICUBIC), (32, 32, 96, 96), angle)))
    assert np.abs(level - again).mean() < 6 < np.abs(level - level[:, ::-1]).mean() + 6


def test_predictor_levels_faces_with_landmarks(tmp_path):
    face = draw_face("happiness", size=96, seed=3, rotation=0)
    im = Image.new("RGB", (300, 200), "#b8c4c8")
    im.paste(face.rotate(-30, Image.Resampling.BICUBIC), (100, 50))
    def plain(a): return [(110, 60, 186, 136)]
    def marked(a): return [D.Detection((110, 60, 186, 136), .9, ((130.7, 78), (165.3, 98)))] # eyes 30 degrees off
    upright = Predictor(detector=plain, margin=0).predict(Image.fromarray(np.asarray(face)), detect=False)[0]
    (one,), (other,) = (Predictor(detector=o, margin=0).predict(im) for o in (plain, marked))
    assert one.box == other.box == (110, 60, 186, 136) and one.angle == 0 and other.angle == pytest.approx(30, abs=.1)
    assert one.probabilities != other.probabilities and upright.angle == 0
    p = Predictor(detector=marked, margin=0)
    np.testing.assert_array_equal(p.crop(im, other.box), p.crop(im, other.box, 0.))
    assert np.abs(p.crop(im, other.box, 30).astype(float) - p.crop(face, (10, 10, 86, 86))).mean() < 8
    save_results(tmp_path/"r.json", [p.predict(im)], p.classes)
    assert json.loads((tmp_path/"r.json").read_text())[0]["faces"][0]["angle"] == pytest.approx(30, abs=.1)
    assert np.any(np.asarray(annotate_faces(im, [other], top=0)) != np.asarray(annotate_faces(im, [one], top=0)))


def test_benchmark_prints_a_table(synthetic):
    row = dict(detector="x", condition="tilt", value=0, unit="degrees") | B.measure(lambda a: [], dict(synthetic=synthetic), B.Scene(crowd=2), 1)
    assert row["recall, synthetic"] == 0 and row["false_boxes"] == 0
    head, line, first = B.markdown([row]).splitlines()
    assert head.count("|") == line.count("|") == first.count("|") and first.startswith("| tilt 0 degrees | 0.00 |")


def wa_in_scenes(ferplus_root, tilt, n=70): # -> per face whether it was found, whether it was predicted correctly; the same faces and walls for every tilt
    from psr_fer.data.ferplus import ferplus_table
    table = ferplus_table(ferplus_root, check_files=False).split("test").df.sample(12*n, random_state=0)
    p, correct = Predictor(), []
    for i in range(n):
        im, truth = B.backdrop(np.random.default_rng(i), (640, 480)), []
        for k, row in enumerate(table.iloc[12*i:12*i + 12].itertuples()):
            x, y = 80 + 160*(k % 4), 80 + 160*(k//4)
            face, mask = B.cut_out(Image.open(Path(ferplus_root)/row.path), tilt*(-1)**k, 72)
            im.paste(face, (round(x - face.width/2), round(y - face.height/2)), mask)
            truth.append(((x - 36, y - 36, x + 36, y + 36), row.label))
        faces = p.predict(im)
        for box, label in truth:
            hit = next((o for o in faces if B.on(o.box, box)), None)
            correct.append(np.nan if hit is None else hit.label == (label if isinstance(label, str) else EMOTIONS[label]))
    return np.array(correct, float)


@pytest.mark.slow
@pytest.mark.data
def test_faces_turned_by_30_degrees_are_predicted_as_upright_ones(ferplus_root):
    upright, turned = wa_in_scenes(ferplus_root, 0), wa_in_scenes(ferplus_root, 30)
    both = ~np.isnan(upright) & ~np.isnan(turned)
    assert both.mean() > .9
    assert abs(upright[both].mean() - turned[both].mean()) <= .02
