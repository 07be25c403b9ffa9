"""`psr-fer`: a thin layer over functions of the library."""
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

def _option(kind, help, *flags, **kwargs): return Annotated[kind, typer.Option(*flags, help=help, **kwargs)]
def _argument(kind, help, **kwargs): return Annotated[kind, typer.Argument(help=help, **kwargs)]
def _flag(name, help): return Annotated[bool, typer.Option(name, help=help)]

class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx):
        try: return super().invoke(ctx)
        except KeyboardInterrupt as e:  # typer would end without a word
            print("psr-fer: stopped; what was done is kept, the same command (without --fresh) resumes.", file=sys.stderr)
            raise typer.Exit(128 + max(2, *e.args, 2)) from None  # 130 for Ctrl-C, 143 for SIGTERM

app = typer.Typer(name="psr-fer", cls=_Commands, help="Facial expression recognition for small faces (PSR, Vo et al. 2020).", no_args_is_help=True,
                  rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=dict(help_option_names=["-h", "--help"]))

@app.callback()
def _main():
    import warnings
    warnings.filterwarnings("ignore")  # of libraries are not the user's business

def _say(*lines): print(*lines, flush=True)

def _data_folder(path: Path | None):  # typer callback: complain before torch is loaded
    if path is None or path.is_dir(): return path
    raise ValueError(f"{path}: there is no such folder; give the folder that holds the data set.")

def _reading(folder):  # what comes before the first result takes seconds, on slow disks minutes
    print(f"reading {folder} ...", file=sys.stderr, flush=True)

Data = _option(Path, "Folder of the data set.", callback=_data_folder)
Labels = _option(str | None, "FER+: label file, fer2013new.csv (default) or label.csv.")
Seed = _option(int, "Seed of everything random.")
Sets = _option(list[str] | None, "Change a field of the recipe; may be given several times.", "--set", metavar="FIELD=VALUE")
Classes = _option(str | None, "RAF-DB, AffectNet: what class numbers mean: names in their order with commas, or affectnet or alphabetical.")
SkipBad = _flag("--skip-bad", "Leave bad rows and files out and say how many, instead of stopping.")

@app.command()
def demo(
    out: _option(Path, "Folder for faces, runs and the page.") = Path("demo"),
    faces: _option(int, "Number of synthetic faces.", min=64) = 1200,
    seed: Seed = 0,
    sets: Sets = None,
):
    "Train a PSR and its baseline on synthetic faces and show both on one page.\n\nExample: psr-fer demo"
    from psr_fer.reproduce.run import run_demo
    run_demo(out, n=faces, seed=seed, sets=sets or (), say=_say)

@app.command()
@app.command("draw", hidden=True)  # name of earlier releases
def generate(
    dest: _argument(Path, "Folder to make."),
    faces: _option(int, "How many.", min=1) = 1200,
    splits: _option(str, "Shares of the three splits.", metavar="TRAIN,VALID,TEST") = "0.7,0.15,0.15",
    seed: Seed = 0,
):
    "Generate a data set of synthetic faces, in the layout of FER+, for trying everything without real ones.\n\nExample: psr-fer generate faces --faces 4000 --splits 0.25,0.125,0.625"
    try: shares = tuple(float(o) for o in splits.split(","))
    except ValueError: raise ValueError(f"--splits {splits!r} must be three shares with commas, as in --splits 0.7,0.15,0.15.") from None
    from psr_fer.data.synthetic import synthetic_faces
    counts = synthetic_faces(dest, faces, seed, shares)["split"].value_counts()
    _say(f"{dest}: " + ", ".join(f"{counts.get(o, 0):,} {o}" for o in ("train", "valid", "test")))

