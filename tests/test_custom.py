"""Faces of one's own: what is read, what is refused and how, and the fine-tuning that users ask for."""
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psr_fer.data.custom import PICTURES, custom_dls, custom_layout, custom_table, draw_splits
from psr_fer.data.table import DataError


def face(path, seed=0, side=24, grey=False):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    a = np.random.default_rng(seed).integers(0, 255, (side, side) if grey else (side, side, 3), np.uint8)
    Image.fromarray(a).save(path)
    return path


def folders(root, names=("Happy", "bored"), n=12, **kwargs): # root/name/0.png ...
    for k, name in enumerate(names):
        for i in range(n): face(root/name/f"{i}.png", 100*k + i, **kwargs)
    return root


# pictures in one folder and a CSV
def listed(root, names=("Happy", "bored"), n=12, file="faces.csv", sep=",", encoding="utf-8", header=("path", "label"), extra=()):
    rows = []
    for k, name in enumerate(names):
        for i in range(n): rows.append((face(root/"pictures"/f"{k}-{i}.png", 100*k + i).relative_to(root).as_posix(), name))
    write(root/file, [header, *rows, *extra], sep, encoding)
    return rows


def write(file, rows, sep=",", encoding="utf-8"):
    with file.open("w", newline="", encoding=encoding) as f: csv.writer(f, delimiter=sep).writerows(rows)


def wrong(root, **kwargs): # the message, which is no longer than its problems
    with pytest.raises(DataError) as e: custom_table(root, **kwargs)
    return str(e.value)


def counts(table): return table.groupby(["label", "split"]).size().to_dict()


# what is read

def test_class_folders(tmp_path):
    t = custom_table(folders(tmp_path, ("Happy", "bored", "SAD"), 20))
    assert custom_layout(tmp_path) == "classes"
    assert t.classes == ("happiness", "sadness", "bored") # expressions first, in their own order
    assert counts(t) == {(c, s): n for c in t.classes for s, n in (("train", 14), ("valid", 3), ("test", 3))}
    for path, label in zip(t["path"], t["label"], strict=True): assert {"Happy": "happiness", "SAD": "sadness"}.get(path.split("/")[0], "bored") == label
    assert set(t["width"]) == set(t["height"]) == {24} and not t.grey
    assert "Happy is read as happiness." in t.notes and not any("bored" in o for o in t.notes)


def test_the_draw_follows_the_seed(tmp_path):
    folders(tmp_path, n=20)
    one, again, other = custom_table(tmp_path, 0), custom_table(tmp_path, 0), custom_table(tmp_path, 1)
    assert one["split"].tolist() == again["split"].tolist() != other["split"].tolist()
    assert counts(one) == counts(other)


@pytest.mark.parametrize("n,want", [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1]), (10, [6, 2, 2]), (100, [70, 15, 15])])
def test_each_class_is_split_alike(n, want):
    for seed in range(3):
        s = draw_splits(["a"]*n + ["b"]*50, [""]*(n + 50), seed)[:n]
        assert [(s == o).sum() for o in ("train", "valid", "test")] == want


def test_given_splits_stay(tmp_path):
    given = ["train"]*8 + ["valid"]*2 + [""]*5
    s = draw_splits(["a"]*15, given, 0)
    assert (s[8:10] == "valid").all() and (s == "valid").sum() == 2 and (s == "test").sum() == 2 # 15 % of thirteen


def test_split_folders(tmp_path):
    for part, n in (("Training", 14), ("val", 4), ("test", 3)): folders(tmp_path/part, n=n)
    t = custom_table(tmp_path)
    assert custom_layout(tmp_path) == "splits"
    assert counts(t) == {(c, s): n for c in ("happiness", "bored") for s, n in (("train", 14), ("valid", 4), ("test", 3))}
    assert all(p.startswith({"train": "Training", "valid": "val", "test": "test"}[s]) for p, s in zip(t["path"], t["split"], strict=True))


def test_split_folders_without_test(tmp_path):
    for part, n in (("train", 20), ("valid", 4)): folders(tmp_path/part, n=n)
    t = custom_table(tmp_path)
    assert counts(t) == {(c, s): n for c in ("happiness", "bored") for s, n in (("train", 17), ("valid", 4), ("test", 3))}
    assert (t["path"].str.startswith("valid/") == (t["split"] == "valid")).all() # the draw takes from train only


def test_folders_within_a_class_belong_to_it(tmp_path):
    folders(tmp_path)
    for i in range(5): face(tmp_path/"bored"/"anna"/f"{i}.JPG", 500 + i)
    face(tmp_path/"bored"/".thumbnails"/"0.png")
    (tmp_path/"bored"/"notes.txt").write_text("not a face")
    t = custom_table(tmp_path)
    assert (t["label"] == "bored").sum() == 17 and t["path"].str.contains("anna").sum() == 5


def test_unicode_names(tmp_path):
    names = ("gelangweilt – müde", "よろこび", "печаль")
    t = custom_table(folders(tmp_path, names))
    assert set(t.classes) == set(names)


