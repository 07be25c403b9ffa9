"Reports: runs, the demo and a folder of results as one HTML page; results also as Markdown."
import base64
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import psr_fer
from psr_fer.checkpoints import atomic_write, read_checked
from psr_fer.data.datasets import papers_counts
from psr_fer.data.loaders import dls_from_table
from psr_fer.data.table import SPLITS, FaceTable, split_of
from psr_fer.figures import MODEL_COLORS, figure, model_look, plot_classes, plot_confusion, plot_history, plot_sizes, reference_line, save
from psr_fer.interpret import (REDUCED_SIZES, branch_report, by_size, correct_by_reduced_size, mean_by_reduced_size, plot_cumulative, plot_discrepancy,
                               plot_faces, plot_reduced_size)
from psr_fer.metrics import METRICS, bootstrap_difference, bootstrap_metric, ece, recall_table, reliability
from psr_fer.recipes import Recipe
from psr_fer.reproduce.paper import NAMES, SIZES, WHY, configuration_recipe, configurations, figure_text, reproduce_command
from psr_fer.reproduce.results import FigureNumbers, Section, all_sections, left_over, read_numbers, read_results, read_size_change, records_of
from psr_fer.runs import CompletedRun, table_of

@dataclass
class Part:
    "A part of a report."
    heading: str
    notes: tuple = ()  # sentences
    tables: list = field(default_factory=list)  # of DataFrame
    figures: dict = field(default_factory=dict)  # description -> () -> Figure, drawn only for HTML
    claims: tuple = ()  # of str
    commands: tuple = ()  # numbered from 1
    name: str = ""  # of `psr_fer.reproduce.paper.NAMES`
    measured: bool = True

# ---- figures of the paper from their numbers

def plot_cut(s: Section) -> Figure:
    "Box plots of the accuracy at each cutting point (Fig. 10), over seeds; with one seed a box is its median line."
    points = [(int(dict(c.overrides)["pos"]), r.values) for c, r in zip(s.experiment.configurations, s.rows) if r.values]  # noqa: B905 - a backbone may have fewer cuts
    if not points: raise ValueError("no configuration of fig10 was run; psr-fer reproduce fig10 --data DATA trains them.")
    text = figure_text("fig10", s.dataset)
    with figure(6, 2.8) as (fig, ax):
        pos, wa = zip(*points, strict=True)
        ax.boxplot(wa, positions=pos, medianprops=dict(color=MODEL_COLORS[0]), manage_ticks=False)
        for o in text.levels if text else (): reference_line(ax, *o)
        ax.set(title="WA by cutting point, %", xlabel="convolutions with a copy per branch (pos)", xticks=pos)
    return fig

FIGURE_TITLES = dict(fig7="WA of all test faces up to an original size (Fig. 7)", fig8="Lead of PSR over the baseline up to an original size (Fig. 8)",
                     fig9="WA of each branch up to an original size (Fig. 9)", reduced="WA of down- and upsampled test faces")

def plot_numbers(n: FigureNumbers) -> Figure:
    "Figures 7 to 9, or the accuracy of downsampled faces, from their numbers."
    if n.name == "reduced": return plot_reduced_size(n.table)
    text = figure_text(n.name, n.dataset)
    return dict(fig7=plot_cumulative, fig8=plot_discrepancy, fig9=plot_cumulative)[n.name](n.table, reference=text.levels if text else ())

def plot_size_change(results: Sequence[dict]) -> Figure:
    "Training and validation loss over epochs while the image size changes (Figs. 2 and 11)."
    with figure(8, 2.8, 1, len(results), sharey=True, squeeze=False) as (fig, axs):
        for ax, r in zip(axs[0], results, strict=True):
            color, x, change = MODEL_COLORS[r["model"] != "psr"], np.arange(1, len(r["valid_loss"]) + 1), np.arange(len(r["sizes"]))*r["epochs"] + .5
            ax.plot(x, r["train_loss"], color=color, label="train")
            ax.plot(x, r["valid_loss"], color=color, ls="--", label="valid")
            if "untrained" in r: ax.plot(change[1:], [new for _, new in r["untrained"]], "x", color=color, ms=5, label="valid, same weights, new size")
            for px, at in zip(r["sizes"], change, strict=True):
                ax.axvline(at, color="#bbbbbb", lw=.8, ls=":")
                ax.text(at + .02*x[-1], .98, f"{px} px", transform=ax.get_xaxis_transform(), va="top", fontsize=7, color="#666666")
            ax.set(title=f"{'PSR' if r['model'] == 'psr' else 'baseline'}: loss", xlabel="epoch")
        axs[0, 0].margins(y=.12)
        fig.legend(*axs[0, -1].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=7)
    return fig

