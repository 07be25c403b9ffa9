"""Run nbs/index.ipynb and the pages that show results, keep what they show, and write README.md from the index:
python tools/render_readme.py [--no-run]"""
import base64
import io
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT/"nbs"/"index.ipynb"
EXPERIMENTS = [ROOT/"nbs"/o for o in ("map.ipynb", "speed.ipynb", "experiments/what_helped.ipynb")]
NOTE = "<!-- Written by tools/render_readme.py from nbs/index.ipynb; change that. -->\n\n"


def directives(cell): # -> dict of the #| lines of a cell
    found = re.findall(r"^#\|\s*(\w+):?[ \t]*(.*)$", cell.source, flags=re.M) if cell.cell_type == "code" else []
    return dict(found)


def shown(cell): # -> the cell as a reader sees it, or None
    d = directives(cell)
    if "hide" in d: return None
    cell = nbformat.from_dict(cell)
    if cell.cell_type == "code":
        cell.source = "" if d.get("echo") == "false" else re.sub(r"^#\|.*\n", "", cell.source, flags=re.M)
        if d.get("output") == "false": cell.outputs = []
    return cell


def link(m): # a link from nbs/ becomes one from the top of the repository
    path = m[2]
    if re.match(r"\w+:|#|/", path): return m[0]
    return f"{m[1]}{posixpath.normpath(posixpath.join('nbs', path))})"


def picture(m): # GitHub shows the dark twin of a light picture in its dark theme
    alt, path = m[1], m[2]
    dark = path.replace("-light.", "-dark.")
    if not (ROOT/dark).exists(): return m[0]
    return f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n  <img alt="{alt}" src="{path}">\n</picture>'


def render(nb): # notebook -> text of README.md
    nb = nbformat.from_dict(nb)
    nb.cells = [o for o in map(shown, nb.cells) if o is not None]
    nb.metadata["language_info"] = dict(name="python") # cleaning takes it out; it colours the code
    text, _ = MarkdownExporter().from_notebook_node(nb)
    text = re.sub(r"(\]\()([^)\s]+)\)", link, text)
    text = re.sub(r"!\[([^\]]*)\]\(([^)\s]+-light\.\w+)\)", picture, text)
    text = re.sub(r"```python\n\s*```\n", "", text) # source that is not shown
    text = re.sub(r"\n```\s*```python\n", "\n\n", text) # cells that follow each other read as one piece
    return NOTE + re.sub(r"\n{3,}", "\n\n", "\n".join(o.rstrip() for o in text.splitlines())).strip() + "\n"


def smaller(png): # base64 -> base64: at most 800 pixels wide, 32 colours, a sixth of the bytes
    im = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    im.thumbnail((800, 2000))
    out = io.BytesIO()
    im.quantize(32).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def run(path): # run a notebook and keep the outputs that are shown
    bin = Path(sys.executable).parent
    subprocess.run([bin/"nbdev-test", path, "--save", "--n-workers", "0"], cwd=ROOT, check=True)
    nb = nbformat.read(path, 4)
    for cell in nb.cells:
        d = directives(cell)
        if cell.cell_type == "code" and ("hide" in d or d.get("output") == "false"): cell.outputs = []
        for o in cell.get("outputs", []):
            if "image/png" in o.get("data", {}): o["data"]["image/png"] = smaller(o["data"]["image/png"])
    nbformat.write(nb, path)
    subprocess.run([bin/"nbdev-clean", "--fname", path], cwd=ROOT, check=True)


if __name__ == "__main__":
    if "--no-run" not in sys.argv[1:]:
        for path in (INDEX, *EXPERIMENTS): run(path)
    (ROOT/"README.md").write_text(render(nbformat.read(INDEX, 4)), encoding="utf-8")
