"""The report: one page that needs nothing else, agrees with the records, and shows no faces or paths unless asked."""
import base64
import html
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from psr_fer import report as R
from psr_fer.cli import main
from psr_fer.data.table import dls_from_table
from psr_fer.figures import plot_history, save
from psr_fer.interpret import right_by_reduced_size
from psr_fer.recipes import get_recipe
from psr_fer.report import metrics_table, report
from psr_fer.runs import Finished, table_of, train_run

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
def one(runs, tmp_path_factory): return report(runs[:1], tmp_path_factory.mktemp("page")/"one.html", say=None).read_text(encoding="utf-8") # without data nothing is printed


@pytest.fixture(scope="module")
def both(runs, tmp_path_factory): return report(runs, tmp_path_factory.mktemp("page")/"both.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def with_faces(runs, faces, tmp_path_factory):
    "The page with faces, and its figures by their heading."
    figures, image_html = {}, R.image_html
    with pytest.MonkeyPatch.context() as m:
        m.setattr(R, "image_html", lambda fig, alt: figures.update({alt: fig}) or image_html(fig, alt))
        return report(runs, tmp_path_factory.mktemp("page")/"local.html", faces).read_text(encoding="utf-8"), figures


@pytest.fixture(scope="module")
def local(with_faces): return with_faces[0]


@pytest.fixture(scope="module")
def figures(with_faces): return with_faces[1]


def record(run): return json.loads((run/"metrics.json").read_text(encoding="utf-8"))
def headings(page): return [html.unescape(o) for o in re.findall(r"<h2>(.*?)</h2>", page, flags=re.S)]


def table(page, heading): # row name -> {column: text}
    part = page.split(f"<h2>{html.escape(heading)}</h2>")[1].split("<h2>")[0]
    rows = [[html.unescape(re.sub("<.*?>", "", c)).strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r, flags=re.S)] for r in re.findall(r"<tr.*?</tr>", part, flags=re.S)]
    return {r[0]: dict(zip(rows[0][1:], r[1:])) for r in rows[1:]}


# whole and alone

@pytest.mark.parametrize("which", ["one", "both", "local"])
def test_page_needs_nothing_else(which, request):
    page = request.getfixturevalue(which)
    assert page.lower().startswith("<!doctype html>") and page.rstrip().endswith("</html>") and "<title>" in page and "charset=utf-8" in page
    links = re.findall(r"""\b(?:src|href|srcset|action|poster|data)\s*=\s*["']?([^"'\s>]+)""", page)
    assert links and all(o.startswith("data:image/png;base64,") for o in links)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(|https?://", page, flags=re.I)


class Elements(HTMLParser):
    "HTML 5 as this package writes it: every element closed where it has to be, in its order, nothing that the standard dropped, images described."
    VOID, DROPPED = {"img", "meta", "br", "hr", "input"}, {"border", "bgcolor", "align", "valign", "cellpadding"}
    def __init__(self): super().__init__(); self.open, self.wrong = [], []
    def handle_starttag(self, tag, attrs):
        names = [o for o, _ in attrs]
        if len(set(names)) < len(names) or self.DROPPED & set(names): self.wrong.append((tag, names))
        if tag == "img" and not (dict(attrs).get("alt") or "").strip(): self.wrong.append("img without alt")
        if "p" in self.open and tag in ("p", "div", "table", "h1", "h2", "details", "ul"): self.wrong.append(f"{tag} in p")
        if tag == "summary" and self.open[-1] != "details": self.wrong.append("summary outside of details")
        if tag not in self.VOID: self.open.append(tag)
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: self.wrong.append(f"</{tag}>")


@pytest.mark.parametrize("which", ["one", "both", "local"])
def test_page_valid_html(which, request):
    e = Elements()
    e.feed(request.getfixturevalue(which)); e.close()
    assert not e.wrong and not e.open
    bad = Elements()
    bad.feed("<table border=0><tr><td><img></table>")
    assert len(bad.wrong) >= 3 # the check can fail


@pytest.mark.parametrize("which,least", [("one", 4), ("both", 5), ("local", 6)])
def test_page_images_are_embedded_and_described(which, least, request):
    found = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page := request.getfixturevalue(which))
    assert len(found) == page.count("<img") >= least
    for alt, data in found:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as im: assert im.format == "PNG" and min(im.size) > 100, alt


