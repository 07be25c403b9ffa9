"Tables and figures of the paper as a command: what is missing is trained, what is there is reused."
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from psr_fer.callbacks import half_precision
from psr_fer.checkpoints import read_json, write_json
from psr_fer.data.datasets import compare_counts, detect_dataset, papers_counts, read_dataset, read_folder, sample_images
from psr_fer.data.synthetic import synthetic_faces
from psr_fer.data.loaders import PixelCache, dls_from_table
from psr_fer.data.table import class_counts, label_prior, split_of
from psr_fer.emotions import EMOTIONS, IMAGENET_STATS, prior
from psr_fer.figures import image_grid, plot_branches, plot_classes, plot_confusion, plot_sizes, save, size_counts
from psr_fer.interpret import by_size, correct_by_reduced_size, discrepancy, gains, mean_by_reduced_size, pixels, plot_faces
from psr_fer.models.backbone import make_backbone, smallest_side
from psr_fer.recipes import Recipe, get_recipe, run_file
from psr_fer.reproduce.paper import DATA_NAMES, EXPERIMENTS, FIGURE_NAMES, NAMES, READER, SIZES, Configuration, configuration_recipe, configurations
from psr_fer.reproduce.paper import figure_text, reproduce_command, train_command
from psr_fer.reproduce.report import Part, check_page_out, original_sizes, other_sizes, page, parts_of_runs, plot_cut, plot_numbers, plot_size_change, render_results, size_part
from psr_fer.reproduce.results import FigureNumbers, read_results, section
from psr_fer.reproduce.statistics import compare, verdict
from psr_fer.runs import CompletedRun, Run, build, build_model, during, fingerprint, fit_stage, new_edsrs, recipe_learner, train_run

# ---- how long

def _step_seconds(model, px, n, precision):  # of a training step without its optimiser, the faster one of two after a first one
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, x, times = model.to(device).train(), torch.rand(n, 3, px, px, device=device), []
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16, enabled=precision != "float32"): out = model(x)
        out.float().sum().backward()
        if device.type == "cuda": torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])

