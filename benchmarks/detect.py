"""Recall and false boxes of the face detectors: python benchmarks/detect.py [--data ~/FERPlus] [--scenes 20] [--out results/bench-detect.json]

Faces are put into scenes at known places: test faces of FER+ (with --data) and synthetic ones, over crops of photographs without people, noise and
shapes. One condition changes at a time. A face is found if the middle of a box lies within .3 sides of its own and neither side is twice the other;
a false box lies on no face, a second box on one that was found already. FER+ crops end at chin and hairline, so these faces are harder than real ones. `--sheet FILE.png` draws scenes of synthetic faces with the boxes of each detector.
"""
import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS
from psr_fer.predict.annotate import turned_corners
from psr_fer.predict.detect import DETECTORS, find_boxes, find_faces, get_detector, overlap

CONDITIONS = dict( # name -> unit and values; everything else stays as in `Scene`
    tilt=("degrees", (0, 15, 30, 45, 60)), size=("pixels", (12, 16, 20, 24, 32, 48, 96, 200)),
    light=("%", (50, 18, 10)), blur=("% of the side", (2, 4, 6)), profile=("% of the width", (80, 60, 40)), crowd=("faces", (0, 12, 40)))


@dataclass
class Scene:
    "What a scene is like."
    tilt:float = 0 # degrees, to either side by chance
    size:float = 64 # side of a face, pixels
    light:float = 100 # share of the light, %
    blur:float = 0 # standard deviation, % of the side
    profile:float = 100 # width of a face seen from the side, %
    crowd:int = 5 # faces
    shape:tuple = (640, 480) # (width, height), pixels


@cache
def photographs(): # without people
    from sklearn.datasets import load_sample_images
    return [Image.fromarray(o) for o in load_sample_images().images]


