"""The page of `psr-fer app`: an image in, boxes and probabilities out, how they change with the size of the face, and a look inside.

Functions that know nothing of a browser come first; `make_app` and `run_app` need gradio (`pip install "psr_fer[app]"`).
"""
import base64, io, math, os, shutil, signal, socket, tempfile, threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
import numpy as np
from PIL import Image
from ..checkpoints import DEFAULT
from ..data.synthetic import draw_face
from ..emotions import IMAGENET_STATS, class_color
from ..predict import Predictor, Timeline, Tracker, open_image, percent, plot_timeline

__all__ = ["make_app", "run_app"]

MAX_PIXELS, MAX_BYTES, MAX_VIDEO = 40_000_000, 15*2**20, 500*2**20 # of an image, of a video
SIZES = (8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224) # pixels, of the curve
LIMITS = ("An expression is not a feeling: the label is what people would say they see in the image.",
          "Not for decisions about people, and not for medical use.") # where the weights' card has none
INTRO = """<h1>What does this face express?</h1>
<p>Drop an image or use the camera. The answer is what people would say they see in the image, not what somebody feels. \
Images stay on this computer and are deleted when the page ends.</p>"""
EMPTY = '<div class="empty"><b>No image yet</b>Its faces will be marked here, each with what it seems to express.</div>'
NO_FACE = 'No face found. Try an image in which a face looks towards the camera; if it is one face already, tick "the image is one face".'
OFFLINE = {"HF_HUB_OFFLINE": "1", **{f"GRADIO_{o}": "False" for o in ("ANALYTICS_ENABLED", "RUN_HISTORY", "SSR_MODE", "MCP_SERVER")}}

# ---- an upload and its predictions
def read_upload(path:str|Path)->Image.Image: # upright RGB; ValueError with one sentence when that is not possible
    file, limit = Path(path), f"million pixels; give one of up to {MAX_PIXELS/1e6:.0f} million."
    if not file.is_file(): raise ValueError("This image was removed after ten minutes; give it again.")
    if (n := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"This file has {n/2**20:.0f} MB; give an image of up to {MAX_BYTES/2**20:.0f} MB.")
    try:
        with Image.open(file) as im: n = im.width*im.height # from the head of the file: nothing is unpacked yet
    except Image.DecompressionBombError: raise ValueError(f"This image has more than {2*Image.MAX_IMAGE_PIXELS/1e6:.0f} {limit}") from None
    except Exception: raise ValueError("This file is not an image that can be read; give a JPEG, PNG or WebP file.") from None
    if n > MAX_PIXELS: raise ValueError(f"This image has {n/1e6:.0f} {limit}")
    try: return open_image(file).convert("RGB")
    except (OSError, ValueError): raise ValueError("This image is damaged and cannot be read; try another copy.") from None

def example()->Image.Image: # RGB, with two synthetic faces
    im = Image.new("RGB", (720, 420), "#b8c4c8")
    im.paste(draw_face("happiness", size=330, seed=1, yaw=0, rotation=0), (40, 45))
    im.paste(draw_face("surprise", size=210, seed=3, yaw=0, rotation=0), (455, 130))
    return im

def data_url(im:Image.Image, kind:str="PNG")->str: # the page needs no files
    im.save(out := io.BytesIO(), kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"

@dataclass
class Upload:
    "An image with its predictions, kept while the page shows it."
    image:str # data URL of a copy to show
    size:tuple # (width, height) in pixels, upright
    faces:list # of `Face`, largest first
    crops:list # per face a dict: model name -> (1,H,W) or (3,H,W) uint8
    chosen:int = 0 # index of the face whose results are shown
    cache:dict = field(default_factory=dict) # (what, index of the face) -> result

    def once(self, what:object, compute:Callable)->object:
        "Result of `compute` for the chosen face, computed on the first call only."
        if (key := (what, self.chosen)) not in self.cache: self.cache[key] = compute()
        return self.cache[key]

def first(predictors:dict)->Predictor: return next(iter(predictors.values()))

def predict_upload(predictors:dict, image:Image.Image, crop:bool=False)->Upload: # crop: the image is one face
    faces = first(predictors).predict(image, detect=not crop)
    crops = [{k: p.crop(image, o.box, o.angle) for k, p in predictors.items()} for o in faces]
    copy = image.copy()
    copy.thumbnail((1280, 1280))
    return Upload(data_url(copy, "JPEG"), image.size, list(faces), crops)

# ---- label, bars and caution
def top(probabilities:dict)->str: return max(probabilities, key=probabilities.get)
def ranked(probabilities:dict)->list: return sorted(probabilities.items(), key=lambda o: -o[1])
def color(label:str)->str: return f'style="--c:{class_color(label)}"' # for the style sheet
def named(label:str, p:float)->str: return f"<b>{escape(label)}</b> {escape(percent(p))}"

def bars(probabilities:dict)->str: # HTML, the most probable class first
    rows = (f'<li {color(k)}><span class="name">{escape(k)}</span><span class="track" aria-hidden="true"><i style="width:{100*p:.1f}%">'
            f'</i></span><span class="value">{escape(percent(p))}</span></li>' for k, p in ranked(probabilities))
    return f'<ol class="bars">{"".join(rows)}</ol>'

def caution(predictor:Predictor, label:str)->str: # how far a label of this model can be trusted
    test = predictor.card.get("test") or {}
    recall = {k: v for k, v in (test.get("recall") or {}).items() if v is not None} # None: no such face in the test split
    if not recall: return "These weights come without test results: it is not known how often they are right."
    if label not in recall: return f"No test face shows {label}: it is not known how often these weights find it."
    found = f"On {test.get('n', 0):,} test faces, these weights found {recall[label]:.0%} of those that people called {label}."
    rare = ", ".join(f"{k} ({v:.0%})" for k, v in sorted(recall.items(), key=lambda o: o[1]) if v < .5)
    return found + (f" They rarely find: {rare}." if rare else "")

def verdict(predictor:Predictor, upload:Upload)->str: # HTML
    face, n, (high, wide) = upload.faces[upload.chosen], len(upload.faces), predictor.size
    left, t, right, bottom = face.box
    size = (f"{f'Face {upload.chosen + 1} of {n}' if n > 1 else 'The face'} has {right - left} × {bottom - t} pixels in the image; "
            f"the network takes {wide} × {high}.")
    unsure = "" if face.confidence >= .5 else '<p class="unsure">No class has more than half of the probability: the model is not sure.</p>'
    return (f'<p class="verdict" {color(face.label)}>{named(face.label, face.confidence)}</p>{unsure}{bars(face.probabilities)}'
            f'<p class="note">{size} {escape(caution(predictor, face.label))}</p>')

def annotated_image(upload:Upload)->str: # HTML: boxes are buttons over the image, so their text stays legible on a phone
    (w, h), n, boxes = upload.size, len(upload.faces), []
    for i, face in enumerate(upload.faces):
        left, t, right, bottom = face.box
        said, chosen = f"{face.label} {percent(face.confidence)}", i == upload.chosen
        text = said if n == 1 else f"{i + 1} {said}" if n <= 6 else f"{i + 1}" # no room for more
        side = ("low " if t < .1*h else "") + ("right " if left + right > w else "") + ("on" if chosen else "") # stays inside the image
        place = f"left:{100*left/w:.2f}%;top:{100*t/h:.2f}%;width:{100*(right - left)/w:.2f}%;height:{100*(bottom - t)/h:.2f}%"
        boxes.append(f'<button type="button" class="box {side}" style="{place};--c:{class_color(face.label)}" '
                     f'aria-pressed="{str(chosen).lower()}" aria-label="Face {i + 1}: {escape(said)}" '
                     f'onclick="document.querySelectorAll(\'#which input\')[{i}]?.click()"><span>{escape(text)}</span></button>')
    width = max(1, round(w*min(900/w, 460/h, 6))) # fits on a screen; small images are enlarged
    return (f'<div class="annotated" style="max-width:{width}px"><img src="{upload.image}" alt="Your image, {n} faces marked">'
            f'{"".join(boxes)}</div>')

# ---- smaller and smaller
def curve_sizes(predictors:dict)->tuple: # pixels, up to what the largest of the networks takes
    side = max(min(p.size) for p in predictors.values())
    return *(o for o in SIZES if o < side), side

def shrunk(crop:np.ndarray, px:int)->np.ndarray: # (C,H,W) uint8, down- and upsampled so that `px` pixels of the shorter side are left
    h, w = crop.shape[1:]
    if px >= min(h, w): return crop
    small = round(w*px/min(h, w)), round(h*px/min(h, w))
    return np.stack([Image.fromarray(o).resize(small, Image.Resampling.BICUBIC).resize((w, h), Image.Resampling.BICUBIC) for o in crop])

def at_sizes(predictors:dict, crops:dict, sizes:tuple)->dict: # model or branch -> per size a dict class -> probability; one batch per model
    out = {}
    for name, p in predictors.items():
        fused, each = p.probabilities(np.stack([shrunk(crops[name], px) for px in sizes]))
        rows = {name: fused} # of a single PSR the branches are compared too
        if len(predictors) == 1 and each.shape[1] > 1: rows |= {f"branch {n}": each[:, k] for k, n in enumerate(p.branch_names)}
        out |= {k: [dict(zip(p.classes, o.tolist(), strict=True)) for o in v] for k, v in rows.items()}
    return out

def stable_down_to(rows:list, sizes:tuple)->int: # smallest size from which on the class is that of the whole face
    changed = [px for o, px in zip(rows, sizes, strict=True) if top(o) != top(rows[-1])]
    return min(px for px in sizes if not changed or px > changed[-1])

def curve(points:dict, sizes:tuple, label:str, at:int)->str: # SVG: probability of a class over the size; `at` is marked
    def x(px): return 376 - 336*math.log(px/sizes[0])/math.log(sizes[-1]/sizes[0]) # large faces on the left
    def y(p): return 164 - 148*p
    def text(x, y, s, side="middle"): return f'<text x="{x:.1f}" y="{y}" text-anchor="{side}">{s}</text>'
    ticks = [px for px in sizes if px in (8, 12, 16, 24, 32, 48, 96, 192, sizes[-1])]
    def line(kind, x1, x2, y1, y2): return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1}" y2="{y2}"/>'
    grid = "".join(line("grid", 40, 376, y(p), y(p)) + text(34, y(p) + 4, f"{p:.0%}", "end") for p in (0, .5, 1))
    grid += "".join(text(x(px), 182, px) for px in ticks)
    lines = ["".join(f"{x(px):.1f},{y(o.get(label, 0)):.1f} " for px, o in zip(sizes, rows, strict=True)) for rows in points.values()]
    lines = "".join(f'<g class="s{k % 5}"><polyline points="{o.strip()}"/></g>' for k, o in enumerate(lines))
    said = "; ".join(f"{name}: {percent(rows[-1].get(label, 0))} at {sizes[-1]} pixels, {percent(rows[0].get(label, 0))} at {sizes[0]}"
                     for name, rows in points.items())
    alt = escape(f"Probability of {label} as the face gets smaller. {said}")
    return (f'<svg class="curve" viewBox="0 0 390 202" role="img" aria-label="{alt}">{grid}{line("at", x(at), x(at), 12, 168)}{lines}'
            f'{text(208, 199, "pixels of the face")}</svg>')