def size_change_table(results: Sequence[dict]) -> pd.DataFrame:
    "How far the validation loss jumps at each change of the size; texts."
    sizes, rows = results[0]["sizes"], []
    for o in results:
        name = "PSR" if o["model"] == "psr" else "Baseline (VGG16)"
        if "untrained" in o: rows.append([name, "the same weights", *(f"{new - old:+.3f}" for old, new in o["untrained"])])
        rows.append([name, "an epoch later", *(f"{j:+.3f}" for j in o["jumps"])])
    return pd.DataFrame(rows, columns=["Network", "Change of the validation loss", *(f"{i}. {a} to {b} px" for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False), 1))])

# ---- a folder of results

_INTRO = ("Test accuracy in percent: mean over seeds, standard deviation, in parentheses the difference to the paper on its data set. Where the paper prints a mean and a maximum, "
          "means are compared. Claims are supported, contradicted or inconclusive by intervals over faces and seeds, corrected by Holm; fewer than three seeds are inconclusive. "
          "What was not run says why, with the command that runs it. Written by psr-fer reproduce from the records in this folder.")
_FIT = ("A record appears in a table only if it was trained as the table asks. By Table 8 the paper's baseline of 85.89 on RAF-DB (Tables 4 and 7) was trained with LS, so baselines trained "
        "with PDLS (85.77) appear in Tables 5 and 8 only. Table 8 is trained on single labels. Figure 9 is of the PSR without STN.")
_DATA_TITLES = dict(table2="Prior from the annotations (Table 2, Section III)", table3="Faces per class and split (Table 3, Section IV)",
                    fig1="Original sizes (Fig. 1, Section I)", fig4="Faces per class (Fig. 4, Section IV)")

def _paper(name, dataset):  # what the paper says of a figure, in a tuple, or an empty one
    t = figure_text(name, dataset)
    return () if t is None else (f"The paper ({t.where}): {t.text}",)

def _missing(name, heading, dataset, preset="paper", why=None):
    return Part(heading, (*_paper(name, dataset), f"{why or WHY.get(dataset, 'not run')}."), commands=(reproduce_command(name, preset),), name=name, measured=False)

def _section_part(s):
    t, same = s.table(), []
    for c in [o for o in t.columns[4:-1]] + ["Paper"]:  # what is the same in all rows needs no column
        values = set(t.get(c, [])) - {""}
        if c in t and not values: t = t.drop(columns=c)
        elif c in t and len(values) == 1 and c not in ("Seeds", "Paper"):
            t = t.drop(columns=c)
            same.append(f"{c[0].lower()}{c[1:]}: {values.pop()}")
    note = (f"The same in all rows: {'; '.join(same)}.",) if same else ()
    if not s.measured: t = t.replace("not run", WHY.get(s.dataset, "not run"))
    p = Part(s.title, (*_paper(s.name, s.dataset), *note), [t], claims=tuple(map(str, s.claims)), commands=tuple(s.commands), name=s.name, measured=s.measured > 0)
    if s.name == "fig10" and not s.measured: p.tables, p.notes = [], (*p.notes, f"{len(s.rows)} trainings {WHY.get(s.dataset, 'not run')}.")
    if s.name == "fig10" and s.measured > 1: p.figures = {"WA by cutting point": lambda: plot_cut(s)}
    return p