def test_two_spellings_of_one_letter_are_one_name(tmp_path): # macOS writes u and two dots, others one letter
    listed(tmp_path, ("mu\u0308de", "m\u00fcde", "wach"), 6)
    with pytest.raises(DataError, match="wach has 6 faces"): custom_table(tmp_path)
    t = custom_table(tmp_path, least=5)
    assert t.classes == ("m\u00fcde", "wach") and (t["label"] == "m\u00fcde").sum() == 12


def test_grey_faces_stay_grey(tmp_path):
    assert custom_table(folders(tmp_path, grey=True)).grey


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv(tmp_path, sep, encoding):
    rows = listed(tmp_path, ("Ärger, leise", "x"), sep=sep, encoding=encoding)
    t = custom_table(tmp_path)
    assert custom_layout(tmp_path) == "csv" and t.classes == ("x", "Ärger, leise")
    assert dict(zip(t["path"], t["label"], strict=True)) == dict(rows)
    assert t["row"].tolist() == list(range(2, 26))


def test_csv_with_other_columns_and_capitals(tmp_path):
    listed(tmp_path, header=("Path", " Label "))
    file = tmp_path/"faces.csv"
    rows = [o.split(",") for o in file.read_text().split()]
    write(tmp_path/"faces.csv", [("id", "Path", "rater", " Label "),
        *((i, p, "anna", k) for i, (p, k) in enumerate(o for o in rows if len(o) == 2 and "png" in o[0]))])
    assert counts(custom_table(tmp_path))["bored", "train"] == 8


def test_csv_with_splits(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("path", "label", "split"),
        *((p, k, ("training", "VAL", "test")[i % 3]) for i, (p, k) in enumerate(rows))])
    assert counts(custom_table(tmp_path)) == {(c, s): 4 for c in ("happiness", "bored") for s in ("train", "valid", "test")}


def test_csv_per_split(tmp_path):
    rows = listed(tmp_path)
    (tmp_path/"faces.csv").unlink()
    for i, part in enumerate(("train", "val", "test")): write(tmp_path/f"{part}.csv", [("path", "label"), *rows[i::3]])
    t = custom_table(tmp_path)
    assert counts(t) == {(c, s): 4 for c in ("happiness", "bored") for s in ("train", "valid", "test")}
    assert set(t["source"]) == {"train.csv", "val.csv", "test.csv"}


def test_the_csv_itself_may_be_named(tmp_path):
    rows = listed(tmp_path, file="mine.csv")
    write(tmp_path/"other.csv", [("path", "label"), *rows[:3]])
    t = custom_table(tmp_path/"mine.csv")
    assert len(t) == 24 and t.root == tmp_path
    assert "mine.csv, other.csv all have the columns path and label" in wrong(tmp_path)


def test_paths_of_other_systems(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("path", "label"), *((p.replace("/", "\\"), k) for p, k in rows[:12]),
        *((tmp_path/p, k) for p, k in rows[12:])])
    assert sorted(custom_table(tmp_path)["path"]) == sorted(p for p, _ in rows)


def test_a_row_that_stands_twice_counts_once(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("path", "label"), *rows, *rows[:3]])
    t = custom_table(tmp_path)
    assert len(t) == 24 and any("3 rows stand more than once" in o for o in t.notes)


# what is refused

def test_too_few_faces(tmp_path):
    folders(tmp_path)
    face(tmp_path/"shy"/"0.png")
    message = wrong(tmp_path)
    assert "shy has 1 face; a class needs 10 or more" in message and "happiness has" not in message
    assert "shy has 1 face" in wrong(tmp_path, skip_bad=True) # nothing to skip


def test_too_few_faces_are_left_after_skipping(tmp_path):
    folders(tmp_path, n=10)
    (tmp_path/"bored"/"0.png").write_bytes(b"not a picture")
    assert "bored/0.png is not an image that can be read" in wrong(tmp_path)
    assert "bored has 9 faces; a class needs 10 or more" in wrong(tmp_path, skip_bad=True)


def test_a_class_that_is_not_in_train(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("path", "label", "split"), *((p, k, "test" if k == "bored" else "train") for p, k in rows)])
    assert "bored has no face in the split train" in wrong(tmp_path)


def test_bad_rows_are_named_with_file_and_row(tmp_path):
    rows = listed(tmp_path)
    for o in ("more", "bare"): face(tmp_path/"pictures"/f"{o}.png")
    (tmp_path/"pictures"/"0-3.png").write_bytes((tmp_path/"pictures"/"0-3.png").read_bytes()[:60])
    write(tmp_path/"faces.csv", [("path", "label"), *rows, ("pictures/none.png", "bored"), (rows[0][0], "bored"), ("", "bored"),
        ("pictures/bare.png", ""), ("../out.png", "bored"), ("pictures/more.png", "bored", "train", "4")])
    message = wrong(tmp_path)
    for row, text in ((5, "pictures/0-3.png"), (26, "pictures/none.png is missing on disk"),
                      (2, "more than once, with different labels"), (27, "more than once, with different labels"),
                      (28, "this row has no path"), (29, "pictures/bare.png has no label"),
                      (30, "leads out of the data folder"), (31, "has 4 columns, the header has 2")):
        assert any(f"faces.csv, row {row}: " in o and text in o for o in message.splitlines()), (row, text, message)
    assert "--skip-bad" in message
    t = custom_table(tmp_path, skip_bad=True)
    assert sorted(t["path"]) == sorted(p for p, _ in rows[1:] if p != "pictures/0-3.png") and t.skipped == 8


def test_a_row_that_ends_before_its_path(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("label", "path"), *((k, p) for p, k in rows), ("bored",)])
    assert "faces.csv, row 26: this row has no path" in wrong(tmp_path)


def test_wrong_split_names(tmp_path):
    rows = listed(tmp_path)
    write(tmp_path/"faces.csv", [("path", "label", "split"), *((p, k, "dev" if i == 4 else "") for i, (p, k) in enumerate(rows))])
    assert "faces.csv, row 6: split 'dev' is none of train, valid, test." in wrong(tmp_path)


@pytest.mark.parametrize("make,words", [
    (lambda d: None, "make one folder per class"),
    (lambda d: folders(d, ("happy",)), "has one class only (happy); give two or more"),
    (lambda d: write(d/"list.csv", [("file", "feeling"), ("a.png", "happy")]),
        "list.csv has the columns file, feeling; needed are path (or image, filename, file) and label"),
    (lambda d: write(d/"faces.csv", [("path", "label")]), "holds no row with a face"),
    (lambda d: listed(d, ("", "")), "has one class only (none has a name)"),
    (lambda d: folders(d, ("bored", "BORED")), "BORED and bored differ by small and capital letters only"),
    (lambda d: folders(d, ("left", "right")), "the class 'left' is called like a column of the table"),
    (lambda d: (d/"faces.csv").write_bytes("path,label\nä.png,müde\n".encode("latin-1")), "is no UTF-8 text"),
])
def test_what_cannot_be_read_gets_a_sentence(tmp_path, make, words):
    make(tmp_path)
    assert words in wrong(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    assert "there is no such folder" in wrong(tmp_path/"nowhere")


def test_photos_that_cannot_be_read_are_not_passed_over(tmp_path):
    folders(tmp_path)
    (tmp_path/"bored"/"IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert ".heic" in PICTURES and "bored/IMG_1.HEIC is not an image that can be read" in wrong(tmp_path)
    assert len(custom_table(tmp_path, skip_bad=True)) == 24


# what it is for

def test_dls(tmp_path):
    dls = custom_dls(folders(tmp_path, n=20), size=32, bs=4)
    x, y = dls.train.one_batch()
    assert x.shape == (4, 3, 32, 32) and set(y.tolist()) <= {0, 1}
    assert [len(o.dataset) for o in dls] == [28, 6, 6]


def colours(root): # three classes that a plain eye tells apart
    for k, name in enumerate(("よろこび", "Sad", "bored")):
        for i in range(14):
            a = np.full((40, 40, 3), 40, np.uint8)
            a[:, :, k] = 200 + np.random.default_rng(100*k + i).integers(0, 40, (40, 40))
            (root/name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(a).save(root/name/f"{i}.png")
    return root


@pytest.mark.parametrize("given", ["my faces", "my faces/list.csv"])
@pytest.mark.slow
def test_fine_tuning_from_the_shipped_weights(given, tmp_path, monkeypatch, capsys):
    "psr-fer train my-faces, one epoch; Predictor answers with the names of the folders."
    import sys

    from psr_fer.checkpoints import load_model
    from psr_fer.cli import main
    from psr_fer.predict import Predictor
    colours(tmp_path/"my faces")
    if given.endswith("csv"):
        pictures = sorted((tmp_path/"my faces").rglob("*.png"))
        rows = [(o.relative_to(tmp_path/"my faces").as_posix(), o.parent.name) for o in pictures]
        write(tmp_path/given, [("path", "label"), *rows], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["psr-fer", "train", given, "--out", "run", "--set", "epochs=1", "--set", "batch_size=8",
        "--set", "views_n=1"])
    with pytest.raises(SystemExit) as e: main()
    printed = capsys.readouterr()
    assert not e.value.code, printed.err
    shown = (printed.out + (tmp_path/"run"/"log.txt").read_text(encoding="utf-8")) if (tmp_path/"run"/"log.txt").exists() else printed.out
    assert "classes kept: sadness; fresh: bored, よろこび" in shown
    model, about = load_model(tmp_path/"run")
    start, _ = load_model("default")
    assert about["classes"] == ["sadness", "bored", "よろこび"]
    near = (model.low[0].state_dict()["features.0.weight"] - start.low[0].state_dict()["features.0.weight"]).abs().max()
    assert 0 < near < .1 # taken over, then trained
    faces = Predictor(tmp_path/"run").predict(sorted((tmp_path/"my faces"/"Sad").iterdir())[:2], detect=False)
    for o in faces:
        assert set(o[0].probabilities) == {"sadness", "bored", "よろこび"} and sum(o[0].probabilities.values()) == pytest.approx(1)
    metrics = json.loads((tmp_path/"run"/"metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["test"]["recall"]) == {"sadness", "bored", "よろこび"} and metrics["test"]["n"] == 6
