"""`psr-fer`: a thin layer over functions of the library."""


import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, List, Optional
import typer

app = typer.Typer(name="psr-fer", help="Facial expression recognition for small faces (PSR, Vo et al. 2020).", no_args_is_help=True,
                  rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=dict(help_option_names=["-h","--help"]))

@app.callback()
def _main():
    import warnings
    warnings.filterwarnings("ignore")  # of libraries are not the user's business


def _say(*lines): print(*lines, flush=True)

@contextmanager
def _stoppable(): # typer would end without a word
    try: yield
    except KeyboardInterrupt:
        print("psr-fer: stopped; what was done is kept, the same command (without --fresh) resumes.", file=sys.stderr)
        raise typer.Exit(130) from None

Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows and files out and say how many, instead of stopping.")]
Sets = Annotated[Optional[List[str]], typer.Option("--set", metavar="FIELD=VALUE",
    help="Change a field of the recipe; may be given several times.")]

def _data_folder(path:Optional[Path]): # typer callback: complain before torch is loaded
    if path is None or path.is_dir(): return path
    raise ValueError(f"{path}: there is no such folder; give the folder that holds the data set.")

def _reading(folder): # what comes before the first result takes seconds, on slow disks minutes
    print(f"reading {folder} ...", file=sys.stderr, flush=True)

def _own_faces(path, recipes, init): # fine-tune the bundled weights -> recipe, name of the run, data, start
    if not Path(path).exists():
        raise ValueError(f"{path} is neither a folder or CSV of your own images nor a recipe; the recipes are {', '.join(recipes)}.")
    return "own-faces", Path(path).resolve().stem, Path(path), init or Path("default")

@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for faces, runs and the page.")] = Path("demo"),
    faces: Annotated[int, typer.Option(help="Number of synthetic faces.", min=64)] = 1200,
    seed: Seed = 0,
    sets: Sets = None,
):
    """Train a PSR and its baseline on synthetic faces and show both on one page.

    Example: psr-fer demo
    """
    from psr_fer.reproduce.run import run_demo
    with _stoppable(): run_demo(out, n=faces, seed=seed, sets=sets or (), say=_say)

@app.command()
def generate(
    dest: Annotated[Path, typer.Argument(help="Folder to make.")],
    faces: Annotated[int, typer.Option(help="How many.", min=1)] = 1200,
    splits: Annotated[str, typer.Option(metavar="TRAIN,VALID,TEST", help="Shares of the three splits.")] = "0.7,0.15,0.15",
    seed: Seed = 0,
):
    """Generate a data set of synthetic faces, in the layout of FER+, for trying everything without real ones.

    Example: psr-fer generate faces --faces 4000 --splits 0.25,0.125,0.625
    """
    try: shares = tuple(float(o) for o in splits.split(","))
    except ValueError: raise ValueError(f"--splits {splits!r} must be three shares with commas, as in --splits 0.7,0.15,0.15.") from None
    from psr_fer.data.synthetic import synthetic_faces
    counts = synthetic_faces(dest, faces, seed, shares)["split"].value_counts()
    _say(f"{dest}: " + ", ".join(f"{counts.get(o, 0):,} {o}" for o in ("train", "valid", "test")))

app.command("draw", hidden=True)(generate)  # name of earlier releases


@app.command()
def data(
    root: Annotated[Path, typer.Argument(help="Folder of FER+, RAF-DB or AffectNet, in any layout.", callback=_data_folder)],
    labels: Annotated[str, typer.Option(help="FER+: label file, fer2013new.csv (the paper's) or label.csv.")] = "fer2013new.csv",
    protocol: Annotated[str, typer.Option(help="FER+: rule that makes one label of the annotators' votes: paper, microsoft or argmax.")] = "paper",
    classes: Annotated[Optional[int], typer.Option(help="AffectNet: 8 or 7 classes.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the figures: sizes, classes, samples.")] = Path("figures"),
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Print only, draw nothing.")] = False,
    resize: Annotated[Optional[str], typer.Option(help="FER+: write a copy with faces of different original sizes to --out instead: mixed, uniform or paper.")] = None,
    train_share: Annotated[float, typer.Option(help="With --resize: share of the training faces to keep.")] = 1.,
    skip_bad: SkipBad = False,
):
    """Print what a data set is, check every file, and compare its counts with the paper's.

    Example: psr-fer data ~/FERPlus --out figures, or psr-fer data ~/FERPlus --resize mixed --out ~/FERPlus-mixed
    """
    _reading(root)
    if resize:
        from psr_fer.data.resize import resize_ferplus
        resize_ferplus(root, out, resize, train_share, _say)
        return
    from psr_fer.data.datasets import overview
    overview(root, labels=labels, protocol=protocol, n_classes=classes, out=None if no_figures else out, skip_bad=skip_bad, say=_say)