def test_report_has_every_part(one, both, local):
    for page in (one, both, local):
        for o in ("Test split", "How it was trained", "Recall per class, %", "Confusion", "Calibration", "Learning curves", "Learning rates", f"Branches of {AWKWARD}, %"): assert o in headings(page)
    assert "Face by face" in headings(both) and "Face by face" not in headings(one)
    assert "Branches of plain, %" not in headings(both) # a baseline has one
    for o in ("Accuracy by original resolution", f"Most wrong faces of {AWKWARD}"): assert o in headings(local) and o not in headings(both)


# says what the records say

def test_report_metrics_with_intervals(runs, both):
    found = table(both, "Test split")
    assert list(found) == [AWKWARD, "plain"]
    for run in runs:
        m, row = record(run), found[run.name]
        for key, name in (("wa", "WA"), ("ua", "UA"), ("macro_f1", "macro-F1")):
            value, low, high = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", row[name]).groups())
            assert value == pytest.approx(100*m["test"][key], abs=.051) and 0 <= low <= value <= high <= 100 and low < high
        assert row["faces"] == str(m["test"]["n"]) and float(row["parameters (M)"]) == pytest.approx(m["parameters"]/1e6, abs=.005)


def test_report_recall_per_class(runs, both):
    found = table(both, "Recall per class, %")
    for run in runs:
        recall = record(run)["test"]["recall"]
        assert set(found) == set(recall)
        for c, v in recall.items(): assert found[c][run.name] == "" if v is None else float(found[c][run.name]) == pytest.approx(100*v, abs=.051)


def test_report_runs_face_by_face(runs, both):
    (name, row), = table(both, "Face by face").items()
    points, (low, high) = float(row["points"]), map(float, row["95 % interval"].split(" to "))
    assert name == f"plain - {AWKWARD}" and low <= points <= high
    assert points == pytest.approx(100*(record(runs[1])["test"]["wa"] - record(runs[0])["test"]["wa"]), abs=.006)


def test_report_branch_weights(runs, one):
    found, m = table(one, f"Branches of {AWKWARD}, %"), record(runs[0])
    weights = [float(v["weight"]) for k, v in found.items() if k != "fused"]
    assert len(weights) == 3 and sum(weights) == pytest.approx(100, abs=.2)
    assert weights == pytest.approx([100*o for o in m["fusion_weights"].values()], abs=.06)
    for row, b in zip((v for k, v in found.items() if k != "fused"), m["test"]["branches"]): assert float(row["WA"]) == pytest.approx(100*b["wa"], abs=.3) # from scores kept in half precision
    assert float(found["fused"]["WA"]) == pytest.approx(100*m["test"]["wa"], abs=.3)


def test_report_figures_show_every_run(figures):
    for o in ("Confusion", "Calibration"): assert [len(figures[f"{o} of {k}"].axes) for k in (AWKWARD, "plain")] == [1, 1]
    assert [len(o.get_lines()) for o in figures["Learning curves"].axes] == [4, 2] # train and valid of each; WA of each
    rates = [o.get_label() for o in figures[f"Learning rates of {AWKWARD}"].axes[0].get_lines()]
    assert rates == ["stn", "sr", "low", "shared", "head"]
    assert {o.get_label() for o in figures["Learning rates of plain"].axes[0].get_lines()} == {"low", "shared", "head"}
    assert len(figures["Learning rates of plain"].axes[0].get_lines()[0].get_xdata()) == 2 # epochs


def test_report_rates_are_those_of_the_history(runs, figures):
    history = pd.read_csv(runs[0]/"history.csv")
    for line in figures[f"Learning rates of {AWKWARD}"].axes[0].get_lines(): assert list(line.get_ydata()) == pytest.approx(history[f"lr_{line.get_label()}"].clip(lower=1e-8).tolist())


