"AffectNet: every layout, the two tasks, and what is wrong with broken copies."
import shutil
import warnings
from pathlib import Path

import makers as m
import numpy as np
import pytest

from psr_fer.data.affectnet import affectnet_dls, affectnet_layout, affectnet_table, is_affectnet, read_exp
from psr_fer.data.rafdb import is_rafdb
from psr_fer.data.table import DataError, class_counts
from psr_fer.emotions import EMOTIONS, EMOTIONS7, ORDERS, TABLE3

SMALL, SMALL7 = m.few(EMOTIONS), m.few(EMOTIONS7)
# the original list has one more than Table 3
RELEASED = {"train": dict(TABLE3["affectnet","train"], happiness=134_416), "test": m.AFFECTNET["test"]}
TRAIN7 = {o: n for o,n in TABLE3["affectnet","train"].items() if o != "contempt"}
RAFDB_ORDER7 = {o: i - 1 for o,i in m.RAFDB_CODE.items()} # seven-class lists that count in RAF-DB's order
small_is_no_benchmark = pytest.mark.filterwarnings("ignore:this is not the AffectNet benchmark")
pytestmark = small_is_no_benchmark

def counts_of(table): return {s: table.loc[table["split"] == s, "label"].value_counts().to_dict() for s in set(table["split"])}
def no_contempt(counts): return {s: {o: n for o,n in c.items() if o != "contempt"} for s,c in counts.items()}

# official counts; files are looked at in the small copies below

FULL = {
    "original lists": (m.affectnet_original, RELEASED,
        dict(others={"train": {8: 33_088, 9: 11_645, 10: 82_415}, "test": {8: 500, 9: 500, 10: 500}})),
    "affectnet.csv": (m.affectnet_phase, m.AFFECTNET, {}),
    "8-class lists": (m.affectnet_lists, m.AFFECTNET, {}),
    "number and exp": (m.affectnet_numbers, m.AFFECTNET, {}),
    "2021 release": (m.affectnet_npy, m.AFFECTNET, {}),
    "class folders": (m.affectnet_folders, m.AFFECTNET, {}),
    "class folders, own names": (m.affectnet_folders, m.AFFECTNET, dict(own_names=True)),
}

@pytest.mark.parametrize("layout", [o if o == "affectnet.csv" else pytest.param(o, marks=pytest.mark.slow) for o in FULL])
def test_official_counts(layout, tmp_path):
    make, counts, options = FULL[layout]
    if make is not m.affectnet_folders: options = dict(options, files=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning) # the full counts are the benchmark
        t = affectnet_table(make(tmp_path, counts, **options), check_files=False)
    c = class_counts(t)
    assert (c["train"] + c["valid"]).to_dict() == counts["train"] and c["test"].eq(500).all() and len(c) == 8
    paper = {o: n for o,n in TABLE3["affectnet","train"].items() if o != "happiness"}
    assert (c["train"] + c["valid"]).drop("happiness").to_dict() == paper
    assert (c["valid"]/(c["train"] + c["valid"]) - .05).abs().max() < 5e-4 # stratified
    assert t.classes == EMOTIONS and t.dataset == "affectnet" and is_affectnet(tmp_path)
    assert ("told by their counts" in t.layout) == (layout != "class folders, own names")
    if layout == "original lists":
        notes = " ".join(t.notes)
        assert all(o in notes for o in ("left out: 33,588 none.", "left out: 12,145 uncertain.", "left out: 82,915 no face."))
    shutil.rmtree(tmp_path)

@pytest.mark.slow
def test_seven_class_lists_in_another_order(tmp_path):
    root = m.affectnet_lists(tmp_path, files=False, codes=RAFDB_ORDER7, n=7)
    t = affectnet_table(root, n_classes=7, valid_share=0, check_files=False)
    assert "told by their counts" in t.layout and t.classes == EMOTIONS7
    assert counts_of(t) == {"train": TRAIN7, "test": dict.fromkeys(EMOTIONS7, 500)} and len(t) == 283_901 + 3_500
    shutil.rmtree(tmp_path)

# every layout with its pictures

