"""The drawn faces: reproducible, well-formed, spread as they say, and posed as they say."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from psr_fer.data import synthetic as S
from psr_fer.data.ferplus import ferplus_table
from psr_fer.emotions import EMOTIONS

PLAIN = dict(rotation=0, yaw=0, shift_x=0, shift_y=0, zoom=1, blur=0, noise=0, light=0, exposure=1, warmth=0) # nothing but the face
FILES = {"FER2013Train", "FER2013Valid", "FER2013Test", "fer2013new.csv", "faces.csv", "synthetic.json"}


def pixels(im): return np.asarray(im, np.float32)


def contents(root): return {str(o.relative_to(root)): o.read_bytes() for o in Path(root).rglob("*") if o.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")/"faces"
    return root, S.synthetic_faces(root, n=96, seed=3, n_workers=0)


@pytest.mark.slow
def test_same_seed_same_bytes_for_any_number_of_workers(made, tmp_path):
    S.synthetic_faces(tmp_path/"two", n=96, seed=3, n_workers=2)
    assert contents(made[0]) == contents(tmp_path/"two")


def test_other_seed_other_faces():
    assert S.draw_face("fear", seed=0, size=48).tobytes() != S.draw_face("fear", seed=1, size=48).tobytes()
    assert S.face_row(5, seed=0) != S.face_row(5, seed=1)


@pytest.mark.slow
def test_a_larger_set_begins_with_the_same_faces(made, tmp_path):
    root, table = made
    few = S.synthetic_faces(tmp_path/"few", n=10, seed=3, n_workers=0)
    pd.testing.assert_frame_equal(few.df, table.iloc[:10])
    assert all((root/o).read_bytes() == (tmp_path/"few"/o).read_bytes() for o in few["path"])


def test_global_random_state_plays_no_part_and_is_left_alone():
    np.random.seed(1); a = S.face_row(7); before = np.random.random()
    np.random.seed(1); S.face_row(7); S.draw_face("anger", size=32); after = np.random.random()
    np.random.seed(2)
    assert S.face_row(7) == a and before == after


def test_files_are_those_of_ferplus(made):
    root, table = made
    assert {o.name for o in root.iterdir()} == FILES
    with open(root/"fer2013new.csv", newline="") as f: rows = list(csv.reader(f))
    assert ",".join(rows[0]) == "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    usage = dict(Training="FER2013Train", PublicTest="FER2013Valid", PrivateTest="FER2013Test")
    assert [f"{usage[r[0]]}/{r[1]}" for r in rows[1:]] == table["path"].tolist()
    votes = {r[1]: r[2:] for r in rows[1:]}
    listed = 0
    for folder in usage.values():
        for name,box,*v in csv.reader(open(root/folder/"label.csv", newline="")):
            w, h = Image.open(root/folder/name).size
            assert v == votes[name] and box == f"(0, 0, {w}, {h})" and len(v) == 10
            listed += 1
    assert listed == len(table) == 96


def test_pictures_are_whole_square_rgb_of_the_recorded_size(made):
    root, table = made
    assert sorted(table["path"]) == sorted(str(o.relative_to(root)) for o in root.rglob("*.png"))
    for path,w,h in table[["path","width","height"]].itertuples(index=False):
        with Image.open(root/path) as im:
            assert im.size == (w,h) and w == h and im.mode == "RGB" and im.format == "PNG"
            im.load()


def test_ten_votes_and_the_label_that_follows(made):
    root, table = made
    votes = pd.read_csv(root/"fer2013new.csv").iloc[:,2:].to_numpy()
    assert (votes.sum(1) == 10).all() and (votes >= 0).all()
    np.testing.assert_allclose(table[list(EMOTIONS)].to_numpy(), votes[:,:8]/10)
    assert table["label"].tolist() == [EMOTIONS[int(o.argmax())] for o in votes[:,:8]]
    assert .9 < (table["label"] == table["expression"]).mean() <= 1


@pytest.mark.parametrize("labels", ["fer2013new.csv", "label.csv"])
def test_the_reader_of_ferplus_reads_them(made, labels):
    root, table = made
    read = ferplus_table(root, labels=labels)
    mine = table.set_index("path").loc[read["path"]]
    for o in ("split", "label", "width", "height", *EMOTIONS): assert mine[o].tolist() == read[o].tolist(), o
    clear = table[list(EMOTIONS)].max(axis=1) > .4
    assert set(read["path"]) == set(table["path"][clear]) # the paper's rule, nothing else


def test_faces_csv_is_enough_to_draw_them_again(made):
    root, table = made
    for row in S.read_faces(root/"faces.csv").iloc[:6].to_dict("records"):
        assert S.render(row).tobytes() == Image.open(root/row["path"]).tobytes()
    assert {*S.ACTIONS, *"expression strength size rotation shift_x shift_y zoom yaw light blur noise skin".split()} <= set(table)


def test_sizes_spread_like_figure_1():
    size = np.array([S.draw_photo(np.random.default_rng([0,i]))["size"] for i in range(4000)])
    assert size.min() >= 23 and size.max() <= 1200
    assert 100 <= np.median(size) <= 110 and 115 < size.mean() < 145 # a long tail to the right
    assert .55 < (size < size.mean()).mean() < .75 and 0 < (size < 30).mean() < .05 and .002 < (size > 500).mean() < .03
    assert (np.diff(np.histogram(size, range(75,676,100))[0]) < 0).all() # the larger, the rarer


@pytest.mark.slow
@pytest.mark.parametrize("n,off", [(200, .03), (1200, .01)])
def test_classes_and_splits_keep_their_shares(n, off):
    rows = pd.DataFrame([S.face_row(i, seed=11)[0] for i in range(n)])
    for o,share in S.CLASS_MIX.items(): assert abs((rows["expression"] == o).mean() - share) < off
    for o,share in dict(train=.7, valid=.15, test=.15).items(): assert abs((rows["split"] == o).mean() - share) < off
    counts = pd.crosstab(rows["expression"], rows["split"]).to_numpy()
    assert counts.shape == (8,3) and counts.min() > 0
    assert .35 <= rows.loc[rows["expression"] != "neutral", "strength"].min() < .5 and rows["strength"].max() <= 1.1
    assert abs(sum(S.CLASS_MIX.values()) - 1) < 1e-9 and set(S.CLASS_MIX) == set(EMOTIONS) == set(S.EXPRESSIONS)


@pytest.mark.parametrize("shown", EMOTIONS)
def test_raters_see_what_is_shown_and_neutral_in_weak_faces(shown):
    k = EMOTIONS.index(shown)
    p = np.stack([S.vote_probabilities(shown, o) for o in (.35,.7,1.,1.1)])
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p >= 0).all() and (p.argmax(1) == k).all()
    if k: assert (np.diff(p[:3,k]) > 0).all() and (np.diff(p[:3,0]) < 0).all()


@pytest.mark.parametrize("shown", EMOTIONS[1:])
def test_an_expression_changes_the_picture_the_more_the_stronger(shown):
    for seed in (2,5):
        rest, weak, full = (pixels(S.draw_face(e, s, 96, seed, **PLAIN)) for e,s in (("neutral",1), (shown,.4), (shown,1)))
        assert np.abs(full-rest).mean() > np.abs(weak-rest).mean() > 0
        assert (np.abs(full-rest).max(2) > 40).mean() > .01 # more than one pixel in a hundred changes by a lot
        assert np.abs((full-rest)[:20]).mean() < 1 # hair and backdrop stay


def test_every_two_expressions_differ():
    for seed in (2,5):
        faces = [pixels(S.draw_face(e, 1, 96, seed, **PLAIN)) for e in EMOTIONS]
        apart = [np.abs(a-b).mean() for i,a in enumerate(faces) for b in faces[:i]]
        assert min(apart) > 1.5


def test_every_action_shows():
    rest = pixels(S.draw_face(size=96, seed=2, **{**PLAIN, **S.ACTIONS}))
    for act in S.ACTIONS:
        more = {"mouth_open": .5} if act in ("mouth_square","teeth_upper","teeth_lower","tongue") else {}
        base = pixels(S.draw_face(size=96, seed=2, **{**PLAIN, **S.ACTIONS, **more})) if more else rest
        moved = pixels(S.draw_face(size=96, seed=2, **{**PLAIN, **S.ACTIONS, **more, act: 1.}))
        assert np.abs(moved-base).max() > 20, act


def centre(a, r=.33): # pixels of the central disk
    n = len(a)
    y, x = np.mgrid[:n,:n]
    return a[(x-n/2)**2+(y-n/2)**2 < (r*n)**2]


@pytest.mark.parametrize("rotation", [-24, 12])
def test_recorded_rotation_is_the_rotation_in_the_picture(rotation):
    upright = S.draw_face("surprise", 1, 128, 2, **PLAIN)
    turned = pixels(S.draw_face("surprise", 1, 128, 2, **{**PLAIN, "rotation": rotation}))
    tried = list(range(-40, 41, 2))
    off = [np.abs(centre(pixels(upright.rotate(o, Image.BILINEAR))-turned)).mean() for o in tried]
    assert tried[int(np.argmin(off))] == rotation # counter-clockwise, as Pillow and the STN's affine count


def test_recorded_shift_and_zoom_are_those_in_the_picture():
    still = pixels(S.draw_face("anger", 1, 128, 2, **PLAIN))
    moved = pixels(S.draw_face("anger", 1, 128, 2, **{**PLAIN, "shift_x": 6/128, "shift_y": -4/128}))
    off = {(x,y): np.abs(centre(np.roll(still,(y,x),(0,1))-moved)).mean() for x in range(-8,9,2) for y in range(-8,9,2)}
    assert min(off, key=off.get) == (6,-4) # right, up
    large = S.draw_face("anger", 1, 160, 2, **PLAIN).crop((16,16,144,144)) # 160/128 = zoom 1.25 on the middle
    zoomed = pixels(S.draw_face("anger", 1, 128, 2, **{**PLAIN, "zoom": 1.25}))
    assert np.abs(centre(pixels(large)-zoomed)).mean() < .35*np.abs(centre(still-zoomed)).mean()


def test_positive_yaw_turns_the_nose_to_the_right_of_the_picture():
    def tongue(yaw): # columns of the tongue's red, which sits on the middle line
        a = pixels(S.draw_face("neutral", 1, 128, 2, **{**PLAIN, **S.ACTIONS, "mouth_open": .3, "tongue": 1., "yaw": yaw}))
        red = a[...,0]-a[...,1] > 95
        return np.nonzero(red)[1].mean()-64
    assert abs(tongue(0)) < 3 and tongue(25) > 8 and tongue(-25) < -8


def test_small_pictures_are_the_large_drawing_reduced():
    small, large = (S.draw_face("fear", 1, o, 4, **PLAIN) for o in (24,240))
    assert np.abs(pixels(small)-pixels(large.reduce(10))).mean() < 3
    lost = np.abs(pixels(small.resize((240,240), Image.BICUBIC))-pixels(large)).mean()
    assert lost > 2*np.abs(pixels(large.reduce(2).resize((240,240), Image.BICUBIC))-pixels(large)).mean()


@pytest.mark.parametrize("size", [8, 23, 128, 279, 281, 561])
def test_any_size_and_any_actions_can_be_drawn(size):
    rng = np.random.default_rng(size)
    acts = {o: float(rng.choice([-1.5,0,1.5])) for o in S.ACTIONS}
    look = {k: str(rng.choice(v)) for k,v in S._choices.items()}
    im = S.draw_face("contempt", 1, size, 1, rotation=float(rng.uniform(-180,180)), **acts, **look)
    assert im.size == (size,size) and pixels(im).std() > 5


def test_every_look_can_be_drawn_and_shows():
    for name,values in S._choices.items():
        extra = dict(beard="full") if name == "hair" else {}
        assert len({S.draw_face(size=48, seed=2, **{**PLAIN, **extra, name: o}).tobytes() for o in values}) == len(values), name


@pytest.mark.slow
def test_an_existing_set_is_reused_and_any_other_refused(tmp_path):
    root = tmp_path/"faces"
    S.synthetic_faces(root, n=6)
    before = {o: o.stat().st_mtime_ns for o in root.rglob("*")}
    S.synthetic_faces(root, n=6)
    assert {o: o.stat().st_mtime_ns for o in root.rglob("*")} == before
    other = dict(splits=(.8,.1,.1))
    for change,word in ((dict(n=7), "n 6 instead of 7"), (dict(n=6, seed=1), "seed 0 instead of 1"), (dict(n=6, **other), "splits")):
        with pytest.raises(ValueError, match=word): S.synthetic_faces(root, **change)
    mark = json.loads((root/S.MARK).read_text())
    (root/S.MARK).write_text(json.dumps({**mark, "version": 0}))
    with pytest.raises(ValueError, match="version 0 instead of"): S.synthetic_faces(root, n=6)
    assert len(S.synthetic_faces(root, n=7, overwrite=True)) == 7 and len(list(root.rglob("*.png"))) == 7
    next(root.rglob("*.png")).unlink()
    with pytest.raises(ValueError, match="lacks 1 of its 7 pictures"): S.synthetic_faces(root, n=7)
    assert [o.name for o in tmp_path.iterdir()] == ["faces"] # no temporary folder stays


def test_nothing_foreign_is_touched(tmp_path):
    (tmp_path/"mine").mkdir(); (tmp_path/"mine"/"photo.png").write_bytes(b"mine")
    (tmp_path/"file").write_text("mine")
    for o in ("mine", "file"):
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="something other than faces"): S.synthetic_faces(tmp_path/o, n=2, overwrite=overwrite)
    assert (tmp_path/"mine"/"photo.png").read_bytes() == b"mine" and (tmp_path/"file").read_text() == "mine"
    (tmp_path/"empty").mkdir()
    assert len(S.synthetic_faces(tmp_path/"empty", n=2)) == 2


def test_an_interrupted_run_leaves_nothing_and_keeps_the_old_set(tmp_path, monkeypatch):
    S.synthetic_faces(tmp_path/"old", n=3)
    old, drawn, render = contents(tmp_path/"old"), [], S.render
    def stop(p):
        drawn.append(1)
        if len(drawn) == 3: raise KeyboardInterrupt
        return render(p)
    monkeypatch.setattr(S, "render", stop)
    with pytest.raises(KeyboardInterrupt): S.synthetic_faces(tmp_path/"new", n=5, n_workers=0)
    drawn.clear()
    with pytest.raises(KeyboardInterrupt): S.synthetic_faces(tmp_path/"old", n=5, n_workers=0, overwrite=True)
    assert [o.name for o in tmp_path.iterdir()] == ["old"] and contents(tmp_path/"old") == old


@pytest.mark.parametrize("bad,word", [(dict(n=0), "n must lie in 1 to 9999999"), (dict(seed=-1), "seed must be 0 or more, got -1"),
    (dict(splits=(.5,.5)), "three shares"), (dict(splits=(.9,.9,-.8)), "three shares"), (dict(splits=(.5,.2,.2)), "add up to 1")])
def test_bad_wishes_are_refused_before_anything_is_written(tmp_path, bad, word):
    with pytest.raises(ValueError, match=word): S.synthetic_faces(tmp_path/"faces", **bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad,word", [(dict(expression="joyful"), "joyful"), (dict(size=4), "8 to 4096 pixels, got 4"),
    (dict(strength=3.), "got 3.0"), (dict(glases="round"), "no parameter 'glases'"),
    (dict(glasses="pink"), "none, round, square; got 'pink'")])
def test_bad_faces_are_refused(bad, word):
    with pytest.raises(ValueError, match=word): S.draw_face(**bad)


@pytest.mark.slow
def test_drawing_needs_no_torch():
    code = "import sys; from psr_fer.data.synthetic import draw_face; draw_face(size=32); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_contempt_lifts_one_corner_of_the_mouth_and_one_brow(side):
    p = S.face_params("contempt", 1, 96, 2)
    x, _, upper, lower, _ = S._lips(S.SimpleNamespace(**{**p, **S.ACTIONS, "smirk": float(side)}))
    left, right = upper[0], upper[-1] # y runs down
    assert side*(left-right) > .1 and (lower >= upper).all() and (np.diff(x) > 0).all()
    acts = [S.draw_actions(np.random.default_rng(o), "contempt", 1) for o in range(40)]
    assert all(o["smirk"]*o["brow_single"] > 0 and abs(o["smirk"]) > .8 for o in acts)
    assert 8 < sum(o["smirk"] > 0 for o in acts) < 32 # either side
