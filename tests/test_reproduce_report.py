"""The report: one page that needs nothing else, agrees with the records, and shows no faces or paths unless asked."""
import base64
import html
import io
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from psr_fer.cli import main
from psr_fer.metrics import bootstrap_difference, bootstrap_metric
from psr_fer.recipes import get_recipe
from psr_fer.reproduce.report import Part, metrics_table, page, parts_of_runs, report
from psr_fer.runs import CompletedRun, train_run

TINY = ["epochs=2", "base=[]", "size=32", "sr=[1,4]", "sr_epochs=0", "batch_size=32"]
AWKWARD = "a <b> & 'c'"


@pytest.fixture(scope="module")
def runs(faces, tmp_path_factory):
    "Two finished runs: a PSR in a folder with an awkward name, and its baseline."
    d = tmp_path_factory.mktemp("finished")
    for name, recipe, sets in ((AWKWARD, "synthetic-demo", TINY), ("plain", "synthetic-demo-baseline", [o for o in TINY if not o.startswith("sr")])):
        train_run(get_recipe(recipe, sets), faces, d/name, labels="label.csv", say=lambda o: None, command="psr-fer train <recipe> & more")
    return [d/AWKWARD, d/"plain"]


@pytest.fixture(scope="module")
def one(runs, tmp_path_factory): return report(runs[:1], tmp_path_factory.mktemp("page")/"one.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def both(runs, tmp_path_factory): return report(runs, tmp_path_factory.mktemp("page")/"both.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def local(runs, faces, tmp_path_factory): return report(runs, tmp_path_factory.mktemp("page")/"local.html", faces, say=lambda o: None).read_text(encoding="utf-8")


def headings(text): return [html.unescape(o) for o in re.findall(r"<h2>(.*?)</h2>", text, flags=re.S)]


def table(text, heading):  # row name -> {column: text}
    part = text.split(f"<h2>{html.escape(heading)}</h2>")[1].split("<h2>")[0]
    rows = [[html.unescape(re.sub("<.*?>", "", c)).strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r, flags=re.S)] for r in re.findall(r"<tr.*?</tr>", part, flags=re.S)]
    return {r[0]: dict(zip(rows[0][1:], r[1:], strict=True)) for r in rows[1:]}


class Balanced(HTMLParser):
    "Every element that is opened is closed, in order."
    VOID = {"meta", "img", "br", "wbr", "hr"}
    OPTIONAL = {"html", "p", "li"}
    def __init__(self): super().__init__(); self.stack = []
    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID | self.OPTIONAL: self.stack.append(tag)
    def handle_endtag(self, tag):
        if tag not in self.OPTIONAL: assert self.stack.pop() == tag


@pytest.mark.slow
@pytest.mark.parametrize("which", ["one", "both", "local"])
def test_page_is_valid_and_needs_nothing_else(which, request):
    text, parser = request.getfixturevalue(which), Balanced()
    parser.feed(text)
    assert not parser.stack and not re.search(r"(src|href)=\"?(https?:)?//|<script|@import|url\(", text)
    images = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', text)
    assert len(images) == text.count("<img") >= 3
    for alt, data in images: assert len(alt) > 3 and min(Image.open(io.BytesIO(base64.b64decode(data))).size) > 50


@pytest.mark.slow
def test_report_has_every_part(one, both, local):
    wanted = ["Test split", "Recall per class, %", "Confusion", "Calibration", "Learning curves", f"Branches of {AWKWARD}, %", f"How {AWKWARD} was trained"]
    assert set(wanted) == set(headings(one)) and set(headings(both)) == {*wanted, "Face by face", "How plain was trained"}
    assert set(headings(local)) - set(headings(both)) == {"Accuracy by original resolution", f"Most wrong faces of {AWKWARD}"} and "keep this page on your machine" in local


def test_report_metrics_with_intervals_agree_with_the_record(runs, both):
    shown = table(both, "Test split")
    for folder in runs:
        r = CompletedRun(folder)
        for key, name in dict(wa="WA", ua="UA", macro_f1="macro-F1").items():
            d = bootstrap_metric(r.targets.astype(int), r.predicted, key, 1000)
            assert shown[folder.name][name] == f"{100*r.record.test[key]:.1f} ({100*d['low']:.1f} to {100*d['high']:.1f})"
        recall = table(both, "Recall per class, %")
        for k, v in r.record.test["recall"].items():
            if v is not None: assert recall[k][folder.name] == f"{100*v:.1f}"
    a, b = (CompletedRun(o).correct()["fused"] for o in runs)
    d = bootstrap_difference(b, a)
    assert table(both, "Face by face")[f"plain - {AWKWARD}"] == {"points": f"{100*d['difference']:+.2f}", "95 % interval": f"{100*d['low']:+.2f} to {100*d['high']:+.2f}"}


def test_report_branch_weights_and_training_facts(runs, one):
    record = CompletedRun(runs[0]).record
    assert {k: o["weight"] for k, o in table(one, f"Branches of {AWKWARD}, %").items() if k != "fused"} == {k: f"{100*v:.1f}" for k, v in record.fusion_weights.items()}
    assert html.escape("psr-fer train <recipe> & more") in one and record.device in one and record.selected in one


