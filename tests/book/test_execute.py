import errno
import json
import os
import re
import sys

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

import nascore
from book.builder.execute import execute

PARAMETERS = 'profile = "smoke"'
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook with a parameters cell and the given code."""

    def write(code="print(profile)"):
        first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# Page"), first, new_code_cell(code)]
        path = tmp_path / "page.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
        return path

    return write


@pytest.mark.filterwarnings("ignore")  # papermill's and the kernel's own
def test_execute_moves_into_place_only_what_succeeded(notebook, tmp_path):
    out = tmp_path / "executed" / "page.ipynb"
    code = """\
import sys, time
for n in "012":
    print(f"\\r{n} of 2", end="", file=sys.stderr, flush=True)
    time.sleep(0.3)  # so that each comes as an output of its own
profile"""
    execute(notebook(code), out, {"profile": "laptop"})
    first = out.read_text(encoding="utf-8")
    outputs = nbformat.reads(first, as_version=4).cells[-1].outputs
    assert outputs[0].text == "2 of 2"  # what a terminal would show of a progress bar
    assert outputs[1].data["text/plain"] == "'laptop'"
    assert str(tmp_path) not in first  # no path of the machine in the page
    part = out.with_suffix(".part.ipynb")
    assert not part.exists()
    with pytest.raises(RuntimeError) as error:
        execute(notebook("raise ValueError('broken\\nin two')"), out, {"profile": "laptop"})
    assert out.read_text(encoding="utf-8") == first, (
        "only what succeeded takes the place of what did"
    )
    said, traceback = str(error.value).split(". Its output is in ")
    where = "page.ipynb, cell [3] (raise ValueError('broken\\nin two'))"
    assert said == f"{where}: ValueError: broken in two"
    assert traceback == str(part) and "Traceback" in part.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs_in_this_python_whatever_kernel_is_installed(
    notebook, tmp_path, monkeypatch
):
    spec = tmp_path / "share" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(
        json.dumps({"argv": ["false"], "display_name": "", "language": "python"}), encoding="utf-8"
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    out = tmp_path / "executed.ipynb"
    execute(notebook("import nascore, sys\nprint(sys.executable, nascore.__file__)"), out, {})
    printed = nbformat.read(out, as_version=4).cells[-1].outputs[0].text
    assert printed.split() == [sys.executable, nascore.__file__]


@pytest.fixture
def failing(monkeypatch, notebook, tmp_path):
    """Executes a notebook that stops with an error, in the place of papermill; returns the text."""

    def call(error):
        def stopped(*_, **__):
            raise error

        monkeypatch.setattr("papermill.execute_notebook", stopped)
        with pytest.raises((RuntimeError, OSError)) as caught:
            execute(notebook(), tmp_path / "executed" / "page.ipynb", {})
        return str(caught.value)

    return call


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("ConfigError", "lr=-1: give\n  more.", "lr=-1: give more"),
        ("KeyError", "'x'", "KeyError: 'x'"),
        ("ValueError", "long " * 1000, "ValueError: long long .* \\[\\.\\.\\.\\]"),
    ],
)
def test_a_cell_that_fails_is_one_line(failing, name, value, said):
    source = "x = " + "x + " * 100 + "1\nand more"
    message = failing(PapermillExecutionError(2, 3, source, name, value, ["Traceback"]))
    where = r"page.ipynb, cell \[3\] \(x = x .* \[...\]\)"
    assert re.fullmatch(rf"{where}: {said}. Its output is in .*page.part.ipynb", message)
    assert "\n" not in message and len(message) < 700


def test_a_kernel_that_dies_is_one_line(failing):
    message = failing(DeadKernelError("Kernel died"))
    assert message.startswith("page.ipynb: its kernel died, as when memory runs out. ")


def test_a_full_disk_is_no_fault_of_a_cell(failing):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "page.part.ipynb")
    assert failing(full) == str(full)


@pytest.mark.slow
def test_a_wrong_parameter_is_one_line_in_the_notebook_too(notebook, tmp_path):
    code = "from nascore.book import Parameters\nParameters(profile='laptp')"
    message = "unknown profile 'laptp'. Did you mean 'laptop'?"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        execute(notebook(code), tmp_path / "out" / "page.ipynb", {})
    made = nbformat.read(tmp_path / "out" / "page.part.ipynb", as_version=4)
    (shown,) = [o for c in made.cells for o in c.get("outputs", []) if o.output_type == "error"]
    (line,) = shown.traceback
    assert line.startswith(f"ConfigError: {message}") and "\n" not in line