def _data_part(name, title, d):  # of the content of a file
    p = Part(f"{title}: {d['dataset']}", _paper(name, d["dataset"]), commands=(str(d["command"]),), name=name)
    if name.startswith("table"): p.tables = [pd.DataFrame([[d["labels"], int(d["cells"]), int(d["equal"])]], columns=["Label file", "Cells", "Equal to the paper's"]).astype(str)]
    elif name == "fig4":
        counts = pd.DataFrame(d["counts"]).astype(int)
        p.figures = {title: lambda: plot_classes(counts, papers_counts(d["dataset"]))}
    else:
        sizes, text = d["sizes"], figure_text("fig1", d["dataset"])
        if len(sizes["edges"]) != len(sizes["counts"]) + 1 or not np.isfinite([*sizes["edges"], *sizes["counts"], *(sizes[k] for k in ("faces", "mean", "sd", "largest"))]).all():
            raise ValueError("its numbers do not go together")
        p.figures = {title: lambda: plot_sizes(sizes, text.levels if text else ())}
    return p

def _data_parts(results):
    for name, title in _DATA_TITLES.items():
        found = sorted(Path(results).glob(f"{name}-*.json"))
        for file in found:
            yield read_checked(file, name, partial(_data_part, name, title))
        wanted = "rafdb" if name == "fig1" else "ferplus"
        if not any(o.stem.endswith(f"-{wanted}") for o in found): yield _missing(name, f"{title}: {wanted}", wanted, "lite", "not run: give your copy")
    yield _missing("fig5", "Sample faces (Fig. 5, Section IV)", "", "lite", "Images of real faces are not published: the command draws them on your disk")

def _pair_parts(records, sections):  # Figures 6 and 12, from the accuracy tables
    done = set()
    for s in sections:
        if s.name not in ("table4", "table5", "table6", "table6-7") or not {k for k, _ in s.overrides} <= {"weights", "sr_weights"}: continue
        psr, *base = [{o.seed: o for o in records_of(records, configuration_recipe(c, s.dataset, s.preset, s.overrides))} for c in configurations("fig6", s.dataset, s.preset)]
        if not psr: continue
        seed = min(psr.keys() & base[0].keys(), default=min(psr))
        each = {k: o[seed] for k, o in (("PSR", psr), ("baseline", base[0])) if seed in o}
        command = (reproduce_command("fig6", s.preset, s.overrides, (seed,)),)
        if all("confusion" in o.test for o in each.values()):
            done.add(("fig6", s.dataset))
            yield Part(f"Confusion (Fig. 6): {s.title}, seed {seed}", _paper("fig6", s.dataset), commands=command, name="fig6", figures={
                "Confusion": lambda e=each: plot_confusion({k: o.test for k, o in e.items()}, {k: list(o.test["recall"]) for k, o in e.items()})})
        if len(each) == 2 and all(o.predictions for o in each.values()):
            a, b = (o.correct() for o in each.values())
            done.add(("fig12", s.dataset))
            t = pd.DataFrame([[f"{n:,}" for n in (len(a), (a & b).sum(), (a & ~b).sum(), (~a & b).sum())]], columns=["Test faces", "Both correct", "Only PSR", "Only the baseline"])
            yield Part(f"Faces that only one of the two predicts correctly (Fig. 12): {s.title}, seed {seed}", (*_paper("fig12", s.dataset), "The faces themselves are not published."), [t],
                       commands=(command[0].replace("fig6", "fig12"),), name="fig12")
    for name, dataset in [("fig6", o) for o in ("rafdb", "ferplus", "affectnet7", "affectnet8")] + [("fig12", "rafdb")]:
        if (name, dataset) not in done: yield _missing(name, f"{'Confusion (Fig. 6)' if name == 'fig6' else 'Faces that PSR wins (Fig. 12)'}: {dataset}, paper recipes", dataset)

