"""Shows the executed copy of a notebook on its page, explorers, and what is no error to a browser.

The table of contents, the launch button and the edit link name the clean template in notebooks/;
the page shows what papermill made of it, in book/_executed/. A notebook without an executed copy
is a warning, and the build treats warnings as errors.
"""

import base64
import gzip
import json
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx
from sphinx.util import logging

from nascore.book.explorer import COLOURS, EXPLORER
from nascore.runs.provenance import commit

logger = logging.getLogger(__name__)


def executed_copy(app: Sphinx, docname: str) -> Path:
    """Where the executed copy of a page in notebooks/ is."""
    return Path(app.srcdir) / "book" / "_executed" / f"{Path(docname).name}.ipynb"


def use_executed_copy(app: Sphinx, docname: str, source: list[str]) -> None:
    if not docname.startswith("notebooks/"):
        return
    copy = executed_copy(app, docname)
    if not copy.exists():
        logger.warning("%s has no executed copy: run `make book`", docname, location=docname)
        return
    app.env.note_dependency(str(copy))
    text = as_shown(copy.read_text(encoding="utf-8"))
    theme = app.config.html_theme_options
    repository = f"{theme['repository_url']}/blob/{theme['repository_branch']}/"
    source[0] = text.replace(f"]({repository}", "](/")  # a link that works anywhere, here within


def as_shown(text: str) -> str:
    """The notebook without the cell that papermill puts in, and with names of what is hidden.

    A table shows the parameters.
    """
    notebook = json.loads(text)
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    for cell in notebook["cells"]:
        if "hide-input" in cell["metadata"].get("tags", []):
            cell["metadata"].setdefault("mystnb", {})["code_prompt_show"] = hidden(cell)
    return json.dumps(notebook)


def hidden(cell: dict) -> str:
    """What the toggle of a cell with hidden code says."""
    if "parameters" in cell["metadata"]["tags"]:
        return "Show the parameters"
    if "configs" in cell["metadata"]["tags"]:
        return "Show how they are checked"
    shown = [output.get("data", {}) for output in cell["outputs"]]
    html = "".join("".join(data.get("text/html", "")) for data in shown)
    kinds = {
        "verdict": 'class="verdict-box"' in html,
        "explorer": EXPLORER in html,
        "table": "<table" in html,
        "figure": any("image/png" in data for data in shown),
        "text": any("text/markdown" in data for data in shown),
    }
    below = [kind for kind, there in kinds.items() if there]
    return f"Show the code of the {below[0]} below" if below else "Show what the code below uses"


def name_references(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Docutils calls the members of a list something else than list items, which is an error."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def leave_out_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """What a page does not need.

    Jupyter Book loads thebe's script twice even where it is switched off, which is an error; and
    Sphinx loads MathJax on the first page, because there are formulas on others.
    """
    body = context.get("body", "")
    needless = ["thebe"] if 'class="math' in body else ["thebe", "mathjax"]
    context["script_files"] = [
        script
        for script in context["script_files"]
        if not any(
            name in f"{script}{script.attributes.get('body', '')}".lower() for name in needless
        )
    ]


def add_explorers(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """A page with wiring explorers gets a file with their data, and the scripts that draw them.

    The data is a script, too: a page that is opened as a file may not fetch JSON. It is compressed,
    as not every server does that: to a quarter.
    """
    if f'class="{EXPLORER}"' not in context.get("body", ""):
        return
    cells = json.loads(executed_copy(app, page).read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [o["metadata"][EXPLORER] for o in outputs if EXPLORER in o.get("metadata", {})]
    data = {"colours": COLOURS, "explorers": shown}
    script = f"{EXPLORER}/{Path(page).name}.js"
    path = Path(app.outdir) / "_static" / script
    path.parent.mkdir(parents=True, exist_ok=True)
    text = gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0)
    path.write_bytes(b'const NASCORE_EXPLORERS = "%b";\n' % base64.b64encode(text))
    app.add_css_file("explorer.css")
    for name in ("d3/d3.min.js", script, "explorer.js"):
        app.add_js_file(name, loading_method="defer")


def make_figures_small(app: Sphinx, error: Exception | None) -> None:
    """256 colours are enough for a figure: a third of the bytes."""
    for path in (Path(app.outdir) / "_images").glob("*.png"):
        with Image.open(path) as figure:
            if figure.mode in ("RGB", "RGBA"):
                few = figure.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
                few.save(path, optimize=True)


def pinned(notebook: str, repository: str, commit: str) -> str:
    """A notebook whose first cell installs what a commit has, where nascore is missing."""
    return notebook.replace(f"git+{repository}", f"git+{repository}@{commit}")


def pin_downloads(app: Sphinx, error: Exception | None) -> None:
    """A notebook that is downloaded from its page installs the code that the page was made by.

    On Colab, that is. What has changes that are in no commit can be installed from nowhere.
    """
    made_by, repository = commit(), app.config.html_theme_options["repository_url"]
    if made_by is not None and not made_by.endswith("-dirty"):
        for path in (Path(app.outdir) / "_sources" / "notebooks").glob("*.ipynb"):
            text = path.read_text(encoding="utf-8")
            path.write_text(pinned(text, repository, made_by), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("source-read", use_executed_copy)
    app.connect("html-page-context", add_explorers)
    app.connect("html-page-context", name_references)
    app.connect("html-page-context", leave_out_scripts, priority=1000)
    app.connect("build-finished", make_figures_small)
    app.connect("build-finished", pin_downloads)
    return {"version": "1", "parallel_read_safe": True}