def test_report_most_wrong_faces_surest_first(figures):
    titles = [o.get_title() for o in figures[f"Most wrong faces of {AWKWARD}"].axes if o.get_title()]
    sure = [int(o.splitlines()[2].rstrip("%")) for o in titles]
    assert 0 < len(titles) <= 18 and sure == sorted(sure, reverse=True)
    for o in titles: assert o.splitlines()[0] != o.splitlines()[1].removeprefix("not ")


LONG = [f"ferplus-lite+loss={o}+pos={n}__s12" for o in ("pdls", "ls", "ce", "pdls-with-a-very-long-name-of-its-own") for n in (5, 6)]


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_report_long_names_fit(runs, monkeypatch, tmp_path, n, recwarn):
    seen = {}
    monkeypatch.setattr(R, "image_html", lambda fig, alt: seen.update({alt: fig}) or "")
    for o in LONG[:n]: shutil.copytree(runs[1], tmp_path/o)
    page = report([tmp_path/o for o in LONG[:n]], tmp_path/"r.html").read_text(encoding="utf-8")
    assert list(table(page, "Test split")) == LONG[:n] and (n == 1 or len(table(page, "Face by face")) == n - 1)
    assert [len(o.get_lines()) for o in seen["Learning curves"].axes] == [2*n, n]
    for fig in seen.values():
        FigureCanvasAgg(fig).draw()
        inside = fig.bbox.padded(3)
        for text in (o for ax in fig.axes for o in (ax.title, ax._left_title)):
            if text.get_text(): assert inside.contains(*text.get_window_extent().p0) and inside.contains(*text.get_window_extent().p1), text.get_text()
    curves = seen["Learning curves"]
    assert not any(ax.get_legend() for ax in curves.axes) # nothing lies over the lines
    legend = curves.legends[0].get_window_extent()
    assert legend.y1 <= min(ax.get_tightbbox().y0 for ax in curves.axes) + 2 and legend.x0 >= 0 and legend.x1 <= curves.bbox.x1
    assert not [o for o in recwarn if "constrained_layout" in str(o.message)]


@pytest.mark.parametrize("name", ["a", "ferplus-lite+loss=pdls__s0", "ferplus-lite" + "+loss=pdls+pos=5+epochs=30"*8 + "__s0", "W"*200])
def test_plot_history_whole_name_fits(runs, name, tmp_path, recwarn): # train_run draws it under the run's own name
    fig = plot_history({name: pd.read_csv(runs[1]/"history.csv")})
    save(fig, tmp_path/"history.png")
    assert not [o for o in recwarn if "constrained_layout" in str(o.message)]
    text, = fig.legends[0].get_texts()
    assert text.get_text().replace("\n", "") == name
    assert all(ax.get_position().width > .35 for ax in fig.axes) and fig.legends[0].get_window_extent().width <= 1.05*fig.bbox.width
    assert fig.legends[0].get_window_extent().y1 <= min(ax.get_tightbbox().y0 for ax in fig.axes) + 2


def test_report_tables_name_runs_as_the_figures(runs, monkeypatch, tmp_path):
    monkeypatch.setattr(R, "image_html", lambda fig, alt: "")
    for o in LONG: shutil.copytree(runs[1], tmp_path/o)
    def called(names): return [o["in figures"] for o in table(report([tmp_path/o for o in names], tmp_path/"r.html").read_text(encoding="utf-8"), "Test split").values()]
    assert called(LONG[:4]) == ["loss=pdls+pos=5", "loss=pdls+pos=6", "loss=ls+pos=5", "loss=ls+pos=6"]
    assert called(LONG[4::2]) == ["run 1", "run 2"] # still too long


def test_report_runs_of_one_name(runs, tmp_path):
    for i in "xy": shutil.copytree(runs[1], tmp_path/i/"plain")
    page = report([tmp_path/"x"/"plain", tmp_path/"y"/"plain"], tmp_path/"r.html").read_text(encoding="utf-8")
    assert len(table(page, "Test split")) == 2


