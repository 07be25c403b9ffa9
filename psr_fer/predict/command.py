"""What `psr-fer predict` does: read, predict, write, annotate, and report. The request is checked before anything heavy is loaded."""
import io
import signal
import sys
import threading
import time as clock
from collections import Counter, deque
from collections.abc import Callable
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from psr_fer.checkpoints import atomic_write, check_writable, checkpoint_files
from psr_fer.emotions import class_color
from psr_fer.predict.annotate import annotate_faces, percent
from psr_fer.predict.images import ANNOTATED, check_inputs, is_camera, is_folder, is_url, is_video, listed, sources
from psr_fer.predict.predictor import NO_FACE, Predictor, check_out, save_results, utf8
from psr_fer.predict.video import AnnotatedVideo, Tracker

__all__ = ["SHOWN", "faces_table", "check_request", "predict_paths"]

SHOWN, EVERY = 30, 60 # images in the table of a terminal; seconds between lines where there is none

def faces_table(pictures:list, # of `Picture`
                width:int|None=None, # columns of the terminal; None: as it is
                color:bool=False # with escape codes
               )->str: # lines, without the last line break
    "Faces as a table for a terminal."
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    width = width or Console().width
    keep = [True, True, width >= 60, True, True, width >= 80]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    def add(*cells): table.add_row(*(o for o, k in zip(cells, keep, strict=True) if k))
    for head, k in zip(("image", "face", "at", "expression", "p", "then"), keep, strict=True):
        if k: table.add_column(head, justify="right" if head == "face" else "left", no_wrap=head != "image")
    for p in pictures:
        name = p.source if is_url(p.source) or p.source.startswith("#") else Path(p.source).name
        name = Text(utf8(name) + ("" if p.time is None else f" {p.time:.2f} s"), no_wrap=True, overflow="ellipsis")
        if not p and not p.error: add(name, "-", "", "no face", "", "")
        for o in p:
            (left, top, right, bottom), then = o.box, Counter(o.probabilities).most_common(3)[1:]
            add(name, f"{right - left} x {bottom - top}", f"{left}, {top}", Text(o.label, f"bold {class_color(o.label)}"),
                percent(o.confidence), ", ".join(f"{k} {percent(v)}" for k, v in then))
    codes = dict(force_terminal=True) if color else dict(color_system=None, force_jupyter=False)
    console = Console(file=io.StringIO(), width=max(width, 50), highlight=False, **codes) # numbers are never cut
    console.print(table)
    return "\n".join(o.rstrip() for o in console.file.getvalue().splitlines())

def check_request(paths:list, # files, folders, videos, URLs
                  weights:str|Path|None=None, # as in `predict_paths`
                  out:str|Path|None=None, # as in `predict_paths`
                  draw:str|Path|None=None, # as in `predict_paths`
                  video:bool=False, # as in `predict_paths`
                  allow_urls:bool=False # as in `predict_paths`
                 )->None:
    "Raise for a request of `predict_paths` that cannot work."
    if out: check_out(out)
    if draw: check_writable(draw)
    if weights is not None and Path(weights).suffix != ".onnx": checkpoint_files(weights)
    check_inputs(paths, video, allow_urls)

class _Annotated: # annotated copies: an image of each image with faces; of each video a video and its curves
    def __init__(self, folder):
        self.folder, self.used, self.video, self.problem = Path(folder), set(), None, None
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, source, end): # clashes neither with another image nor with a photograph
        base = Path(utf8(source)).stem.lstrip("#").encode()[:200].decode(errors="ignore")
        self.used.add(name := next(o for i in count() if (o := f"{base}{f'-{i}' if i else ''}{end}") not in self.used))
        return self.folder/name

    def add(self, p):
        if self.video and self.video.source != p.source: self.close()
        if self.problem or p.error: return
        try:
            if p.time is not None:
                if not self.video:
                    self.video = AnnotatedVideo(self.path(p.source, ANNOTATED[1]), Path(utf8(p.source)).name)
                    self.video.source = p.source
                self.video.add(p.image, list(p), p.time)
            elif p: atomic_write(self.path(p.source, ANNOTATED[0]), lambda part: annotate_faces(p.image, list(p)).save(part, "JPEG", quality=92))
        except OSError as e: self.problem = f"no annotated images from {p.source} on: {e.strerror or e}" # the results matter more

    def close(self):
        video, self.video = self.video, None
        try:
            if video: video.close()
        except OSError as e: self.problem = f"{video.path} is not complete: {e.strerror or e}"