def _size_parts(results):
    for name, title in FIGURE_TITLES.items():
        found = [(o.stem.partition("-")[2], read_numbers(o)) for o in sorted(Path(results).glob(f"{name}-*.json"))]
        found = [(which, n) for which, n in found if name != "fig9" or all("+stn=false" in o for o in n.recipes)]  # the paper's is without STN
        for which, n in found:
            p = Part(f"{title}: {which}, {len(n.seeds)} seed{'s' if len(n.seeds) > 1 else ''}", _paper(name, n.dataset), figures={title: lambda n=n: plot_numbers(n)}, commands=(n.command,), name=name)
            if name == "reduced": p.tables = [n.table.mul(100).map("{:.2f}".format).reset_index().rename(columns=dict(pixels="Pixels")).astype(str)]
            p.claims = tuple(f"{c['pixels']:g} px, PSR minus baseline: {c['verdict']} ({c['points']:+.2f} points, 95 % interval {c['low']:+.2f} to {c['high']:+.2f}, {c['seeds']} seeds)" for c in n.claims)
            yield p
        if not any(which.startswith("rafdb") for which, _ in found) and name != "reduced": yield _missing(name, f"{title}: rafdb, paper recipes", "rafdb")

def other_sizes(sizes: Sequence[int], dataset: str) -> str:
    "A sentence where the image sizes of Figs. 2 and 11 are not the paper's; else an empty one."
    papers = SIZES.get(dataset, SIZES["rafdb"])
    if tuple(sizes) == papers: return ""
    why = "; with those the half-size branch of PSR is smaller than the 32 px that VGG16 needs" if min(sizes) > min(papers) else ""
    return f"The sizes here are {', '.join(map(str, sizes))} px, the paper's {', '.join(map(str, papers))} px{why}."

def parts_of_results(results: str | Path) -> list[Part]:
    "Everything of the paper: what was measured first, each in the order of `NAMES`."
    if not Path(results).is_dir(): raise ValueError(f"there is no folder {results}; psr-fer reproduce makes one.")
    records, changes = read_results(results), []
    sections = all_sections(records)
    for file in sorted(Path(results).glob("size-change-*.json")):
        found, which = read_size_change(file), file.stem.removeprefix("size-change-")
        name, note = "fig11" if any(o["model"] == "psr" for o in found) else "fig2", other_sizes(found[0]["sizes"], which)
        changes.append(Part(f"Loss while the image size changes (Figs. 2 and 11): {which}", (*_paper(name, which), *([note] if note else [])), [size_change_table(found)],
                            {"Loss over epochs": lambda f=found: plot_size_change(f)}, commands=(found[0].get("command") or reproduce_command(name),), name=name))
    for name, dataset in (("fig2", "ferplus"), ("fig11", "rafdb")):
        if not any(p.name == name and dataset in p.heading for p in changes): changes.append(_missing(name, f"Loss while the image size changes ({name}): {dataset}, paper recipes", dataset))
    parts = [*map(_section_part, sections), *_data_parts(results), *_pair_parts(records, sections), *_size_parts(results), *changes]
    rest = left_over(records, sections)
    for file in sorted(Path(results).glob("fig9-*.json")):
        if not all("+stn=false" in o for o in read_numbers(file).recipes): rest.loc[len(rest)] = [file.stem, "", "", "Of a PSR with STN: Fig. 9 is without."]
    parts.sort(key=lambda p: (not p.measured, NAMES.index(p.name)))
    return parts + ([Part("Records that belong to no table", (_FIT,), [rest])] if len(rest) else [])

def _row(cells): return "| " + " | ".join(str(o).replace("|", "/") for o in cells) + " |"

def results_markdown(results: str | Path = "results") -> str:
    "A folder of results as Markdown."
    out = ["# Results", "", _INTRO, ""]
    for p in parts_of_results(results):
        out += [f"## {p.heading}", ""]
        for note in p.notes: out += [note, ""]
        for t in p.tables: out += [_row(t.columns), _row(["---"]*t.shape[1]), *map(_row, t.to_numpy()), ""]
        if p.figures: out += [f"Figure: `psr-fer report {Path(results).name}`.", ""]
        out += [*(f"- {c}" for c in p.claims), *([""] if p.claims else []), *(f"{i}. `{o}`" for i, o in enumerate(p.commands, 1)), ""]
    return "\n".join(out)

