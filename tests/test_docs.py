"""The documentation: every public name is documented, the site's menu shows every page, links work, imports form no circle.

Modules are read as text, so nothing is imported and this file is quick.
"""
import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/"nbs"
def hidden(path): return any(o.startswith((".", "_")) for o in path.parts)


PAGES = sorted(o.as_posix() for o in (p.relative_to(NBS) for p in NBS.rglob("*.ipynb")) if not hidden(o))
MODULES = sorted(o.relative_to(ROOT).as_posix() for o in (ROOT/"psr_fer").rglob("*.py") if o.name not in ("__init__.py", "_modidx.py"))
# methods whose meaning fastai, PyTorch or the standard library fixed
PROTOCOL = re.compile(r"(before|after)_\w+|forward|encodes|decodes|new|create_batches|get_idxs|activation")


@lru_cache(None)
def cells(page): return [(o["cell_type"], "".join(o["source"])) for o in json.loads((NBS/page).read_text(encoding="utf-8"))["cells"]]


def dotted(module): return module.removesuffix(".py").replace("/", ".")


@lru_cache(None)
def parsed(file): return ast.parse((ROOT/file).read_text(encoding="utf-8"))


@lru_cache(None)
def public(module): # name -> node, for what __all__ lists; an assignment stands for each name that it binds
    found = {}
    for n in parsed(module).body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)): found[n.name] = n
        targets = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else []
        for t in targets:
            if not isinstance(t, ast.Attribute): found.update({o.id: n for o in ast.walk(t) if isinstance(o, ast.Name)})
    listed = ast.literal_eval(found["__all__"].value) if "__all__" in found and isinstance(found["__all__"].value, ast.List) else []
    return {o: found[o] for o in listed if o in found}


@lru_cache(None)
def comments(source):
    return {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}


def is_method(f): return bool(f.args.args) and f.args.args[0].arg in ("self", "cls")


def has_help(arg): # typer's options carry their words in the annotation
    a = arg.annotation
    return a is not None and ("help=" in ast.unparse(a) or isinstance(a, ast.Name) and a.id in ("Seed", "SkipBad", "Sets"))


def returns_something(f):
    inner = {id(o) for n in ast.walk(f) if n is not f and isinstance(n, (ast.FunctionDef, ast.Lambda)) for o in ast.walk(n)}
    own = [n for n in ast.walk(f) if id(n) not in inner]
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) or isinstance(n, ast.Return) and n.value is not None for n in own)


def unexplained(f, lines, said): # parameters without a comment on their line or above it, as docments wants them; and the return
    args = [o for o in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs) if o.arg not in ("self", "cls")]
    last = {o.lineno: o.arg for o in args} # a comment belongs to the last parameter of its line
    def above(i): return i - 1 in said and i - 1 not in last and lines[i - 2].lstrip().startswith("#")
    out = [o.arg for o in args if not has_help(o) and not (last[o.lineno] == o.arg and (o.lineno in said or above(o.lineno)))]
    if f.returns is None: return out + ["return"]*returns_something(f)
    nothing = isinstance(f.returns, ast.Constant) and f.returns.value is None or ast.unparse(f.returns) in ("Figure", "str", "int", "bool", "Path", "Iterator[tuple]")
    return out + ["return"]*(not nothing and not {f.returns.lineno, f.returns.end_lineno} & set(said))


def class_problems(c, lines, said):
    if any("dataclass" in ast.unparse(o) for o in c.decorator_list):
        yield from (f"field {o.target.id}" for o in c.body if isinstance(o, ast.AnnAssign) and not {o.lineno, o.end_lineno} & set(said))
    for f in c.body:
        if not isinstance(f, ast.FunctionDef): continue
        if f.name == "__init__": yield from unexplained(f, lines, said)
        elif not f.name.startswith("_") and not PROTOCOL.fullmatch(f.name) and not ast.get_docstring(f): yield f"no docstring of {f.name}"


def problems(source, node):
    said, lines = comments(source), source.splitlines()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not ast.get_docstring(node): yield "no docstring"
    if isinstance(node, ast.FunctionDef): yield from unexplained(node, lines, said)
    elif isinstance(node, ast.ClassDef): yield from class_problems(node, lines, said)


def untyped(node): # parameters of a public function, or of a class's public methods, that have no type; and returns
    methods = [n for n in getattr(node, "body", ()) if isinstance(n, ast.FunctionDef)]
    for f in [node] if isinstance(node, ast.FunctionDef) else [n for n in methods if n.name == "__init__" or not n.name.startswith("_") and not PROTOCOL.fullmatch(n.name)]:
        yield from (f"{f.name}({o.arg})" for o in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs) if o.annotation is None and o.arg not in ("self", "cls"))
        if f.returns is None and f.name != "__init__" and returns_something(f): yield f"{f.name} ->"


def test_every_public_parameter_has_a_type():
    missing = {f"{o} {k}": list(untyped(n)) for o in MODULES for k, n in public(o).items()}
    assert not {k: v for k, v in missing.items() if v}


@pytest.mark.parametrize("source,wanted", [("def f(a, b: int) -> int: return 1", ["f(a)"]), ("def f(a: int): return 1", ["f ->"]),
    ("class A:\n    def __init__(self, x): pass\n    def g(self, y: int): pass\n    def _h(self, z): pass", ["__init__(x)"])])
def test_untyped_finds_what_is_missing(source, wanted): assert list(untyped(ast.parse(source).body[0])) == wanted


