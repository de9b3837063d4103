import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nascore.book.execute import check_parameters, execute
from nascore.errors import ConfigError

PARAMETERS = """\
profile = "smoke"  # type: str  a profile
seeds = None  # type: int|None
rate = 0.5  # type: float|int
loud = False  # type: bool"""


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook with a parameters cell and the given code."""

    def write(code="print(profile)", name="page"):
        first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [new_markdown_cell("# Page"), first, new_code_cell(code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        return path

    return write


@pytest.mark.parametrize(
    "given, message",
    [
        ({"profil": "smoke"}, "page.ipynb: unknown parameter 'profil'. Did you mean 'profile'"),
        ({"profile": 3}, "parameter profile=3 is of type int; allowed: str"),
        ({"seeds": "three"}, "parameter seeds='three' is of type str; allowed: int|None"),
        ({"seeds": 1.5}, "seeds=1.5 is of type float"),
        ({"loud": 1}, "loud=1 is of type int"),
        ({"rate": None}, "rate=None"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(notebook, tmp_path, given, message):
    path = notebook("raise SystemExit")
    with pytest.raises(ConfigError) as error:
        execute(path, tmp_path / "out.ipynb", given)
    assert message in str(error.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_right_parameters_pass(notebook):
    good = {"profile": "laptop", "seeds": None, "rate": 1, "loud": True}
    check_parameters(notebook(), good)
    check_parameters(notebook(), {"seeds": 3, "rate": 0.1})


@pytest.mark.filterwarnings("ignore")  # papermill's and the kernel's own
def test_execute_moves_into_place_only_what_succeeded(notebook, tmp_path):
    import papermill

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
    with pytest.raises(papermill.PapermillExecutionError, match="broken"):
        execute(notebook("raise ValueError('broken')"), out, {})
    assert out.read_text() == first