def render_results(results: str | Path = "results") -> None:
    "Write README.md of a folder of results; not where a record cannot be read."
    atomic_write(Path(results)/"README.md", results_markdown(results))

# ---- finished runs

def _percent(o, key, form=".1f"): return "{} ({} to {})".format(*(format(100*o[k], form) for k in (key, "low", "high")))

def metrics_table(runs: Sequence[CompletedRun]) -> pd.DataFrame:
    "WA, UA and macro-F1 with 95 % intervals by bootstrap over the test faces; texts, a row per run."
    rows = {}
    for r in runs:
        m = r.record
        intervals = {k: bootstrap_metric(r.targets.astype(int), r.predicted, k, 1000) for k in METRICS}
        rows[r.name] = {name: _percent(dict(intervals[k], value=m.test[k]), "value") for k, name in METRICS.items()}  # kept scores are rounded: a tie may fall otherwise
        rows[r.name] |= {"faces": f"{len(r.targets):,}", "parameters (M)": f"{m.parameters/1e6:.2f}", "minutes": f"{m.minutes:.0f}", "TTA": m.views}
    return pd.DataFrame(rows).T

def _facts(run):  # tables about a training, apart from its result
    m, file = run.record, run.folder/"config.json"
    facts = {k: getattr(m, k) for k in ("recipe", "command", "commit", "seed", "device", "minutes", "finished", "weights", "selected")}
    facts["versions"] = ", ".join(f"{k} {v}" for k, v in m.versions.items())
    known = Recipe("", "ferplus", "") if file.exists() else None
    recipe = json.loads(file.read_text(encoding="utf-8")).get("recipe", {}) if known else {}
    rows = [[f.name, json.dumps(recipe[f.name]), json.dumps(getattr(known, f.name))] for f in fields(Recipe)[3:] if f.name in recipe]
    return (pd.DataFrame([[k, str(v)] for k, v in facts.items() if v not in (None, "")], columns=["what", "value"]),
            pd.DataFrame([o for o in rows if o[1] != o[2]], columns=["field", "this run", "default"]))

def plot_reliability(run: CompletedRun, color: str = MODEL_COLORS[0], bins: int = 10) -> Figure:
    "Share of correct predictions over confidence; the bars below show how many faces each bin has."
    t = reliability(run.probabilities, run.targets, bins)
    at = (t["low"] + t["high"])/2
    with figure(3.4, 3) as (fig, ax):
        ax.bar(at, t["accuracy"], .9/bins, color=color, alpha=.85)
        ax.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
        ax.bar(at, -.12*t["faces"]/t["faces"].max(), .9/bins, color="#bbbbbb")
        ax.set(title=f"{run.short}\ncalibration error {ece(run.probabilities, run.targets):.3f}", xlabel="confidence (grey: faces)", ylabel="share correct", ylim=(-.14, 1))
    return fig

def _name(runs):  # `name`: with as many parent folders as it takes; `short`: the name in figures
    n = 1
    while len(set(names := ["/".join(r.folder.parts[-n:]) for r in runs])) < len(runs): n += 1
    for i, (r, name) in enumerate(zip(runs, names, strict=True), 1): r.name, r.short = name, name if len(name) <= 28 else f"run {i}"
    return runs

def original_sizes(test: FaceTable) -> np.ndarray:
    "Mean of width and height of each face, pixels."
    return test[["width", "height"]].mean(axis=1).to_numpy()

