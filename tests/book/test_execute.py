import errno
import os
import re

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.builder.execute import CellError, execute

PARAMETERS = 'profile = "smoke"  # type: Profile'
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
    first = out.read_text()
    outputs = nbformat.reads(first, as_version=4).cells[-1].outputs
    assert outputs[0].text == "2 of 2"  # what a terminal would show of a progress bar
    assert outputs[1].data["text/plain"] == "'laptop'"
    assert str(tmp_path) not in first  # no path of the machine in the page
    with pytest.raises(CellError) as error:
        execute(notebook("raise ValueError('broken\\nin two')"), out, {"profile": "laptop"})
    assert out.read_text() == first and not out.with_suffix(".part.ipynb").exists()
    said, report = str(error.value).split(". The traceback is in ")
    assert (
        said
        == "page.ipynb, cell 2 (raise ValueError('broken\\nin two')): ValueError: broken in two"
    )
    assert report == str(out.with_suffix(".error.txt"))
    assert "Traceback" in error.value.text and "\x1b" not in error.value.text


@pytest.fixture
def failing(monkeypatch, notebook, tmp_path):
    """Executes a notebook that stops as told, in the place of papermill; returns the error."""

    def call(error, code="1 / 0", outputs=()):
        def stopped(source, part, *_, **__):
            papermill = {"papermill": {"start_time": "2030-01-02"}}
            injected = {"tags": ["injected-parameters"], **papermill}
            cells = [
                new_code_cell(PARAMETERS, metadata=papermill),
                new_code_cell("# Parameters", metadata=injected),
                new_markdown_cell("Text.", metadata=papermill),
                new_code_cell(code, metadata=papermill, outputs=list(outputs)),
                new_code_cell("later", metadata={"papermill": {"start_time": None}}),
            ]
            nbformat.write(new_notebook(cells=cells), part)
            raise error

        monkeypatch.setattr("papermill.execute_notebook", stopped)
        with pytest.raises(type(error) if isinstance(error, OSError) else CellError) as caught:
            execute(notebook(), tmp_path / "executed" / "page.ipynb", {})
        assert list((tmp_path / "executed").iterdir()) == []
        return str(caught.value)

    return call


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("ConfigError", "lr=-1: give\n  more", "lr=-1: give more"),
        ("KeyError", "'x'", "KeyError: 'x'"),
        ("ValueError", "long " * 1000, "ValueError: long long .* \\[\\.\\.\\.\\]"),
    ],
)
def test_a_cell_that_fails_is_one_line(failing, name, value, said):
    output = new_output("error", ename=name, evalue=value, traceback=["Traceback", "..."])
    message = failing(RuntimeError("of papermill\nin many lines"), outputs=[output])
    assert re.fullmatch(rf"page.ipynb, cell 2 \(1 / 0\): {said}. The traceback is in .*", message)
    assert "\n" not in message and len(message) < 500


def test_a_long_line_of_code_is_left_out(failing):
    output = new_output("error", ename="KeyError", evalue="'x'", traceback=[])
    message = failing(RuntimeError(), "x" * 41 + "\ny", [output])
    assert message.startswith("page.ipynb, cell 2: KeyError: 'x'. ")


def test_a_kernel_that_dies_is_one_line(failing):
    message = failing(DeadKernelError("Kernel died"))
    assert message.startswith(
        "page.ipynb, cell 2 (1 / 0): its kernel died, as when memory runs out"
    )


def test_a_full_disk_is_no_fault_of_a_cell(failing):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "page.part.ipynb")
    assert failing(full) == str(full)