LAYOUTS = {
    "original": (m.affectnet_original, {}), "original, lists at the top": (m.affectnet_original, dict(folder="")),
    "npy": (m.affectnet_npy, {}), "npy, text in valid_set": (m.affectnet_npy, dict(text=True, val="valid_set")),
    "phase": (m.affectnet_phase, {}), "lists": (m.affectnet_lists, {}), "numbers": (m.affectnet_numbers, {}),
    "own names": (m.affectnet_folders, dict(own_names=True)),
    "own names, by name": (m.affectnet_folders, dict(own_names=True, codes={o: o for o in EMOTIONS}, splits=("train","valid"))),
    "folders by name": (m.affectnet_folders, dict(codes={o: o.title() for o in EMOTIONS}, splits=("Train","Test"))),
}

@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    make, options = LAYOUTS[layout]
    root = make(tmp_path, SMALL, **options)
    t = affectnet_table(root, valid_share=.1)
    c = class_counts(t)
    assert c["train"].eq(9).all() and c["valid"].eq(1).all() and c["test"].eq(5).all() and len(c) == 8
    size = 30 # cropped, or cut out by the face box
    assert t["width"].eq(size).all() and t["height"].eq(31 if "original" in layout else size).all()
    seven = affectnet_table(root, n_classes=7, valid_share=0)
    assert counts_of(seven) == no_contempt(SMALL) and "left out: 15 contempt (n_classes=7)." in seven.notes
    assert is_affectnet(root) and not is_rafdb(root)

def test_original_boxes(tmp_path):
    root = m.affectnet_original(tmp_path, SMALL, others={"train": {8: 3, 9: 2, 10: 4}})
    file = root/"Manually_Annotated_file_lists/training.csv"
    lines = file.read_text().splitlines()
    lines[1] = lines[1].replace(",4,5,30,31,", ",10,0,20,40,"); lines[2] = lines[2].replace(",4,5,30,31,", ",-1,-1,-1,-1,")
    file.write_text("\n".join(lines))
    t = affectnet_table(root, valid_share=0)
    first = t.query("source.str.endswith('training.csv') and row == 2")
    assert first[["left","top","right","bottom","width","height"]].to_numpy().tolist() == [[10,0,30,40,20,40]]
    assert t.notes[:4] == ["left out: 3 none.", "left out: 2 uncertain.", "left out: 4 no face.", "left out: 1 without face box."]
    assert len(t) == 119

def test_same_seed_same_split(tmp_path):
    root = m.affectnet_phase(tmp_path, SMALL)
    held = lambda **kw: set(affectnet_table(root, valid_share=.2, **kw).query("split == 'valid'")["path"])
    assert held() == held(seed=0) != held(seed=1) and len(held()) == 16
    lines = (root/"affectnet.csv").read_text().splitlines()
    (root/"affectnet.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert held() == held(seed=0) and len(held()) == 16
    assert not any(o.startswith("val_set") for o in held()) # what everybody tests on is never validated on

def test_seven_classes_keep_their_numbers(tmp_path):
    t = affectnet_table(m.affectnet_npy(tmp_path, SMALL), n_classes=7, valid_share=.1)
    assert "contempt" not in set(t["label"]) and t.classes == EMOTIONS7 and set(counts_of(t)) == {"train","valid","test"}
    assert class_counts(t)["valid"].eq(1).all()

# what numbers mean

@pytest.mark.parametrize("codes, classes",
    [(m.AFFECTNET_CODE, "affectnet"), (m.ALPHABETICAL, "alphabetical"), (m.ALPHABETICAL, ",".join(ORDERS["alphabetical"]))])
def test_digit_folders_are_refused_unless_settled(codes, classes, tmp_path):
    root = m.affectnet_folders(tmp_path, SMALL, codes)
    with pytest.raises(DataError, match="numbered 0 to 7, which copies of AffectNet do in different orders, "
                                        "and the counts do not tell which; pass --classes"):
        affectnet_table(root)
    t = affectnet_table(root, classes=classes, valid_share=0)
    assert counts_of(t) == SMALL and t.loc[t["path"].str.startswith(f"train/{codes['fear']}/"), "label"].eq("fear").all()

def test_seven_class_lists_are_refused_unless_settled(tmp_path):
    root = m.affectnet_lists(tmp_path, SMALL7, codes=RAFDB_ORDER7, n=7)
    with pytest.raises(DataError, match="numbered 0 to 6, which copies of AffectNet do in different orders"):
        affectnet_table(root, n_classes=7)
    t = affectnet_table(root, n_classes=7, classes="rafdb", valid_share=0)
    assert counts_of(t) == SMALL7
    with pytest.raises(DataError, match="there is no face of contempt in it; pass n_classes=7"): affectnet_table(root, classes="rafdb")

def test_the_release_wins_over_lists_derived_from_it(tmp_path):
    m.affectnet_lists(tmp_path, SMALL7, codes=RAFDB_ORDER7, n=7)
    m.affectnet_npy(tmp_path/"x", SMALL)
    shutil.copytree(tmp_path/"x/train_set/annotations", tmp_path/"train_set/annotations")
    shutil.copytree(tmp_path/"x/val_set/annotations", tmp_path/"valid_set/annotations")
    assert affectnet_layout(tmp_path).name == "npy"

# copies on Kaggle: not the benchmark

@pytest.mark.filterwarnings("default:this is not the AffectNet benchmark")
def test_yolo(tmp_path):
    counts = dict(SMALL, valid=dict.fromkeys(EMOTIONS, 3))
    root = m.affectnet_yolo(tmp_path/"a", counts)
    with pytest.raises(DataError, match="pass --classes .classes=. with the names in the order of the numbers, or the name of a known order: "
                                        "alphabetical for the copy on Kaggle"):
        affectnet_table(root)
    with pytest.warns(UserWarning, match=r"this is not the AffectNet benchmark: 104 \+ 40 faces; Table 3 has 287,651 \+ 4,000, "
                                         "so accuracies on it cannot be compared"):
        t = affectnet_table(root, classes="alphabetical")
    assert counts_of(t) == counts and "the validation split is the copy's own." in t.notes and is_affectnet(root)
    # data.yaml names the classes
    with pytest.warns(UserWarning): assert counts_of(affectnet_table(m.affectnet_yolo(tmp_path/"b", counts, yaml=True))) == counts

def test_yolo_without_test(tmp_path):
    counts = {"train": SMALL["train"], "valid": SMALL["test"]}
    t = affectnet_table(m.affectnet_yolo(tmp_path, counts), classes="alphabetical", valid_share=.1)
    assert class_counts(t).loc["fear"].to_dict() == dict(train=9, valid=1, test=5)

def test_folders_against_labels_csv(tmp_path):
    root = m.affectnet_labels(tmp_path)
    with pytest.raises(DataError, match="labels.csv: folders and labels.csv name different expressions for 3 of 80 pictures; "
                                        "pass --classes csv .classes='csv'. to believe the list, or --classes folders"):
        affectnet_table(root)
    count = lambda o: affectnet_table(root, classes=o, valid_share=.2)["label"].value_counts()
    assert count("csv")["surprise"] == 13 and count("folders")["surprise"] == 10
    t = affectnet_table(root, classes="csv", valid_share=.2)
    assert any("this copy has no test split" in o for o in t.notes) and set(t["split"]) == {"train","valid","test"}
    agreed = m.affectnet_labels(tmp_path/"b", off=0)
    assert affectnet_table(agreed, valid_share=.2)["label"].value_counts().eq(10).all()

# npy files

def test_npy_values(tmp_path):
    f = tmp_path/"1_exp.npy"
    for a in (np.array("7"), np.array(["7"]), np.array(b"7"), np.int64(7), np.float32(7), np.array([[7]], np.uint8),
              np.array("7", dtype=">U3")):
        np.save(f, a); assert float(read_exp(f)) == 7 == int(np.load(f).astype(float).item())
    np.lib.format.write_array(f.open("wb"), np.array(7), version=(2,0)); assert read_exp(f) == "7"

def test_npy_files_are_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self): return Path.touch, (tmp_path/"pwned",)
    root = m.affectnet_npy(tmp_path/"a", SMALL)
    file = root/"train_set/annotations/1_exp.npy"; file.unlink()
    np.save(file, np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="1_exp.npy does not hold one class number"): affectnet_table(root, valid_share=0)
    assert len(affectnet_table(root, skip_bad=True, valid_share=0)) == 119 and not (tmp_path/"pwned").exists()
    np.load(file, allow_pickle=True); assert (tmp_path/"pwned").exists() # it would have run

# broken copies: each kind with its sentence; n rows are dropped by skip_bad, None where nothing can be dropped

def edit(file, i, change): # line i (from 0) of a text file
    lines = file.read_text().splitlines(); lines[i] = change(lines[i]); file.write_text("\n".join(lines) + "\n")
