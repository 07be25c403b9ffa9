"""Made-up copies of RAF-DB and AffectNet in all the layouts that people have.

Pictures are hard links to a few tiny ones, so that a tree with the official class counts takes seconds."""
import os
import random
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from psr_fer.emotions import EMOTIONS, ORDERS, TABLE3

RAFDB = {"train": TABLE3["rafdb","train"], "test": TABLE3["rafdb","test"]}
AFFECTNET = {"train": TABLE3["affectnet","train"], "test": TABLE3["affectnet","valid"]}
RAFDB_CODE = {o: i for i,o in enumerate(ORDERS["rafdb"]) if o} # 1 to 7
AFFECTNET_CODE = {o: i for i,o in enumerate(ORDERS["affectnet"])} # 0 to 7

def few(classes, train=10, test=5): # counts of a small tree
    return {"train": dict.fromkeys(classes, train), "test": dict.fromkeys(classes, test)}

class Linker:
    "Hard links to one file; a fresh copy of it before the file system's limit of links is reached."
    def __init__(self, source, limit=60_000): self.source, self.limit, self.n = str(source), limit, 1
    def __call__(self, dest):
        if self.n >= self.limit:
            fresh = f"{self.source}+"; shutil.copyfile(self.source, fresh); self.source, self.n = fresh, 1
        os.link(self.source, dest); self.n += 1

def picture(folder, size=(12,12), mode="RGB"): # -> Linker of a tiny JPEG in a hidden file of `folder`
    folder = Path(folder); folder.mkdir(parents=True, exist_ok=True)
    file = folder/f".picture{size[0]}x{size[1]}.jpg"
    Image.new(mode, size, 99).save(file, "JPEG")
    return Linker(file)

def write(file, lines):
    file = Path(file); file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file

def mixed(counts, seed=1): # [(split, number within the split, emotion)], classes in random order as in the releases
    out = []
    for split,by_class in counts.items():
        labels = [o for o,n in by_class.items() for _ in range(n)]
        random.Random(seed).shuffle(labels)
        out += [(split, i, o) for i,o in enumerate(labels, 1)]
    return out

# RAF-DB

def raf_name(split, i): return f"{split}_{i:0{5 if split == 'train' else 4}}" # train_00001, test_0001

def rafdb_list(dest, counts=RAFDB, base="", pictures="Image/aligned", boxes=False, key="EmoLabel/list_patition_label.txt"):
    "The release."
    base, faces = Path(dest)/base, mixed(counts)
    link, end = picture(dest, (40,40)), "_aligned.jpg" if "aligned" in pictures else ".jpg"
    (base/pictures).mkdir(parents=True)
    for split,i,_ in faces: link(f"{base}/{pictures}/{raf_name(split,i)}{end}")
    write(base/key, [f"{raf_name(split,i)}.jpg {RAFDB_CODE[o]}" for split,i,o in faces])
    if boxes:
        for split,i,_ in faces: write(base/f"Annotation/boundingbox/{raf_name(split,i)}_boundingbox.txt", [f"2.0 3.2 {22 + i % 9}.1 30.0 "])
    return Path(dest)

def rafdb_lists(dest, counts=RAFDB, codes=None):
    "Two lists with an order of their own."
    order = ("anger","disgust","fear","sadness","happiness","surprise","neutral")
    codes, faces, link = codes or {o: i for i,o in enumerate(order)}, mixed(counts), picture(dest)
    (Path(dest)/"Image/aligned_224").mkdir(parents=True)
    for split,i,_ in faces: link(f"{dest}/Image/aligned_224/{raf_name(split,i)}_aligned.jpg")
    for s in ("train","test"):
        write(Path(dest)/f"EmoLabel/{s}.txt", [f"{raf_name(split,i)}_aligned.jpg {codes[o]}" for split,i,o in faces if split == s])
    return Path(dest)

def rafdb_meta(dest, counts=RAFDB, folds=5, folder="aligned"):
    "A csv file with the names of the classes, the test split and five folds."
    faces, link, end = mixed(counts), picture(dest), "_aligned.jpg" if folder == "aligned" else ".jpg"
    (Path(dest)/folder).mkdir()
    for split,i,_ in faces: link(f"{dest}/{folder}/{raf_name(split,i)}{end}")
    write(Path(dest)/"raf-db-meta.csv", ["name,emotion_name,is_test,5_fold",
        *(f"{raf_name(split,i)}.jpg,{o.title()},{split == 'test'},{i % folds + 1 if split == 'train' else ''}" for split,i,o in faces)])
    return Path(dest)