def rgb(crop:np.ndarray)->Image.Image: # of (1,H,W) or (3,H,W) uint8
    return Image.fromarray(np.repeat(crop, 3//len(crop), 0).transpose(1, 2, 0))

def smaller(predictors:dict, upload:Upload, px:int)->str: # HTML: each model on the face at `px` pixels, next to all other sizes
    crops, sizes, name = upload.crops[upload.chosen], curve_sizes(predictors), next(iter(predictors))
    px = min(max(int(px), sizes[0]), sizes[-1])
    points = upload.once("points", lambda: at_sizes(predictors, crops, sizes))
    now, rows = upload.once(("at", px), lambda: at_sizes(predictors, crops, (px,))), ""
    for k, (n, v) in enumerate(points.items()):
        p, label, before = now[n][0], top(now[n][0]), top(v[-1])
        changed = f" <em>no longer {escape(before)}</em>" if label != before else ""
        stack = "".join(f'<i style="width:{100*s:.1f}%;--c:{class_color(o)}"></i>' for o, s in ranked(p))
        rows += (f'<li class="s{k % 5}"><span class="who">{escape(n)}</span><span class="what">{named(label, p[label])}{changed}</span>'
                 f'<span class="stack" aria-hidden="true">{stack}</span></li>')
    face = rgb(crops[name]).resize((px, px), Image.Resampling.BICUBIC)
    label = top(points[name][-1])
    said = "; ".join(f"{n} says {top(v[-1])} down to {stable_down_to(v, sizes)} px" for n, v in points.items() if n in predictors)
    return (f'<div class="smaller">{figure("The face", face, f"{px} × {px} pixels")}<ol class="rows">{rows}</ol></div><p class="legend">'
            f'Probability of <b>{escape(label)}</b></p>{curve(points, sizes, label, px)}<p class="note">{escape(said)}.</p>')

# ---- inside the network
def heat(face:Image.Image, amount:np.ndarray)->Image.Image: # amount: (H,W) in [0,1], over the grey face
    size = [o*max(1, round(192/min(face.size))) for o in face.size]
    both = face.convert("L"), Image.fromarray((amount*255).astype(np.uint8))
    grey, amount = (np.asarray(o.resize(size, Image.Resampling.BICUBIC))/255 for o in both)
    share = .25 + .5*amount[..., None]
    from matplotlib import colormaps
    return Image.fromarray(((grey[..., None]*(1 - share) + share*colormaps["inferno"](amount)[..., :3])*255).astype(np.uint8))

def moved(e:object)->str: # row of the table of `stn_effect`, in words
    turned = "mirrored" if np.isnan(e.rotation) else "not turned" if abs(e.rotation) < .5 else (
        f"turned {abs(e.rotation):.0f}° {'clockwise' if e.rotation > 0 else 'counter-clockwise'}")
    zoomed = "size kept" if abs(e.zoom - 1) < .01 else f"{'enlarged' if e.zoom > 1 else 'reduced'} to {e.zoom:.0%}"
    ways = (e.right, "right", "left"), (e.down, "down", "up")
    steps = " and ".join(f"{abs(px):.0f} px {ahead if px > 0 else back}" for px, ahead, back in ways if abs(px) >= .5)
    return f"{turned}, {zoomed}, {f'moved {steps}' if steps else 'not moved'}"

def inside(predictor:Predictor, crop:np.ndarray)->list: # what the network did with a face (C,H,W) uint8, step by step: dicts for `cards`
    import torch # of the page only this part needs it
    from ..interpret import occlusion_maps, pixels, stn_effect
    mean, std = (torch.tensor(o).view(3, 1, 1) for o in IMAGENET_STATS)
    model = predictor.model.cpu()
    def show(o): return Image.fromarray((pixels(o)[0]*255).round().byte().permute(1, 2, 0).numpy()) # (1,3,H,W) normalised
    def predict(o): # fused first
        return np.concatenate([p.reshape(len(p), -1, p.shape[-1]) for p in predictor.probabilities((o*std + mean).numpy())], 1)
    x = (torch.tensor(crop)[None]/255 - mean)/std
    face, each = show(x), predict(x)[0]
    label = predictor.classes[each[0].argmax()]
    maps, lowest = occlusion_maps(predict, x, each[0].argmax())
    def predicted(title, note, image, k): # k: which map
        speaks = f"no place speaks for {label}"
        if maps[k].max() > 0: speaks = f"covering the brightest place leaves {label} {percent(lowest[k])}"
        return dict(title=title, note=f"{note}; {speaks}", images=[image, heat(face, maps[k])],
                    alt=["what it sees", f"where it looked for {label}"], label=predictor.classes[each[k].argmax()], p=float(each[k].max()))
    steps = [predicted("The face", f"{x.shape[-1]} px, as the network takes it", face, 0)]
    if not hasattr(model, "branch_names"): return steps # a baseline
    if model.stn is not None:
        _, after, effect = stn_effect(model, x)
        steps.append(dict(title="After the STN", note=moved(effect.iloc[0]), images=[face, show(after)], alt=["before", "after"]))
    with torch.no_grad(): seen = model.images(x)
    for k, ((name, weight), im) in enumerate(zip(model.fusion_weights().items(), seen, strict=True), 1):
        steps.append(predicted(f"Branch {name}", f"{im.shape[-1]} px, weight {weight:.0%}", show(im), k))
    return steps

def figure(title:str, im:Image.Image, text:str)->str: # HTML
    look = "pixels" if im.size[0] < 150 else "" # few pixels are shown as pixels
    img = f'<img class="{look}" src="{data_url(im)}" alt="{escape(title)}: {escape(text)}">'
    return f"<figure>{img}<figcaption>{escape(text)}</figcaption></figure>"

def cards(steps:list)->str: # HTML of `inside`, the branches in a row of their own
    def card(o):
        images = "".join(figure(o["title"], im, text) for im, text in zip(o["images"], o["alt"], strict=True))
        said = f'<p class="says" {color(o["label"])}><i></i>says {named(o["label"], o["p"])}</p>' if "label" in o else ""
        return f'<li><h3>{escape(o["title"])}</h3><div class="pair">{images}</div>{said}<p class="note">{escape(o["note"])}</p></li>'
    rows = [[o for o in steps if o["title"].startswith("Branch ") == b] for b in (False, True)]
    return "".join(f'<ol class="cards">{"".join(map(card, o))}</ol>' for o in rows if o)

# ---- videos
def video_curves(predictor:Predictor, path:str|Path|None, every:int=5)->Iterator[str]: # HTML: how far it is, at the end a curve per person
    if path is None: return (yield "")
    from ..figures import save
    track, line = Tracker(smooth=1), Timeline()
    for n, p in enumerate(predictor.stream(str(path), every=every, video=True, keep=True)):
        if p.error: return (yield message(p.error, True))
        line.add(track(list(p), p.time), p.time, p.image)
        if n % 20 == 0: yield message(f"{p.time:.0f} seconds of the video read, {people(len(line.people))} so far.")
    if not line.people: return (yield message("No face found in any frame.", True))
    save(plot_timeline(line, Path(path).name), picture := io.BytesIO())
    yield (f'<img class="film" src="{data_url(Image.open(picture))}" alt="Expressions of {people(len(line.people))} over time"><p class="note">Every {every}th frame, averaged over a second. '
           "The height of a colour is the probability of its expression.</p>")

def people(n:int)->str: return "one person" if n == 1 else f"{n} people"

def message(text:str, wrong:bool=False)->str: return f'<p role="status" class="{"wrong" if wrong else "well"}">{escape(text)}</p>'

# ---- the page
def handlers(gr:object, predictors:dict)->tuple: # functions of the page's events
    def shown(o, px): return annotated_image(o), verdict(first(predictors), o), smaller(predictors, o, px)
    def clear(say="", marked=EMPTY, upload=None, given=None): # -> as `show`
        return given, upload, say, marked, gr.update(choices=[], value=None, visible=False), gr.update(visible=False), "", "", ""
    def show(path, crop, px): # -> given, upload, say, marked, which, results, verdict, smaller, cards
        if path is None: return [gr.skip()]*9 # a bad file was taken away; `clear` answers when the image is removed
        try: o = predict_upload(predictors, read_upload(path), crop)
        except (ValueError, OSError, ImportError) as e: return clear(message(str(e), True))
        if not (n := len(o.faces)): return clear(message(NO_FACE, True), annotated_image(o), o, gr.skip())
        say = message("1 face found." if n == 1 else f"{n} faces found; choose one in the image or below.")
        names = [(f"{i + 1}: {f.label} {percent(f.confidence)}", i) for i, f in enumerate(o.faces)]
        marked, text, small = shown(o, px)
        return gr.skip(), o, say, marked, gr.update(choices=names, value=0, visible=n > 1), gr.update(visible=True), text, small, ""
    def choose(o, i, px): # -> marked, verdict, smaller, cards
        if not (o and i in range(len(o.faces))): return [gr.skip()]*4
        o.chosen = i
        return *shown(o, px), ""
    def resize(o, px): return smaller(predictors, o, px) if o and o.faces else ""
    def look(o): # -> cards
        if not (o and o.faces): return ""
        return o.once("inside", lambda: cards(inside(first(predictors), o.crops[o.chosen][next(iter(predictors))])))
    return show, clear, choose, resize, look

def make_app(predictors:dict # name -> Predictor; the first one detects and predicts, all are compared at smaller sizes
            )->object: # gradio Blocks
    "The page, ready to launch."
    import gradio as gr
    show, clear, choose, resize, look = handlers(gr, predictors)
    # passes the file on as it is: gradio would unpack any image, however large. A `class` statement would make gradio write a file here
    kind = ABCMeta.__new__(type(gr.Image), "Image", (gr.Image,), dict(preprocess=lambda self, o: o.path if o else None))
    hidden, minimal, last = dict(show_progress="hidden"), dict(show_progress="minimal"), dict(trigger_mode="always_last")
    side, part = curve_sizes(predictors)[-1], dict(min_width=300, elem_classes="part")
    limits = "".join(f"<li>{escape(o)}</li>" for o in first(predictors).card.get("limits") or LIMITS)
    with gr.Blocks(title="psr_fer", analytics_enabled=False, delete_cache=(60, 600)) as app:
        upload = gr.State(None, time_to_live=3600)
        gr.HTML(INTRO, elem_id="intro")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                given = kind(label="Image", type="filepath", sources=["upload", "webcam", "clipboard"], height=260, elem_id="given",
                             buttons=[], placeholder="Drop an image here, or click to choose one")
                crop = gr.Checkbox(label="the image is one face, cut out already", container=False, elem_id="crop")
                try_it = gr.Button("Try a synthetic example", size="sm", elem_id="example")
            with gr.Column(scale=3, min_width=300): say, marked = gr.HTML(elem_id="say"), gr.HTML(EMPTY, elem_id="marked")
        which = gr.Radio([], label="Face", visible=False, elem_id="which")
        with gr.Column(visible=False, elem_id="results") as results:
            with gr.Row():
                with gr.Column(**part):
                    gr.HTML("<h2>Expression</h2>")
                    text = gr.HTML(elem_id="shown")
                    gr.HTML(f'<details class="limits"><summary>What a label can and cannot say</summary><ul>{limits}</ul></details>')
                with gr.Column(**part):
                    gr.HTML("<h2>Smaller and smaller</h2>")
                    px = gr.Slider(SIZES[0], side, side//2, step=1, label="Pixels of the face", elem_id="px")
                    small = gr.HTML(elem_id="small")
            with gr.Column(elem_classes="part"):
                gr.HTML("<h2>Inside the network</h2>")
                steps = gr.HTML(elem_id="inside")
        with gr.Accordion("A video", open=False, elem_id="video"):
            film = gr.File(label="Video", file_types=["video"], height=140, elem_id="film")
            curves = gr.HTML(elem_id="curves")
        film.change(lambda o: (yield from video_curves(first(predictors), o)), film, curves, **hidden)
        page = [given, upload, say, marked, which, results, text, small, steps]
        try_it.click(example, None, given, **hidden)
        given.clear(lambda: [gr.skip(), *clear()[1:]], None, page, **hidden) # a click on the camera clears too, perhaps after its photo
        gr.on([given.change, crop.change], show, [given, crop, px], page, **minimal, **last).then(look, upload, steps, **minimal)
        which.input(choose, [upload, which, px], [marked, text, small, steps], **hidden, **last).then(look, upload, steps, **minimal)
        px.change(resize, [upload, px], small, **hidden, **last)
    return app

def port_problem(port:int)->str: # one sentence; empty where the page can have it
    with socket.socket() as s:
        if os.name != "nt": s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1) # a page that has just ended holds nothing
        try: s.bind(("127.0.0.1", port))
        except OSError as e:
            s.bind(("127.0.0.1", 0))
            why = "may not be used by this user" if isinstance(e, PermissionError) else "is taken by another program"
            return f"port {port} {why}; port {(free := s.getsockname()[1])} is free: give --port {free}."
    return ""

def launch(app:object, folder:Path, port:int, open_browser:bool)->None: # serve; `app.close()` removes the folder of uploads
    import gradio as gr
    fonts, stop = dict(font=["Segoe UI", "Roboto", "sans-serif"], font_mono=["monospace"]), app.close # no fonts from elsewhere
    def close(*args, **kwargs):
        try: stop(verbose=False)
        finally: shutil.rmtree(folder, ignore_errors=True)
    app.close = close
    app.launch(server_name="127.0.0.1", server_port=port, inbrowser=open_browser, prevent_thread_lock=True, quiet=True, share=False,
               max_file_size=MAX_VIDEO, enable_monitoring=False, footer_links=[], css_paths=Path(__file__).with_name("style.css"),
               theme=gr.themes.Soft(primary_hue="blue", secondary_hue="blue", **fonts))

def wait(app:object)->None: # until Ctrl-C, a signal, or the end of the terminal
    def end(*_): raise KeyboardInterrupt
    for o in ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ():
        if hasattr(signal, o): signal.signal(getattr(signal, o), end)
    app.block_thread()

def bundled_baseline(folder:Path=DEFAULT.parent)->Path|None: # None where the package has none
    file = Path(folder)/"baseline.safetensors"
    return file if file.is_file() and file.with_suffix(".json").is_file() else None

def run_app(weights:str|Path|None=None, # run folder or checkpoint; None: the bundled weights
            baseline:str|Path|None=None, # likewise, of a baseline to compare with; None: the bundled one, with the bundled weights
            port:int=7860, # on this computer only
            open_browser:bool=True, # open the page
            say:Callable=print, # gets the URL
            block:bool=True, # stay until Ctrl-C
            detector:str|Callable|None="auto" # see `get_detector`
           )->object: # gradio Blocks when `block` is False; its `close()` ends the page
    "Serve the page on localhost; uploads are deleted when it ends."
    try: import gradio # noqa: F401
    except ImportError: raise ValueError("the page needs the package gradio: pip install \"psr_fer[app]\".") from None
    if problem := port_problem(port): raise ValueError(problem)
    if weights is None and baseline is None: baseline = bundled_baseline()
    predictors = {"PSR": Predictor(weights, detector)} | ({"baseline": Predictor(baseline)} if baseline else {})
    folder, app = Path(tempfile.mkdtemp(prefix="psr_fer-app-")), None
    os.environ.update(OFFLINE, GRADIO_TEMP_DIR=str(folder))
    try:
        app = make_app(predictors)
        launch(app, folder, port, open_browser)
        say(f"Open http://127.0.0.1:{port} - Ctrl-C ends it.")
        if not block: return app
        wait(app)
    except OSError:
        if problem := port_problem(port): raise ValueError(problem) from None # taken while the networks were loaded
        raise
    finally:
        if block or not (app and app.is_running):
            if app: app.close()
            shutil.rmtree(folder, ignore_errors=True)