def size_part(runs: Sequence[CompletedRun], sizes: np.ndarray, *notes: str) -> Part:
    "Accuracy of runs on all test faces up to an original size."
    curve = by_size(sizes, {r.short: r.correct()["fused"] for r in runs}, skip=min(20, len(sizes)//4))
    return Part("Accuracy by original resolution", notes, figures={"WA of all faces up to a size": lambda: plot_cumulative(curve)})

def _face_parts(runs, data, say):  # what needs the images: accuracy by size, and the most wrong faces
    table = table_of(runs[0].about, data)
    test = split_of(table, "test")
    for r in runs:
        if len(test) != len(r.targets): raise ValueError(f"{data} has {len(test):,} test faces, the run {r.name} was evaluated on {len(r.targets):,}; give the data set of the runs, or report that run alone.")
    sizes = original_sizes(test)
    if len(set(sizes)) > 1: yield size_part(runs, sizes)
    elif smaller := [o for o in REDUCED_SIZES if o <= min(sizes[0], max(min(r.model.size) for r in runs))]:
        correct, at = {}, [o for o in SPLITS if (table["split"] == o).any()].index("test")
        for r in runs:
            say(f"evaluating {len(r.targets):,} test faces at {len(smaller)} sizes: {r.name}")
            each = correct_by_reduced_size(r.model, dls_from_table(table, size=tuple(r.model.size), augment=None)[at], smaller)
            correct[r.short] = each if len(runs) == 1 else {px: dict(fused=o["fused"]) for px, o in each.items()}
        t = mean_by_reduced_size(correct)
        note = f"Each test face down- and upsampled. All faces of this data set have {sizes[0]:.0f} px. 95 % intervals are about +-{196*np.sqrt(.25/len(test)):.1f} points or less."
        differences = pd.DataFrame({f"{k} - {runs[0].short}": {f"{px} px": _percent(bootstrap_difference(correct[k][px]["fused"], correct[runs[0].short][px]["fused"]), "difference", "+.1f") for px in smaller}
                                    for k in [r.short for r in runs[1:]]}).T
        yield Part("Accuracy by effective resolution", (note,), [(100*t).T.rename(columns=lambda o: f"{o} px"), *([differences] if len(differences) else [])], {"WA by size": lambda: plot_reduced_size(t)})
    run = runs[0]
    sure, wrong = run.probabilities.max(1), np.flatnonzero(~run.correct()["fused"])
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:18]
    if len(wrong):
        titles = [f"{label}\nnot {run.classes[run.predicted[i]]}\n{sure[i]:.0%}" for i, label in zip(wrong, test.iloc[wrong]["label"], strict=True)]
        yield Part(f"Most wrong faces of {run.name}", ("Label, prediction and its confidence. Images of the data set: keep this page on your machine.",),
                   figures={"Most wrong faces": lambda: plot_faces(test, test.iloc[wrong], titles)})

def parts_of_runs(runs: Sequence[CompletedRun], data: str | Path | None = None, say: Callable = print) -> list[Part]:
    "What a report on finished runs shows; with the data set also its faces."
    table, first = metrics_table(runs), runs[0]
    if any(r.short != r.name for r in runs): table.insert(0, "in figures", [r.short for r in runs])
    pairs = {f"{r.name} - {first.name}": bootstrap_difference(r.correct()["fused"], first.correct()["fused"]) for r in runs[1:] if np.array_equal(r.targets, first.targets)}
    faces = pd.DataFrame({k: {"points": f"{100*d['difference']:+.2f}", "95 % interval": f"{100*d['low']:+.2f} to {100*d['high']:+.2f}"} for k, d in pairs.items()}).T
    looks = {r.short: model_look(k)["color"] for k, r in enumerate(runs)}
    return [Part("Test split", ("In parentheses 95 % intervals by bootstrap over the test faces.", *(f"{r.name}: selected {r.record.selected}." for r in runs)), [table]),
            *([Part("Face by face", ("Difference of WA in points, paired bootstrap over the same faces; the noise between seeds is not in it.",), [faces])] if len(faces) else []),
            Part("Recall per class, %", tables=[recall_table({r.name: r.record.test for r in runs})]),
            Part("Confusion", ("Percent of each true class.",), figures={f"Confusion of {r.name}": lambda r=r: plot_confusion({r.short: r.record.test}, r.classes) for r in runs}),
            Part("Calibration", ("Bars below the dashed line: over-confident.",), figures={f"Calibration of {r.name}": lambda r=r: plot_reliability(r, looks[r.short]) for r in runs}),
            Part("Learning curves", figures={"Learning curves": lambda: plot_history({r.short: r.history for r in runs})}),
            *(Part(f"Branches of {r.name}, %", tables=[100*branch_report(r.scores, r.targets, r.classes, r.model).rename(columns=METRICS)]) for r in runs if "branches" in r.record.test),
            *(_face_parts(runs, data, say) if data else []),
            *(Part(f"How {r.name} was trained", tables=[o for o in _facts(r) if len(o)]) for r in runs)]

# ---- HTML

_BY = '<meta name=generator content="psr_fer'

def _html_table(t):  # wide tables scroll in their own box; texts keep their digits
    words = all(pd.api.types.is_string_dtype(o) or o == object for o in t.dtypes) and isinstance(t.index, pd.RangeIndex)
    body = t.to_html(border=0, classes="text" if words else "", index=not words, float_format=lambda o: f"{o:.1f}", na_rep="")
    body = re.sub(r"<th[^>]*>.*?</th>", lambda c: re.sub(r"([+_]+)(?=\w)", r"\1<wbr>", c[0]), body).replace(' border="0"', "").replace(' style="text-align: right;"', "")
    return f'<div class=wide tabindex=0 role=region aria-label="table">{body}</div>'

def _image(fig, alt):
    buf = io.BytesIO()
    save(fig, buf)
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(buf.getvalue()).decode()}">'