def append(file, line): file.write_text(file.read_text() + line + "\n")
def anew(file, data): file.unlink(); file.write_bytes(data) # the other links stay whole
def array(file, a): file.unlink(); np.save(file, a, allow_pickle=True)
def cells(i, value): return lambda line: ",".join(value if k == i else o for k,o in enumerate(line.split(",")))
def boxed(*box): return lambda line: line.replace("4,5,30,31", ",".join(map(str, box)))

LIST = "Manually_Annotated_file_lists/training.csv"
def in_list(change): return m.affectnet_original, lambda d: edit(d/LIST, 3, change)
def picture_of(d): return d/"Manually_Annotated_Images"/(d/LIST).read_text().splitlines()[3].split(",")[0]
def note(d): return d/"train_set/annotations/5_exp.npy"

BROKEN = {
    "column missing": (m.affectnet_original, lambda d: edit(d/LIST, 0, lambda o: o.replace("expression", "emotion")),
        r"training.csv, row 1: column expression missing; needed are subDirectory_filePath, face_x", None),
    "unknown class": (*in_list(cells(6, "11")),
        r"training.csv, row 4: .* has the label '11', which is none of the class numbers 0 to 7\.", 1),
    "half a class": (*in_list(cells(6, "2.5")), r"training.csv, row 4: .* has the label '2.5'", 1),
    "no class": (*in_list(cells(6, "")), r"training.csv, row 4: .* has the label '', which is none", 1),
    "empty box": (*in_list(boxed(4, 5, 0, 31)), r"training.csv, row 4: the face box is empty; width and height must be at least 1\.", 1),
    "box without numbers": (*in_list(boxed("x", 5, 30, 31)), r"training.csv, row 4: the face box is not four numbers\.", 1),
    "box outside the picture": (*in_list(boxed(30, 30, 30, 36)),
        r"training.csv, row 4: .* has a face box \(30, 30, 60, 66\) outside its 40 x 40 pixels\.", 1),
    "box left of the picture": (*in_list(boxed(-20, 5, 30, 30)), r"training.csv, row 4: .* has a face box \(-20, 5, 10, 35\) outside", 1),
    "path out of the folder": (*in_list(cells(0, "../../etc/x.jpg")),
        r"training.csv, row 4: Manually_Annotated_Images/../../etc/x.jpg leads out of the data folder; paths must stay inside it\.", 1),
    "absolute path": (*in_list(cells(0, "/etc/x.jpg")), r"training.csv, row 4: /etc/x.jpg leads out of the data folder", 1),
    "drive of Windows": (*in_list(cells(0, "C:\\faces\\x.jpg")), r"training.csv, row 4: C:/faces/x.jpg leads out of the data folder", 1),
    "name that is no picture's": (*in_list(cells(0, "1/x.csv")),
        r"training.csv, row 4: Manually_Annotated_Images/1/x.csv is no picture file\.", 1),
    "row twice": (m.affectnet_original, lambda d: append(d/LIST, (d/LIST).read_text().splitlines()[3]),
        r"training.csv, row 82: .* stands a second time; delete this row\.", 1),
    "face with two labels": (m.affectnet_original,
        lambda d: append(d/LIST, cells(6, "0")((d/LIST).read_text().splitlines()[first_not_neutral(d)])),
        r"stands more than once, with different labels or splits\.", 2),
    "broken line": (m.affectnet_original, lambda d: append(d/LIST, "a," + ",".join("123456789") + ",b"),
        r"training.csv, row 82: the line has 11 cells instead of 9\.", 1),
    "half a line": (m.affectnet_original, lambda d: append(d/LIST, "3/x.jpg,4,5"),
        r"training.csv, row 82: the line has 3 cells instead of 9\.", 1),
    "missing picture": (m.affectnet_original, lambda d: picture_of(d).unlink(), r"training.csv, row 4: .* is missing on disk\.", 1),
    "unreadable picture": (m.affectnet_original, lambda d: anew(picture_of(d), b"no picture"),
        r"training.csv, row 4: .* is not an image that can be read", 1),
    "picture cut off": (m.affectnet_original, lambda d: anew(picture_of(d), picture_of(d).read_bytes()[:-20]),
        r"training.csv, row 4: .* ends in the middle", 1),
    "no text": (m.affectnet_original, lambda d: (d/LIST).write_bytes(b"subDirectory_filePath,expression\n\xff\xfe,1\n"),
        r"training.csv: is not UTF-8 text; save it as plain csv\.", None),
    "empty list": (m.affectnet_original, lambda d: (d/LIST).write_text(""),
        r"training.csv: is empty; needed are the columns subDirectory_filePath", None),
    "no validation rows": (m.affectnet_phase, lambda d: edit_all(d/"affectnet.csv", lambda o: not o.startswith("val,")),
        r"split test is empty; every split needs at least one face\.", None),
    "unknown phase": (m.affectnet_phase, lambda d: edit(d/"affectnet.csv", 2, cells(0, "dev")),
        r"affectnet.csv, row 3: phase 'dev' is neither train nor val\.", 1),
    "pickled object": (m.affectnet_npy, lambda d: array(note(d), np.array([1, "a"], dtype=object)),
        r"train_set/annotations/5_exp.npy: 5_exp.npy does not hold one class number \(objects are not unpickled\)\.", 1),
    "two numbers": (m.affectnet_npy, lambda d: array(note(d), np.array([1,2])), r"5_exp.npy does not hold one class number", 1),
    "no npy file": (m.affectnet_npy, lambda d: anew(note(d), b"3"), r"5_exp.npy is not an npy file that can be read\.", 1),
    "npy file cut off": (m.affectnet_npy, lambda d: anew(note(d), note(d).read_bytes()[:-4]),
        r"5_exp.npy is not an npy file that can be read\.", 1),
    "unknown class in an npy file": (m.affectnet_npy, lambda d: array(note(d), np.array("12")),
        r"5_exp.npy: train_set/images/5.jpg has the label '12', which is none of the class numbers 0 to 7\.", 1),
    "picture without annotation": (m.affectnet_npy, lambda d: note(d).unlink(),
        r"train_set/annotations/5_exp.npy: 5.jpg has no annotations/5_exp.npy\.", 1),
    "annotation without picture": (m.affectnet_npy, lambda d: (d/"train_set/images/5.jpg").unlink(),
        r"5_exp.npy: train_set/images/5.jpg is missing on disk\.", 1),
    "line without label": (m.affectnet_lists,
        lambda d: edit(d/"train_set/train_annotations_8class.txt", 6, lambda o: o.split()[0]),
        r"train_annotations_8class.txt, row 7: '7.jpg' is not a name and a label\.", 1),
    "number without column": (m.affectnet_numbers,
        lambda d: edit(d/"affectnet_annotations/val_set_annotation_without_lnd.csv", 0, lambda o: "id,exp,val,aro"),
        r"val_set_annotation_without_lnd.csv, row 1: column number missing; needed are number, exp\.", None),
    "name and folder disagree": (lambda d, c: m.affectnet_folders(d, c, own_names=True), lambda d: move(d),
        r"train/1/0_\S+.jpg lies in folder 1, but its name says 0\.", 1),
    "no contempt": (lambda d, c: m.affectnet_npy(d, no_contempt(c)), None, r"there is no face of contempt in it; pass n_classes=7\.", None),
}
def first_not_neutral(d): return next(i for i,o in enumerate((d/LIST).read_text().splitlines()) if i and o.split(",")[6] != "0")
def edit_all(file, keep): file.write_text("\n".join(o for o in file.read_text().splitlines() if keep(o)) + "\n")
def move(d): f = next((d/"train/0").iterdir()); f.rename(d/"train/1"/f.name)

