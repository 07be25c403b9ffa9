"""tools/bundle_weights.py: stored weights that predict the same, a card that is measured, weights between two trainings."""
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from psr_fer.checkpoints import load_model, save_model
from psr_fer.models.psr import PSR, Baseline
from psr_fer.recipes import get_recipe
from psr_fer.runs import train_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"tools"))
import bundle_weights as B  # noqa: E402

pytestmark = pytest.mark.slow

TINY = ["epochs=1", "base=[]", "size=32", "sr=[1,4]", "sr_epochs=0", "views_n=2"]


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled")/"run"
    return folder, train_run(get_recipe("synthetic-demo", TINY), faces, folder, labels="label.csv", say=lambda o: None)


@pytest.fixture(scope="module")
def start(run): # a network that learned nothing, with the same shapes
    last, about = load_model(run[0])
    torch.manual_seed(1)
    save_model(PSR(**last.config), run[0].parent/"start.safetensors", **{k: about[k] for k in ("classes", "dataset", "seed", "read") if k in about})
    return run[0].parent/"start.safetensors"


def test_bundle_measures_the_stored_weights(run, faces, tmp_path):
    folder, metrics = run
    card = B.bundle(folder, faces, tmp_path/"new"/"b.safetensors", say=lambda o: None)
    assert sorted(o.name for o in (tmp_path/"new").iterdir()) == ["b.json", "b.md", "b.onnx", "b.safetensors"]
    assert card["test"]["n"] == metrics["test"]["n"] and abs(card["test"]["wa"] - metrics["test_plain"]["wa"]) < .05 # float16
    model, about = load_model(tmp_path/"new"/"b.safetensors")
    assert about["temperature"] > 0 and about["card"]["limits"] and about["card"] == card
    text = (tmp_path/"new"/"b.md").read_text(encoding="utf-8")
    assert text == B.card_markdown(card) and f"| without TTA | {100*card['test']['wa']:.2f} |" in text and "--mix" not in text
    trained = load_model(folder)[0].state_dict()
    for k, v in model.state_dict().items(): torch.testing.assert_close(v, trained[k], atol=2e-3, rtol=2e-3)


def test_mix_models_lies_between(run, start):
    def weight(model): return model.state_dict()["head.6.weight"]
    a, b = weight(load_model(start)[0]), weight(load_model(run[0])[0])
    assert not torch.equal(a, b)
    for s in (0, .25, 1): torch.testing.assert_close(weight(B.mix_models(run[0], start, s)), a + s*(b - a))


def test_mix_models_bad_share(run, start):
    with pytest.raises(ValueError, match=r"share must be in \[0,1\], got 2"): B.mix_models(run[0], start, 2)


def test_mix_models_other_network(run, tmp_path):
    save_model(Baseline("vgg8_bn", size=32, pos=3), tmp_path/"other.safetensors", classes=list("abcdefgh"))
    with pytest.raises(ValueError, match="is another network than"): B.mix_models(run[0], tmp_path/"other.safetensors")


def test_main_compares_shares_and_bundles_one(run, start, faces, tmp_path, capsys):
    def main(*args): B.main([str(run[0]), "--data", str(faces), "--out", str(tmp_path/"m.safetensors"), *map(str, args)])
    main("--mix", start, "--table", tmp_path/"t.csv")
    t = pd.read_csv(tmp_path/"t.csv")
    assert t["share"].tolist() == [0, .2, .4, .6, .8, 1] and t["mean"].between(0, 1).all() and not (tmp_path/"m.safetensors").exists()
    main("--mix", start, "--share", .5)
    text = (tmp_path/"m.md").read_text(encoding="utf-8")
    assert load_model(tmp_path/"m.safetensors")[1]["card"]["mix"]["share"] == .5 and "50% of those that they started from" in text
    with pytest.raises(SystemExit): main("--share", .5)
    assert "go with --mix START" in capsys.readouterr().err