def page(title: str, intro: str, parts: Sequence[Part]) -> str:
    "A self-contained HTML page, light and dark."
    css, body = (Path(psr_fer.__file__).parent/"assets"/"report.css").read_text(encoding="utf-8"), [f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p>"]
    for p in parts:
        images = [_image(draw(), alt) for alt, draw in p.figures.items()]
        body += [f"<h2>{html.escape(p.heading)}</h2>", *(f"<p class=note>{html.escape(o)}</p>" for o in p.notes), *map(_html_table, p.tables),
                 f"<div class=row>{''.join(images)}</div>" if len(images) > 1 else "".join(images)]
        if p.claims: body.append("<ul>" + "".join(f"<li>{html.escape(o)}</li>" for o in p.claims) + "</ul>")
        if p.commands: body.append("<ol class=note>" + "".join(f"<li><code>{html.escape(o)}</code></li>" for o in p.commands) + "</ol>")
    return ('<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">'
            f'{_BY} {psr_fer.__version__}"><title>{html.escape(title)}</title><style>{css}</style>{"".join(body)}</html>')

def check_page_out(out: str | Path) -> Path:
    "The file, its folder made; ValueError where a page would replace a file that this package did not write."
    out = Path(out)
    if out.is_dir(): raise ValueError(f"{out} is a folder; name a file in it, say {out/'report.html'}.")
    if out.exists() and _BY.encode() not in out.read_bytes()[:1000]:
        raise ValueError(f"{out} exists and is not a page of psr_fer, so it stays; choose another --out, or move it away.")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out

def report(paths: Sequence,  # run folders, or one folder of results
           out: str | Path | None = None,  # file to write; default: report.html, in the folder where there is one
           data: str | Path | None = None,  # folder of the data set, for accuracy by size and the most wrong faces
           say: Callable = print,  # function for progress lines
           ) -> Path:  # the page
    "Write a page about finished runs, or about a folder of results. An earlier page of this package is replaced, any other file is not."
    paths = list(dict.fromkeys(Path(o).resolve() for o in paths))
    out = (paths[0] if len(paths) == 1 else Path())/"report.html" if out is None else out
    if len(paths) == 1 and not (paths[0]/"metrics.json").exists() and any(paths[0].glob("*__s*.json")):
        text = page("Results", _INTRO, parts_of_results(paths[0]))
    else:
        runs = _name([CompletedRun(o) for o in paths])
        check_page_out(out)  # before minutes of evaluation
        about = runs[0].record.data
        intro = f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(r.name for r in runs)}. Data: {about['layout']}, protocol {about.get('protocol')}."
        text = page("psr_fer report", intro, parts_of_runs(runs, data, say))
    atomic_write(check_page_out(out), text)
    return Path(out)