def _n(k, word): return f"{k:,} {word}{'' if k == 1 else 's'}"

class _Report: # what is reported at the end
    def __init__(self):
        self.start, self.stopped, self.n, self.last = clock.monotonic(), 0, Counter(), None # n: images, faces, images without any, ...
        self.labels, self.agree, self.left_out = Counter(), Counter(), Counter() # faces by class, by branch that agrees; see `walk`
        self.broken, self.first = [], [] # (source, error); pictures of the table

    @contextmanager
    def stopping(self): # Ctrl-C, SIGTERM and SIGHUP end the reading, once: what has been read is still predicted and written
        def back(): deque((signal.signal(*o) for o in before.items()), 0)
        def stop(number, _): self.stopped, _ = number, back()
        main = threading.current_thread() is threading.main_thread()
        all_ = [getattr(signal, o) for o in ("SIGINT", "SIGTERM", "SIGHUP") if main and hasattr(signal, o)]
        before = {o: signal.signal(o, stop) for o in all_ if signal.getsignal(o) not in (signal.SIG_IGN, None)} # nohup ignores SIGHUP
        try: yield
        finally:
            if not self.stopped: back()

    def until_stopped(self, items):
        try:
            for o in items:
                yield o
                if self.stopped: break
        except KeyboardInterrupt: self.stopped = signal.SIGINT # of a caller's own handler

    def add(self, p):
        if p.error: return self.broken.append((p.source, p.error))
        self.n.update(images=1, faces=len(p), empty=not p, animated="frames" in (p.note or ""))
        self.labels.update(o.label for o in p)
        for o in p: self.agree.update({k: max(v, key=v.get) == o.label for k, v in (o.branches or {}).items()})
        before, self.last = self.last, (p.source, sorted(o.label for o in p))
        if p.time is not None and self.last == before: self.n["same"] += 1 # of a video, people want to see the changes
        elif len(self.first) < SHOWN: self.first.append(p)

    def lines(self, out, draw, color=False): # for people
        n, faces, keeps = self.n, _n(self.n["faces"], "face"), "" if out else "; --out results.csv keeps all of them"
        if any(self.first): yield faces_table(self.first, color=color)
        if n["same"]: yield f"... {_n(n['same'], 'frame')} left out, where the expressions stayed the same{keeps}"
        if more := n["images"] - n["same"] - len(self.first): yield f"... and {_n(more, 'more image')}{keeps}"
        alike = {} # reason -> sources
        for source, error in self.broken: alike.setdefault(error.replace(source, "").strip(), []).append((source, error))
        for why, each in alike.items():
            for source, error in each[:1 if len(each) > 3 else 3]: yield f"skipped {'' if source in error else source + ': '}{error}"
            if len(each) > 3: yield f"skipped {_n(len(each) - 1, 'more file')} for the same reason: {why}"
        parts = [f"{faces} in {_n(n['images'], 'image')}", n["empty"] and f"{n['empty']:,} without a face",
                 self.broken and f"{_n(len(self.broken), 'file')} skipped"]
        yield f"\n{', '.join(filter(None, parts))}; {clock.monotonic() - self.start:.1f} s{'; stopped early' if self.stopped else ''}"
        if videos := self.left_out["video"]: yield f"{_n(videos, 'video')} not read; --video reads {'it' if videos == 1 else 'them'} too"
        if others := self.left_out - Counter(video=videos): yield f"not read: {listed(others)}"
        if n["animated"]: yield f"only the first frame of {_n(n['animated'], 'animated image')} was read; --video reads all"
        if n["images"] and n["empty"] == n["images"]: yield f"{NO_FACE}."
        if self.labels: yield listed(dict(self.labels.most_common()))
        if self.agree: yield f"each branch alone agrees with the result: {listed(self.agree)} of {faces}"
        if out: yield f"results: {out}" if n["images"] else f"nothing could be read, so {out} was not written"
        if draw and n["faces"]: yield f"annotated images: {draw}"