@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_broken(kind, tmp_path):
    make, break_it, message, dropped = BROKEN[kind]
    root = make(tmp_path, SMALL)
    if break_it:
        assert len(affectnet_table(root, valid_share=0)) == 120 # whole before it is broken
        break_it(root)
    with pytest.raises(DataError, match=message): affectnet_table(root, valid_share=0)
    if dropped is None:
        with pytest.raises(DataError, match=message): affectnet_table(root, valid_share=0, skip_bad=True)
    else:
        t = affectnet_table(root, valid_share=0, skip_bad=True)
        assert t.skipped == dropped and len(t) in (119, 120)

YOLO = {
    "two faces": ("2 .5 .5 1 1\n3 .5 .5 1 1\n", r"it should hold one face, but holds 2\."),
    "no face": ("\n", r"it should hold one face, but holds 0\."),
    "box outside": ("2 .5 .5 1.5 1\n", r"the face box \[0.5, 0.5, 1.5, 1.0\] is outside the picture; its numbers must be in 0 to 1\."),
    "no box": ("2\n", r"it is not a class number and four numbers\."),
    "missing": (None, r"image0000001.jpg has no labels/image0000001.txt\."),
    "no picture": ("alone", r"YOLO_format/train/images/alone.jpg is missing on disk\."),
}