def test_report_training_facts(runs, both):
    part = both.split("<h2>How it was trained</h2>")[1].split("<h2>")[0]
    assert part.count("<details>") == 2 and "<details open" not in part
    for run, text in zip(runs, part.split("<details>")[1:]):
        m, cells = record(run), [html.unescape(o) for o in re.findall(r"<td>(.*?)</td>", text, flags=re.S)]
        told = dict(zip(cells[::2], cells[1::2])) # two columns come first
        assert (told["seed"], told["device"], told["minutes"], told["command"]) == (str(m["seed"]), m["device"], str(m["minutes"]), m["command"])
        rows = [cells[i:i + 3] for i in range(len(cells)) if cells[i] == "epochs"]
        assert rows == [["epochs", "2", "30"]]


# small faces where all have one size

@pytest.fixture(scope="module")
def equal(faces, tmp_path_factory):
    "Synthetic faces that all have 48 pixels, as FER+'s."
    root = tmp_path_factory.mktemp("equal")/"faces"
    shutil.copytree(faces, root)
    for o in root.rglob("*.png"):
        with Image.open(o) as im: im.resize((48, 48)).save(o)
    return root


@pytest.fixture(scope="module")
def reduced(equal, tmp_path_factory):
    "Two runs on them, the page with their data, and what was said."
    d, said = tmp_path_factory.mktemp("reduced"), []
    for name, recipe, sets in (("a", "synthetic-demo", TINY), ("b", "synthetic-demo-baseline", [o for o in TINY if not o.startswith("sr")])):
        train_run(get_recipe(recipe, sets), equal, d/name, say=lambda o: None)
    return [d/"a", d/"b"], report([d/"a", d/"b"], d/"r.html", equal, said.append).read_text(encoding="utf-8"), said


def test_report_reduced_sizes(reduced, equal):
    runs, page, said = reduced
    assert "Accuracy by reduced size" in headings(page) and "Accuracy by original resolution" not in headings(page) and len(said) == 2 and said[0].endswith("6 sizes: a")
    found = table(page, "WA by reduced size, %")
    assert list(found) == ["a", "b"] and list(found["a"]) == ["32 px", "24 px", "20 px", "16 px", "12 px", "10 px"] # the networks take 32 pixels
    run = Finished(runs[1])
    dl = dls_from_table(table_of(run.about, equal), size=tuple(run.model.size), augment=None)[2]
    for px, right in right_by_reduced_size(run.model, dl, (32, 12)).items(): assert float(found["b"][f"{px} px"]) == pytest.approx(100*right["fused"].mean(), abs=.051)


def test_report_compares_at_each_size(reduced):
    wa, (row,) = table(reduced[1], "WA by reduced size, %"), table(reduced[1], "Face by face at each size").values()
    for px, text in row.items():
        d, low, high = map(float, re.fullmatch(r"([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)", text).groups())
        assert low <= d <= high and d == pytest.approx(float(wa["b"][px]) - float(wa["a"][px]), abs=.16)


def test_report_one_run_branches_at_each_size(reduced, equal, tmp_path):
    found = table(report(reduced[0][:1], tmp_path/"r.html", equal, lambda o: None).read_text(encoding="utf-8"), "WA by reduced size, %")
    assert [o.removeprefix("a").removeprefix(": ") for o in found] == ["", "1/2", "SR x2", "original"]


# keeps to itself what it should

def test_report_escapes_names(one):
    assert html.escape(AWKWARD) in one and "<b>" not in one.replace("<b></b>", "")
    assert "<recipe>" not in one and "psr-fer train &lt;recipe&gt; &amp; more" in one


def test_report_no_path_and_no_face_without_data(runs, faces, one, both):
    for page in (one, both):
        for o in (faces, runs[0].parent, faces.parent, sys.prefix): assert str(o) not in page
        assert "FER2013Test/" not in page and ".png" not in page.replace("image/png", "")


def test_report_no_path_with_data(faces, local): assert str(faces) not in local and "FER2013Test/" not in local


def test_report_with_faces_says_it_is_private(local): assert "keep this page on your machine" in local


# what cannot be done