@app.command()
def data(
    root: _argument(Path, "Folder of FER+, RAF-DB or AffectNet, in any layout.", callback=_data_folder),
    labels: _option(str, "FER+: label file, fer2013new.csv (the paper's) or label.csv.") = "fer2013new.csv",
    protocol: _option(str, "FER+: rule that makes one label of the annotators' votes: paper, microsoft or argmax.") = "paper",
    classes: _option(str | None, "AffectNet: 8 or 7 classes. RAF-DB, AffectNet: what class numbers mean, as in psr-fer train.") = None,
    out: _option(Path, "Folder for the figures: sizes, classes, samples.") = Path("figures"),
    no_figures: _flag("--no-figures", "Print only, draw nothing.") = False,
    resize: _option(str | None, "FER+: write a copy with faces of different original sizes to --out instead: mixed, uniform or paper.") = None,
    train_share: _option(float, "With --resize: share of the training faces to keep.") = 1.,
    skip_bad: SkipBad = False,
):
    "Print what a data set is, check every file, and compare its counts with the paper's.\n\nExample: psr-fer data ~/FERPlus --out figures, or psr-fer data ~/FERPlus --resize mixed --out ~/FERPlus-mixed"
    _reading(root)
    if resize:
        from psr_fer.data.resize import resize_ferplus
        resize_ferplus(root, out, resize, train_share, _say)
    else:
        from psr_fer.data.datasets import overview
        count = classes if classes and classes.isdigit() else None
        overview(root, labels=labels, protocol=protocol, n_classes=count and int(count), classes=None if count else classes, out=None if no_figures else out, skip_bad=skip_bad, say=_say)

_HERE = ("--out", "--ledger", "--results", "--cache", "--minutes", "--track", "--seeds")  # where and how a run was made on this machine

def _command(own=None):  # what reproduces this run elsewhere; own: folder of one's own faces
    args, out = sys.argv[1:], ["psr-fer"]
    while args:
        name, eq, _ = (o := args.pop(0)).partition("=")
        if name in ("--data", *_HERE) and not eq and args: args.pop(0)  # its value
        if name == "--data": out += ["--data", "DATA"]
        elif name not in (*_HERE, "--fresh"): out.append("DATA" if own and o == str(own) else o)
    return shlex.join(out)

def _seeds(text):  # "0 1 2" or "0,1,2" -> integers
    try: return [int(o) for o in (text or "").replace(",", " ").split()]
    except ValueError: raise ValueError(f"--seeds {text!r} must be whole numbers, as in --seeds 0 1 2.") from None

@app.command()
def train(
    recipe: _argument(str, "Name of a recipe, see psr-fer recipes, or your own images: class folders, or a CSV with path and label."),
    data: _option(Path | None, "Folder of the data set.") = None,
    out: _option(Path | None, "Folder of the run; with --seeds, the folder of their folders. "
                 "[default: runs/RECIPE__sSEED, with the folder's name for your own images]") = None,
    seed: Seed = 0,
    seeds: _option(str | None, "Several seeds one after another, with mean and standard deviation at the end.", metavar="0 1 2") = None,
    sets: Sets = None,
    init: _option(Path | None, "Run folder or checkpoint to start from, instead of the warm-up.") = None,
    labels: Labels = None,
    protocol: _option(str | None, "FER+: paper (default), microsoft or argmax.") = None,
    classes: Classes = None,
    fold: _option(int | None, "RAF-DB: which of the five folds of train validates (default 0).") = None,
    cache: _option(str, "Decoded faces: memory, or a folder for files that later runs read.") = "memory",
    minutes: _option(float, "Minutes between checkpoints within an epoch.", min=0) = 10,
    track: _option(str | None, "tensorboard or wandb; nothing is sent anywhere without it.") = None,
    fresh: _flag("--fresh", "Overwrite the run that the folder holds.") = False,
    results: _option(Path | None, "Folder that also gets the run's record.", "--results", "--ledger") = None,
    skip_bad: SkipBad = False,
):
    "Train a recipe, pick by the validation split, test once. Started again, it resumes.\n\nExample: psr-fer train ferplus-lite --data ~/FERPlus --seeds 0 1 2"
    from psr_fer.recipes import RECIPES, get_recipe
    name, own = recipe, recipe not in RECIPES and data is None
    if own:  # fine-tune the bundled weights
        data = Path(recipe)
        if not data.exists(): raise ValueError(f"{recipe} is neither a folder or CSV of your own images nor a recipe; the recipes are {', '.join(RECIPES)}.")
        recipe, name, init = "own-faces", data.resolve().stem, init or Path("default")
    made, numbers = get_recipe(recipe, sets or ()), _seeds(seeds)
    if data is None: raise ValueError(f"--data is missing: give the folder of the data set, as in psr-fer train {recipe} --data FOLDER.")
    from psr_fer.runs import train_run, train_seeds
    how = {k: v for k, v in dict(labels=labels, protocol=protocol, classes=classes, fold=fold).items() if v is not None}
    how |= dict(init=init, cache=cache, minutes=minutes, track=track, fresh=fresh, skip_bad=skip_bad, command=_command(data if recipe == "own-faces" else None), results=results, say=_say)
    folder = out or Path("runs")/f"{name}__s{seed}"
    if numbers: return train_seeds(made, data, out or Path("runs"), numbers, **how)
    train_run(made, data, folder, seed, **how)
    if recipe == "own-faces": _say(f"Use it: psr-fer predict IMAGES --weights {folder}")