def backdrop(rng, size): # RGB: a photograph, noise of all scales, or noise and shapes; always the same for the same rng
    kind, (w, h) = rng.integers(3), size
    if kind == 0: # a crop of 40 to 100 %
        im, share = photographs()[rng.integers(2)], rng.uniform(.4, 1)
        cut = [round(share*min(im.width, im.height*w/h)), round(share*min(im.height, im.width*h/w))]
        x, y = (rng.integers(a - b + 1) for a, b in zip(im.size, cut, strict=True))
        return im.crop((x, y, x + cut[0], y + cut[1])).resize(size, Image.Resampling.BICUBIC)
    noise = sum(np.asarray(Image.fromarray(rng.integers(0, 256, (max(2, h//k), max(2, w//k), 3), np.uint8)).resize(size, Image.Resampling.BICUBIC),
                           np.float32)*k**.7 for k in (4, 16, 64, 160))
    noise -= noise.min()
    im = Image.fromarray((255*noise/noise.max()).astype(np.uint8))
    pen = ImageDraw.Draw(im)
    for _ in range(rng.integers(15, 40) if kind == 2 else 0):
        x, y, a, b = (rng.uniform(0, o) for o in (w, h, w/4, h/4))
        (pen.ellipse, pen.rectangle)[rng.integers(2)]((x, y, x + a, y + b), fill=tuple(int(o) for o in rng.integers(0, 256, 3)))
    return im.filter(ImageFilter.GaussianBlur(1))


def cut_out(face, tilt, size, profile=100): # (RGB, mask) of a tilted face; its edges go on for a quarter of the side and fade, as hair, neck and wall would
    n = max(48, round(size))
    face = np.asarray(face.convert("RGB").resize((n, n), Image.Resampling.BICUBIC))
    more = n//4
    im = Image.fromarray(np.pad(face, ((more, more), (more, more), (0, 0)), "edge")).filter(ImageFilter.GaussianBlur(n/16))
    im.paste(Image.fromarray(face), (more, more))
    g, side = np.minimum(np.arange(im.width), np.arange(im.width)[::-1])/more, im.width
    face, mask = im, Image.fromarray((255*np.minimum(1, np.minimum(g[:, None], g[None, :]))**.5).astype(np.uint8))
    if profile < 100: # the far half is further away: its height shrinks with it
        w, far = round(side*profile/100), side*(100 - profile)/400
        corners = (((0, 0), (0, 0)), ((w, far), (side, 0)), ((w, side - far), (side, side)), ((0, side), (0, side))) # there, here
        rows = [o for (x, y), (u, v) in corners for o in ([x, y, 1, 0, 0, 0, -u*x, -u*y], [0, 0, 0, x, y, 1, -v*x, -v*y])]
        way = np.linalg.solve(np.array(rows, float), np.array([o for _, here in corners for o in here], float))
        face, mask = (o.transform((w, side), Image.Transform.PERSPECTIVE, way, Image.Resampling.BICUBIC) for o in (face, mask))
    both = [o.rotate(-tilt, Image.Resampling.BICUBIC, expand=True) for o in (face, mask)]
    return [o.resize([max(1, round(v*size/n)) for v in o.size], Image.Resampling.LANCZOS) for o in both]


def make_scene(rng, faces, s): # -> RGB image, the square (left, top, right, bottom) of each face, its index in `faces`
    im, places = backdrop(rng, s.shape), []
    for _ in range(200*s.crowd):
        if len(places) == s.crowd: break
        reach = .5*s.size*(abs(np.cos(np.radians(s.tilt))) + abs(np.sin(np.radians(s.tilt))))
        x, y = (rng.uniform(min(reach, o/2), max(o - reach, o/2)) for o in s.shape)
        if any(max(abs(x - u), abs(y - v)) < 2.3*reach for u, v, _ in places): continue # not one over the other
        i, tilt = int(rng.integers(len(faces))), s.tilt*rng.choice((-1, 1))
        face, mask = cut_out(faces[i], tilt, s.size, s.profile)
        im.paste(face, (round(x - face.width/2), round(y - face.height/2)), mask)
        places.append((x, y, i))
    if s.blur: im = im.filter(ImageFilter.GaussianBlur(s.size*s.blur/100))
    if s.light < 100: im = im.point(lambda v: round(v*s.light/100))
    n = s.size/2
    return im, [(x - n, y - n, x + n, y + n) for x, y, _ in places], [i for *_, i in places]


def on(box, face): # the centre of the box lies near that of the face, and neither side is twice the other
    (x, y, n), (u, v, m) = (((o[0] + o[2])/2, (o[1] + o[3])/2, o[2] - o[0]) for o in (box, face))
    return max(abs(x - u), abs(y - v)) < .3*m and .5 < n/m < 2


def compare(boxes, truth): # -> found, false, second
    found, false, second = set(), 0, 0
    for box in boxes:
        hits = [i for i, o in enumerate(truth) if on(box, o)]
        if new := [i for i in hits if i not in found]: found.add(new[0])
        elif hits or any(overlap(box, o) > .4*min(overlap(box, box), overlap(o, o)) for o in truth): second += 1
        else: false += 1
    return len(found), false, second


def measure(detect, kinds, scene, n, margin=.05):
    "Recall per kind of face, false and second boxes and milliseconds per scene."
    row, counts, spent = {}, np.zeros(2), []
    for k, (name, faces) in enumerate(kinds.items()):
        rng, found, faces_n = np.random.default_rng(k), 0, 0
        for _ in range(n):
            im, truth, _ = make_scene(rng, faces, scene)
            pixels, start = np.asarray(im), time.process_time()
            boxes = find_boxes(detect, pixels, margin)
            spent.append(1000*(time.process_time() - start))
            hit, *others = compare(boxes, truth)
            found, faces_n, counts = found + hit, faces_n + len(truth), counts + others
        row[f"recall, {name}"] = found/faces_n if faces_n else None
    false, second = counts/(n*len(kinds))
    return row | dict(false_boxes=false, second_boxes=second, ms=float(np.median(spent)))


def run(names, kinds, n, say=print): # -> list of rows, one per detector and value of a condition
    rows = []
    conditions = [("none", "", None), *((k, unit, v) for k, (unit, values) in CONDITIONS.items() for v in values), ("image", "1280 x 720", (1280, 720))]
    for name in names:
        detect = get_detector(name) if name != "centerface" else DETECTORS[name](threads=1)
        for what, unit, value in conditions:
            scene = Scene() if what == "none" else Scene(shape=value) if what == "image" else Scene(**{what: value})
            if what == "size" and value > 100: scene = replace(scene, crowd=2) # no room for more
            if what == "crowd" and value > 12: scene = replace(scene, size=40)
            rows.append(dict(detector=name, condition=what, value=value if what != "image" else unit, unit=unit) | measure(detect, kinds, scene, n))
            say(markdown(rows[-1:], head=len(rows) == 1 or rows[-2]["detector"] != name), flush=True)
    return rows


def markdown(rows, head=True): # table of one detector
    recalls = [k for k in rows[0] if k.startswith("recall")]
    def cell(v, form): return "" if v is None else format(v, form)
    lines = [f"| {rows[0]['detector']} | {' | '.join(recalls)} | false boxes per image | second boxes per image | ms |", "|---|" + "---|"*(len(recalls) + 3)] if head else []
    for r in rows:
        what = "as usual" if r["condition"] == "none" else f"image {r['value']}" if r["condition"] == "image" else f"{r['condition']} {r['value']} {r['unit']}"
        lines.append(f"| {what} | {' | '.join(cell(r[k], '.2f') for k in recalls)} | {r['false_boxes']:.2f} | {r['second_boxes']:.2f} | {r['ms']:.0f} |")
    return "\n".join(lines)


def sheet(path, names, columns=3): # scenes of synthetic faces with the boxes of each detector, a row per detector
    faces = synthetic(24)
    scenes = [Scene(crowd=8), Scene(tilt=35, size=80), Scene(size=16, crowd=10), Scene(tilt=70, size=72), Scene(light=18, crowd=8), Scene(profile=60, size=80)]
    out = Image.new("RGB", (columns*640, 480*len(names)*(-(-len(scenes)//columns))), "white")
    for j, name in enumerate(names):
        detect = get_detector(name)
        for i, scene in enumerate(scenes):
            im, _, _ = make_scene(np.random.default_rng(i), faces, scene)
            pen = ImageDraw.Draw(im)
            for box, angle in find_faces(detect, np.asarray(im), .05):
                pen.polygon(turned_corners(box, angle), outline=("#ffe14d", "#ff4d4d")[j % 2], width=3)
            what = ", ".join(f"{k} {v}" for k, v in vars(scene).items() if v != getattr(Scene, k))
            pen.text((6, 4), f"{name}: {what}", fill="white", stroke_width=2, stroke_fill="black", font_size=18)
            out.paste(im, (640*(i % columns), 480*(len(names)*(i//columns) + j)))
    out.save(path)


def synthetic(n): return [draw_face(EMOTIONS[i % 8], size=96, seed=i) for i in range(n)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=os.environ.get("PSR_FERPLUS"), help="folder with FER+; without it, synthetic faces only")
    p.add_argument("--detectors", nargs="+", default=["haar", "centerface"], choices=[*DETECTORS])
    p.add_argument("--scenes", type=int, default=20, help="scenes per condition and kind of face")
    p.add_argument("--out", type=Path, help="JSON file")
    p.add_argument("--sheet", type=Path, help="PNG file; draws scenes instead of counting")
    a = p.parse_args()
    if a.sheet: return sheet(a.sheet, a.detectors)
    kinds = dict(synthetic=synthetic(200))
    if a.data:
        from psr_fer.data.ferplus import ferplus_table
        table = ferplus_table(a.data, check_files=False).split("test")
        kinds["FER+"] = [Image.open(Path(table.root)/o) for o in table["path"][::4]]
    machine = f"{platform.processor() or platform.machine()}, one thread, processor time"
    rows = run(a.detectors, kinds, a.scenes)
    if a.out: a.out.write_text(json.dumps(dict(machine=machine, scenes=a.scenes, rows=rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__": main()