def test_every_public_name_is_documented():
    sources = {o: (ROOT/o).read_text(encoding="utf-8") for o in MODULES}
    missing = {f"{o} {k}": list(problems(sources[o], n)) for o in MODULES for k,n in public(o).items()}
    assert not {k: v for k,v in missing.items() if v}


@pytest.mark.parametrize("source,wanted", [
    ("def f(a, # one\n      b=2 # two\n     )->int: # three\n    'Words.'\n    return 1", []),
    ("def f(a, b): # both\n    'Words.'", ["a"]), ("def f(a): # one\n    return a", ["no docstring", "return"]),
    ("def f()->dict:\n    'Words.'\n    return 1", ["return"]),
    ("@dataclass\nclass A:\n    'Words.'\n    x:int # one\n    y:int", ["field y"]),
    ("class A:\n    'Words.'\n    def g(self): pass\n    def forward(self, x): pass", ["no docstring of g"])])
def test_the_rule_finds_what_is_missing(source, wanted): assert list(problems(source, ast.parse(source).body[0])) == wanted


def imports(module): # modules of the package that a module imports when it is loaded
    tree = parsed(module)
    for n in tree.body:
        if isinstance(n, ast.ImportFrom) and n.level:
            base = Path(module).parents[n.level - 1]/(n.module or "").replace(".", "/")
            for o in [base, *(base/a.name for a in n.names)]:
                if (f := o.with_suffix(".py").as_posix()) in MODULES: yield f


def test_imports_form_no_circle():
    from graphlib import TopologicalSorter
    assert len(list(TopologicalSorter({o: set(imports(o)) for o in MODULES}).static_order())) >= len(MODULES)


# ---- the site

@lru_cache(None)
def site(): return yaml.safe_load((NBS/"_quarto.yml").read_text(encoding="utf-8"))


def menu(items): # pages in the menu's order; a text with a star stands for what it matches
    for o in items:
        if isinstance(o, dict) and "section" in o: yield from menu([o["contents"]] if isinstance(o["contents"], str) else o["contents"])
        else:
            o = o if isinstance(o, str) else o["href"]
            yield from sorted(p.relative_to(NBS).as_posix() for p in NBS.glob(o)) if "*" in o else [o]


def test_the_menu_shows_every_page_once_and_no_other():
    listed = list(menu(site()["website"]["sidebar"]["contents"]))
    assert sorted(listed) == PAGES and listed[0] == "index.ipynb"


def test_the_site_is_built_from_files_that_are_there():
    assert all((NBS/o).exists() for o in site()["project"]["resources"])
    assert (NBS/site()["format"]["html"]["css"]).exists()
    assert site()["metadata-files"] == ["nbdev.yml"] # nbdev's own sidebar.yml would be added to ours


def links(text): return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S))


def anchors(page): # headings as Quarto names them
    prose = [re.sub(r"```.*?```", "", s, flags=re.S) for kind,s in cells(page) if kind == "markdown"]
    heads = [h for s in prose for h in re.findall(r"^#+ (.+)$", s, flags=re.M)]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", re.sub(r"[`*$]", "", h).lower()).strip()).lstrip("0123456789.-") for h in heads}


def lost_links(page):
    for kind,s in cells(page):
        for o in links(s) if kind == "markdown" else ():
            if re.match(r"\w+:", o): continue
            file, _, mark = o.partition("#")
            target = (NBS/page).parent/file if file else NBS/page
            if not target.exists(): yield o
            elif mark and target.suffix == ".ipynb" and mark not in anchors(target.resolve().relative_to(NBS).as_posix()): yield o


def test_links_between_pages_lead_somewhere(): assert not {o: lost for o in PAGES if (lost := list(lost_links(o)))}


def test_guides_link_to_files_that_are_there():
    for guide in ("CONTRIBUTING.md", "CHANGELOG.md"):
        files = [o for o in links((ROOT/guide).read_text(encoding="utf-8")) if not re.match(r"\w+:|#", o)]
        assert not [o for o in files if not (ROOT/o.split("#")[0]).exists()]


# ---- the command line explains itself

@pytest.mark.parametrize("shell,typed,wanted", [
    ("bash", dict(COMP_WORDS="psr-fer tr", COMP_CWORD="1"), "train"), ("zsh", dict(_TYPER_COMPLETE_ARGS="psr-fer rep"), "reproduce"),
    ("fish", dict(_TYPER_COMPLETE_ARGS="psr-fer export --in", _TYPER_COMPLETE_FISH_ACTION="get-args"), "--int8")])
@pytest.mark.slow
def test_the_shell_completes_without_torch(shell, typed, wanted):
    env = dict(os.environ, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", PYTHONPATH=str(ROOT))
    def run(*args, **more):
        return subprocess.run([sys.executable, "-X", "importtime", Path(sys.executable).parent/"psr-fer", *args],
            env=env | more, capture_output=True, text=True)
    script, answer = run("--show-completion", shell), run(_PSR_FER_COMPLETE=f"complete_{shell}", **typed)
    assert "_PSR_FER_COMPLETE" in script.stdout and wanted in answer.stdout
    for o in (script, answer): assert not re.search(r"\| +(torch|fastai|pandas|numpy)$", o.stderr, flags=re.M)


def test_every_command_has_an_example():
    functions = [n for n in parsed("psr_fer/cli.py").body if isinstance(n, ast.FunctionDef)]
    commands = [n for n in functions if any(".command(" in ast.unparse(o) for o in n.decorator_list)]
    assert len(commands) >= 12
    for n in commands: assert re.search(r"^ *Example: psr-fer \S", ast.get_docstring(n), flags=re.M), n.name