def _plain(v): return "yes" if v is True else "no" if v is False else f"{v:g}" if isinstance(v, float) else str(v)

def _print_table(head, rows):  # columns as wide as they need to be
    from rich.console import Console
    from rich.table import Table
    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for o in rows: table.add_row(*map(_plain, o))
    Console(width=None if sys.stdout.isatty() else 200).print(table)

@app.command()
def recipes(
    name: _argument(str | None, "One of them: every field with its value, unit and source.") = None,
    sets: Sets = None,
):
    "List all recipes, or show one: where each value comes from, and what differs from the paper.\n\nExample: psr-fer recipes ferplus-paper"
    from psr_fer.recipes import RECIPES, UNITS, differences, get_recipe, sources
    if name is None:
        columns = ("name", "dataset", "model", "arch", "size", "loss", "epochs", "weights", "source")
        return _print_table(columns, [[getattr(o, k) for k in columns] for o in RECIPES.values()])
    recipe = get_recipe(name, sets or ())
    _say(f"{recipe.name}: {recipe.source}", "")
    _print_table(("field", "value", "unit", "where from"), [(k, getattr(recipe, k), UNITS.get(k, ""), v) for k, v in sources(recipe).items()])
    if changed := differences(recipe):
        _say("", "Differs from the paper's recipe:")
        _print_table(("field", "here", "paper"), [(k, *v) for k, v in changed.items()])

@app.command()
def lr_find(
    recipe: _argument(str, "Name of a recipe; psr-fer recipes lists them."),
    data: Data,
    out: _option(Path, "Folder for the curve: lr-find.csv and lr-find.png.") = Path("lr-find"),
    init: _option(Path | None, "Run folder or checkpoint to start from.") = None,
    steps: _option(int, "Training steps; the learning rate grows with each.", min=10) = 100,
    seed: Seed = 0,
    sets: Sets = None,
    labels: Labels = None,
    skip_bad: SkipBad = False,
):
    "Suggest a learning rate for each block of a recipe, from the loss over a growing rate.\n\nExample: psr-fer lr-find ferplus-lite --data ~/FERPlus"
    from psr_fer.recipes import get_recipe
    made = get_recipe(recipe, sets or ())
    _reading(data)
    from psr_fer.runs import find_learning_rate
    find_learning_rate(made, data, out, init, steps, seed, say=_say, skip_bad=skip_bad, **(dict(labels=labels) if labels else {}))

@app.command()
def evaluate(
    run: _argument(Path, "Folder of a run, or a .safetensors file with its .json."),
    data: Data,
    split: _option(str, "train, valid or test.") = "test",
    tta: _option(int | None, "Number of test-time views per face; 0 or 1 for none. [default: as the run did]", min=0) = None,
    classes: Classes = None,
    skip_bad: SkipBad = False,
):
    "Evaluate saved weights on a split of a data set.\n\nExample: psr-fer evaluate runs/ferplus-lite__s0 --data ~/FERPlus"
    from psr_fer.runs import evaluate_run
    evaluate_run(run, data, split, tta, skip_bad=skip_bad, say=_say, classes=classes)

@app.command()
def report(
    runs: _argument(list[Path], "Folders of finished runs, or one folder of results."),
    out: _option(Path | None, "Page to write; an earlier report there is replaced. [default: RUN/report.html; of several runs report.html, here]") = None,
    data: _option(Path | None, "Folder of the data set: adds accuracy by size (takes minutes where all faces have one) and the most wrong faces.") = None,
):
    "One self-contained page about finished runs, or about a folder of results.\n\nExample: psr-fer report runs/ferplus-lite__s0 runs/ferplus-lite-baseline__s0"
    from psr_fer.reproduce.report import report as write
    _say(f"Look at it: {write(runs, out, data, _say).resolve()}")

