"""psr-fer from outside: help without torch, one sentence and exit code 2 for bad input."""
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from psr_fer.cli import main
from psr_fer.data.ferplus import ferplus_table
from psr_fer.data.synthetic import draw_face

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def psr_fer(tmp_path, monkeypatch, capsys):
    "Run the command line in this process, in an empty folder: gives (exit code, stdout, stderr)."
    def run(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["psr-fer", *map(str, args)])
        with pytest.raises(SystemExit) as e: main()
        out = capsys.readouterr()
        return e.value.code or 0, out.out, out.err
    return run


COMMANDS = ("demo", "data", "train", "draw", "evaluate", "train-sr", "reproduce", "report", "export", "ship", "predict", "app",
            "bench", "bench loaders", "bench model")
SAY_TORCH = "print('TORCH' if 'torch' in sys.modules else 'LIGHT')"


@pytest.mark.slow
@pytest.mark.parametrize("args", [(), ("--help",), *[(*o.split(), "--help") for o in COMMANDS]])
def test_help_needs_no_torch(args):
    code = f"""
import sys; sys.argv = ['psr-fer', *sys.argv[1:]]
from psr_fer.cli import app
try: app()
except SystemExit: pass
{SAY_TORCH}"""
    r = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert r.stdout.strip().endswith("LIGHT") and "Usage: psr-fer" in r.stdout + r.stderr
    if len(args) > 1: assert "Example: psr-fer" in r.stdout


FILE = Path(__file__).resolve() # any that is there
PREDICT = [
    (("predict", "nowhere.jpg"), "psr-fer: nowhere.jpg is not there."),
    (("predict", "nowhere.jpg", "b.jpg", "--out", "r.csv"), "nowhere.jpg is not there. b.jpg is not there."),
    (("predict", FILE, "--out", "r.txt"), "a .csv, .json or .parquet file, got r.txt"),
    (("predict", FILE, "--out", FILE/"r.csv"), "is a file, so that nothing can be written below it"),
    (("predict", FILE, "--draw", FILE), "is a file, so that nothing can be written below it"),
    (("predict", FILE, "--weights", "nowhere"), "is not there; a checkpoint is"),
    (("predict", "https://example.com/a.png"), "or --urls on the command line"),
    (("predict", "."), "holds no image"),
    (("predict", ""), "the name of an image is empty"),
]


