import base64
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nascore import folders, search
from nascore.book import build as bookbuild
from nascore.book.build import RunTable, check_parameters, execute, write_execution_record
from nascore.errors import ConfigError

ROOT = Path(__file__).parents[2]

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


def test_project_root_is_found_from_below():
    assert folders.project_root(ROOT / "nascore") == ROOT
    with pytest.raises(ConfigError, match="no _config.yml"):
        folders.project_root(Path("/"))


def test_book_notebooks_are_those_of_the_table_of_contents():
    paths = bookbuild.book_notebooks(ROOT)
    assert {path.stem for path in paths} == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(path.exists() for path in paths)


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


def test_execution_record_lists_notebooks_versions_and_runs(tiny, tmp_path):
    run = search(tiny, progress=False)
    table, metadata = RunTable({"single-level": [run]})._repr_mimebundle_()
    assert run.config.hash in table["text/html"]
    output = nbformat.v4.new_output("display_data", data=table, metadata=metadata)
    copies = []
    for name in ("one_page", "other"):
        cell = new_code_cell("RunTable(arms)", outputs=[output])
        papermill = {
            "parameters": {"profile": "smoke"},
            "duration": 12.3,
            "start_time": "2030-01-02T03:04:05",
        }
        copies.append(tmp_path / f"{name}.ipynb")
        nbformat.write(new_notebook(cells=[cell], metadata={"papermill": papermill}), copies[-1])
    page = write_execution_record(copies, tmp_path / "book").read_text()
    assert page.count(run.config.hash) == 1  # a run that two pages share is one row
    for part in (
        "one page: single-level; other: single-level",
        "smoke",
        "12",
        "2030-01-02 03:04",
        run.provenance["torch"],
        run.provenance["device"],
        "cells=2, channels=4",
    ):
        assert part in page


def test_unknown_notebook_or_profile_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(bookbuild, "execute", lambda *_: pytest.fail("it has begun to work"))
    with pytest.raises(ConfigError, match="unknown notebook 'grow'. Did you mean 'growing'"):
        bookbuild.build_book(ROOT, "smoke", ["grow"])
    with pytest.raises(
        ConfigError, match="width_preference.ipynb: unknown parameter 'label_noise'"
    ):
        bookbuild.build_book(
            ROOT, "smoke", ["bilevel_failure", "width_preference"], {"label_noise": 0.2}
        )
    with pytest.raises(ConfigError, match="parameter seeds='many' is of type str"):
        bookbuild.build_book(ROOT, "smoke", ["growing"], {"seeds": "many"})


def test_save_figure(tmp_path):
    png = base64.b64encode(b"pixels").decode()
    output = nbformat.v4.new_output("display_data", data={"image/png": png})
    cells = [new_code_cell("one"), new_code_cell("two", outputs=[output])]
    metadata = {"papermill": {"parameters": {"profile": "smoke"}}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), tmp_path / "page.ipynb")
    bookbuild.save_figure(tmp_path / "page.ipynb", 0, tmp_path / "new" / "figure.png", "smoke")
    assert (tmp_path / "new" / "figure.png").read_bytes() == b"pixels"
    with pytest.raises(ConfigError, match="page.ipynb has 1 figures: there is no 1"):
        bookbuild.save_figure(tmp_path / "page.ipynb", 1, tmp_path / "figure.png", "smoke")
    with pytest.raises(ConfigError, match="run `make book PROFILE=smoke` first"):
        bookbuild.save_figure(tmp_path / "other.ipynb", 0, tmp_path / "figure.png", "smoke")
    with pytest.raises(ConfigError, match="with profile 'smoke': run `make book PROFILE=paper`"):
        bookbuild.save_figure(tmp_path / "page.ipynb", 0, tmp_path / "figure.png", "paper")


def test_only_needs_the_other_pages(tmp_path, monkeypatch):
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(bookbuild, "execute", lambda *_: pytest.fail("it has begun to work"))
    with pytest.raises(ConfigError, match="setting has not been executed yet: run `make book`"):
        bookbuild.build_book(tmp_path, "smoke", ["growing"])


def test_set_repository_rewrites_every_place(tmp_path):
    files = ["_config.yml", "_toc.yml", "README.md", "pyproject.toml"]
    files += [str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/*.ipynb")]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    old = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    changed = bookbuild.set_repository(tmp_path, "https://github.com/you/fork")
    assert {path.name for path in changed} == {Path(name).name for name in files} - {"_toc.yml"}
    assert not any(old in (tmp_path / name).read_text() for name in files)
    with pytest.raises(ConfigError, match="give an address such as"):
        bookbuild.set_repository(tmp_path, "github.com/you/fork")
