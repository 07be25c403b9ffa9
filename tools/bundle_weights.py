"""Store a run's weights as the package bundles them: float16, calibrated, with a model card measured on the stored weights.

    python tools/bundle_weights.py runs/ferplus-lite__s0 --data ~/FERPlus --out psr_fer/assets/default.safetensors

With `--mix START` the weights lie between the run and those that it started from, theta = (1 - s) theta_start + s theta_run
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). Without `--share` the shares are only compared on the validation faces.
"""
import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from psr_fer.checkpoints import atomic_write, load_model, save_model
from psr_fer.data.loaders import dls_from_table
from psr_fer.emotions import TABLE3
from psr_fer.export import export_model
from psr_fer.interpret import REDUCED_SIZES, accuracy_by_reduced_size
from psr_fer.learner import fuse_scores, tta_scores
from psr_fer.metrics import ENOUGH, ece_before_after, evaluate_scores, fit_temperature
from psr_fer.runs import table_of

INTENDED = ("Naming the expression that people would see in an image of a face, as one of {classes}; for research, teaching and tools "
            "in which a person stays in charge.")
LIMITS = ("An expression is not a feeling: the labels are what annotators saw in an image, not what somebody felt.",
          "Not for decisions about people (hiring, policing, credit, insurance, education, border control), and not for medical use.",
          "Nobody measured differences between groups of people with these weights; the data carries no such information.",
          "Faces turned far away, covered, drawn or larger than life were not part of the training.")
FERPLUS_LIMIT = ("Trained on grey 48-pixel images from a web search, with few faces of disgust, contempt and fear: "
                 "look at the recall of each class.")
LICENCE = "Apache-2.0 (the weights; the images they were trained on have terms of their own)"
DESCRIBED = ("classes", "recipe", "seed", "protocol", "dataset", "read", "grey", "views", "views_n") # what the stored weights keep


def ends(run:str|Path, start:str|Path)->tuple: # ((model, description) where a training began, (...) where it ended)
    (first, before), (last, about) = load_model(start), load_model(run)
    def shapes(model): return {k: v.shape for k, v in model.state_dict().items()}
    if shapes(first) != shapes(last) or about["classes"] != before["classes"]:
        raise ValueError(f"{start} is another network than {run}, or has other classes; give the run that {run} started from.")
    return (first, before), (last, about)


def interpolate(first:torch.nn.Module, last:torch.nn.Module, share:float)->torch.nn.Module: # share of `last`, in [0,1]
    if not 0 <= share <= 1: raise ValueError(f"share must be in [0,1], got {share!r}.")
    a, b, mixed = first.state_dict(), last.state_dict(), copy.deepcopy(last)
    mixed.load_state_dict({k: torch.lerp(a[k], v, share) if v.is_floating_point() else v for k, v in b.items()})
    return mixed.eval()


def mix_models(run:str|Path, start:str|Path, share:float=.5)->torch.nn.Module: # in eval mode
    (first, _), (last, _) = ends(run, start)
    return interpolate(first, last, share)


def mix_table(run:str|Path, start:str|Path, data:str|Path, shares:Sequence=(0., .2, .4, .6, .8, 1.), sizes:Sequence=(48, 32, 24, 16),
             )->pd.DataFrame: # a row per share of `run`; WA in [0,1] of the validation faces per size in pixels, and their mean
    (first, _), (last, about) = ends(run, start)
    dls = dls_from_table(table_of(about, data), size=tuple(last.size), augment=None)
    models = {s: interpolate(first, last, s) for s in shares}
    rows = {s: accuracy_by_reduced_size({"model": m}, dls.valid, sizes)["model"] for s, m in models.items()}
    t = pd.DataFrame(rows).T.rename_axis("share")
    return t.assign(mean=t.mean(axis=1))


def make_card(model:torch.nn.Module, about:dict, data:str|Path, sizes:Sequence=REDUCED_SIZES)->tuple: # card (dict), temperature
    "Measure a stored model: validation for the temperature, test once for the card."
    table, classes, dataset = table_of(about, data), about["classes"], about["dataset"]
    dls = dls_from_table(table, size=tuple(model.size), augment=None)
    def evaluate(dl, views="none", n=1): # log-probabilities, targets, metrics
        scores, y = tta_scores(model, dl, n, views)
        logp = fuse_scores(model, scores)
        return logp, y, evaluate_scores(logp, y, classes)
    def kept(result): return {k: result[k] for k in ("n", "wa", "ua", "macro_f1", "recall")}
    logp, y, _ = evaluate(dls.valid)
    t = float(fit_temperature(logp, y)) if len(y) >= ENOUGH else 1.
    logp, y, test = evaluate(dls[2])
    n = TABLE3.get((dataset, "train"))
    balanced = n and kept(evaluate_scores((logp/t - torch.tensor([n[k] for k in classes]).log()).log_softmax(-1), y, classes)) # as Predictor(prior="balanced")
    before, after = ece_before_after(logp, y, t)
    small = accuracy_by_reduced_size({"model": model}, dls[2], sizes)["model"]
    return dict(data=table.layout, protocol=about.get("protocol"), dataset=dataset, recipe=about["recipe"], seed=about["seed"],
                test=kept(test), test_balanced=balanced, test_8_views=kept(evaluate(dls[2], "paper", 8)[2]),
                accuracy_at={str(int(s)): float(small.loc[s]) for s in sizes},
                ece=dict(before=before, after=after, bins=15, split="test", temperature_from="valid"),
                intended_use=INTENDED.format(classes=", ".join(classes)),
                limits=[*LIMITS, FERPLUS_LIMIT] if dataset == "ferplus" else [*LIMITS],
                model=about["model"], parameters=sum(p.numel() for p in model.parameters())), t


def percent(share:float|None)->str: return "-" if share is None else f"{100*share:.2f}"


def table(head:Sequence, rows:Sequence)->list: # lines of Markdown
    def line(cells): return f"| {' | '.join(cells)} |"
    return [line(head), line(["---"]*len(head)), *map(line, rows), ""]


def card_markdown(card:dict)->str: # `card` in the description of bundled weights
    "A model card to read."
    def scores(m): return [percent(m[k]) for k in ("wa","ua","macro_f1")]
    test, ece, m, mixed = card["test"], card["ece"], card.get("mix"), ""
    if m: mixed = (f" with `--mix` and `--share {m['share']:g}`: {m['share']:.0%} of these weights and {1 - m['share']:.0%} of those that "
                   f"they started from (recipe `{m['start']}`, `{m['command']}`); the share was chosen on the validation faces")
    return "\n".join(["# Model card", "",
        f"A {card['model']} of {card['parameters']/1e6:.2f} million parameters ({card['megabytes']} MB, float16), "
        f"recipe `{card['recipe']}`, seed {card['seed']}, {card['minutes']:.0f} minutes on {card['device']}.", "",
        f"- Data: {card['data']}; label protocol: {card['protocol']}",
        f"- Initial weights: {card['weights_at_start']}",
        f"- Made by: `{card['command']}`, then `tools/bundle_weights.py`{mixed}",
        f"- Licence: {card['licence']}", "",
        *table(["Test split", "WA", "UA", "macro-F1"], [["without TTA", *scores(test)], ["TTA, 8 crops", *scores(card["test_8_views"])],
               *([['without TTA, `--prior balanced`', *scores(card["test_balanced"])]] if card.get("test_balanced") else [])]),
        *table(["Class", "Recall"], [[k, percent(o)] for k,o in test["recall"].items()]),
        *table(["Faces reduced to", "WA"], [[f"{k} px", percent(o)] for k,o in card["accuracy_at"].items()]),
        f"Expected calibration error (15 bins, test): {ece['before']:.3f} before, {ece['after']:.3f} after the temperature that was "
        "fitted on the validation split.", "",
        "## Intended use", "", card["intended_use"], "", "## Limits", "", *(f"- {o}" for o in card["limits"]), ""])