@pytest.mark.slow
@pytest.mark.parametrize("args,words", PREDICT)
def test_a_request_that_cannot_work_needs_no_torch(args, words, tmp_path):
    code = f"import sys; from psr_fer.cli import main\ntry: main()\nfinally: {SAY_TORCH}"
    r = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, cwd=tmp_path)
    assert r.returncode == 2 and r.stdout.strip() == "LIGHT"
    assert words in r.stderr and r.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args,words", [
    (("train", "ferplus-light", "--data", "."), "did you mean 'ferplus-lite'?"),
    (("train", "ferplus-lite", "--data", ".", "--set", "epoch=2"), "did you mean 'epochs'?"),
    (("train", "ferplus-lite", "--data", ".", "--set", "epochs"), "not of the form field=value"),
    (("train", "ferplus-lite", "--data", "nowhere"), "there is no such folder"),
    (("train", "synthetic-demo", "--data", ".", "--fold", "1"), "fold means nothing for synthetic"),
    (("data", "nowhere"), "there is no such folder"),
    (("data", "."), "holds none of FER+, RAF-DB and AffectNet"),
    (("evaluate", "nowhere", "--data", "."), "is not there; a checkpoint is"),
    (("train", "ferplus-lite"), "--data is missing"),
    (("train", "ferplus-lite", "--data", "nowhere", "--seeds", "0", "one"), "unexpected"),
    (("train", "ferplus-lite", "--data", "nowhere", "--seeds", "one"), "must be whole numbers"),
    (("reproduce", "table9", "--data", "."), "the paper has no 'table9'"),
    (("reproduce", "table5", "--data", ".", "--recipe", "huge"), "none of lite, paper, authors"),
    (("report", "nowhere"), "is not a finished run"),
    (("export", "nowhere"), "is not there; a checkpoint is"),
    (("export", "default", "--format", "safetensors"), "copy both"), (("ship", "runs/a", "--data", "."), "python tools/bundle_weights.py RUN"),
    (("train-sr", "--data", "nowhere"), "there is no such folder"),
    (("draw", "faces", "--splits", "1,2"), "must be three shares"),
    (("draw", "faces", "--splits", "most,of,it"), "must be three shares"),
    (("reproduce", "table5", "--data", ".", "--set", "epoch=2"), "did you mean 'epochs'?"),
    (("export", "default", "--table", "table.csv"), "python benchmarks/export.py default DATA --out table.csv"),
    *PREDICT,
])
def test_bad_input_gets_a_sentence(psr_fer, tmp_path, args, words):
    code, _, err = psr_fer(*args)
    assert code == 2 and words in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_the_installed_command(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", "from psr_fer.cli import main; main()", "data", "nowhere"]
    r = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert r.returncode == 2 and r.stderr.count("\n") <= 4 and "there is no such folder" in r.stderr and "Traceback" not in r.stderr


@pytest.mark.slow
def test_data_reads_counts_and_draws(psr_fer, faces, tmp_path):
    code, out, _ = psr_fer("data", faces, "--labels", "label.csv")
    assert code == 0 and "FER+: picture folders with label.csv" in out and "Table 3:" in out and "Table 2:" in out
    assert sorted(o.name for o in (tmp_path/"figures").iterdir()) == ["classes.png", "samples.png", "sizes.png"]


@pytest.mark.parametrize("verb,script", [("bench", "benchmarks/model.py"), ("ship", "tools/bundle_weights.py")])
def test_moved_commands_name_their_script(psr_fer, verb, script):
    code, _, err = psr_fer(verb, "model", "--out", "x.csv")
    assert code == 2 and script in err and (ROOT/script).exists()


@pytest.mark.slow
@pytest.mark.parametrize("script,args", [("model", ["--arch", "vgg8_bn", "--sizes", "48", "--ksteps", "1", "--batches", "2", "--seconds", ".1"]), ("loaders", ["--faces", "64", "--rounds", "1", "--size", "32"])])
def test_benchmarks_print_a_table(faces, script, args):
    if script == "loaders": args = ["--data", faces, *args]
    r = subprocess.run([sys.executable, "-W", "ignore", ROOT/"benchmarks"/f"{script}.py", *map(str, args)], capture_output=True, text=True)
    assert r.returncode == 0 and (r.stdout.count("ms/image") == 6 if script == "model" else "ratio" in r.stdout), r.stderr[-2000:]


@pytest.mark.slow
def test_generate_makes_a_data_set_once_and_draw_is_its_old_name(psr_fer, tmp_path):
    code, out, _ = psr_fer("generate", "made", "--faces", 30, "--splits", "0.4,0.3,0.3", "--seed", 2)
    assert code == 0 and out.startswith("made: ") and len(ferplus_table(tmp_path/"made", "label.csv")) == 30
    before = (tmp_path/"made"/"faces.csv").read_bytes()
    code, _, err = psr_fer("draw", "made", "--faces", 31)
    assert code == 2 and "holds another set of faces" in err and (tmp_path/"made"/"faces.csv").read_bytes() == before


@pytest.mark.slow
def test_skip_bad(psr_fer, faces, tmp_path):
    shutil.copytree(faces, tmp_path/"faces")
    bad = ferplus_table(faces, "label.csv", check_files=False)["path"][0]
    (tmp_path/"faces"/bad).write_text("broken")
    code, _, err = psr_fer("data", tmp_path/"faces", "--labels", "label.csv")
    assert code == 2 and f"{bad} is not an image that can be read" in err and "--skip-bad" in err
    code, out, _ = psr_fer("data", tmp_path/"faces", "--labels", "label.csv", "--skip-bad", "--no-figures")
    assert code == 0 and "left out as bad: 1 face" in out


def test_predict_with_broken_pictures_and_branches(psr_fer, tmp_path):
    pytest.importorskip("cv2")
    (tmp_path/"a.jpg").write_bytes(b"?")
    code, out, err = psr_fer("predict", "a.jpg", "--out", "r.csv")
    assert code == 2 and "nothing could be read, so r.csv was not written" in out and "Traceback" not in err
    assert not (tmp_path/"r.csv").exists()
    draw_face("happiness", size=96, seed=3).save(tmp_path/"b.png")
    code, out, _ = psr_fer("predict", "a.jpg", "b.png", "--no-detect", "--branches", "--out", "r.csv")
    t = pd.read_csv(tmp_path/"r.csv")
    assert code == 0 and t["source"].tolist() == ["a.jpg","b.png"]
    assert t["note"].notna().tolist() == [True, False] and t["label"][1] in out
    assert t.filter(like="branch.SR x2.").loc[1].sum() == pytest.approx(1, abs=1e-5)
    assert "each branch alone agrees with the result" in out
