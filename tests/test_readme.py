"""README.md is what nbs/index.ipynb renders to, and what the index shows is true of the records and the notebooks."""
import html, json, re, runpy, statistics
from pathlib import Path

import nbformat
import pytest
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory

from psr_fer.ledger import claim_line, read_ledger, sections
from psr_fer.results_page import all_parts, results_markdown

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT/"nbs"/"index.ipynb"
README = (ROOT/"README.md").read_text(encoding="utf-8")
RECORDS = [json.loads(o.read_text(encoding="utf-8")) for o in sorted((ROOT/"results").glob("*__s*.json"))]


@pytest.fixture(scope="module")
def tool(): return runpy.run_path(str(ROOT/"tools"/"render_readme.py"))


@pytest.fixture(scope="module")
def nb(): return nbformat.read(INDEX, 4)


def test_readme_is_the_rendered_index(tool, nb):
    assert README == tool["render"](nb), "run python tools/render_readme.py"


def test_hidden_cells_and_outputs_do_not_show(tool):
    cell = nbformat.v4.new_code_cell
    out = [nbformat.v4.new_output("stream", text="printed\n")]
    made = nbformat.v4.new_notebook(cells=[
        cell("#| hide\nsecret = 1", outputs=out),
        cell("#| echo: false\nunseen = 2", outputs=[nbformat.v4.new_output("stream", text="seen\n")]),
        cell("#| output: false\nshown = 3", outputs=out),
        nbformat.v4.new_markdown_cell("[a](00_a.ipynb) [b](../LICENSE) [c](https://c.org) [d](#d)")])
    text = tool["render"](made)
    assert "shown = 3" in text and "seen" in text
    assert not [o for o in ("secret", "unseen", "printed", "#|") if o in text]
    assert "[a](nbs/00_a.ipynb) [b](LICENSE) [c](https://c.org) [d](#d)" in text


def test_stored_tables_are_those_of_the_records(nb):
    shell = CaptureShell()
    checked = 0
    with working_directory(INDEX.parent):
        for cell in nb.cells:
            if cell.cell_type != "code": continue
            hidden, shown = cell.source.startswith("#| hide"), cell.source.startswith("#| echo: false")
            if not hidden and not shown or "chdir" in cell.source or "assert" in cell.source: continue
            outputs = shell.run(cell.source)
            assert not shell.exc, shell.exc
            if shown:
                fresh, stored = outputs[-1]["data"]["text/markdown"], cell.outputs[-1]["data"]["text/markdown"]
                lines = "".join(fresh).splitlines()
                assert lines == "".join(stored).splitlines(), "run python tools/render_readme.py"
                assert not lines[0].startswith("|") or len(lines) > 2, f"a table without rows: {lines[0]}"
                checked += 1
    assert checked == 10


def test_the_ledgers_pages_are_those_of_the_records():
    assert (ROOT/"results"/"README.md").read_text() == results_markdown(ROOT/"results"), "render_results('results') writes it anew"
    page = (ROOT/"results"/"index.html").read_text()  # its pictures may differ by a pixel between machines, its texts may not
    assert all(html.escape(p.heading) in page and all(html.escape(o) in page for o in p.commands) for p in all_parts(ROOT/"results"))
    assert all(html.escape(claim_line(c)) in page for s in sections(read_ledger(ROOT/"results")) for c in s["claims"])


@pytest.mark.parametrize("path", sorted((ROOT/"nbs"/"experiments").glob("*.ipynb")), ids=lambda o: o.stem)
def test_experiments_show_the_ledger_as_it_is(path):
    shell, tables = CaptureShell(), 0
    with working_directory(path.parent):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type != "code" or not cell.source.startswith(("#| hide", "#| echo: false")) or "mkdtemp" in cell.source: continue
            fresh = [o for o in shell.run(cell.source) if "text/html" in o.get("data", {})]
            assert not shell.exc, shell.exc
            stored = [o for o in cell.outputs if "text/html" in o.get("data", {})]
            if "#| hide" in cell.source: continue
            clean = lambda o: re.sub(r"\s+", " ", "".join(o["data"]["text/html"]))
            assert [clean(o) for o in fresh] == [clean(o) for o in stored], "run python tools/render_readme.py"
            tables += len(stored)
    assert tables > 0


def test_a_result_is_a_record_or_not_run():
    lite = [o for o in RECORDS if o["recipe"] == "ferplus-lite"]
    row = next(o for o in README.splitlines() if o.startswith("| FER+ | PSR, vgg8_bn, 48 px | WA |"))
    assert (f"{statistics.mean(100*o['test']['wa'] for o in lite):.2f}" if lite else "not run") in row
    full = [100*o["test"]["wa"] for o in RECORDS if o["recipe"] == "rafdb-paper"]
    row = next(o for o in README.splitlines() if o.startswith("| RAF-DB (Table 4) | WA |"))
    assert (f"{statistics.mean(full):.2f}" if full else "not run") in row.split("|")[-2]


def test_every_link_inside_the_repository_leads_somewhere():
    links = [o for o in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)]
    links = [a or b for a,b in links]
    local = [o for o in links if not re.match(r"\w+:|#", o)]
    assert len(local) > 20
    assert not [o for o in local if not (ROOT/o).exists()]
    anchors = {re.sub(r"[^\w -]", "", o.lower()).replace(" ", "-") for o in re.findall(r"^#+ (.+)$", README, flags=re.M)}
    assert not [o for o in links if o.startswith("#") and o[1:] not in anchors]


def test_the_map_shows_every_library_notebook():
    rows = re.findall(r"^\| .+ \| \[(.+?)\]\(nbs/(.+?)\.ipynb\) \| `psr_fer\.(.+?)` \|", README, flags=re.M)
    there = sorted(o.stem for o in (ROOT/"nbs").glob("[0-9]*.ipynb"))
    assert [o[1] for o in rows] == there
    assert all(a == b and b.split("_", 1)[1] == m for a,b,m in rows)


def test_the_readme_says_what_the_papers_recipes_run():
    from psr_fer.recipes import RECIPES
    for name in ("ferplus-paper", "rafdb-paper", "affectnet8-paper", "affectnet7-paper"):
        r, row = RECIPES[name], next(o for o in README.splitlines() if o.startswith(f"| `{name}` |"))
        assert f"| {r.arch}, cut after {r.pos} convolutions, `kstep` {r.kstep}; {r.size} px |" in row
        assert f"| {r.frozen_epochs} epochs of the head, then {r.base[0][1]} at {r.base[0][0]} px" in row and f"| {r.loss.upper()} |" in row


def test_the_inconsistencies_are_linked_and_name_each():
    page = (ROOT/"nbs"/"paper_inconsistencies.ipynb").read_text(encoding="utf-8")
    assert "(nbs/paper_inconsistencies.ipynb)" in README
    for o in ("487", "n_label", "12 convolution", "kstep` = 2", "0.125", "variance", "85.89", "85.77", "0.81", "1.01", "half-size", "about a quarter"): assert o in page, o