def bundle(run:str|Path, data:str|Path, out:str|Path, mix:str|Path|None=None, share:float=1., say:Callable=print)->dict: # the card
    "Write `out` (.safetensors), its JSON and its card; nothing is written before all is measured."
    out, mixed = Path(out), {}
    model, about = load_model(run)
    if mix is not None:
        (first, before), (last, about) = ends(run, mix)
        record = Path(mix)/"metrics.json"
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else before.get("card", {})
        model = interpolate(first, last, share)
        mixed = dict(mix=dict(start=before.get("recipe"), command=known.get("command"), share=share, chosen_on="valid"))
    record, card = Path(run)/"metrics.json", about.get("card") or {}
    if record.is_file(): metrics = json.loads(record.read_text(encoding="utf-8"))
    else: # bundled weights: they are measured again, where they come from is known
        metrics, mixed = dict(command=card["command"], weights=card["weights_at_start"], minutes=card["minutes"], device=card["device"]), {k: card[k] for k in ("mix",) if k in card}
    described = {k: about[k] for k in DESCRIBED if k in about}
    with tempfile.TemporaryDirectory() as tmp: # float16 as it comes back from a file
        stored = Path(tmp)/"stored.safetensors"
        save_model(model, stored, half=True, **described)
        (model, about), megabytes = load_model(stored), round(stored.stat().st_size/1e6, 2)
    say("measuring the stored weights")
    card, t = make_card(model, about, data)
    card |= mixed | dict(command=metrics.get("command"), weights_at_start=metrics.get("weights"), minutes=metrics["minutes"],
                         device=metrics["device"], megabytes=megabytes, licence=LICENCE)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, out, half=True, **described, temperature=t, card=card)
    bundle_onnx(out)
    atomic_write(out.with_suffix(".md"), card_markdown(card))
    say(f"{out}: {megabytes} MB, WA {card['test']['wa']:.2%}, expected calibration error {card['ece']['before']:.3f} -> "
        f"{card['ece']['after']:.3f} at temperature {t:.2f}")
    return card


def store_half(model:object, exact:bool=True)->object: # onnx.ModelProto, changed in place
    "Store what float16 holds exactly (`exact`), or all weights, rounded, as float16; the model still computes in float32."
    from onnx import helper, numpy_helper
    graph = model.graph
    for o in [o for o in graph.initializer if o.data_type == 1]:
        full = numpy_helper.to_array(o)
        if full.size < 64 or exact and (full.astype(np.float16) != full).any(): continue
        half = numpy_helper.from_array(full.astype(np.float16), f"{o.name}.half")
        graph.initializer.append(half)
        graph.node.insert(0, helper.make_node("Cast", [half.name], [o.name], to=1))
        graph.initializer.remove(o)
    return model


def bundle_onnx(weights:Path)->Path: # the ONNX file next to a checkpoint, half the size and the same numbers as PyTorch
    import onnx
    out = weights.with_suffix(".onnx") # batch normalisation is not folded: the weights were float16 before, folded ones are not
    with tempfile.TemporaryDirectory() as tmp: model = store_half(onnx.load(str(export_model(weights, Path(tmp)/"model.onnx", fold=False))))
    atomic_write(out, model.SerializeToString())
    return out


def main(args:Sequence|None=None)->None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("run", type=Path, help="folder of a finished run")
    p.add_argument("--data", type=Path, required=True, help="folder of its data set")
    p.add_argument("--out", type=Path, default=Path("bundled.safetensors"), help=".safetensors file; JSON and card go next to it")
    p.add_argument("--mix", type=Path, help="run that this one started from: weights between the two")
    p.add_argument("--share", type=float, help="with --mix: share of the run, 0 to 1; without it, the shares are only compared")
    p.add_argument("--table", type=Path, help="CSV file for that comparison")
    a = p.parse_args(args)
    if a.mix is None and (a.share is not None or a.table): p.error("--share and --table go with --mix START")
    if a.mix is None or a.share is not None:
        bundle(a.run, a.data, a.out, a.mix, 1. if a.share is None else a.share)
        return
    compared = mix_table(a.run, a.mix, a.data)
    print("WA on the validation faces, whole and reduced, in percent:", (100*compared).round(2).to_string(), sep="\n")
    if a.table: compared.reset_index().to_csv(a.table, index=False)


if __name__ == "__main__": main()