@app.command()
def predict(
    paths: _argument(list[str], "Images, folders, videos, or 'webcam'."),
    weights: _option(Path | None, "Folder of a run, a .safetensors file with its .json, or an .onnx file. [default: the bundled weights]") = None,
    out: _option(Path | None, "Results: a .csv, .json or .parquet file.") = None,
    draw: _option(Path | None, "Folder for annotated copies; of a video an annotated video and a picture of the curves.") = None,
    no_detect: _flag("--no-detect", "The images are cropped faces already; look for none.") = False,
    detector: _option(str, "Face detector: auto (the best that is installed), centerface or haar.") = "auto",
    video: _flag("--video", "Also read the videos in folders, and files of any name as videos.") = False,
    every: _option(int, "Of a video, take every n-th frame.", min=1) = 1,
    branches: _flag("--branches", "Also the prediction of each branch: columns branch.NAME.CLASS in the results, and how often each agrees.") = False,
    smooth: _option(float, "In videos, average the probabilities of each person over this many seconds.", min=0) = 0,
    prior: _option(str | None, "balanced: probabilities for images in which all expressions are equally frequent. [default: as in the training data]") = None,
    batch_size: _option(int, "Faces predicted together.", min=1) = 64,
    backend: _option(str, "auto, onnx (onnxruntime, starts at once) or torch (run folders, GPUs).") = "auto",
    urls: _flag("--urls", "Also fetch URLs (https://...) from the web.") = False,
):
    "Find the faces in images, folders and videos and predict their expressions.\n\nExample: psr-fer predict photos --weights runs/ferplus-lite__s0 --out results.csv --draw annotated"
    from psr_fer.predict import predict_paths
    done = predict_paths(paths, weights, out, draw, detect=not no_detect, every=every, video=video, bs=batch_size, allow_urls=urls, say=_say,
                         branches=branches, detector=detector, backend=backend, smooth=smooth, prior=prior)
    if done["stopped"]: raise typer.Exit(128 + done["stopped"])  # by a signal; what was read has been written
    if done["broken"] and not done["pictures"]: raise typer.Exit(2)  # nothing could be read

@app.command()
def export(
    run: _argument(Path, "Folder of a run, a checkpoint, or default."),
    out: _option(Path | None, ".onnx file to write. [default: next to the weights; of the bundled ones, here]") = None,
    int8: _option(Path | None, "Folder of the data set: its validation faces calibrate an int8 file next to the other, its test faces compare the two.") = None,
    format: _option(str, "onnx; earlier versions had others.", hidden=True) = "onnx",
    table: _option(Path | None, "Moved to benchmarks/export.py.", hidden=True) = None,
):
    "Write a model as ONNX for other programs: pixels in, probabilities out, labels and normalisation inside.\n\nExample: psr-fer export runs/ferplus-lite__s0"
    if table: raise ValueError(f"--table has moved: python benchmarks/export.py {run} DATA --out {table} compares size, speed and accuracy.")
    from psr_fer.export import export_int8, export_model, metadata
    path = export_model(run, out, format)
    about = metadata(path)
    _say(f"{path}: {path.stat().st_size/1e6:.2f} MB\ntakes {about['input']}\nof a photo: {about['preprocessing']}\ngives {about['output']}: {', '.join(about['labels'])}")
    if int8: export_int8(run, path, int8, _say)

@app.command("app")
def page(
    weights: _option(Path | None, "Run folder or checkpoint. [default: the bundled weights]") = None,
    baseline: _option(Path | None, "Run folder or checkpoint of a baseline to compare with.") = None,
    detector: _option(str, "Face detector: auto (the best that is installed), centerface or haar.") = "auto",
    port: _option(int, "Port on this computer.", min=1, max=65535) = 7860,
    no_browser: _flag("--no-browser", "Do not open the page.") = False,
):
    "A web page for images and the camera; nothing leaves this computer.\n\nExample: psr-fer app --weights runs/ferplus-lite__s0"
    from psr_fer.app import run_app
    run_app(weights, baseline, port, not no_browser, _say, detector=detector)

@app.command("ship", hidden=True, context_settings=dict(ignore_unknown_options=True, allow_extra_args=True))
@app.command("bench", hidden=True, context_settings=dict(ignore_unknown_options=True, allow_extra_args=True))
def _moved(ctx: typer.Context):
    "Moved out of the package.\n\nExample: psr-fer bench"
    script = dict(ship="tools/bundle_weights.py RUN --data DATA", bench="benchmarks/model.py, or python benchmarks/loaders.py --data DATA")
    raise ValueError(f"{ctx.info_name} has moved: python {script[ctx.info_name]}, in a clone of the package.")

