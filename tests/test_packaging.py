"""Packaging: every fact of the metadata stands once, what is built is complete, and set-up is repeatable."""
import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SHARED = "../" + "shared" # the folder that lies beside some clones; .ci/run alone may know it


def text(name): return (ROOT/name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ini():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


@pytest.fixture(scope="module")
def toml(): return tomllib.loads(text("pyproject.toml"))


def lines(ini, key): return [o.strip() for o in ini[key].splitlines() if o.strip()]


def tracked():
    "Files that git knows, or a skip outside a clone."
    r = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    files = [o for o in r.stdout.split("\0") if o]
    if r.returncode or not files: pytest.skip("not in a git clone with files")
    return files


def test_pyproject_holds_the_name_and_dynamic_fields_only(ini, toml):
    assert set(toml["project"]) == {"name", "requires-python", "dynamic"}
    assert canonicalize_name(toml["project"]["name"]) == canonicalize_name(ini["lib_name"])
    assert "setuptools" not in toml["tool"] # where setuptools would take metadata from


@pytest.mark.parametrize("key", ["description", "keywords", "author", "license", "console_scripts", "requirements", "dev_requirements"])
def test_a_fact_of_settings_ini_stands_nowhere_else(ini, key):
    facts = lines(ini, key)
    assert facts
    for file in ("pyproject.toml", "setup.py", "psr_fer/__init__.py"):
        assert not [o for o in facts if o in text(file)], file


def test_the_version_stands_in_the_package_only(ini):
    version = re.fullmatch(r'__version__ = "(\d+\.\d+\.\d+)"', text("psr_fer/__init__.py").splitlines()[0])[1]
    assert "version" not in ini
    assert not [o for o in ("settings.ini", "pyproject.toml", "setup.py") if f'"{version}"' in text(o)]
    assert "min_python" not in ini and not [o for o in PYTHONS if f">={o}" in text("setup.py")] # pyproject.toml says it


def test_torch_of_a_gpu_machine_is_allowed(ini, toml):
    wanted = {o.name: o.specifier for o in map(Requirement, lines(ini, "requirements"))}
    assert wanted["torch"].contains("2.11.0") and wanted["torchvision"].contains("0.26.0")
    assert SpecifierSet(toml["project"]["requires-python"]).contains("3.12.1")
    assert not [o for o in wanted.values() if any(s.operator in ("<", "<=", "==", "~=") for s in o)] # a library sets no upper bounds


def test_constraints_name_packages_and_versions_only():
    rows = [o for o in text("constraints.txt").splitlines() if o and not o.startswith("#")]
    assert len(rows) > 50
    strange = [o for o in rows if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [a-z0-9_.*'=<>!() -]+)?", o, flags=re.I)]
    assert not strange


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_cover_every_requirement(ini, python):
    env = dict(python_version=python, python_full_version=f"{python}.1", sys_platform="linux", platform_machine="x86_64",
        os_name="posix", extra="")
    pins = {}
    for o in map(Requirement, [o for o in text("constraints.txt").splitlines() if o and not o.startswith("#")]):
        if o.marker is None or o.marker.evaluate(env):
            assert o.name not in pins, f"{o.name} is pinned twice for Python {python}"
            pins[o.name] = next(iter(o.specifier)).version
    for o in map(Requirement, lines(ini, "requirements") + lines(ini, "dev_requirements")):
        assert o.specifier.contains(pins[canonicalize_name(o.name)]), o


def test_no_lock_file_with_download_addresses():
    files = tracked()
    locks = r"uv\.lock|poetry\.lock|pdm\.lock|Pipfile\.lock|pylock[^/]*\.toml|[^/]*conda-lock\.yml|package-lock\.json"
    assert not [o for o in files if re.search(rf"(^|/)({locks})$", o)]
    address = "files.python" + "hosted.org"
    assert not [o for o in files if (ROOT/o).is_file() and address.encode() in (ROOT/o).read_bytes()]


def test_only_ci_knows_the_folder_beside_the_clone():
    named = [o for o in tracked() if (ROOT/o).is_file() and re.search(rb"\.\./" + SHARED[3:].encode() + rb"\b", (ROOT/o).read_bytes())]
    assert set(named) <= {".ci/run"}


def modules():
    found = [o.relative_to(ROOT).with_suffix("") for o in sorted((ROOT/"psr_fer").rglob("*.py"))]
    return [".".join(o.parts).removesuffix(".__init__") for o in found]


def python(code, *args): # run code in a new process, from elsewhere, on this checkout
    env = dict(os.environ, PYTHONPATH=str(ROOT), MPLBACKEND="Agg")
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code, *args], capture_output=True, text=True, env=env, cwd=ROOT/"tests")


@pytest.mark.slow
def test_every_module_imports_without_a_word():
    assert len(modules()) > 15
    r = python("import sys, importlib\nfor o in sys.argv[1:]: importlib.import_module(o)", *modules())
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


@pytest.mark.parametrize("module", ["psr_fer", "psr_fer.cli"])
def test_a_light_module_does_not_load_the_heavy_ones(module):
    r = python("import sys, importlib\nimportlib.import_module(sys.argv[1])\nprint(*sorted(sys.modules))", module)
    assert r.returncode == 0, r.stderr
    loaded = set(r.stdout.split())
    assert module in loaded and not loaded & {"torch", "torchvision", "fastai", "timm", "pandas", "numpy", "matplotlib", "sklearn"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "An sdist of this checkout, and the wheel that is built from that sdist."
    src = tmp_path_factory.mktemp("src")
    for o in SOURCES: shutil.copy(ROOT/o, src/o)
    shutil.copytree(ROOT/"psr_fer", src/"psr_fer", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    backend = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
    def build(what, where): # with the setuptools that is here: isolation would download it again
        r = subprocess.run([sys.executable, "-c", backend, what, str(src/"dist")], capture_output=True, text=True, cwd=where)
        assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-2000:]
    build("build_sdist", src)
    sdist = next((src/"dist").glob("*.tar.gz"))
    with tarfile.open(sdist) as t:
        t.extractall(src/"unpacked", filter="data") if hasattr(tarfile, "data_filter") else t.extractall(src/"unpacked")
    build("build_wheel", next((src/"unpacked").iterdir()))
    return sdist, next((src/"dist").glob("*.whl"))


def package_files():
    there = [o for o in (ROOT/"psr_fer").rglob("*") if o.is_file() and "__pycache__" not in o.parts]
    return {o.relative_to(ROOT).as_posix() for o in there if not o.name.startswith(".")}


@pytest.mark.slow
def test_sdist_and_wheel_hold_the_package_and_its_data(built):
    sdist, wheel = built
    in_sdist = {o.split("/", 1)[1] for o in tarfile.open(sdist).getnames() if "/" in o}
    in_wheel = {o for o in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in o}
    assert "psr_fer/py.typed" in package_files()
    assert package_files() <= in_sdist and set(SOURCES) <= in_sdist
    assert in_wheel == package_files()


@pytest.mark.slow
def test_wheel_says_what_settings_ini_says(built, ini, toml):
    z = zipfile.ZipFile(built[1])
    info = next(o.split("/")[0] for o in z.namelist() if ".dist-info/" in o)
    meta = Parser().parsestr(z.read(f"{info}/METADATA").decode())
    version = ast.literal_eval(re.search(r"__version__ = (.+)", text("psr_fer/__init__.py"))[1])
    assert (meta["Version"], meta["Summary"], meta["Requires-Python"]) == (version, ini["description"], toml["project"]["requires-python"])
    assert ini["license"] in (meta["License-Expression"], meta["License"]) and meta["Author"] == ini["author"]
    assert any(o.endswith("licenses/LICENSE") or o.endswith("info/LICENSE") for o in z.namelist())
    wanted = [Requirement(o) for o in meta.get_all("Requires-Dist")]
    def belongs(o, extra): return f'extra == "{extra}"' in str(o.marker) if extra else "extra" not in str(o.marker)
    def of(extra): return {str(Requirement(f"{o.name}{o.specifier}")) for o in wanted if belongs(o, extra)}
    assert of(None) == {str(Requirement(o)) for o in lines(ini, "requirements")}
    assert of("dev") == {str(Requirement(o)) for o in lines(ini, "dev_requirements")}
    scripts = z.read(f"{info}/entry_points.txt").decode()
    for o in lines(ini, "console_scripts"): assert re.search(rf"^{re.escape(o)}$", scripts, flags=re.M)
    assert "psr_fer = psr_fer._modidx:d" in scripts # nbdev's index of the documentation


def test_workflows_are_pinned_and_modest():
    flows = {o.name: yaml.safe_load(o.read_text(encoding="utf-8")) for o in (ROOT/".github"/"workflows").glob("*.yaml")}
    assert set(flows) == {"test.yaml", "docs.yaml"}
    for name,flow in flows.items():
        assert flow["permissions"] == {"contents": "read"}, name
        assert flow["concurrency"]["cancel-in-progress"] is True
        uses = [s["uses"] for j in flow["jobs"].values() for s in j["steps"] if "uses" in s]
        assert uses and all(re.search(r"@v\d", o) for o in uses), uses
    test = flows["test.yaml"]["jobs"]["test"]
    assert tuple(test["strategy"]["matrix"]["python"]) == PYTHONS
    said = " ".join(s.get("run", "") for s in test["steps"])
    order = [said.index(o) for o in ("nbdev-clean", "nbdev-export", "run_all.py notebooks", "run_all.py tests")]
    assert order == sorted(order)


def test_ci_calls_the_test_command_of_the_readme():
    commands = re.findall(r"^pip install uv && (uv run .+)$", text("README.md"), flags=re.M)
    assert len(commands) == 3
    assert os.access(ROOT/".ci"/"run", os.X_OK)
    assert text(".ci/run").splitlines()[-1] == commands[-1]


def test_ruff_finds_nothing():
    r = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", ROOT], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout
