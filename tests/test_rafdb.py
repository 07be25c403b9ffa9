"RAF-DB: every layout, folds, and what is wrong with broken copies."
import shutil
import sys

import makers as m
import pandas as pd
import pytest
from PIL import Image

from psr_fer.data.rafdb import by_counts, code_names, face_id, is_rafdb, rafdb_dls, rafdb_layout, rafdb_table
from psr_fer.data.table import DataError, class_counts
from psr_fer.emotions import EMOTIONS7, ORDERS, TABLE3

SMALL = m.few(EMOTIONS7)
FROM_ZERO = {o: i - 1 for o,i in m.RAFDB_CODE.items()} # one way to count from 0 ...
OTHER_ZERO = {o: i for o,i in m.AFFECTNET_CODE.items() if o != "contempt"} # ... and another
VALID_FIRST = dict(counts=m.few(EMOTIONS7) | {"valid": dict.fromkeys(EMOTIONS7, 2)}, splits=("train","test","val"))

def counts_of(table): return {s: table.loc[table["split"] == s, "label"].value_counts().to_dict() for s in set(table["split"])}

# official counts in every layout

FULL = {
    "release": (m.rafdb_list, {}, "as released"),
    "two lists from 0": (m.rafdb_lists, {}, "told by their counts"),
    "csv with emotion_name": (m.rafdb_meta, {}, "by name"),
    "folders 1-7 and csv": (m.rafdb_folders, dict(csvs=True, base="DATASET"), "told by their counts"),
    "folders 1-7, test called val, names lost": (m.rafdb_folders, dict(splits=("train","val"), name=lambda s,i: f"{i:06}"),
        "told by their counts"),
    "folders 0-6 in the release's order": (m.rafdb_folders, dict(codes=FROM_ZERO), "told by their counts"),
    "folders 0-6 in another order": (m.rafdb_folders, dict(codes=OTHER_ZERO), "told by their counts"),
    "folders by name": (m.rafdb_folders, dict(codes={o: o.title() for o in EMOTIONS7}, splits=("Train","Test")), "by name"),
    "csv without folders": (m.rafdb_csv, {}, "told by their counts"),
    "label in the name": (m.rafdb_suffix, {}, "told by their counts"),
}

@pytest.mark.parametrize("layout", FULL)
@pytest.mark.slow
def test_official_counts(layout, tmp_path):
    make, options, how = FULL[layout]
    root = make(tmp_path, **options)
    t = rafdb_table(root, fold=None, check_files=False)
    assert class_counts(t)["train"].to_dict() == TABLE3["rafdb","train"]
    assert class_counts(t)["test"].to_dict() == TABLE3["rafdb","test"]
    assert class_counts(t).loc["sadness","test"] == 478 and len(t) == 12_271 + 3_068
    assert how in t.layout and t.classes == EMOTIONS7 and t.dataset == "rafdb"
    assert "12,271 + 3,068 faces, class by class as in Table 3." in t.notes
    assert all((root/p).is_file() for p in t["path"].iloc[::500])
    assert is_rafdb(root)
    shutil.rmtree(tmp_path)

@pytest.mark.slow
def test_official_release_with_its_pictures(tmp_path):
    t = rafdb_table(m.rafdb_list(tmp_path))
    assert class_counts(t).sum().to_dict() == dict(train=9816, valid=2455, test=3068)
    assert t["width"].eq(40).all() and t["height"].eq(40).all()
    shutil.rmtree(tmp_path)

VARIANTS = {
    "in basic/": (m.rafdb_list, dict(base="basic")),
    "in raf-basic/, list at its top": (m.rafdb_list, dict(base="raf-basic", key="list_patition_label.txt", pictures="aligned")),
    "in a folder of any name": (m.rafdb_list, dict(base="my copy")),
    "spelled right": (m.rafdb_list, dict(key="EmoLabel/list_partition_label.txt")),
    "originals": (m.rafdb_list, dict(pictures="Image/original")),
    "csv with emotion_name, originals": (m.rafdb_meta, dict(folder="train")),
    "train_set and val_set": (m.rafdb_folders, dict(splits=("train_set","val_set"))),
    "folders in DATASET/": (m.rafdb_folders, dict(base="DATASET")),
    "label in the name, two folders": (m.rafdb_suffix, dict(parted=True)),
    "name in the name": (m.rafdb_suffix, dict(codes={o: o for o in EMOTIONS7})),
}

@pytest.mark.parametrize("layout", VARIANTS)
def test_variants(layout, tmp_path):
    make, options = VARIANTS[layout]
    t = rafdb_table(make(tmp_path, SMALL, **options), fold=None)
    assert counts_of(t) == SMALL and t["width"].gt(0).all() and is_rafdb(tmp_path)

@pytest.mark.parametrize("named", [True, False])
@pytest.mark.slow
def test_parquet(named, tmp_path):
    pytest.importorskip("pyarrow")
    root = m.rafdb_parquet(tmp_path, m.RAFDB if named else SMALL, named)
    t = rafdb_table(root, fold=None, check_files=not named)
    assert counts_of(t) == (m.RAFDB if named else SMALL)
    assert (root/t["path"].iloc[-1]).read_bytes() == (root/".picture12x12.jpg").read_bytes() # unpacked as it was
    again = rafdb_table(root, fold=None, check_files=False) # unpacked once
    assert again["path"].tolist() == t["path"].tolist()

def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path/"train-00000.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None); monkeypatch.setattr("importlib.util.find_spec", lambda o: None)
    with pytest.raises(DataError, match=r"train-00000.parquet: reading parquet needs pyarrow; install it with `pip install pyarrow`\."):
        rafdb_table(tmp_path)

# what numbers mean

def test_digits_from_0_are_refused_unless_settled(tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, FROM_ZERO)
    with pytest.raises(DataError, match="numbered 0 to 6, which copies of RAF-DB do in different orders, "
                                        "and the counts do not tell which; pass --classes"):
        rafdb_table(root)
    for classes in (ORDERS["rafdb"][1:], ",".join(ORDERS["rafdb"][1:]), "rafdb", {i: o for o,i in FROM_ZERO.items()}):
        assert counts_of(rafdb_table(root, fold=None, classes=classes)) == SMALL
    assert rafdb_table(root, classes="fer2013").query("path.str.contains('/0/')")["label"].eq("anger").all()

def test_the_release_list_settles_digits(tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, OTHER_ZERO, key=True)
    t = rafdb_table(root, fold=None)
    assert counts_of(t) == SMALL and "told by list_patition_label.txt" in t.layout
    assert t.query("path.str.contains('/0/')")["label"].eq("neutral").all()
    name = next((root/"train/0").iterdir()).name
    (root/f"train/0/{name}").rename(root/f"train/5/{name}")
    with pytest.raises(DataError, match=f"train/5/{name} lies in folder 5, but list_patition_label.txt gives it label 7"): rafdb_table(root)
    assert len(rafdb_table(root, fold=None, skip_bad=True)) == 104

def test_digits_1_to_7_are_the_release(tmp_path):
    t = rafdb_table(m.rafdb_folders(tmp_path, SMALL), fold=None)
    assert counts_of(t) == SMALL and t.query("path.str.contains('/5/')")["label"].eq("sadness").all() and "as released" in t.layout

def test_counts_tell_only_when_complete():
    official = TABLE3["rafdb","train"]
    counts = {FROM_ZERO[o]: n for o,n in official.items()}
    assert by_counts(counts, official) == {i: o for o,i in FROM_ZERO.items()}
    assert by_counts({**counts, 3: counts[3] - 10}, official)[3] == "happiness" # a few lost files do not matter
    assert by_counts({**counts, 3: counts[3] - 100}, official) is None
    assert by_counts({**counts, 2: 705}, official) is None # two classes of the same size

def test_code_names():
    assert code_names(["neutral","fear"], {0,1}) == {0: "neutral", 1: "fear"}
    assert code_names(["neutral","fear"], {1,2}) == {1: "neutral", 2: "fear"}
    with pytest.raises(ValueError, match="'joyful' is not an expression"): code_names("joyful,fear", {0,1})

def test_face_id():
    names = pd.Series(["Image/aligned/train_00001_aligned.jpg", "x/test_0001_5.jpg", "train_00001.png", "a/b.c.jpg", "d"])
    assert face_id(names).tolist() == ["train_00001","test_0001","train_00001","b.c","d"]

# splits

def test_folds(tmp_path):
    tenth = {s: {o: n//10 for o,n in c.items()} for s,c in m.RAFDB.items()}
    root, total = m.rafdb_list(tmp_path/"a", tenth, base="basic"), sum(tenth["train"].values())
    held = {k: rafdb_table(root, fold=k, check_files=False) for k in range(5)}
    paths = [set(t.query("split == 'valid'")["path"]) for t in held.values()]
    assert len(set.union(*paths)) == sum(map(len, paths)) == total # disjoint, and together all of train
    for t in held.values():
        c = class_counts(t)
        assert c["test"].to_dict() == tenth["test"] and (c["train"] + c["valid"]).to_dict() == tenth["train"]
        assert (c["valid"] - (c["train"] + c["valid"])/5).abs().max() < 1 # every class is cut into equal fifths
    pd.testing.assert_frame_equal(rafdb_table(root, fold=2, check_files=False).df, held[2].df) # same seed, same folds
    assert set(rafdb_table(root, fold=2, seed=1, check_files=False).query("split == 'valid'")["path"]) != paths[2]
    other = rafdb_table(m.rafdb_folders(tmp_path/"b", tenth, end=".jpg"), fold=2, check_files=False) # another layout of the same faces
    ids = lambda t: set(face_id(t.query("split == 'valid'")["path"]))
    assert ids(other) == ids(held[2])

@pytest.mark.parametrize("options, message", [
    (dict(fold=5), "fold must be 0 to 4, or None for all of train, got 5"), (dict(fold=-1), "fold must be 0 to 4"),
    (dict(fold=1.), "fold must be 0 to 4"),
    (dict(n_folds=1), "n_folds must be a whole number of at least 2, got 1"),
    (dict(n_folds=11), "n_folds=11 needs a class with at least as many training faces; the largest has 10")])
def test_folds_out_of_range(options, message, tmp_path):
    with pytest.raises(ValueError, match=message): rafdb_table(m.rafdb_list(tmp_path, SMALL), **options)

def test_folds_of_a_copy(tmp_path):
    t = rafdb_table(m.rafdb_meta(tmp_path, SMALL), fold=3)
    number = face_id(t["path"]).str[-5:].str.extract(r"(\d+)$", expand=False).astype(int)
    assert set(number[t["split"] == "valid"] % 5) == {3} and "the folds are the copy's own (5_fold)." in t.notes
    assert (t["split"] == "valid").sum() == 14 and "fold" not in t
    assert "5_fold" not in " ".join(rafdb_table(tmp_path, fold=3, n_folds=4).notes)

def test_a_copy_with_three_splits_keeps_them(tmp_path):
    t = rafdb_table(m.rafdb_folders(tmp_path, **VALID_FIRST), fold=4)
    assert counts_of(t) == VALID_FIRST["counts"] and any("the copy's own; no fold was drawn" in o for o in t.notes)

def test_a_valid_split_that_is_the_test_split(tmp_path):
    t = rafdb_table(m.rafdb_folders(tmp_path, SMALL, splits=("train","valid"))) # by the names of its pictures
    assert class_counts(t).sum().to_dict() == dict(train=56, valid=14, test=35)
    assert t.query("split == 'valid'")["path"].str.startswith("train/").all()
    assert any("is RAF-DB's test split" in o for o in t.notes)

# sizes and boxes

def test_native_sizes(tmp_path):
    t = rafdb_table(m.rafdb_list(tmp_path/"a", SMALL, boxes=True), fold=None)
    number = face_id(t["path"]).str.extract(r"(\d+)$", expand=False).astype(int)
    assert (t["width"] == 20 + number % 9).all() and t["height"].eq(27).all() and "left" not in t
    assert rafdb_table(tmp_path/"a", fold=None, check_files=False)["width"].tolist() == t["width"].tolist()
    t = rafdb_table(m.rafdb_list(tmp_path/"b", SMALL, boxes=True, pictures="Image/original"), fold=None)
    assert t["left"].eq(2).all() and (t["width"] == t["right"] - t["left"]).all()
    (tmp_path/"b/Annotation/boundingbox/train_00003_boundingbox.txt").unlink()
    with pytest.raises(DataError, match="train_00003.jpg has no face box in Annotation/boundingbox"): rafdb_table(tmp_path/"b")
    m.write(tmp_path/"b/Annotation/boundingbox/train_00003_boundingbox.txt", ["0 0 90 20"])
    with pytest.raises(DataError, match=r"train_00003.jpg has a face box \(0, 0, 90, 20\) outside its 40 x 40 pixels"):
        rafdb_table(tmp_path/"b")
    (tmp_path/"a/Annotation/boundingbox/train_00003_boundingbox.txt").unlink() # aligned pictures do without
    t = rafdb_table(tmp_path/"a", fold=None)
    assert t.loc[face_id(t["path"]) == "train_00003", "width"].item() == 40 and any("1 of them have no box" in o for o in t.notes)

# broken copies: each kind with its sentence; n rows are dropped by skip_bad, None where nothing can be dropped

def broken(kind, d):
    key, pictures = d/"EmoLabel/list_patition_label.txt", d/"Image/aligned"
    lines = key.read_text().splitlines()
    def line(new, at=None): key.write_text("\n".join([*lines, new] if at is None else [*lines[:at], new, *lines[at:]]) + "\n")
    if kind == "a line without label": line("train_00099.jpg")
    elif kind == "a number that is no class": line("train_00099.jpg 8", 3)
    elif kind == "a label that is no number": line("train_00099.jpg bored", 3)
    elif kind == "a class that RAF-DB lacks": line("train_00099.jpg contempt", 3)
    elif kind == "a row twice": line(lines[0])
    elif kind == "a face with two labels": line(f"train_00001.jpg {int(lines[0][-1]) % 7 + 1}")
    elif kind == "a name without split": line("face_1.jpg 3")
    elif kind == "a path out of the folder": line("../../train_00001.jpg 3")
    elif kind == "an absolute path": line("/etc/train_00001.jpg 3")
    elif kind == "a missing picture": (pictures/"train_00002_aligned.jpg").unlink()
    elif kind == "a file that is no picture": replace(pictures/"test_0003_aligned.jpg", b"hello")
    elif kind == "an empty file": replace(pictures/"test_0003_aligned.jpg", b"")
    elif kind == "a picture cut off": replace(pictures/"train_00002_aligned.jpg", (pictures/"train_00002_aligned.jpg").read_bytes()[:-30])
    elif kind == "a name that is no picture's": line("train_00001.txt 3")
    elif kind == "no rows": key.write_text("\n")
    elif kind == "no text": key.write_bytes(b"\xff\x00\x80train")
    elif kind == "no test rows": key.write_text("\n".join(o for o in lines if o.startswith("train")))
    elif kind == "no pictures": shutil.rmtree(d/"Image")
    elif kind == "an empty face box": box(d, "9 9 9 20")
    elif kind == "a face box without numbers": box(d, "1 2 x 4")
    elif kind == "a face box of three numbers": box(d, "1 2 3")

def replace(file, data): file.unlink(); file.write_bytes(data) # the other links stay whole
def box(d, text): m.write(d/"Annotation/boundingbox/train_00001_boundingbox.txt", [text])

BROKEN = {
    "a line without label": (r"list_patition_label.txt, row 106: 'train_00099.jpg' is not a name and a label\.", 1),
    "a number that is no class": (r"list_patition_label.txt, row 4: .*train_00099_aligned.jpg has the label '8', "
        r"which is none of the class numbers 1 to 7\.", 1),
    "a label that is no number": (r"row 4: .* has the label 'bored', which is none of the class numbers 1 to 7\.", 1),
    "a class that RAF-DB lacks": (r"row 4: label 'contempt' is none of neutral, happiness", 1),
    "a row twice": (r"row 106: .*train_00001_aligned.jpg stands a second time; delete this row\.", 1),
    "a face with two labels": (r"row 1: .*train_00001_aligned.jpg stands more than once, with different labels or splits\.", 2),
    "a name without split": (r"row 106: face_1.jpg is not named train_... or test_..., so its split is not known\.", 1),
    "a path out of the folder": (r"row 106: .*train_00001_aligned.jpg leads out of the data folder; paths must stay inside it\.", 1),
    "an absolute path": (r"row 106: /etc/train_00001_aligned.jpg leads out of the data folder", 1),
    "a missing picture": (r"row \d+: Image/aligned/train_00002_aligned.jpg is missing on disk\.", 1),
    "a file that is no picture": (r"row \d+: Image/aligned/test_0003_aligned.jpg is not an image that can be read", 1),
    "an empty file": (r"test_0003_aligned.jpg is not an image that can be read", 1),
    "a picture cut off": (r"train_00002_aligned.jpg ends in the middle", 1),
    "a name that is no picture's": (r"row 106: .*train_00001_aligned.txt is no picture file\.", 1),
    "no rows": (r"list_patition_label.txt: is empty; each line should hold a picture's name and its label\.", None),
    "no text": (r"list_patition_label.txt: is not UTF-8 text; save it as plain text\.", None),
    "no test rows": (r"split test is empty; every split needs at least one face\.", None),
    "no pictures": (r"list_patition_label.txt: no folder of pictures beside it; expected Image/aligned or Image/original\.", None),
    "an empty face box": (r"train_00001_aligned.jpg has an empty face box \(9, 9, 9, 20\)\.", 1),
    "a face box without numbers": (r"Annotation/boundingbox/train_00001_boundingbox.txt does not hold four numbers\.", 1),
    "a face box of three numbers": (r"train_00001_boundingbox.txt does not hold four numbers\.", 1),
}

@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_release(kind, tmp_path):
    root = m.rafdb_list(tmp_path, SMALL)
    assert len(rafdb_table(root)) == 105 # whole before it is broken
    broken(kind, root)
    message, dropped = BROKEN[kind]
    with pytest.raises(DataError, match=message): rafdb_table(root)
    if dropped is None:
        with pytest.raises(DataError, match=message): rafdb_table(root, skip_bad=True)
    else:
        t = rafdb_table(root, skip_bad=True)
        assert t.skipped == dropped and not t["path"].str.contains("00099").any()
        assert len(t) in (104, 105)

def test_all_problems_are_told_at_once(tmp_path):
    root = m.rafdb_list(tmp_path, SMALL)
    for kind in ("a missing picture", "a file that is no picture", "a number that is no class"): broken(kind, root)
    with pytest.raises(DataError, match="3 problems in the data") as e: rafdb_table(root)
    assert {o.row is not None for o in e.value.problems} == {True} and len(e.value.problems) == 3
    t = rafdb_table(root, skip_bad=True)
    assert len(t) == 103 and t.skipped == 3 and len(t.skipped_because) == 3

def test_damage_moves_no_face_between_folds(tmp_path):
    root = m.rafdb_list(tmp_path, SMALL)
    before = rafdb_table(root).set_index("path")["split"]
    for kind in ("a missing picture", "a file that is no picture", "a number that is no class"): broken(kind, root)
    after = rafdb_table(root, skip_bad=True).set_index("path")["split"]
    assert (after == before[after.index]).all()

FOLDERS = {
    "a file that is no picture": (lambda d: (d/"train/3/notes.txt").write_text("x"), r"train/3: train/3/notes.txt is no picture file\.", 1),
    "a picture beside the folders": (lambda d: Image.new("L", (9,9)).save(d/"train/loose.png"),
        r"train: train/loose.png lies in no class folder\.", 1),
    "a folder that is no class": (lambda d: (d/"train/3").rename(d/"train/bored"),
        r"train/bored/.* has the label 'bored', which is none of the class numbers 1 to 7", 10),
    "csv and folder disagree": (lambda d: swap(d, "train_labels.csv", 3),
        r"train/\d/train_00003_aligned.jpg lies in folder \d, but train_labels.csv \(row 4\) says 9\.", 1),
    "csv names a missing picture": (lambda d: append(d, "train_labels.csv", "train_00777.jpg,3"),
        r"train_labels.csv, row 72: train_00777.jpg is in no class folder\.", 1),
    "csv without its column": (lambda d: swap(d, "train_labels.csv", 0, "image,emotion"),
        r"train_labels.csv, row 1: column label missing; needed are image, label\.", None),
    "csv with a broken line": (lambda d: append(d, "train_labels.csv", "a,b,c"),
        r"train_labels.csv, row 72: the line has 3 cells instead of 2\.", 1),
    "csv with half a line": (lambda d: append(d, "train_labels.csv", "train_00777.jpg"),
        r"train_labels.csv, row 72: the line has 1 cell instead of 2\.", 1),
    "csv with an open quote": (lambda d: append(d, "train_labels.csv", '"a,3'),
        r"train_labels.csv(, row \d+)?: the line cannot be read as csv", None),
    "an empty csv": (lambda d: (d/"train_labels.csv").write_text(""),
        r"train_labels.csv: is empty; needed are the columns image, label\.", None),
    "two folders for one split": (lambda d: shutil.copytree(d/"test", d/"testing"),
        r"test and testing both look like the test split", None),
}
def swap(d, file, i, new=None):
    lines = (d/file).read_text().splitlines(); lines[i] = new or lines[i][:-1] + "9"; (d/file).write_text("\n".join(lines))
def append(d, file, line): (d/file).write_text((d/file).read_text() + line + "\n")

@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_broken_folders(kind, tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, csvs=kind.startswith(("csv","an empty")))
    assert len(rafdb_table(root)) == 105
    break_it, message, dropped = FOLDERS[kind]
    break_it(root)
    with pytest.raises(DataError, match=message): rafdb_table(root)
    if dropped: assert rafdb_table(root, skip_bad=True).skipped == dropped

def test_desktop_litter_is_no_problem(tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL)
    for o in (".DS_Store","Thumbs.db","._train_00001.jpg"): (root/"train/3"/o).write_text("x")
    assert len(rafdb_table(root)) == 105

def test_broken_meta(tmp_path):
    root = m.rafdb_meta(tmp_path, SMALL)
    swap(root, "raf-db-meta.csv", 2, "train_00002.jpg,Fear,maybe,1")
    with pytest.raises(DataError, match=r"raf-db-meta.csv, row 3: is_test is 'maybe' instead of True or False\."): rafdb_table(root)
    assert rafdb_table(root, skip_bad=True).skipped == 1

# what is no RAF-DB, or more than one

def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="there is no such folder; give the folder that holds RAF-DB"): rafdb_table(tmp_path/"nowhere")
    with pytest.raises(DataError, match="no RAF-DB here; expected are EmoLabel/list_patition_label.txt beside Image/aligned"):
        rafdb_table(tmp_path)
    assert not is_rafdb(tmp_path) and not is_rafdb(tmp_path/"nowhere")

def test_two_copies(tmp_path):
    for o in ("one","two"): m.rafdb_list(tmp_path/o, SMALL)
    with pytest.raises(DataError, match=r"holds more than one copy of RAF-DB \(one, two\); give the folder of the one you mean"):
        rafdb_table(tmp_path)
    (tmp_path/"two").rename(tmp_path/"basic") # the name that the release has
    assert rafdb_layout(tmp_path).base == tmp_path/"basic"

def test_a_valid_split_that_might_be_anything(tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, splits=("train","valid"), name=lambda s,i: f"{s[0]}{i}")
    with pytest.raises(DataError, match="neither names nor counts tell whether that is RAF-DB's test split; call its folder test if it is"):
        rafdb_table(root)

def test_a_valid_split_cut_from_train(tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, splits=("train","valid"), name=lambda s,i: f"train_{i + 500*(s == 'test'):05}")
    with pytest.raises(DataError, match="split test is empty"): rafdb_table(root)

@pytest.mark.parametrize("end", ["fer0000001", "Training_1", "12"])
def test_class_folders_of_others_are_not_taken_for_rafdb(end, tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, codes={o: o for o in EMOTIONS7}, name=lambda s,i: f"{end}{i}")
    assert not is_rafdb(root)

# DataLoaders

def test_dls(tmp_path):
    root = m.rafdb_list(tmp_path, SMALL)
    dls = rafdb_dls(root, fold=1, size=24, bs=8)
    x,y = dls.one_batch()
    assert x.shape == (8,3,24,24) and y.shape == (8,) and list(dls.vocab) == list(EMOTIONS7) and len(dls.loaders) == 3
    assert len(dls[2].dataset) == 35
    with pytest.raises(ValueError, match="fold must be a number, got None"): rafdb_dls(root, fold=None)