_valued_here = ("--out", "--ledger", "--results", "--cache", "--minutes", "--track", "--seeds") # where and how it ran on this machine
_here = (*_valued_here, "--fresh")

def _command(args=None, own=None): # what reproduces this run elsewhere; own: folder of one's own faces
    args, out = list(sys.argv[1:] if args is None else args), ["psr-fer"]
    while args:
        o = args.pop(0)
        name, eq, _ = o.partition("=")
        if name in ("--data", *_valued_here) and not eq and args: args.pop(0) # its value
        if name == "--data": out += ["--data", "DATA"]
        elif name not in _here: out.append("DATA" if own and o == str(own) else o)
    return shlex.join(out)

def _seeds(text): # "0 1 2" or "0,1,2" -> integers
    try: return [int(o) for o in (text or "").replace(",", " ").split()]
    except ValueError: raise ValueError(f"--seeds {text!r} must be whole numbers, as in --seeds 0 1 2.") from None

@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, see psr-fer recipes, "
        "or your own images: class folders, or a CSV with path and label.")],
    data: Annotated[Optional[Path], typer.Option(help="Folder of the data set.")] = None,
    out: Annotated[Optional[Path], typer.Option(help="Folder of the run; with --seeds, the folder of their folders. "
        "[default: runs/RECIPE__sSEED, with the folder's name for your own images]")] = None,
    seed: Seed = 0,
    seeds: Annotated[Optional[str], typer.Option(metavar="0 1 2",
        help="Several seeds one after another, with mean and standard deviation at the end.")] = None,
    sets: Sets = None,
    init: Annotated[Optional[Path], typer.Option(help="Run folder or checkpoint to start from, instead of the warm-up.")] = None,
    labels: Annotated[Optional[str], typer.Option(help="FER+: label file, fer2013new.csv (default) or label.csv.")] = None,
    protocol: Annotated[Optional[str], typer.Option(help="FER+: paper (default), microsoft or argmax.")] = None,
    fold: Annotated[Optional[int], typer.Option(help="RAF-DB: which of the five folds of train validates (default 0).")] = None,
    cache: Annotated[str, typer.Option(help="Decoded faces: memory, or a folder for files that later runs read.")] = "memory",
    minutes: Annotated[float, typer.Option(help="Minutes between checkpoints within an epoch.", min=0)] = 10,
    track: Annotated[Optional[str], typer.Option(help="tensorboard or wandb; nothing is sent anywhere without it.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Overwrite the run that the folder holds.")] = False,
    results: Annotated[Optional[Path], typer.Option("--results", "--ledger", help="Folder that also gets the run's record.")] = None,
    skip_bad: SkipBad = False,
):
    """Train a recipe, pick by the validation split, test once. Started again, it resumes.

    Example: psr-fer train ferplus-lite --data ~/FERPlus --seeds 0 1 2
    """
    from psr_fer.recipes import RECIPES, get_recipe
    name = recipe
    if recipe not in RECIPES and data is None: recipe, name, data, init = _own_faces(recipe, RECIPES, init)
    made, numbers = get_recipe(recipe, sets or ()), _seeds(seeds)
    if data is None: raise ValueError(f"--data is missing: give the folder of the data set, as in psr-fer train {recipe} --data FOLDER.")
    from psr_fer.runs import train_run, train_seeds
    read = {k: v for k,v in dict(labels=labels, protocol=protocol, fold=fold).items() if v is not None}
    command = _command(own=data if recipe == "own-faces" else None)
    how = dict(init=init, cache=cache, minutes=minutes, track=track, fresh=fresh, skip_bad=skip_bad)
    kept = dict(command=command, results=results, say=_say)
    folder = out or Path("runs")/f"{name}__s{seed}"
    with _stoppable():
        if numbers: train_seeds(made, data, out or Path("runs"), numbers, **read, **how, **kept)
        else: train_run(made, data, folder, seed, **read, **how, **kept)
    if recipe == "own-faces" and not numbers: _say(f"Use it: psr-fer predict IMAGES --weights {folder}")

