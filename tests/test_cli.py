"""psr-fer from outside: help without torch, one sentence and exit code 2 for bad input."""
import shutil
import subprocess
import sys

import pytest


def psr_fer(*args, cwd=None):
    return subprocess.run([sys.executable, "-W", "ignore", "-c", "from psr_fer.cli import main; main()", *map(str, args)], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("args", [(), ("--help",), ("demo", "--help"), ("data", "--help"), ("train", "--help"), ("evaluate", "--help"), ("bench", "loaders", "--help")])
def test_help_needs_no_torch(args):
    code = "import sys; sys.argv = ['psr-fer', *sys.argv[1:]]\nfrom psr_fer.cli import app\ntry: app()\nexcept SystemExit: pass\nprint('TORCH' if 'torch' in sys.modules else 'LIGHT')"
    r = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert r.stdout.strip().endswith("LIGHT") and "psr-fer" in r.stdout
    if len(args) > 1: assert "Example: psr-fer" in r.stdout


@pytest.mark.parametrize("args,words", [
    (("train", "ferplus-light", "--data", "."), "did you mean 'ferplus-lite'?"),
    (("train", "ferplus-lite", "--data", ".", "--set", "epoch=2"), "did you mean 'epochs'?"),
    (("train", "ferplus-lite", "--data", ".", "--set", "epochs"), "not of the form field=value"),
    (("train", "ferplus-lite", "--data", "nowhere"), "there is no such folder"),
    (("data", "nowhere"), "there is no such folder"),
    (("data", "."), "holds none of FER+, RAF-DB and AffectNet"),
    (("evaluate", "nowhere", "--data", "."), "is not there; a checkpoint is"),
])
def test_bad_input_gets_a_sentence(tmp_path, args, words):
    r = psr_fer(*args, cwd=tmp_path)
    assert r.returncode == 2 and words in r.stderr and "Traceback" not in r.stderr, r.stderr
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_data_reads_counts_and_draws(faces, tmp_path):
    r = psr_fer("data", faces, "--labels", "label.csv", "--out", tmp_path/"figures")
    assert r.returncode == 0 and "FER+: picture folders with label.csv" in r.stdout and "Table 3:" in r.stdout and "Table 2:" in r.stdout
    assert sorted(o.name for o in (tmp_path/"figures").iterdir()) == ["classes.png", "samples.png", "sizes.png"]


def test_skip_bad(faces, tmp_path):
    shutil.copytree(faces, tmp_path/"faces")
    (tmp_path/"faces/FER2013Train/fer0000000.png").write_text("broken")
    r = psr_fer("data", tmp_path/"faces", "--labels", "label.csv")
    assert r.returncode == 2 and "fer0000000.png is not a picture that can be read" in r.stderr and "--skip-bad" in r.stderr
    r = psr_fer("data", tmp_path/"faces", "--labels", "label.csv", "--skip-bad")
    assert r.returncode == 0 and "left out as bad: 1 faces" in r.stdout
