import base64
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from nascore import folders
from nascore.book import build as bookbuild
from nascore.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_project_root_is_found_from_below():
    assert folders.project_root(ROOT / "nascore") == ROOT
    with pytest.raises(ConfigError, match="no _config.yml"):
        folders.project_root(Path("/"))


def test_book_notebooks_are_those_of_the_table_of_contents():
    paths = bookbuild.book_notebooks(ROOT)
    assert {path.stem for path in paths} == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(path.exists() for path in paths)


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