def predict_paths(paths:object, # file, folder, video, "webcam", URL, or a list of them
                  weights:"str|Path|Predictor|None"=None, # run folder, checkpoint, ONNX file or `Predictor`; None: the bundled weights
                  out:str|Path|None=None, # .csv, .json or .parquet file for the results
                  draw:str|Path|None=None, # folder for annotated images
                  detect:bool=True, # False: images are cropped faces
                  every:int=1, # step between the frames of a video
                  video:bool=False, # also read the videos in folders, and files of any name as videos
                  bs:int=64, # faces predicted together
                  allow_urls:bool=False, # permission to fetch URLs
                  say:Callable=print, # function for the lines of the report
                  progress:bool=True, # a bar on stderr
                  branches:bool=False, # also the probabilities of each branch
                  detector:str|Callable|None="auto", # see `get_detector`
                  backend:str="auto", # "onnx", "torch", or "auto", see `load_network`
                  smooth:float=0., # in videos, time over which the probabilities of a person are averaged, seconds
                  prior:str|dict|None=None # "balanced" or class -> frequency, see `Predictor`
                 )->dict: # pictures, faces, without_face, labels, broken [(source, error)], stopped (signal or 0), left_out {reason: n}, seconds
    "Predict all faces in `paths`, write and annotate them, and report. FileNotFoundError when none of `paths` leads anywhere."
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    made = hasattr(weights, "stream")  # a predictor
    check_request(paths, None if made else weights, out, draw, video, weights.allow_urls if made else allow_urls)
    predictor = weights if made else Predictor(weights, detector, bs=bs, allow_urls=allow_urls, backend=backend, prior=prior)
    report, live, annotated = _Report(), say if any(is_camera(str(o)) for o in paths) else None, _Annotated(draw) if draw else None
    def watched(): # passes pictures on; counts, annotates and shows them
        items, last, film, track = report.until_stopped(sources(paths, every, video, report.left_out)), None, None, None
        for p in predictor._stream(items, detect, False, branches, bool(draw)):
            if p.time is not None and not p.error:
                if film != p.source: film, track = p.source, Tracker(smooth, max(1., 2*every/25))
                p[:] = track(list(p), p.time)
            report.add(p)
            if annotated: annotated.add(p)
            p.image = None # the report holds on to the first pictures, not to their pixels
            if live and not p.error and [o.label for o in p] != last:
                live(f"{p.time:8.2f} s  {', '.join(f'{o.label} {percent(o.confidence)}' for o in p) or 'no face'}")
                last = [o.label for o in p]
            if quiet and clock.monotonic() - spoken[0] >= EVERY: # once a minute, where no bar is shown
                spoken[0], n = clock.monotonic(), report.n["images"] + len(report.broken)
                print(f"{_n(n, 'image')}, {_n(report.n['faces'], 'face')} in {(clock.monotonic() - report.start)/60:.0f} min", file=sys.stderr, flush=True)
            yield p
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    columns = "images", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    total = None if any(is_folder(o) or is_video(o, video) for o in paths) else len(paths) # unknown before the folders are walked
    quiet, spoken = progress and not live and not sys.stderr.isatty(), [report.start]
    with report.stopping(), Progress(*columns, console=Console(stderr=True), disable=quiet or not progress or bool(live)) as bar:
        seen = bar.track(watched(), total)
        if out: save_results(out, seen, predictor.classes, predictor.branch_names if branches else ())
        else: deque(seen, maxlen=0)
    if annotated:
        annotated.close()
        if annotated.problem: say(annotated.problem)
    for o in report.lines(out, draw, color=say is print and sys.stdout.isatty()): say(o)
    return dict(pictures=report.n["images"], faces=report.n["faces"], without_face=report.n["empty"], labels=dict(report.labels),
                broken=report.broken, stopped=report.stopped, videos_left_out=report.left_out["video"], left_out=dict(report.left_out),
                seconds=round(clock.monotonic() - report.start, 2))