def rafdb_folders(dest, counts=RAFDB, codes=RAFDB_CODE, splits=("train","test"), csvs=False, key=False, end="_aligned.jpg",
                  name=raf_name, base=""):
    "Class folders; `splits` are their names, `codes` what each class is called."
    base, faces, link = Path(dest)/base, mixed(counts), picture(dest)
    named = dict(zip(counts, splits, strict=True))
    for split in counts:
        for o in counts[split]: (base/named[split]/str(codes[o])).mkdir(parents=True)
    for split,i,o in faces: link(f"{base}/{named[split]}/{codes[o]}/{name(split,i)}{end}")
    if csvs:
        for s in counts:
            write(Path(dest)/f"{s}_labels.csv", ["image,label", *(f"{name(split,i)}{end},{codes[o]}" for split,i,o in faces if split == s)])
    if key: write(base/"list_patition_label.txt", [f"{raf_name(split,i)}.jpg {RAFDB_CODE[o]}" for split,i,o in faces])
    return Path(dest)

def rafdb_csv(dest, counts=RAFDB):
    "train_labels.csv and test_labels.csv, pictures in train/ and test/."
    faces, link = mixed(counts), picture(dest)
    for s in counts:
        (Path(dest)/s).mkdir()
        write(Path(dest)/f"{s}_labels.csv",
            ["image,label", *(f"{raf_name(split,i)}_aligned.jpg,{RAFDB_CODE[o]}" for split,i,o in faces if split == s)])
    for split,i,_ in faces: link(f"{dest}/{split}/{raf_name(split,i)}_aligned.jpg")
    return Path(dest)

def rafdb_suffix(dest, counts=RAFDB, codes=RAFDB_CODE, parted=False):
    "The label at the end of each file's name."
    faces, link = mixed(counts), picture(dest)
    for s in counts if parted else (): (Path(dest)/s).mkdir()
    for split,i,o in faces: link(f"{dest}/{split + '/' if parted else ''}{raf_name(split,i)}_{codes[o]}.jpg")
    return Path(dest)

def rafdb_parquet(dest, counts, named=True): # needs pyarrow
    "Parquet, one file for all splits (`named`) or one for each."
    import pandas as pd
    link = picture(dest); data, faces = Path(link.source).read_bytes(), mixed(counts)
    row = lambda split,i,o: dict(image=dict(bytes=data, path=f"{raf_name(split,i)}_aligned.jpg" if named else None), label=RAFDB_CODE[o])
    (Path(dest)/"data").mkdir()
    for s in [None] if named else counts:
        pd.DataFrame([row(*o) for o in faces if s in (None, o[0])]).to_parquet(Path(dest)/f"data/{s or 'train'}-00000-of-00001.parquet")
    return Path(dest)

# AffectNet

def digest(split, i): return f"{(i + 10**7*(split != 'train'))*2654435761:032x}" # looks like the hashes of the original file names
ORIGINAL = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"

def affectnet_original(dest, counts=AFFECTNET, others=None, files=True, folder="Manually_Annotated_file_lists/", size=(40,40)):
    "The original lists; `others` are faces without an expression: {split: {code: n}}. validation.csv has no header."
    faces, link = [(s, i, AFFECTNET_CODE[o]) for s,i,o in mixed(counts)], picture(dest, size)
    for split,by_code in (others or {}).items(): faces += [(split, 10**6 + k*10**5 + i, k) for k,n in by_code.items() for i in range(n)]
    lines = {"train": [ORIGINAL], "test": []}
    for split,i,k in faces:
        box = "-1,-1,-1,-1" if k == 10 else "4,5,30,31"
        lines[split].append(f"{i % 7}/{digest(split,i)}.jpg,{box},1.5;2;3.5;4,{k},-0.25,{-2 if k > 7 else 0.5}")
    write(Path(dest)/f"{folder}training.csv", lines["train"]); write(Path(dest)/f"{folder}validation.csv", lines["test"])
    for k in range(7): (Path(dest)/f"Manually_Annotated_Images/{k}").mkdir(parents=True)
    for split,i,_ in faces if files else (): link(f"{dest}/Manually_Annotated_Images/{i % 7}/{digest(split,i)}.jpg")
    return Path(dest)