def training_hours(recipe: Recipe, n_train: int, n_valid: int = 0) -> float:
    "About how long a recipe takes on this machine: a few steps of each stage are timed on random images."
    r, usual = recipe, min(recipe.batch_size, 32)
    auto = half_precision(torch.device("cuda")) if torch.cuda.is_available() else "float32"
    def baseline(px): return build_model(replace(r, model="baseline"), len(EMOTIONS), px), px
    stages = [(*baseline(px), epochs, usual) for px, epochs in r.base]
    if r.base: stages.append((*baseline(r.base[0][0]), r.frozen_epochs, usual))
    edsrs = new_edsrs(r) if r.model == "psr" and r.enlarge == "edsr" else []
    if r.sr_epochs and r.sr_weights == "none": stages += [(o, r.size//o.scale, r.sr_epochs, 16) for o in edsrs]
    stages.append((build_model(r, len(EMOTIONS), sr=edsrs or None), r.size, r.epochs + r.sgd_epochs, usual))
    precision = auto if r.precision == "auto" else r.precision
    return sum(epochs*(n_train + n_valid/3)/bs*_step_seconds(model, px, bs, precision) for model, px, epochs, bs in stages)/3600

_SPEED = ("model", "arch", "size", "kstep", "enlarge", "sr", "sr_epochs", "base", "frozen_epochs", "batch_size", "epochs", "sgd_epochs", "precision")  # fields that time depends on

def estimate(jobs: Sequence["Job"], n_train: int, n_valid: int = 0) -> list[float]:
    "Hours of each job on this machine; each kind of network is timed once."
    kinds = [tuple(getattr(j.recipe, k) for k in _SPEED) for j in jobs]
    hours = {k: training_hours(j.recipe, n_train, n_valid) for k, j in dict(zip(kinds, jobs, strict=True)).items()}
    return [hours[k] for k in kinds]

def _faces(dataset, data, read):  # of training and validation
    n = read_dataset(dataset, data, check_files=False, **(read or {}))["split"].value_counts()
    return int(n["train"]), int(n.get("valid", 0))

# ---- trainings

@dataclass(frozen=True)
class Job:
    "A training that an experiment needs."
    experiment: str  # key of EXPERIMENTS, or of FIGURE_NAMES
    configuration: Configuration
    recipe: Recipe
    seed: int

def plan(names: Sequence[str], dataset: str, preset: str = "lite", seeds: Sequence[int] = (0,), overrides: tuple = ()) -> list[Job]:
    "What the experiments need, whether it is done or not, each training once; seed by seed, so that every configuration has a number early."
    jobs = {}
    for seed in seeds:
        for name in names:
            for c in configurations(name, dataset, preset):
                recipe = configuration_recipe(c, dataset, preset, overrides)
                jobs.setdefault((recipe.name, seed), Job(name, c, recipe, seed))
    return list(jobs.values())

def run_folder(runs: str | Path, name: str, seed: int) -> Path:
    "Where a training of an experiment is kept."
    return run_file(runs, name, seed).with_suffix("")

def run_job(job: Job, data, runs, results, read: dict | None = None, say: Callable = print):
    "Train one configuration, or resume it, and put its record into the results."
    return train_run(job.recipe, data, run_folder(runs, job.recipe.name, job.seed), job.seed, say=say, results=results,
                     command=train_command(job.recipe, job.seed, read), **(read or {}))

def _with_ray(jobs, data, runs, results, read, say, cpus):  # the same jobs on a cluster
    try: import ray
    except ImportError: raise ValueError("--engine ray needs the package ray; pip install \"psr_fer[ray]\".") from None
    started = not ray.is_initialized()
    if started: ray.init(log_to_driver=False, include_dashboard=False)
    f = ray.remote(num_cpus=cpus, num_gpus=int(ray.cluster_resources().get("GPU", 0) > 0), max_retries=2, retry_exceptions=[OSError, RuntimeError])(run_job)
    folders = [str(Path(o).resolve()) for o in (data, runs, results)]  # a worker has a working folder of its own
    failed, pending = [], {f.remote(j, *folders, read, lambda *_: None): j for j in jobs}
    while pending:
        (done,), _ = ray.wait(list(pending), num_returns=1)
        job = pending.pop(done)
        try: say(f"{job.recipe.name} seed {job.seed}: WA {ray.get(done).test['wa']:.2%}; {len(pending)} left")
        except ray.exceptions.RayError as e:
            cause = getattr(e, "cause", None) or e
            failed.append(f"{job.recipe.name} seed {job.seed} ({type(cause).__name__}: {(str(cause).strip() or '?').splitlines()[-1][:300]})")
            say(f"failed: {failed[-1]}; {len(pending)} left")
    if started: ray.shutdown()
    if failed: raise ValueError(f"{len(failed)} of {len(jobs)} trainings failed, the others are in the results; the same command tries these again: {'; '.join(failed)}.")

def run_experiments(names: Sequence[str],  # of EXPERIMENTS or FIGURE_NAMES
                    data, dataset: str, preset: str = "lite", seeds: Sequence[int] = (0,), results="results", runs="runs/reproduce", overrides: tuple = (),
                    read: dict | None = None,  # arguments of the reader
                    dry_run: bool = False,  # only report what is left, and how long it takes
                    engine: str = "local",  # "local": one after another here; "ray": on a Ray cluster
                    cpus: int = 1,  # processors of one Ray job
                    hours: float | None = None,  # time budget: train only what fits
                    kept: bool = False,  # done is only what has its run folder, too: figures need the weights
                    say: Callable = print) -> list[Job]:  # those that were left to do
    "Run what the results do not have yet."
    if engine not in ("local", "ray"): raise ValueError(f"engine {engine!r} is none of local, ray.")
    jobs, records = plan(names, dataset, preset, seeds, overrides), read_results(results)
    todo = [j for j in jobs if (j.recipe.name, j.seed) not in records or kept and not (run_folder(runs, j.recipe.name, j.seed)/"model.safetensors").exists()]
    say(f"{len(jobs)} trainings, {len(jobs) - len(todo)} done, {len(todo)} to run")
    if todo and (dry_run or hours is not None):
        need = estimate(todo, *_faces(dataset, data, read))
        say(f"about {sum(need):.2g} hours on this machine")
        if hours is not None:
            fits = np.cumsum(need) <= hours
            todo = [j for j, o in zip(todo, fits, strict=True) if o]
            say(f"{sum(fits)} of {len(fits)} fit into {hours:g} hours")
    for j in todo: say(f"  {j.experiment}: {j.configuration.what}, seed {j.seed} ({j.recipe.name})")
    if dry_run or not todo: return todo
    if engine == "ray": _with_ray(todo, data, runs, results, read, say, cpus)
    for i, j in enumerate(todo if engine == "local" else (), 1):
        say(f"\n[{i} of {len(todo)}] {j.configuration.what}, seed {j.seed}")
        run_job(j, data, runs, results, read, say)
    return todo

# ---- figures from finished runs

def _share_correct(finished):  # "fused" and each branch -> (N,) share of the seeds that predict a face correctly
    each = [o.correct() for o in finished]
    return {k: np.mean([o[k] for o in each], 0) for k in each[0]}

def _reduced(psr, base, table):  # accuracy of down- and upsampled faces, mean over the seeds, with the comparison at each size
    test = dls_from_table(table, size=tuple(psr[0].model.size), augment=None)[2]
    seeds = [{k: correct_by_reduced_size(o.model, test) for k, o in (("PSR", p), ("baseline", b))} for p, b in zip(psr, base, strict=True)]
    out, claims = sum(map(mean_by_reduced_size, seeds))/len(seeds), []
    for px in out.index:
        c = compare(100*np.stack([o["PSR"][px]["fused"].astype(float) - o["baseline"][px]["fused"] for o in seeds]), n=2000)
        claims.append(dict(pixels=int(px), points=c.estimate, low=c.low, high=c.high, by_seed=list(c.by_seed), seeds=c.seeds, p=c.p, verdict=verdict(c)))
    return out, claims

def figure_numbers(name: str, psr: list, base: list, table, dataset: str = "", command: str = "") -> FigureNumbers:
    "The numbers of fig7, fig8, fig9 or reduced from finished runs, one per seed. ValueError where the data set cannot have it."
    recipes = list(dict.fromkeys(o.record.recipe for o in (*psr, *base)))
    about = name, dataset, [o.record.seed for o in psr], recipes, command
    if name == "reduced": return FigureNumbers(*about, *_reduced(psr, base, table))
    sizes = original_sizes(split_of(table, "test"))
    if len(set(sizes)) == 1: raise ValueError(f"all faces of this data set have {sizes[0]:.0f} pixels; use `reduced`, which makes them smaller")
    correct = _share_correct(psr) if name == "fig9" else {k: _share_correct(o)["fused"] for k, o in (("PSR", psr), ("baseline", base))}
    t = by_size(sizes, correct, limit=100 if (sizes < 100).sum() > 200 else None, skip=min(20, len(sizes)//4)) # the paper looks at faces below 100 px
    return FigureNumbers(*about, discrepancy(t) if name == "fig8" else t)

def _which(dataset, preset, overrides):  # of a figure's file: no recipe's numbers pass for another's
    changed = sorted((k, v) for k, v in overrides if k not in READER)
    return (dataset if preset == "lite" else f"{dataset}-{preset}") + "".join("+" + re.sub(r"[^\w.=-]", "_", f"{k}={json.dumps(v)}") for k, v in changed)

def _finished(runs, name):  # all finished seeds of a recipe
    stem = run_file("", name, 0).stem.removesuffix("0")  # up to the seed
    return {o.record.seed: o for o in (CompletedRun(f.parent) for f in sorted(Path(runs).glob(f"{stem}*/metrics.json")))}

def draw(names, data, dataset, preset="lite", results="results", runs="runs/reproduce", out="figures", read=None, overrides=(), say: Callable = print) -> list[Path]:
    "Draw fig6 to fig10 and fig12 from finished runs; what has no run is reported."
    done, table, which = [], None, _which(dataset, preset, overrides)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in names:
        fig, real = None, name == "fig12" and dataset != "synthetic"
        try:
            if name == "fig10":
                s = section("fig10", read_results(results), dataset, preset, overrides)
                fig = plot_cut(s) if s.measured else None
            else:
                each = [_finished(runs, configuration_recipe(c, dataset, preset, overrides).name) for c in configurations(name, dataset, preset)]
                seeds = sorted(set.intersection(*map(set, each)))
                psr, base = ([o[s] for s in seeds] for o in (each[0], each[-1]))
                if seeds and table is None: table = read_dataset(dataset, data, **(read or {}))
                if seeds and name == "fig6": fig = plot_confusion({k: o[0].record.test for k, o in (("PSR", psr), ("baseline", base))}, psr[0].classes)
                elif seeds and name == "fig12":
                    test = split_of(table, "test")
                    rows = gains(test, psr[0].probabilities, base[0].probabilities).head(12)
                    fig = plot_faces(test, rows) if len(rows) else None
                elif seeds:
                    n = figure_numbers(name, psr, base if name != "fig9" else [], table, dataset, reproduce_command(name, preset, overrides, seeds))
                    write_json(Path(results)/f"{name}-{which}.json", dict(name=name, seeds=n.seeds, dataset=dataset, recipes=n.recipes, command=n.command, **n.table.round(6).to_dict("split"), claims=n.claims))
                    fig = plot_numbers(n)
        except ValueError as e: say(f"{name}: {e}"); continue
        if fig is None: say(f"{name}: not run; psr-fer reproduce {name} trains what it needs")
        else:
            done.append(Path(save(fig, Path(out)/f"{name}-{which}.png")))
            say(f"figure: {done[-1]}" + (" (real faces: look, do not publish)" if real else ""))
    return done

# ---- Figures 2 and 11: the image size changes during training

def _size_change(model, recipe, table, out, sizes, seed, say):  # losses per epoch, jumps, `untrained`: loss of the same weights at the old size and the new one
    run, file, untrained, dls = Run(out, recipe, table, seed, say), Path(out)/"size_change.json", [], None
    run.start()
    done = read_json(file) if file.exists() else {}
    if done and done["sizes"] != list(sizes): raise ValueError(f"{out} holds another run (its sizes are {', '.join(map(str, done['sizes']))}); choose another folder.")
    if "untrained" in done: return done
    net = build(run, run.dls(recipe.size))
    for i, size in enumerate(sizes):
        before, dls = dls, run.dls(size)
        def loss(dls):
            learn = recipe_learner(recipe, dls, net)
            with learn.no_bar(), learn.no_logging(): return round(float(learn.validate()[0]), 4)
        if i: untrained.append([loss(o) for o in (before, dls)])
        fit_stage(run, f"{i+1}-{size}px", recipe_learner(recipe, dls, net), recipe.epochs, recipe.lr)
    h = pd.DataFrame(run.history)
    stages = h.groupby("stage", sort=False)["valid_loss"]
    result = dict(model=model, sizes=list(sizes), epochs=recipe.epochs, seed=seed, recipe=recipe.name, valid_loss=h["valid_loss"].round(4).tolist(), train_loss=h["train_loss"].round(4).tolist(),
                  jumps=(stages.first().to_numpy()[1:] - stages.last().to_numpy()[:-1]).tolist(), untrained=untrained,
                  minutes=round(h["seconds"].sum()/60, 1), device=during(run.history, "device"))
    write_json(file, result)
    return result

def change_recipes(names: Sequence[str], dataset: str, preset: str = "lite", overrides: tuple = ()) -> dict[str, Recipe]:
    "The recipes of Figs. 2 and 11: the baseline, for fig11 also PSR."
    return {m: configuration_recipe(Configuration(m, m, m), dataset, preset, overrides) for m in (("baseline", "psr") if "fig11" in names else ("baseline",))}

def change_sizes(dataset: str, preset: str, recipes) -> tuple[int, ...]:
    "The paper's sizes, or the nearest that all networks can take; pixels."
    sizes = SIZES["rafdb"] if dataset == "rafdb" else (32, 48, 64, 32) if preset == "lite" or dataset == "synthetic" else SIZES["ferplus"]
    least = max(smallest_side([make_backbone(r.arch)[0]])*(2**r.kstep if r.model == "psr" else 1) for r in recipes)
    return tuple(max(o, least) for o in sizes)

def _size_changes(names, data, dataset, preset, runs, results, out, epochs, seed, overrides, read, dry_run, say):
    models = change_recipes(names, dataset, preset, (*overrides, ("base", ()), ("epochs", epochs)))
    sizes, which, name = change_sizes(dataset, preset, models.values()), _which(dataset, preset, overrides), "fig11" if "fig11" in names else "fig2"
    say(f"{name}: {len(models)} training{'s' if len(models) > 1 else ''} of {epochs} epochs at each of {', '.join(map(str, sizes))} px. {other_sizes(sizes, dataset)}".strip())
    if dry_run:
        n, _ = _faces(dataset, data, read)
        return say(f"about {sum(training_hours(replace(r, size=px), n) for r in models.values() for px in sizes):.2g} hours on this machine")
    command, table = reproduce_command(name, preset, overrides, (seed,)) + f" --epochs {epochs}", read_dataset(dataset, data, seed, **(read or {}))
    done = [_size_change(m, r, table, run_folder(runs, f"size-change-{which}-{m}", seed), sizes, seed, say) for m, r in models.items()]
    for o in (results, out): Path(o).mkdir(parents=True, exist_ok=True)
    write_json(Path(results)/f"size-change-{which}.json", [dict(o, command=command) for o in done])
    say(f"figure: {save(plot_size_change(done), Path(out)/f'size-change-{which}.png')}")
    for o in done:
        same, later = (", ".join(f"{j:+.2f}" for j in js) for js in ([b - a for a, b in o["untrained"]], o["jumps"]))
        say(f"{o['model']}: when the size changes to {', '.join(map(str, o['sizes'][1:]))} px the validation loss of the same weights changes by {same}; an epoch later: {later}")

# ---- the data: Tables 2 and 3, Figures 1, 4 and 5

def reproduce_data(names, data, results="results", out="figures", labels: str = "fer2013new.csv", say: Callable = print) -> dict:
    "Check the paper's tables of the data, cell by cell, and draw its figures of the data; the results get sums only."
    table, done = read_folder(data, labels=labels), {}
    dataset = "synthetic" if detect_dataset(data) == "synthetic" else table.dataset
    for o in (results, out): Path(o).mkdir(parents=True, exist_ok=True)
    for name in names:
        held, fig, text = None, None, figure_text(name, dataset)
        if name == "table3":
            counts, cells, equal = compare_counts(table)
            say(counts.to_string())
            held = dict(cells=cells, equal=equal)
        elif name == "table2":
            if not set(EMOTIONS) <= set(table): raise ValueError(f"Table 2 needs label distributions, which {table.layout} does not have; it is about FER+.")
            ours, theirs = label_prior(table, classes=EMOTIONS).round(3), pd.DataFrame(prior(dtype=np.float64), EMOTIONS, EMOTIONS).round(3)
            say(ours.to_string())
            held = dict(cells=theirs.size, equal=int((ours == theirs).to_numpy().sum()))
        elif name == "fig1": held, fig = dict(sizes=size_counts(table)), plot_sizes(table, text.levels if text else ())
        elif name == "fig4": held, fig = dict(counts={k: {c: int(n) for c, n in v.items()} for k, v in class_counts(table).items()}), plot_classes(class_counts(table), papers_counts(dataset))
        else: fig = image_grid(sample_images(table))
        if fig is not None: say(f"figure: {save(fig, Path(out)/f'{name}-{dataset}.png')}" + (" (real faces: look, do not publish)" if name == "fig5" and dataset != "synthetic" else ""))
        if held is None: continue  # the faces of Fig. 5 stay on this disk
        if "equal" in held: say(f"{name}: {held['equal']} of {held['cells']} cells equal to the paper's")
        command = reproduce_command(name, overrides=(("labels", labels),) if labels != "fer2013new.csv" else ())
        done[name] = dict(name=name, dataset=dataset, labels=labels, **held, command=command, sha256=fingerprint(table)["sha256"])
        write_json(Path(results)/f"{name}-{dataset}.json", done[name])
    return done

def reproduce(names: Sequence[str],  # of NAMES
              data,  # folder of the data set
              preset: str = "lite",  # "lite", "paper", "authors" or "efficientnet"
              seeds: Sequence[int] = (0,),  # one training per seed
              results="results",  # folder of the records
              runs="runs/reproduce",  # folder of the run folders
              out="figures",  # folder of the figures
              sets: tuple = (),  # ((field, value), ...) changed for all configurations
              labels: str | None = None,  # FER+: label file
              dry_run: bool = False,  # see `run_experiments`
              engine: str = "local",  # see `run_experiments`
              cpus: int = 1,  # see `run_experiments`
              epochs: int = 20,  # epochs at each size of fig2 and fig11
              hours: float | None = None,  # see `run_experiments`
              say: Callable = print) -> None:
    "Run, evaluate, print and draw tables and figures of the paper."
    unknown = [o for o in names if o not in NAMES]
    if unknown: raise ValueError(f"the paper has no {unknown[0]!r} here; there are {', '.join(NAMES)}.")
    dataset = detect_dataset(data)
    if dataset == "affectnet8" and "table6-7" in names: dataset = "affectnet7"
    labels = labels or ("label.csv" if dataset == "synthetic" else None)
    read = dict(labels=labels) if labels else {}
    if labels and dataset == "ferplus": sets = (*sets, ("labels", labels))
    facts, tables, figures = [[o for o in names if o in group] for group in (DATA_NAMES, EXPERIMENTS, FIGURE_NAMES)]
    if facts and dry_run: say(f"{', '.join(facts)}: nothing to train, a reading of {data} gives them")
    elif facts: reproduce_data(facts, data, results, out, labels or "fer2013new.csv", say)
    train = partial(run_experiments, data=data, dataset=dataset, preset=preset, seeds=seeds, results=results, runs=runs, overrides=sets, read=read, dry_run=dry_run, engine=engine, cpus=cpus, say=say)
    if tables: train(tables, hours=hours)
    if figures: train(figures, kept=True)
    if {"fig2", "fig11"} & set(names): _size_changes(names, data, dataset, preset, runs, results, out, epochs, seeds[0], sets, read, dry_run, say)
    if dry_run: return
    records = read_results(results) if tables else {}
    for name in tables:
        s = section(name, records, dataset, preset, sets)
        say(f"\n{s.title}; the paper's data set is {s.experiment.dataset}")
        for r in s.rows: say(f"  {r.what:32s} {r.metric:9s} paper {r.paper_text() or '-':>6s}   ours {r.ours_text()}" + (f"   {r.seeds} seed{'s'*(r.seeds > 1)}" if r.seeds else ""))
        for c in s.claims: say(f"  {c}")
    draw([*figures, *(["fig10"] if "fig10" in tables else [])], data, dataset, preset, results, runs, out, read, sets, say)
    if Path(results).is_dir(): render_results(results)

# ---- the demo

def run_demo(out="demo",  # folder for faces, runs and page
             n: int = 1200,  # number of synthetic faces
             seed: int = 0,  # seed of everything random
             sets: Sequence[str] = (),  # "field=value" overrides of the demo recipes
             say: Callable = print) -> dict:  # model's name -> RunRecord
    "The main job on synthetic faces: a PSR and its baseline trained, evaluated and shown on one page. A second call resumes."
    out, names = Path(out), {"PSR": "synthetic-demo", "baseline": "synthetic-demo-baseline"}
    recipes = {k: get_recipe(o, sets) for k, o in names.items()}
    path = check_page_out(out/"index.html")
    text = f"The demo generates {n} synthetic faces, trains a PSR and its baseline on them and writes a page, {path}."
    if not all((out/k.lower()/"metrics.json").exists() for k in names):
        minutes = 60*sum(training_hours(r, math.ceil(.7*n), math.ceil(.15*n)) for r in (recipes["PSR"], replace(recipes["baseline"], base=())))
        text += f" About {max(1, round(minutes))} minute{'s' if minutes >= 1.5 else ''} of training on this machine."
    say(text)
    synthetic_faces(out/"faces", n=n, seed=seed)
    table, runs = read_dataset("synthetic", out/"faces", labels="label.csv"), {}
    for name, recipe in recipes.items():
        say(f"training the {name}")
        train_run(recipe, out/"faces", out/name.lower(), seed, table=table, say=say, command="psr-fer demo")
        runs[name] = CompletedRun(out/name.lower())
        runs[name].name = runs[name].short = name
    test = split_of(table, "test")
    sizes = original_sizes(test)
    small = int(np.argsort(sizes)[len(sizes)//50])
    def seen():  # what the branches see of one of the smallest faces
        model, (mean, std) = runs["PSR"].model, [torch.tensor(o).view(3, 1, 1) for o in IMAGENET_STATS]
        x = PixelCache(test, table.root, model.size)([small]).float().expand(-1, 3, -1, -1)/255
        with torch.no_grad(): return plot_branches([pixels(o)[0] for o in nn.Module.eval(model).images((x - mean)/std)], model.branch_names())
    page_parts = parts_of_runs(list(runs.values()))
    page_parts[1:1] = [size_part(list(runs.values()), sizes, "The pyramid is designed for small faces."),
                       Part("What the branches see", (f"A face of {int(sizes[small])} px, labelled {test['label'].iloc[small]}.",), figures={"Branch images": seen})]
    page_parts += [Part("The data set", ("Original sizes spread as in the paper's Figure 1.",), figures={"Original sizes": lambda: plot_sizes(table), "Classes": lambda: plot_classes(class_counts(table))})]
    intro = "PSR and its baseline, trained on synthetic faces on this machine. The numbers show that everything works, not how well PSR reads people; see the README for FER+."
    path.write_text(page("psr_fer demo", intro, page_parts), encoding="utf-8")
    for name, r in runs.items(): say("{:9s} WA {wa:.1%}  UA {ua:.1%}  macro-F1 {macro_f1:.1%}".format(name, **r.record.test))
    say(f"\nLook at it:           {path.resolve()}")
    say("Your own FER+ folder: psr-fer data FOLDER, then psr-fer train ferplus-lite --data FOLDER")
    return {k: r.record for k, r in runs.items()}