def test_report_escapes_names_and_shows_no_path(runs, faces, one, both, local):
    assert AWKWARD not in one and html.escape(AWKWARD) in one
    for text in (one, both, local): assert str(runs[0].parent) not in text and str(faces) not in text and "FER2013Test/" not in text


@pytest.mark.slow
def test_report_long_names_get_numbers_in_figures(runs, tmp_path):
    for n in (1, 2): shutil.copytree(runs[1], tmp_path/("x"*40 + str(n)))
    text = report(sorted(tmp_path.iterdir()), tmp_path/"long.html").read_text(encoding="utf-8")
    assert [o["in figures"] for o in table(text, "Test split").values()] == ["run 1", "run 2"]


@pytest.mark.slow
def test_report_runs_of_one_name_are_told_apart(runs, tmp_path):
    for o in ("a", "b"): shutil.copytree(runs[1], tmp_path/o/"run")
    assert set(table(report([tmp_path/"a"/"run", tmp_path/"b"/"run"], tmp_path/"x.html").read_text(encoding="utf-8"), "Test split")) == {"a/run", "b/run"}


def test_report_one_size_of_faces_evaluates_smaller_ones(runs, tmp_path, faces, monkeypatch):
    import psr_fer.reproduce.report as R
    monkeypatch.setattr(R, "REDUCED_SIZES", (32, 12))
    real = R.table_of
    def equal(about, data):
        t = real(about, data)
        t.df["width"] = t.df["height"] = 48
        return t
    monkeypatch.setattr(R, "table_of", equal)
    runs = R._name([CompletedRun(o) for o in runs])
    part = next(p for p in parts_of_runs(runs, faces, lambda o: None) if p.heading == "Accuracy by effective resolution")
    assert list(part.tables[0].columns) == ["32 px", "12 px"] and part.tables[0].loc["plain", "32 px"] == pytest.approx(100*runs[1].correct()["fused"].mean())
    assert "All faces of this data set have 48 px" in part.notes[0] and list(part.tables[1].index) == [f"plain - {AWKWARD}"]


def test_metrics_table_shows_the_record_where_kept_scores_were_rounded(runs):
    r = CompletedRun(runs[1])
    r.record.test["wa"] = .4321
    assert metrics_table([r]).loc[r.name, "WA"].startswith("43.2 (")


def test_page_with_claims_and_commands():
    text = page("t <1>", "i & j", [Part("h", ("n",), claims=("a < b",), commands=("psr-fer x",))])
    assert "<title>t &lt;1&gt;</title>" in text and "<li>a &lt; b</li>" in text and "<li><code>psr-fer x</code></li>" in text and "i &amp; j" in text


@pytest.fixture
def psr_fer(monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["psr-fer", *map(str, args)])
        with pytest.raises(SystemExit) as e: main()
        return (e.value.code or 0, *capsys.readouterr())
    return call


@pytest.mark.slow
def test_command_same_page_and_replaces_only_a_report(psr_fer, runs, tmp_path, both):
    out = tmp_path/"page.html"
    assert psr_fer("report", *runs, "--out", out)[0] == 0 and headings(out.read_text(encoding="utf-8")) == headings(both)
    assert psr_fer("report", *runs, "--out", out)[0] == 0
    out.write_text("<html>mine</html>")
    code, _, err = psr_fer("report", *runs, "--out", out)
    assert code == 2 and "is not a page of psr_fer, so it stays" in err and out.read_text() == "<html>mine</html>"
    assert psr_fer("report", *runs, "--out", tmp_path)[0] == 2


@pytest.mark.parametrize("missing", ["metrics.json", "test.npz"])
def test_command_unfinished_run(psr_fer, runs, tmp_path, missing):
    shutil.copytree(runs[1], tmp_path/"run")
    (tmp_path/"run"/missing).unlink()
    code, _, err = psr_fer("report", tmp_path/"run")
    assert code == 2 and f"is not a finished run ({missing} missing)" in err and not (tmp_path/"run"/"report.html").exists()


@pytest.mark.slow
def test_command_one_run_in_its_folder_and_results(psr_fer, runs, tmp_path):
    shutil.copytree(runs[1], tmp_path/"run")
    assert psr_fer("report", tmp_path/"run")[0] == 0 and (tmp_path/"run"/"report.html").exists()
    CompletedRun(runs[1]).record.save(tmp_path/"results"/"x__s0.json") if (tmp_path/"results").mkdir() is None else None
    assert psr_fer("report", tmp_path/"results")[0] == 0 and "<h1>Results</h1>" in (tmp_path/"results"/"report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_command_other_data_set(psr_fer, runs, tmp_path):
    from psr_fer.data.synthetic import synthetic_faces
    synthetic_faces(tmp_path/"other", 64, seed=9)
    code, _, err = psr_fer("report", runs[1], "--data", tmp_path/"other", "--out", tmp_path/"x.html")
    assert code == 2 and "give the data set of the runs" in err and not (tmp_path/"x.html").exists()


def test_records_predictions_are_kept_beside_metrics(runs):
    r = CompletedRun(runs[0])
    assert set(r.record.predictions) == {"targets", "fused", "1/2", "SR x2", "original"} and np.array_equal(r.record.correct(), r.correct()["fused"])
