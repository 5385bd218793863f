"""The gallery: each script of examples/gallery is a page, with its text, its picture and its code.

A script begins with a docstring, whose first line is the title, and ends with ``figure.savefig``. It runs when the site
is built, in a folder that holds what ``volvae demo`` writes. Its picture is written in light and in dark colours.
"""

import ast
import io
import re
import runpy
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import ClassVar, NamedTuple

import matplotlib as mpl
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples/gallery"
PICTURES = "build/gallery"  # from the root

# Ink, faint ink, grid, and the colours of curves, which keep a contrast of 3 to the paper; on light and on dark paper.
_COLOURS = {
    "#1f2328": "#e6e8eb",
    "#59636e": "#a3adb8",
    "#d7dce1": "#3a4149",
    "#0b62c4": "#5cabff",
    "#c2410c": "#ff8f4d",
    "#0a7d5a": "#3fc79a",
    "#9333b8": "#cf8bf0",
    "#9a6b00": "#e0b23a",
}
_INK, _FAINT, _GRID, *_CURVES = _COLOURS
_STYLE = {
    "figure.figsize": (7.2, 4.2),
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.color": _INK,
    "axes.titlesize": 12.0,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=_CURVES),
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.transparent": True,
    "svg.hashsalt": "volvae",  # the same bytes each time
}


class Page(NamedTuple):
    """A script in its parts.

    Attributes:
        title: the first line of its docstring.
        text: the others, in Markdown.
        code: the script behind its docstring.
    """

    title: str
    text: str
    code: str


def read(script: str) -> Page:
    """The parts of a script."""
    head = ast.parse(script).body[0]
    title, _, text = (ast.get_docstring(ast.parse(script)) or "").partition("\n")
    code = "\n".join(script.splitlines()[head.end_lineno or 0 :]).strip()
    return Page(title.rstrip("."), text.strip(), code)


def draw(script: Path) -> tuple[str, str]:
    """The picture of a script as SVG, and what it prints; run where ``demo/`` is what ``volvae demo`` writes."""
    mpl.use("agg")
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, mpl.rc_context(_STYLE), redirect_stdout(printed), chdir(folder):
        Path("demo").symlink_to(ROOT / "deploy/demo")
        Path("examples").symlink_to(ROOT / "examples")
        figure = runpy.run_path(str(script))["figure"]
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        mpl.pyplot.close("all")
    return picture.getvalue(), printed.getvalue()


def dark(picture: str) -> str:
    """A picture for dark paper: the same lines in the colours that suit it."""
    return re.sub("|".join(_COLOURS), lambda found: _COLOURS[found[0]], picture)


def scripts() -> list[Path]:
    """All scripts, by their names."""
    return sorted(SCRIPTS.glob("*.py"))


def write_pictures(app: Sphinx) -> None:
    """Draw the pictures of scripts that are newer than theirs."""
    folder = ROOT / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    changed = max(path.stat().st_mtime for path in (Path(__file__), *(ROOT / "vae").rglob("*.py")))
    for script in scripts():
        light = folder / f"{script.stem}-light.svg"
        if light.exists() and light.stat().st_mtime > max(changed, script.stat().st_mtime):
            continue
        picture, printed = draw(script)
        (folder / f"{script.stem}-dark.svg").write_text(dark(picture), "utf-8")
        (folder / f"{script.stem}.txt").write_text(printed, "utf-8")
        light.write_text(picture, "utf-8")


def as_markdown(app: Sphinx, docname: str, source: list[str]) -> None:
    """The page of a script, in place of the script; with its picture and what it prints if it is of the gallery."""
    path = Path(app.srcdir) / f"{docname}.py"
    if not path.exists():
        return
    page = read(source[0])
    parts = [f"# {page.title}", page.text, f"```python\n{page.code}\n```"]
    if path.parent == SCRIPTS:
        parts.insert(2, _pictures(path.stem, page.title))
        printed = (ROOT / PICTURES / f"{path.stem}.txt").read_text("utf-8")
        parts += [f"It prints\n\n```text\n{printed.rstrip()}\n```"] * bool(printed)
    source[0] = "\n\n".join([*parts, f"Download {{download}}`{path.name}`.", ""])


def _pictures(name: str, title: str) -> str:
    pictures = "\n".join(
        f"```{{image}} /{PICTURES}/{name}-{paper}.svg\n:class: only-{paper}\n:alt: {title}\n```"
        for paper in ("light", "dark")
    )
    return f"````{{container}} picture\n{pictures}\n````"


class Gallery(SphinxDirective):
    """The pictures of all scripts, or of those that ``:only:`` names, each a link to its page."""

    option_spec: ClassVar = {"only": str.split}

    def run(self) -> list[nodes.Node]:
        """Cards with picture and title."""
        cards = nodes.container(classes=["gallery"])
        shown = self.options.get("only", [script.stem for script in scripts()])
        for script in (SCRIPTS / f"{name}.py" for name in shown):
            title = read(script.read_text("utf-8")).title
            address = self.env.app.builder.get_relative_uri(self.env.docname, f"examples/gallery/{script.stem}")
            pictures = (
                nodes.image(uri=f"/{PICTURES}/{script.stem}-{paper}.svg", alt="", classes=[f"only-{paper}"])
                for paper in ("light", "dark")
            )
            card = nodes.paragraph("", "", nodes.reference("", "", *pictures, nodes.Text(title), refuri=address))
            cards += card
        return [cards]


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw before pages are read, and read scripts as pages."""
    app.connect("builder-inited", write_pictures)
    app.connect("source-read", as_markdown)
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
