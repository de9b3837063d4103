"""Shows the executed copy of a notebook on its page, and pages without a needless script.

The table of contents, the launch button and the edit link name the clean template in notebooks/;
the page shows what papermill made of it, in book/_executed/. A notebook without an executed copy
is a warning, and the build treats warnings as errors.
"""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def use_executed_copy(app: Sphinx, docname: str, source: list[str]) -> None:
    folder, _, name = docname.partition("/")
    if folder != "notebooks":
        return
    copy = Path(app.srcdir) / "book" / "_executed" / f"{name}.ipynb"
    if not copy.exists():
        logger.warning("%s has no executed copy: run `make book`", docname, location=docname)
        return
    app.env.note_dependency(str(copy))
    source[0] = copy.read_text(encoding="utf-8")


def leave_out_thebe(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Jupyter Book loads thebe's script twice even where it is switched off, which is an error."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(script) and "THEBE" not in script.attributes.get("body", "")
    ]


def setup(app: Sphinx) -> dict:
    app.connect("source-read", use_executed_copy)
    app.connect("html-page-context", leave_out_thebe, priority=1000)
    return {"version": "1", "parallel_read_safe": True}