@app.command("train-sr")
def train_sr(
    data: _option(Path, "Folder of the data set; its training split is used.", callback=_data_folder),
    out: _option(Path, "Folder for edsr.safetensors, its JSON and a picture.") = Path("sr"),
    scale: _option(int, "Enlargement: 2, 3 or 4.", min=2, max=4) = 2,
    blocks: _option(int, "Residual blocks; 16 is EDSR's baseline.", min=0) = 16,
    features: _option(int, "Features; 64 is EDSR's baseline.", min=3) = 64,
    epochs: _option(int, "Passes over the faces.", min=1) = 1,
    size: _option(int | None, "Pixels of the large image. [default: the faces' median, at most 96]", min=16) = None,
    down: _option(str, "How faces are downsampled: antialias, or mean (the pyramid's pooling).") = "antialias",
    seed: Seed = 0,
    skip_bad: SkipBad = False,
):
    "Train the super-resolution network on a data set's own faces and compare it with bicubic.\n\nExample: psr-fer train-sr --data ~/FERPlus --blocks 2 --features 16"
    from psr_fer.data.datasets import read_folder
    from psr_fer.super_resolution import train_upscaler
    train_upscaler(read_folder(data, skip_bad=skip_bad), out, scale, blocks, features, epochs, size, down, seed, _say)

@app.command()
def reproduce(
    names: _argument(list[str], "Tables and figures of the paper: table2 to table8, fig1, fig2, fig4 to fig12; and of ours: reduced, changes."),
    data: Data,
    recipe: _option(str, "lite, paper, authors or efficientnet.") = "lite",
    seeds: _option(str, "One training per seed.", metavar="0 1 2") = "0",
    results: _option(Path, "Folder of the records, one per training.") = Path("results"),
    runs: _option(Path, "Folder of the run folders.") = Path("runs/reproduce"),
    out: _option(Path, "Folder of the figures.") = Path("figures"),
    sets: Sets = None,
    labels: Labels = None,
    dry_run: _flag("--dry-run", "Only report what is left and how long it takes.") = False,
    engine: _option(str, "local, or ray: hand the trainings to a Ray cluster.") = "local",
    cpus: _option(int, "Processors of one Ray job.", min=1) = 1,
    epochs: _option(int, "fig2, fig11: epochs at each image size.", min=1) = 20,
    hours: _option(float | None, "Time budget in hours: a few steps of each network are timed, and what fits is trained (tables and fig10).", min=0) = None,
):
    "Run what is missing of the paper's tables and figures and compare ours with the paper's.\n\nExample: psr-fer reproduce table5 fig6 --data ~/FERPlus --seeds 0 1 2"
    from psr_fer.recipes import parse_sets
    numbers = _seeds(seeds)
    if recipe not in ("lite", "paper", "authors", "efficientnet"): raise ValueError(f"--recipe {recipe!r} is none of lite, paper, authors, efficientnet.")
    changes = tuple(parse_sets(sets or ()).items())
    _reading(data)
    from psr_fer.reproduce import reproduce as run
    run(names, data, recipe, numbers, results, runs, out, changes, labels, dry_run, engine, cpus, epochs, hours, _say)

def _join_numbers(args):  # --seeds 0 1 2 -> --seeds "0 1 2"
    if "--seeds" not in args: return args
    i = args.index("--seeds") + 1
    j = next((k for k in range(i, len(args)) if not args[k].isdigit()), len(args))
    return [*args[:i], " ".join(args[i:j]), *args[j:]] if j > i + 1 else args

def main():
    "Entry point of `psr-fer`: bad input ends with one sentence and exit code 2, an interruption with 128 and the signal's number."
    for o in (sys.stdout, sys.stderr): # a console that cannot show a letter shows another
        if hasattr(o, "reconfigure"): o.reconfigure(errors="replace")
    try: app(_join_numbers(sys.argv[1:]))
    except (ValueError, OSError, FloatingPointError, ImportError) as e: sys.exit(print(f"psr-fer: {e}", file=sys.stderr) or 2)

if __name__ == "__main__": main()  # python -m psr_fer.cli, for accelerate launch
