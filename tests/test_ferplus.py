"""FER+: the paper's tables on the real files, every layout, and every kind of broken input with its sentence."""
import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from psr_fer.data.ferplus import FOLDERS, PROTOCOLS, USAGES, VOTES, ferplus_dls, ferplus_layout, ferplus_table, vote_labels
from psr_fer.data.table import SPLITS, DataError, class_counts, label_prior
from psr_fer.emotions import EMOTIONS, TABLE3, prior

HEAD = ["Usage", "Image name", *VOTES]


def votes(k, n=8): # n of ten for emotion k, the rest for neutral (or happiness when k is neutral)
    v = [0]*10
    v[k] = n
    v[1 if k == 0 else 0] += 10 - n
    return v


def make(root, layout="votes", per_class=2):
    "A small FER+ of one layout; returns rows as (usage, name, votes)."
    root.mkdir(parents=True, exist_ok=True)
    rows, pixels, i = [], [], 0
    for folder, usage in zip(FOLDERS, USAGES, strict=True):
        for k in range(8):
            for _ in range(per_class):
                name = f"fer{i:07}.png"
                rows.append((usage, name, votes(k)))
                face = np.full((48, 48), (37*i) % 256, np.uint8)
                pixels.append(face)
                if layout in ("votes", "folders"):
                    (root/folder).mkdir(exist_ok=True)
                    Image.fromarray(face).save(root/folder/name)
                if layout == "classes":
                    d = root/dict(Training="train", PublicTest="valid", PrivateTest="test")[usage]/EMOTIONS[k]
                    d.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(face).save(d/name)
                i += 1
    if layout in ("votes", "pixels"): write_new(root, rows)
    if layout == "pixels":
        with open(root/"fer2013.csv", "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["emotion", "pixels", "Usage"])
            for (usage, _, _), p in zip(rows, pixels, strict=True): w.writerow([0, " ".join(map(str, p.ravel())), usage])
    if layout == "folders": write_labels(root, rows)
    return rows


def write_new(root, rows, head=HEAD):
    with open(root/"fer2013new.csv", "w", newline="") as f: csv.writer(f).writerows([head, *([u, n, *v] for u, n, v in rows)])


def write_labels(root, rows):
    for folder, usage in zip(FOLDERS, USAGES, strict=True):
        with open(root/folder/"label.csv", "w", newline="") as f:
            csv.writer(f).writerows([n, "(0, 0, 48, 48)", *v] for u, n, v in rows if u == usage)


@pytest.mark.parametrize("layout", ["votes", "folders", "pixels", "classes"])
def test_every_layout_reads_to_the_same_faces(tmp_path, layout):
    make(tmp_path, layout)
    assert ferplus_layout(tmp_path) == layout
    t = ferplus_table(tmp_path)
    assert class_counts(t).to_numpy().tolist() == [[2, 2, 2]]*8
    assert set(t["width"]) == {48} and t.grey
    if layout != "classes": np.testing.assert_allclose(t[list(EMOTIONS)].sum(axis=1), 1)
    x, y = ferplus_dls(tmp_path, size=32, bs=4, soft=layout != "classes", augment=None)[1].one_batch()
    assert x.shape == (4, 3, 32, 32)
    if layout == "classes": return  # there, faces come by the folders' names
    want = (37*16 % 256/255 - .485)/.229
    assert abs(float(x[0, 0].mean()) - want) < 1e-4  # row 16 is the first of PublicTest
    assert y.tolist() == [0, 0, 1, 1]


def test_class_folders_by_digit_follow_the_column_order(tmp_path):
    make(tmp_path, "classes")
    for part in ("train", "valid", "test"):
        for k, e in enumerate(EMOTIONS): (tmp_path/part/e).rename(tmp_path/part/str(k))
    assert class_counts(ferplus_table(tmp_path)).to_numpy().tolist() == [[2, 2, 2]]*8


def test_label_csv_is_read_when_asked_for(tmp_path):
    rows = make(tmp_path, "votes")
    write_labels(tmp_path, [(u, n, votes(0)) for u, n, _ in rows])
    assert set(ferplus_table(tmp_path, labels="label.csv")["label"]) == {"neutral"}
    assert set(ferplus_table(tmp_path)["label"]) == set(EMOTIONS)


def slow_rule(protocol, v):
    "The rules once more, row by row, from their wording."
    v = list(v)
    if protocol == "microsoft":
        v = [o if o > 1 else 0 for o in v]
        k = v.index(max(v))
        return k if max(v) > sum(v)/2 and k < 8 else -1
    if protocol == "argmax":
        k = v.index(max(v))
        return k if k < 8 and sum(v) else -1
    top = max(v[:8])
    return v.index(top) if top > .4*sum(v) and top > v[8] and top > v[9] else -1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocols_equal_their_wording(protocol):
    rng = np.random.default_rng(0)
    v = np.stack([rng.multinomial(10, rng.dirichlet(np.full(10, .3))) for _ in range(3000)])
    got = vote_labels(v, protocol)
    assert got.tolist() == [slow_rule(protocol, o) for o in v]
    assert (got < 0).any() and (got >= 0).any()


# --- broken input: what is done to a sound FER+, and the words that the message must contain ---
def _csv(root, change): # rewrite fer2013new.csv cell by cell
    rows = list(csv.reader(open(root/"fer2013new.csv")))
    rows = change(rows)
    with open(root/"fer2013new.csv", "w", newline="") as f: csv.writer(f).writerows(rows)


def cell(row, col, value):
    def change(rows):
        rows[row - 1][col] = value
        return rows
    return lambda root: _csv(root, change)


def drop_usage(usage): return lambda root: _csv(root, lambda rows: [o for o in rows if o[0] != usage])


def truncate(root):
    p = root/"FER2013Train/fer0000003.png"
    p.write_bytes(p.read_bytes()[:-12])


BROKEN = {
    "missing picture": (lambda r: (r/"FER2013Train/fer0000001.png").unlink(),
        "fer2013new.csv, row 3: FER2013Train/fer0000001.png is missing on disk"),
    "picture is text": (lambda r: (r/"FER2013Valid/fer0000016.png").write_text("hello"),
        "fer0000016.png is not an image that can be read"),
    "empty picture": (lambda r: (r/"FER2013Test/fer0000032.png").write_bytes(b""), "fer0000032.png is not an image that can be read"),
    "truncated picture": (truncate, "fer0000003.png ends in the middle"),
    "negative votes": (cell(5, 3, "-2"), "row 5: fer0000003.png has a negative number of votes (-2)"),
    "votes all zero": (lambda r: _csv(r, lambda rows: [o if i != 6 else [*o[:2], *["0"]*10] for i, o in enumerate(rows)]),
        "row 7: all ten votes of fer0000005.png are zero"),
    "votes are words": (cell(4, 2, "many"), "row 4: the votes of fer0000002.png are not ten whole numbers"),
    "half a vote": (cell(4, 2, "7.5"), "are not ten whole numbers"),
    "unknown usage": (cell(2, 0, "Holdout"), "row 2: Usage 'Holdout' is none of Training, PublicTest, PrivateTest"),
    "row too short": (lambda r: _csv(r, lambda rows: [o if i != 3 else o[:-1] for i, o in enumerate(rows)]),
        "row 4: 11 columns instead of 12"),
    "column missing": (lambda r: _csv(r, lambda rows: [[c for j, c in enumerate(o) if j != 5] for o in rows]),
        "row 1: the header lacks sadness"),
    "columns in another order": (lambda r: _csv(r, lambda rows: [[o[1], o[0], *o[2:]] for o in rows]),
        "the columns must stand in the order Usage,Image name,neutral"),
    "header missing": (lambda r: _csv(r, lambda rows: rows[1:]), "the header lacks Usage, Image name"),
    "empty file": (lambda r: (r/"fer2013new.csv").write_text(""), "the header lacks Usage"),
    "header only": (lambda r: _csv(r, lambda rows: rows[:1]), "fer2013new.csv: has no rows"),
    "picture twice": (lambda r: _csv(r, lambda rows: [*rows, rows[1]]), "row 50: FER2013Train/fer0000000.png stands a second time"),
    "path leaves the folder": (cell(2, 1, "../../secret.png"), "../../secret.png leads out of the data folder"),
    "no test split": (drop_usage("PrivateTest"), "split test is empty"),
    "no validation split": (drop_usage("PublicTest"), "split valid is empty"),
    "no training split": (drop_usage("Training"), "split train is empty"),
    "pictures folder gone": (lambda r: shutil.rmtree(r/"FER2013Test"), "FER2013Test: none of the 16 images that are listed for this folder is there, such as FER2013Test/fer0000032.png"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")/"FERPlus"
    make(root, "votes")
    return root


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_gets_its_sentence(tmp_path, sound, case):
    root = tmp_path/"FERPlus"
    shutil.copytree(sound, root)
    breaks, words = BROKEN[case]
    breaks(root)
    with pytest.raises(DataError) as e: ferplus_table(root)
    assert words in str(e.value), str(e.value)
    assert "Traceback" not in str(e.value) and len(e.value.problems) >= 1


def test_not_there_and_not_ferplus(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"): ferplus_table(tmp_path/"nowhere")
    with pytest.raises(DataError, match="no FER\\+ here"): ferplus_table(tmp_path)
    with pytest.raises(ValueError, match="choose one of paper, microsoft, argmax"): ferplus_table(tmp_path, protocol="majority")
    with pytest.raises(ValueError, match="labels must be"): ferplus_table(tmp_path, labels="labels.csv")


def test_folders_without_one_label_file(tmp_path):
    make(tmp_path, "folders")
    (tmp_path/"FER2013Valid/label.csv").unlink()
    with pytest.raises(DataError, match="FER2013Valid/label.csv: is missing"): ferplus_table(tmp_path)


def test_pixel_table_that_does_not_match(tmp_path):
    make(tmp_path, "pixels")
    lines = (tmp_path/"fer2013.csv").read_text().splitlines()
    (tmp_path/"fer2013.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="has 47 rows and fer2013new.csv 48"): ferplus_table(tmp_path)
    lines[3] = "0,1 2 3,Training"
    (tmp_path/"fer2013.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="has a bad pixel row"): ferplus_table(tmp_path)


def test_skip_bad_drops_and_counts(tmp_path):
    make(tmp_path, "votes")
    for case in ("missing picture", "negative votes", "truncated picture"): BROKEN[case][0](tmp_path)
    with pytest.raises(DataError) as e: ferplus_table(tmp_path)
    assert len(e.value.problems) == 2  # the truncated picture's row is the one with negative votes: told once
    t = ferplus_table(tmp_path, skip_bad=True)
    assert len(t) == 46 and t.skipped == 2 and len(t.skipped_because) == 2


# --- the real thing ---
@pytest.mark.data
@pytest.mark.slow
def test_table3_and_table2_exactly(ferplus_root):
    t = ferplus_table(ferplus_root)
    counts = class_counts(t)
    assert {s: counts[s].to_dict() for s in SPLITS} == {s: TABLE3["ferplus", s] for s in SPLITS}
    assert counts.sum().tolist() == [25371, 3225, 3160]
    printed = [  # Table 2 as the paper prints it
        [.777,.033,.017,.114,.026,.007,.004,.021],
        [.043,.918,.023,.005,.004,.002,.002,.004],
        [.058,.036,.787,.010,.014,.003,.089,.002],
        [.170,.013,.009,.748,.023,.011,.016,.010],
        [.075,.025,.060,.032,.741,.035,.023,.009],
        [.090,.017,.017,.089,.125,.621,.008,.034],
        [.043,.012,.169,.073,.027,.013,.659,.004],
        [.148,.022,.010,.043,.034,.060,.006,.678]]
    d = label_prior(t)
    assert (d.round(3).to_numpy() == np.array(printed)).all()
    np.testing.assert_allclose(d, prior(dtype=np.float64), rtol=0, atol=1e-12)
    assert any("stand twice" in o for o in t.notes)


@pytest.mark.data
def test_microsoft_protocol_on_label_csv(ferplus_root):
    t = ferplus_table(ferplus_root, "label.csv", "microsoft", check_files=False)
    assert class_counts(t).sum().tolist() == [25045, 3191, 3137]
    assert class_counts(t)["test"].tolist() == [1083, 892, 394, 382, 269, 16, 86, 15]


@pytest.mark.data
@pytest.mark.parametrize("labels,protocol,want", [
    ("fer2013new.csv", "microsoft", [25060, 3199, 3153]), ("fer2013new.csv", "argmax", [28389, 3553, 3546]),
    ("label.csv", "paper", [25350, 3220, 3161]), ("label.csv", "argmax", [28385, 3555, 3545])])
def test_other_protocols(ferplus_root, labels, protocol, want):
    assert class_counts(ferplus_table(ferplus_root, labels, protocol, check_files=False)).sum().tolist() == want