def _plain(v): return "yes" if v is True else "no" if v is False else f"{v:g}" if isinstance(v, float) else str(v)

def _print_table(head, rows): # columns as wide as they need to be
    from rich.console import Console
    from rich.table import Table
    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for o in rows: table.add_row(*map(_plain, o))
    console = Console()
    if not console.is_terminal: console = Console(width=200)
    console.print(table)

@app.command()
def recipes(
    name: Annotated[Optional[str], typer.Argument(help="One of them: every field with its value, unit and source.")] = None,
    sets: Sets = None,
):
    """List all recipes, or show one: where each value comes from, and what differs from the paper.

    Example: psr-fer recipes ferplus-paper
    """
    from psr_fer.recipes import RECIPES, UNITS, differences, get_recipe, sources
    if name is None:
        columns = ("name","dataset","model","arch","size","loss","epochs","weights","source")
        _print_table(columns, [[getattr(o, k) for k in columns] for o in RECIPES.values()])
        return
    recipe = get_recipe(name, sets or ())
    _say(f"{recipe.name}: {recipe.source}", "")
    _print_table(("field","value","unit","where from"), [(k, getattr(recipe, k), UNITS.get(k, ""), v) for k,v in sources(recipe).items()])
    changed = differences(recipe)
    if changed:
        _say("", "Differs from the paper's recipe:")
        _print_table(("field","here","paper"), [(k, *v) for k,v in changed.items()])

@app.command(name="lr-find")
def lr_find(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; psr-fer recipes lists them.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.", callback=_data_folder)],
    out: Annotated[Path, typer.Option(help="Folder for the curve: lr-find.csv and lr-find.png.")] = Path("lr-find"),
    init: Annotated[Optional[Path], typer.Option(help="Run folder or checkpoint to start from.")] = None,
    steps: Annotated[int, typer.Option(min=10, help="Training steps; the learning rate grows with each.")] = 100,
    seed: Seed = 0,
    sets: Sets = None,
    labels: Annotated[Optional[str], typer.Option(help="FER+: label file, fer2013new.csv (default) or label.csv.")] = None,
    skip_bad: SkipBad = False,
):
    """Suggest a learning rate for each block of a recipe, from the loss over a growing rate.

    Example: psr-fer lr-find ferplus-lite --data ~/FERPlus
    """
    from psr_fer.recipes import get_recipe
    made = get_recipe(recipe, sets or ())
    _reading(data)
    from psr_fer.runs import find_learning_rate
    read = dict(labels=labels) if labels else {}
    with _stoppable(): find_learning_rate(made, data, out, init, steps, seed, say=_say, skip_bad=skip_bad, **read)

@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a .safetensors file with its .json.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.", callback=_data_folder)],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    tta: Annotated[Optional[int], typer.Option(min=0,
        help="Number of test-time views per face; 0 or 1 for none. [default: as the run did]")] = None,
    skip_bad: SkipBad = False,
):
    """Evaluate saved weights on a split of a data set.

    Example: psr-fer evaluate runs/ferplus-lite__s0 --data ~/FERPlus
    """
    from psr_fer.runs import evaluate_run
    evaluate_run(run, data, split, tta, skip_bad=skip_bad, say=_say)

@app.command()
def report(
    runs: Annotated[List[Path], typer.Argument(help="Folders of finished runs, or one folder of results.")],
    out: Annotated[Optional[Path], typer.Option(help="Page to write; an earlier report there is replaced. "
        "[default: RUN/report.html; of several runs report.html, here]")] = None,
    data: Annotated[Optional[Path], typer.Option(help="Folder of the data set: adds accuracy by size "
        "(takes minutes where all faces have one) and the most wrong faces.")] = None,
):
    """One self-contained page about finished runs, or about a folder of results.

    Example: psr-fer report runs/ferplus-lite__s0 runs/ferplus-lite-baseline__s0
    """
    from psr_fer.reproduce.report import report as write
    with _stoppable(): _say(f"Look at it: {write(runs, out, data, _say).resolve()}")