def affectnet_npy(dest, counts=AFFECTNET, files=True, val="val_set", text=False):
    "The 2021 release."
    parts, link = {"train": Path(dest)/"train_set", "test": Path(dest)/val}, picture(dest, (30,30))
    for o in parts.values(): (o/"images").mkdir(parents=True); (o/"annotations").mkdir()
    note = {}
    for o,k in AFFECTNET_CODE.items():
        file = Path(dest)/f".{k}.npy"; np.save(file, np.array(str(k)) if text else np.array(k)); note[o] = Linker(file)
    for split,i,o in mixed(counts):
        note[o](f"{parts[split]}/annotations/{i}_exp.npy")
        if files: link(f"{parts[split]}/images/{i}.jpg")
    return Path(dest)

def _release_pictures(dest, faces, files, val): # pictures of the 2021 release, for lists derived from it
    link = picture(dest, (30,30))
    for part in ("train_set", val): (Path(dest)/part/"images").mkdir(parents=True)
    for split,i,_ in faces if files else (): link(f"{dest}/{'train_set' if split == 'train' else val}/images/{i}.jpg")

def affectnet_phase(dest, counts=AFFECTNET, files=True):
    "affectnet.csv."
    faces = mixed(counts); _release_pictures(dest, faces, files, "val_set")
    phase = {s: "train" if s == "train" else "val" for s in counts}
    rows = [f"{phase[s]},{phase[s]}_set/images/{i}.jpg,{AFFECTNET_CODE[o]}" for s,i,o in faces]
    write(Path(dest)/"affectnet.csv", ["phase,img_path,label", *rows])
    return Path(dest)

def affectnet_lists(dest, counts=AFFECTNET, files=True, codes=AFFECTNET_CODE, n=8):
    "train_annotations_8class.txt, or 7class with any order."
    faces = [o for o in mixed(counts) if o[2] in codes]; _release_pictures(dest, faces, files, "valid_set")
    for s,part in (("train","train"), ("test","valid")):
        write(Path(dest)/f"{part}_set/{part}_annotations_{n}class.txt", [f"{i}.jpg {codes[o]}" for split,i,o in faces if split == s])
    return Path(dest)

def affectnet_numbers(dest, counts=AFFECTNET, files=True):
    "train_set_annotation_without_lnd.csv."
    faces = mixed(counts); _release_pictures(dest, faces, files, "val_set")
    for s,part in (("train","train"), ("test","val")):
        write(Path(dest)/f"affectnet_annotations/{part}_set_annotation_without_lnd.csv",
            ["number,exp,val,aro", *(f"{i},{AFFECTNET_CODE[o]},0.1,-0.2" for split,i,o in faces if split == s)])
    return Path(dest)

def affectnet_folders(dest, counts=AFFECTNET, codes=AFFECTNET_CODE, splits=("train","val"), own_names=False):
    "Class folders; with `own_names` the pictures are called <label>_<folder>_<hash>.jpg."
    link, named = picture(dest, (30,30)), dict(zip(counts, splits, strict=True))
    for split in counts:
        for o in counts[split]: (Path(dest)/named[split]/str(codes[o])).mkdir(parents=True)
    for split,i,o in mixed(counts):
        link(f"{dest}/{named[split]}/{codes[o]}/{f'{AFFECTNET_CODE[o]}_{i % 9}_{digest(split,i)}' if own_names else i}.jpg")
    return Path(dest)

ALPHABETICAL = {o: i for i,o in enumerate(ORDERS["alphabetical"])}

def affectnet_yolo(dest, counts, yaml=False):
    "A detection copy: images and one text file of boxes per image."
    link, base = picture(dest, (24,24)), Path(dest)/"YOLO_format"
    for split in counts:
        for o in ("images","labels"): (base/split/o).mkdir(parents=True)
    for split,i,o in mixed(counts):
        link(f"{base}/{split}/images/image{i:07}.jpg")
        (base/split/f"labels/image{i:07}.txt").write_text(f"{ALPHABETICAL[o]} 0.5 0.5 1.0 0.9\n")
    if yaml:
        write(base/"data.yaml", ["train: train/images", f"nc: {len(EMOTIONS)}", f"names: {[o.title() for o in ORDERS['alphabetical']]}"])
    return Path(dest)

def affectnet_labels(dest, n=10, off=3):
    "Folders by name and labels.csv, which disagree about `off` pictures."
    link, lines = picture(dest, (24,24)), [",pth,label,relFCs"]
    for k,o in enumerate(EMOTIONS):
        (Path(dest)/o).mkdir()
        for i in range(n):
            link(f"{dest}/{o}/image{k*100 + i:07}.jpg")
            lines.append(f"{len(lines) - 1},{o}/image{k*100 + i:07}.jpg,{'surprise' if o == 'anger' and i < off else o},0.8")
    write(Path(dest)/"labels.csv", lines)
    return Path(dest)