@pytest.mark.parametrize("kind", YOLO)
def test_broken_yolo(kind, tmp_path):
    root = m.affectnet_yolo(tmp_path, SMALL)
    text, message = YOLO[kind]
    label = root/"YOLO_format/train/labels/image0000001.txt"
    if text is None: label.unlink()
    elif text == "alone": (label.parent/"alone.txt").write_text("2 .5 .5 1 1\n")
    else: label.write_text(text)
    with pytest.raises(DataError, match="YOLO_format/train/labels/.*txt: " + message): affectnet_table(root, classes="alphabetical")
    assert affectnet_table(root, classes="alphabetical", skip_bad=True, valid_share=.2).skipped == 1

def test_all_problems_are_told_at_once(tmp_path):
    root = m.affectnet_npy(tmp_path, SMALL)
    for kind in ("pickled object", "picture without annotation"): BROKEN[kind][1](root) # the same face: annotation gone
    array(root/"train_set/annotations/7_exp.npy", np.array([1,2])); (root/"val_set/images/3.jpg").unlink()
    with pytest.raises(DataError, match="3 problems in the data"): affectnet_table(root, valid_share=0)
    assert len(affectnet_table(root, valid_share=0, skip_bad=True)) == 117

@pytest.mark.parametrize("options, message", [
    (dict(n_classes=6), "n_classes must be 8, or 7 without contempt; got 6"),
    (dict(valid_share=1.), "valid_share must be in 0 to 1, got 1.0"),
    (dict(valid_share=-.1), "valid_share must be in 0 to 1"),
    (dict(valid_share=.01), "a share of 0.01 of 80 training faces cannot hold every class")])
def test_options_out_of_range(options, message, tmp_path):
    with pytest.raises(ValueError, match=message): affectnet_table(m.affectnet_npy(tmp_path, SMALL), **options)

def test_what_is_wrong_is_told_before_what_cannot_be_drawn(tmp_path):
    root = m.affectnet_npy(tmp_path, SMALL); (root/"train_set/images/3.jpg").unlink()
    with pytest.raises(DataError, match="3.jpg is missing on disk"): affectnet_table(root, valid_share=.01)
    with pytest.raises(ValueError, match="cannot hold every class"): affectnet_table(root, valid_share=.01, skip_bad=True)

def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="there is no such folder; give the folder that holds AffectNet"):
        affectnet_table(tmp_path/"nowhere")
    with pytest.raises(DataError, match="no AffectNet here; expected are Manually_Annotated_file_lists/training.csv"):
        affectnet_table(tmp_path)
    assert not is_affectnet(tmp_path)

@pytest.mark.parametrize("name", ["fer{:07}", "train_{:05}", "Training_{}"])
def test_class_folders_of_others_are_not_taken_for_affectnet(name, tmp_path):
    root = m.rafdb_folders(tmp_path, SMALL, codes=m.AFFECTNET_CODE, name=lambda s,i: name.format(i))
    assert not is_affectnet(root)

def test_dls(tmp_path):
    root = m.affectnet_original(tmp_path, SMALL)
    dls = affectnet_dls(root, size=24, bs=8, valid_share=.1, cache=tmp_path/"cache")
    x,y = dls.one_batch()
    assert x.shape == (8,3,24,24) and y.shape == (8,) and list(dls.vocab) == list(EMOTIONS)
    assert [len(o.dataset) for o in dls.loaders] == [72,8,40]
    with pytest.raises(ValueError, match="valid_share must be above 0"): affectnet_dls(root, valid_share=0)


def test_read_folder_other_numbers_of_classes_are_an_error(tmp_path):
    from psr_fer.data.datasets import read_folder
    with pytest.raises(ValueError, match="n_classes=9; AffectNet has 8 classes, or 7 without contempt"): read_folder(tmp_path, n_classes=9)