@app.command()
def predict(
    paths: Annotated[List[str], typer.Argument(help="Images, folders, videos, or 'webcam'.")],
    weights: Annotated[Optional[Path], typer.Option(help="Folder of a run, a .safetensors file with its .json, or an .onnx file. "
        "[default: the bundled weights]")] = None,
    out: Annotated[Optional[Path], typer.Option(help="Results: a .csv, .json or .parquet file.")] = None,
    draw: Annotated[Optional[Path], typer.Option(help="Folder for annotated copies of the images.")] = None,
    no_detect: Annotated[bool, typer.Option("--no-detect", help="The images are cropped faces already; look for none.")] = False,
    detector: Annotated[str, typer.Option(help="Face detector: auto (the best that is installed) or haar.")] = "auto",
    video: Annotated[bool, typer.Option("--video", help="Also read the videos in folders, and files of any name as videos.")] = False,
    every: Annotated[int, typer.Option(help="Of a video, take every n-th frame.", min=1)] = 1,
    branches: Annotated[bool, typer.Option("--branches", help="Also the prediction of each branch: "
        "columns branch.NAME.CLASS in the results, and how often each agrees.")] = False,
    batch_size: Annotated[int, typer.Option(help="Faces predicted together.", min=1)] = 64,
    backend: Annotated[str, typer.Option(help="auto, onnx (onnxruntime, starts at once) or torch (run folders, GPUs).")] = "auto",
    urls: Annotated[bool, typer.Option("--urls", help="Also fetch URLs (https://...) from the web.")] = False,
):
    """Find the faces in images, folders and videos and predict their expressions.

    Example: psr-fer predict photos --weights runs/ferplus-lite__s0 --out results.csv --draw annotated
    """
    from psr_fer.predict import predict_paths
    with _stoppable():
        done = predict_paths(paths, weights, out, draw, detect=not no_detect, every=every, video=video, bs=batch_size, allow_urls=urls, say=_say,
                             branches=branches, detector=detector, backend=backend)
    if done["stopped"]: raise typer.Exit(130) # by Ctrl-C; what was read has been written
    if done["broken"] and not done["pictures"]: raise typer.Exit(2) # nothing could be read

@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, a checkpoint, or default.")],
    out: Annotated[Optional[Path], typer.Option(help=".onnx file to write. [default: next to the weights; of the bundled ones, here]")] = None,
    int8: Annotated[Optional[Path], typer.Option(help="Folder of the data set: its validation faces calibrate an int8 file "
        "next to the other, its test faces compare the two.")] = None,
    format: Annotated[str, typer.Option(hidden=True, help="onnx; earlier versions had others.")] = "onnx",
    table: Annotated[Optional[Path], typer.Option(hidden=True, help="Moved to benchmarks/export.py.")] = None,
):
    """Write a model as ONNX for other programs: pixels in, probabilities out, labels and normalisation inside.

    Example: psr-fer export runs/ferplus-lite__s0
    """
    if table: raise ValueError(f"--table has moved: python benchmarks/export.py {run} DATA --out {table} compares size, speed and accuracy.")
    from psr_fer.export import export_int8, export_model, metadata
    path = export_model(run, out, format)
    about = metadata(path)
    _say(f"{path}: {path.stat().st_size/1e6:.2f} MB",
         f"\ntakes {about['input']}",
         f"\nof a photo: {about['preprocessing']}",
         f"\ngives {about['output']}: {', '.join(about['labels'])}")
    if int8: export_int8(run, path, int8, _say)

@app.command("app")
def page(
    weights: Annotated[Optional[Path], typer.Option(
        help="Run folder or checkpoint. [default: the bundled weights]")] = None,
    baseline: Annotated[Optional[Path], typer.Option(help="Run folder or checkpoint of a baseline to compare with.")] = None,
    port: Annotated[int, typer.Option(help="Port on this computer.", min=1, max=65535)] = 7860,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
):
    """A web page for images and the camera; nothing leaves this computer.

    Example: psr-fer app --weights runs/ferplus-lite__s0
    """
    from psr_fer.app import run_app
    with _stoppable(): run_app(weights, baseline, port, not no_browser, _say)

_MOVED = dict(ship="python tools/bundle_weights.py RUN --data DATA", bench="python benchmarks/model.py, or python benchmarks/loaders.py --data DATA")


def _moved(name):
    def command(ctx: typer.Context): raise ValueError(f"{name} has moved: {_MOVED[name]}, in a clone of the package.")
    command.__doc__ = f"Moved out of the package.\n\n    Example: psr-fer {name}\n    "
    app.command(name, hidden=True, context_settings=dict(ignore_unknown_options=True, allow_extra_args=True))(command)


for _name in _MOVED: _moved(_name)


