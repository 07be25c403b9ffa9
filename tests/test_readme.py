"""README.md is what nbs/index.ipynb renders to, results/README.md what the records say."""
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory

from psr_fer.reproduce.report import results_markdown

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT/"nbs"/"index.ipynb"
README = (ROOT/"README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool(): return runpy.run_path(str(ROOT/"tools"/"render_readme.py"))


def test_readme_is_the_rendered_index(tool):
    assert README == tool["render"](nbformat.read(INDEX, 4)), "run python tools/render_readme.py"
    assert len(README.encode()) <= 7168


def test_render_hidden_cells_and_outputs_do_not_show(tool):
    cell = nbformat.v4.new_code_cell
    out = [nbformat.v4.new_output("stream", text="printed\n")]
    made = nbformat.v4.new_notebook(cells=[
        cell("#| hide\nsecret = 1", outputs=out), cell("#| echo: false\nunseen = 2", outputs=[nbformat.v4.new_output("stream", text="seen\n")]),
        cell("#| output: false\nshown = 3", outputs=out), nbformat.v4.new_markdown_cell("[a](00_a.ipynb) [b](../LICENSE) [c](https://c.org) [d](#d)")])
    text = tool["render"](made)
    assert "shown = 3" in text and "seen" in text and not [o for o in ("secret", "unseen", "printed", "#|") if o in text]
    assert "[a](nbs/00_a.ipynb) [b](LICENSE) [c](https://c.org) [d](#d)" in text


@pytest.mark.parametrize("name", ["index", "map", "speed", "experiments/what_helped"])
def test_stored_tables_are_those_of_the_records(name):
    path, shell, checked = ROOT/"nbs"/f"{name}.ipynb", CaptureShell(), 0
    with working_directory(path.parent):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type != "code" or not cell.source.startswith(("#| hide", "#| echo: false")) or "mkdtemp" in cell.source: continue
            fresh = shell.run(cell.source)
            assert not shell.exc, shell.exc
            if cell.source.startswith("#| hide"): continue
            def texts(outputs): return [re.sub(r"\s+", " ", "".join(o.get("text") or o["data"].get("text/markdown") or o["data"].get("text/html", ""))) for o in outputs]
            assert texts(fresh) == texts(cell.outputs), "run python tools/render_readme.py"
            checked += 1
    assert checked


@pytest.mark.slow
def test_results_page_is_that_of_the_records():
    assert (ROOT/"results"/"README.md").read_text(encoding="utf-8") == results_markdown(ROOT/"results"), "psr_fer.reproduce.report.render_results('results') writes it anew"


def test_links_inside_the_repository_lead_somewhere():
    links = [a or b for a, b in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)]
    local = [o for o in links if not re.match(r"\w+:|#", o)]
    assert len(local) > 15 and not [o for o in local if not (ROOT/o).exists()]
