"""The search for a learning rate: a curve, a suggestion per block, a picture."""
import pandas as pd
import pytest
from PIL import Image

from psr_fer.cli import main
from psr_fer.recipes import get_recipe
from psr_fer.runs import find_learning_rate

SETS = ["size=32", "sr=[1,4]", "sr_epochs=0", "batch_size=16", "base=[]", "precision=float32"]


@pytest.mark.slow
def test_lr_find_suggests_a_rate_per_block(faces, tmp_path):
    said, recipe = [], get_recipe("synthetic-demo", SETS + ['rates={"low": 0.002}'])
    found = find_learning_rate(recipe, faces, tmp_path/"out", num_it=12, say=said.append, labels="label.csv")
    rates = found["rates"]
    assert rates["low"]/rates["head"] == pytest.approx(2) and rates["head"]/rates["stn"] == pytest.approx(10)
    assert found["lr"] == pytest.approx(rates["low"], rel=.05) # the recipe's lr is its fastest block's
    curve = pd.read_csv(tmp_path/"out"/"lr-find.csv")
    assert list(curve) == ["rate", "loss"] and curve["rate"].is_monotonic_increasing and len(curve) > 3
    assert curve["rate"].min() <= rates["head"] <= curve["rate"].max()
    assert Image.open(tmp_path/"out"/"lr-find.png").width > 400
    assert f"--set lr={found['lr']:g}" in " ".join(said)


@pytest.mark.parametrize("args,words", [(["lr-find", "ferplus-lit", "--data", "."], "did you mean 'ferplus-lite'"), (["lr-find", "ferplus-lite", "--data", "nowhere"], "no such folder")])
def test_lr_find_refuses_with_one_sentence(args, words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["psr-fer", *args])
    with pytest.raises(SystemExit) as e: main()
    err = capsys.readouterr().err
    assert e.value.code == 2 and words in err and "Traceback" not in err