@pytest.fixture
def psr_fer(tmp_path, monkeypatch, capsys):
    def run(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["psr-fer", *map(str, args)])
        with pytest.raises(SystemExit) as e: main()
        out = capsys.readouterr()
        return e.value.code or 0, out.out, out.err
    return run


def test_command_same_page(psr_fer, runs, tmp_path, both): # and the same page twice
    code, out, err = psr_fer("report", *runs, "--out", "new folder/page.html")
    assert code == 0 and not err and str((tmp_path/"new folder"/"page.html").resolve()) in out
    assert (tmp_path/"new folder"/"page.html").read_text(encoding="utf-8") == both


@pytest.mark.parametrize("missing", ["metrics.json", "history.csv", "test.npz", "model.safetensors"])
def test_command_unfinished_run(psr_fer, runs, tmp_path, missing):
    shutil.copytree(runs[1], tmp_path/"run")
    (tmp_path/"run"/missing).unlink()
    (tmp_path/"report.html").write_text("the old page")
    code, out, err = psr_fer("report", runs[0], "run", "--out", "report.html")
    assert code == 2 and "run is no finished run" in err and missing in err and "Traceback" not in err and err.count("\n") == 1
    assert (tmp_path/"report.html").read_text() == "the old page" and sorted(o.name for o in tmp_path.iterdir()) == ["report.html", "run"]


def test_command_one_run_in_its_folder(psr_fer, runs, tmp_path):
    shutil.copytree(runs[1], tmp_path/"run")
    code, out, _ = psr_fer("report", "run")
    assert code == 0 and str((tmp_path/"run"/"report.html").resolve()) in out and (tmp_path/"run"/"report.html").is_file() and not (tmp_path/"report.html").exists()
    code, out, _ = psr_fer("report", "run", runs[0])
    assert code == 0 and str((tmp_path/"report.html").resolve()) in out and len(table((tmp_path/"report.html").read_text(encoding="utf-8"), "Test split")) == 2


def test_command_replaces_only_a_report(psr_fer, runs, tmp_path):
    shutil.copytree(runs[1], tmp_path/"run")
    (tmp_path/"run"/"report.html").write_text("<!doctype html><title>my own report</title>")
    code, out, err = psr_fer("report", "run")
    assert code == 2 and "is no page of psr_fer, so it stays" in err and err.count("\n") == 1 and "my own report" in (tmp_path/"run"/"report.html").read_text()
    assert psr_fer("report", "run", "--out", "run")[2].count("is a folder; name a file in it") == 1
    assert psr_fer("report", "run", "--out", "page.html")[0] == 0
    first = (tmp_path/"page.html").read_text(encoding="utf-8")
    assert psr_fer("report", runs[0], "--out", "page.html")[0] == 0 and (tmp_path/"page.html").read_text(encoding="utf-8") != first


def test_command_other_data_set(psr_fer, runs, faces, tmp_path):
    shutil.copytree(runs[0], tmp_path/"run") # a run that was evaluated on one face less
    with np.load(runs[0]/"test.npz") as d: np.savez(tmp_path/"run"/"test.npz", **{k: d[k][1:] for k in d.files})
    code, _, err = psr_fer("report", "run", "--data", faces)
    assert code == 2 and "give the data set of the run" in err and "Traceback" not in err and not list(tmp_path.rglob("report.html"))
    code, _, err = psr_fer("report", runs[0], "--data", "nowhere", "--out", "page.html")
    assert code == 2 and "nowhere" in err and "Traceback" not in err and not (tmp_path/"page.html").exists()


def test_metrics_table_shows_the_record():  # scores are kept in half precision, so that a tie may fall otherwise
    faces = np.array([0, 1]*50)
    metrics = dict(test=dict(wa=.5, ua=.4, macro_f1=.3), parameters=1, minutes=1., views="none")
    table = metrics_table([SimpleNamespace(name="a", targets=faces, predicted=faces, metrics=metrics)])
    assert [table.loc["a", k].split(" (")[0] for k in ("WA", "UA", "macro-F1")] == ["50.0", "40.0", "30.0"]
