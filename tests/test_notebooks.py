"""The notebooks: their form, their budgets, and that they and the modules say the same."""
import ast, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/"nbs"
def hidden(path): return any(o.startswith((".", "_")) for o in path.parts)


ALL = sorted(o.as_posix() for o in (p.relative_to(NBS) for p in NBS.rglob("*.ipynb")) if not hidden(o))
LIBRARY = [o for o in ALL if re.match(r"\d", o)]
CLOSING = "Differences from the paper and the authors' code"
FUNCTION_LINES, CLASS_LINES = 30, 55 # 25 and 50, with room for a blank or two


def cells(name): return [dict(o, source="".join(o["source"])) for o in json.loads((NBS/name).read_text(encoding="utf-8"))["cells"]]


def code(name): return [o for o in cells(name) if o["cell_type"] == "code"]


def headings(name, level):
    text = "\n".join(re.sub(r"```.*?```", "", o["source"], flags=re.S) for o in cells(name) if o["cell_type"] == "markdown")
    return re.findall(rf"^#{{{level}}} (.+)$", text, flags=re.M)


def directive(cell, name): # value of a directive, or None
    m = re.search(rf"^#\|\s*{name}:?[ \t]*(.*)$", cell["source"], flags=re.M)
    return None if m is None else m[1].strip()


def exported(name): return [o for o in code(name) if directive(o, r"export[is]?") is not None]


def module(name): return next((directive(o, "default_exp") for o in code(name) if directive(o, "default_exp")), None)


def test_there_are_notebooks_and_none_is_hidden_from_nbdev():
    assert len(LIBRARY) > 15 and "index.ipynb" in ALL
    there = [o.relative_to(NBS) for o in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in o.parts]
    assert not [o for o in there if hidden(o)]


@pytest.mark.parametrize("name", ALL)
def test_it_opens_with_a_title_and_a_sentence(name):
    markdown = "\n\n".join(o["source"] for o in cells(name)[:2] if o["cell_type"] == "markdown")
    assert re.match(r"# \S.*\n+> \S", markdown), markdown[:200]
    assert len(headings(name, 1)) == 1


@pytest.mark.parametrize("name", LIBRARY)
def test_it_writes_the_module_of_its_name(name):
    wanted = [directive(o, "default_exp") for o in code(name) if directive(o, "default_exp")]
    assert wanted == [re.match(r"\d+[a-z]?_(.+)\.ipynb", name)[1]]


@pytest.mark.parametrize("name", LIBRARY)
def test_it_closes_with_the_differences(name):
    assert headings(name, 2)[-1:] == [CLOSING]


def length(source): # lines that are not blank; the signature of a function, a documented parameter per line, counts as one
    lines = source.splitlines()
    kept = {i for i, l in enumerate(lines, 1) if l.strip() and not l.startswith("#|")}
    for n in ast.walk(ast.parse(source)):
        if isinstance(n, ast.FunctionDef): kept -= set(range(n.lineno + 1, n.body[0].lineno))
    return len(kept)


@pytest.mark.parametrize("name", LIBRARY)
def test_exported_cells_are_short(name):
    long = []
    for o in exported(name):
        classes = [n for n in ast.parse(o["source"]).body if isinstance(n, ast.ClassDef)]
        n = length(o["source"])
        if n > (CLASS_LINES if classes else FUNCTION_LINES): long.append(f"{o['id']}: {n} lines, {o['source'].splitlines()[1]}")
    assert not long, long


@pytest.mark.parametrize("name", ALL)
def test_lines_are_short(name):
    longest = int(re.search(r"^line-length = (\d+)$", (ROOT/"pyproject.toml").read_text(encoding="utf-8"), flags=re.M)[1])
    lines = [(o["id"], l) for o in code(name) for l in o["source"].splitlines() if not l.startswith("#|")]
    assert not [f"{i}: {len(l)} characters, {l[:60]} ..." for i,l in lines if len(l) > longest]


@pytest.mark.parametrize("name", LIBRARY)
def test_imports_are_not_mixed_with_code(name): # building the documentation runs import cells again
    mixed = [o["id"] for o in exported(name) if len({isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(o["source"]).body}) > 1]
    assert not mixed


@pytest.mark.parametrize("name", ALL)
def test_it_stays_small(name):
    assert (NBS/name).stat().st_size <= 150_000
    assert len(cells(name)) <= 80


@pytest.mark.parametrize("name", ALL)
def test_outputs_hold_no_error_and_no_path_of_a_machine(name):
    raw = (NBS/name).read_text(encoding="utf-8")
    assert not re.findall(r"(?:/home/|/root/|/Users/|/work/|C:\\\\Users)[\w.]*", raw)
    kinds = [o["output_type"] for c in code(name) for o in c.get("outputs", [])]
    assert "error" not in kinds
    assert not [c["id"] for c in code(name) for o in c.get("outputs", []) if o.get("name") == "stderr"]


def imported(source): # modules of psr_fer that a cell imports, at any depth
    source = re.sub(r"^\s*[%!].*$", "", source, flags=re.M)
    for n in ast.walk(ast.parse(source)):
        if isinstance(n, ast.Import): yield from (a.name for a in n.names if a.name.startswith("psr_fer."))
        if isinstance(n, ast.ImportFrom) and n.level == 0 and n.module and n.module.split(".")[0] == "psr_fer":
            yield from ([n.module] if "." in n.module else [f"psr_fer.{a.name}" for a in n.names])


@pytest.mark.parametrize("name", LIBRARY)
def test_it_imports_lower_numbers_only(name):
    number = {f"psr_fer.{module(o)}": o for o in LIBRARY}
    for o in code(name):
        for m in imported(o["source"]):
            if m in number: assert number[m] <= name, f"{name} imports {m}, which is made in {number[m]}"
            else:
                known = m in ("psr_fer._modidx", "psr_fer.__version__") or (ROOT/m.replace(".", "/")).is_dir()
                assert known, f"{name} imports {m}, which no notebook makes"


@pytest.mark.parametrize("command", ["nbdev-clean", "nbdev-export"])
def test_clean_and_export_change_nothing(command, tmp_path):
    for o in ("pyproject.toml", "settings.ini", "setup.py"): shutil.copy(ROOT/o, tmp_path/o)
    for o in ("nbs", "psr_fer"): shutil.copytree(ROOT/o, tmp_path/o, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    before = {o.relative_to(tmp_path).as_posix(): o.read_bytes() for o in tmp_path.rglob("*") if o.is_file()}
    if command == "nbdev-export": # what is written, not what was there
        for o in (tmp_path/"psr_fer").rglob("*.py"):
            if o.name not in ("__init__.py", "_modidx.py"): o.unlink()
    r = subprocess.run([Path(sys.executable).parent/command], cwd=tmp_path, capture_output=True, text=True,
        env=dict(os.environ, PYTHONPATH=""))
    assert r.returncode == 0 and not r.stderr.strip(), r.stderr
    files = [o for o in tmp_path.rglob("*") if o.is_file() and "__pycache__" not in o.parts]
    after = {o.relative_to(tmp_path).as_posix(): o.read_bytes() for o in files}
    assert set(after) == set(before)
    assert not [o for o in before if before[o] != after[o]]


def test_every_module_has_its_notebook():
    made = {f"psr_fer/{module(o).replace('.', '/')}.py" for o in LIBRARY}
    there = {o.relative_to(ROOT).as_posix() for o in (ROOT/"psr_fer").rglob("*.py") if o.name not in ("__init__.py", "_modidx.py")}
    assert made == there
