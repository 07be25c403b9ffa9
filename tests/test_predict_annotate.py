"""Annotated images."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from psr_fer.emotions import COLORS, EMOTIONS
from psr_fer.predict import annotate as A
from psr_fer.predict import annotate_faces
from psr_fer.predict.detect import overlap
from psr_fer.predict.predictor import Face


def some_face(box, label="happiness", p=1.): return Face(tuple(box), label, {o: p if o == label else (1 - p)/7 for o in EMOTIONS})


def test_annotate_faces_box_label_and_bars_in_colour():
    im = Image.new("RGB", (600, 600), "white")
    f = Face((200, 200, 400, 400), "anger", dict(anger=.7, fear=.2, **{o: .1/6 for o in EMOTIONS if o not in ("anger", "fear")}))
    a = np.asarray(annotate_faces(im, [f])).astype(int)
    def near(color): return abs(a - np.array([int(COLORS[color][i:i + 2], 16) for i in (1, 3, 5)])).max(-1) < 12
    assert near("anger")[200:400, 200:204].any() and near("anger")[150:200, 200:400].sum() > 500 # box, and label above it
    [(*_, (left, t, r, b))] = A._layout([f], [f.box], im.size, 3)
    assert t > 400
    below = [near(o)[t + 2:b - 2, left + 2:r - 2].sum() for o in ("anger", "fear")]
    assert 2.5 < below[0]/below[1] < 4.5 # bars as long as the probabilities: .7 to .2
    assert (np.asarray(im) == 255).all() and (a[250:350, 250:350] == 255).all() # a copy was annotated, and the face itself stays free


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_layout_labels_stay_inside_and_bars_cover_nothing(data):
    w, h = data.draw(st.integers(40, 1400)), data.draw(st.integers(40, 1400))
    def box(): # anywhere, inside
        s = data.draw(st.integers(8, min(w, h)))
        left, t = data.draw(st.integers(0, w - s)), data.draw(st.integers(0, h - s))
        return left, t, left + s, t + s
    boxes = [box() for _ in range(data.draw(st.integers(0, 6)))]
    faces = [some_face(b, EMOTIONS[i % 8]) for i, b in enumerate(boxes)]
    plan = A._layout(faces, boxes, (w, h), 3)
    for i, (letters, text, label, bars) in enumerate(plan):
        if label:
            assert 0 <= label[0] < label[2] <= w and 0 <= label[1] < label[3] <= h
            assert A._font(letters, True).getlength(text) < label[2] - label[0] # nothing is cut
        if bars:
            assert 0 <= bars[0] < bars[2] <= w and not any(overlap(bars, o) for o in boxes[:i] + boxes[i + 1:])
            assert not any(overlap(bars, o[3]) for j, o in enumerate(plan) if o[3] and j != i)


@pytest.mark.parametrize("boxes,size,bars", [
    ([(20, 20, 190, 190)], (900, 600), 1), ([(710, 420, 880, 590)], (900, 600), 1), # corners
    ([(0, 0, 320, 320)], (320, 320), 1), # all of the image: a strip
    ([(66 + 300*(i % 4), 66 + 380*(i//4), 274 + 300*(i % 4), 274 + 380*(i//4)) for i in range(8)], (1280, 800), 8), # a group with room
    ([(65 + 70*i, 205, 105 + 70*i, 245) for i in range(8)], (640, 480), 0), # faces too small for bars
], ids=["left top", "right bottom", "fills", "group", "small"])
def test_layout_bars_where_they_have_room(boxes, size, bars):
    plan = A._layout([some_face(b, EMOTIONS[i % 8]) for i, b in enumerate(boxes)], boxes, size, 3)
    assert sum(bool(o[3]) for o in plan) == bars and all(o[2] for o in plan)


def test_annotate_faces_thin_strip_is_not_made_huge():
    for size in ((900, 2), (2, 900)): assert max(annotate_faces(Image.new("RGB", size), [some_face((0, 0, 2, 2))]).size) < 2500


def test_annotate_faces_without_bars_adds_no_strip():
    face, im = some_face((0, 0, 96, 96)), Image.new("RGB", (96, 96))
    assert annotate_faces(im, [face], top=0).size == (320, 320) and annotate_faces(im, [face]).size[1] > 320
    assert annotate_faces(im.convert("L"), []).mode == "RGB"


def test_percent_never_rounds_to_certainty():
    assert [A.percent(o) for o in (0, .001, .014, .996, 1)] == ["0%", "<1%", "1%", ">99%", "100%"]