@app.command("train-sr")
def train_sr(
    data: Annotated[Path, typer.Option(help="Folder of the data set; its training split is used.", callback=_data_folder)],
    out: Annotated[Path, typer.Option(help="Folder for edsr.safetensors, its JSON and a picture.")] = Path("sr"),
    scale: Annotated[int, typer.Option(help="Enlargement: 2, 3 or 4.", min=2, max=4)] = 2,
    blocks: Annotated[int, typer.Option(help="Residual blocks; 16 is EDSR's baseline.", min=0)] = 16,
    features: Annotated[int, typer.Option(help="Features; 64 is EDSR's baseline.", min=3)] = 64,
    epochs: Annotated[int, typer.Option(help="Passes over the faces.", min=1)] = 1,
    size: Annotated[Optional[int], typer.Option(help="Pixels of the large image. [default: the faces' median, at most 96]", min=16)] = None,
    down: Annotated[str, typer.Option(help="How faces are downsampled: antialias, or mean (the pyramid's pooling).")] = "antialias",
    seed: Seed = 0,
    skip_bad: SkipBad = False,
):
    """Train the super-resolution network on a data set's own faces and compare it with bicubic.

    Example: psr-fer train-sr --data ~/FERPlus --blocks 2 --features 16
    """
    from psr_fer.data.datasets import read_folder
    from psr_fer.super_resolution import train_upscaler
    train_upscaler(read_folder(data, skip_bad=skip_bad), out, scale, blocks, features, epochs, size, down, seed, _say)

@app.command()
def reproduce(
    names: Annotated[List[str], typer.Argument(
        help="Tables and figures of the paper: table2 to table8, fig1, fig2, fig4 to fig12; and of ours: reduced, changes.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.", callback=_data_folder)],
    recipe: Annotated[str, typer.Option(help="lite, paper, authors or efficientnet.")] = "lite",
    seeds: Annotated[str, typer.Option(metavar="0 1 2", help="One training per seed.")] = "0",
    results: Annotated[Path, typer.Option(help="Folder of the records, one per training.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs/reproduce"),
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("figures"),
    sets: Sets = None,
    labels: Annotated[Optional[str], typer.Option(help="FER+: label file, fer2013new.csv (default) or label.csv.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what is left and how long it takes.")] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: hand the trainings to a Ray cluster.")] = "local",
    cpus: Annotated[int, typer.Option(help="Processors of one Ray job.", min=1)] = 1,
    epochs: Annotated[int, typer.Option(help="fig2, fig11: epochs at each image size.", min=1)] = 20,
    hours: Annotated[Optional[float], typer.Option(help="Time budget in hours: a few steps of each network are timed, "
        "and what fits is trained (tables and fig10).", min=0)] = None,
):
    """Run what is missing of the paper's tables and figures and compare ours with the paper's.

    Example: psr-fer reproduce table5 fig6 --data ~/FERPlus --seeds 0 1 2
    """
    from psr_fer.recipes import parse_sets
    numbers = _seeds(seeds)
    if recipe not in ("lite", "paper", "authors", "efficientnet"): raise ValueError(f"--recipe {recipe!r} is none of lite, paper, authors, efficientnet.")
    changes = tuple(parse_sets(sets or ()).items())
    _reading(data)
    from psr_fer.reproduce import reproduce as run
    with _stoppable():
        run(names, data, recipe, numbers, results, runs, out, changes, labels, dry_run, engine, cpus, epochs, hours, _say)

_bench_help = "Measure speed on this machine.\n\nExample: psr-fer bench model --sizes 48 --ksteps 1 --batches 16 --seconds 1"
def _join_numbers(args): # --seeds 0 1 2 -> --seeds "0 1 2"
    if "--seeds" not in args: return args
    i = args.index("--seeds") + 1
    j = next((k for k in range(i, len(args)) if not args[k].isdigit()), len(args))
    return [*args[:i], " ".join(args[i:j]), *args[j:]] if j > i + 1 else args

def main():
    "Entry point of `psr-fer`: bad input ends with one sentence and exit code 2, an interruption with 130."
    try: app(_join_numbers(sys.argv[1:]))
    except (ValueError, OSError, FloatingPointError, ImportError) as e:
        print(f"psr-fer: {e}", file=sys.stderr); sys.exit(2)

if __name__ == "__main__": main()  # python -m psr_fer.cli, for accelerate launch
