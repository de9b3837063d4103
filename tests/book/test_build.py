import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from book._ext import book_pages
from book.builder import build as bookbuild
from book.builder import repository
from nascore import folders
from nascore.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_project_root_is_found_from_below(monkeypatch):
    monkeypatch.chdir(ROOT / "nascore")
    assert folders.project_root() == ROOT
    monkeypatch.chdir("/")
    assert folders.project_root() is None


def test_book_notebooks_are_those_of_the_table_of_contents():
    paths = bookbuild.book_notebooks(ROOT)
    assert {path.stem for path in paths} == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(path.exists() for path in paths)


def test_unknown_notebook_or_profile_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(bookbuild, "execute", lambda *_: pytest.fail("it has begun to work"))
    with pytest.raises(ConfigError, match="unknown notebook 'grow'. Did you mean 'growing'"):
        bookbuild.build_book(ROOT, "smoke", ["grow"], {})
    with pytest.raises(ConfigError, match="right_and_wrong.ipynb: unknown parameter 'arch_lr'"):
        bookbuild.build_book(ROOT, "smoke", ["growing", "right_and_wrong"], {"arch_lr": 0.2})
    with pytest.raises(ConfigError, match="seeds='many': input should be a valid integer"):
        bookbuild.build_book(ROOT, "smoke", ["growing"], {"seeds": "many"})


def test_only_needs_the_other_pages(tmp_path, monkeypatch):
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(bookbuild, "execute", lambda *_: pytest.fail("it has begun to work"))
    with pytest.raises(ConfigError, match="setting has not been executed yet: run `make book`"):
        bookbuild.build_book(tmp_path, "smoke", ["growing"], {})


@pytest.fixture
def fork(tmp_path):
    """Some of the project's files, under version control, and what has the address in them."""
    named = ["_config.yml", "pyproject.toml", "README.md", "notebooks/growing.ipynb"]
    for name in ("Makefile", "book/builder/repository.py", *named):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for command in ("init --quiet", "add ."):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return SimpleNamespace(root=tmp_path, files=[tmp_path / name for name in named])


@pytest.mark.skipif(not all(map(shutil.which, ("git", "make"))), reason="needs them")
def test_make_repository_rewrites_every_place_again_and_again(fork):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    old = yaml.safe_load((ROOT / "_config.yml").read_bytes())["repository"]["url"]
    new = {
        "https://github.com/you/fork.git": "https://github.com/you/fork",
        "https://a@b.org/x?y=1&z|'\"": "https://a@b.org/x%3Fy=1&z%7C%27%22",
        "https://github.com/you/fork-2/": "https://github.com/you/fork-2",
    }
    for given, url in new.items():
        command = ["make", "repository", f"PYTHON={sys.executable}", f"URL={given}"]
        subprocess.run(command, cwd=fork.root, check=True, env=environment)
        texts = [path.read_text(encoding="utf-8") for path in fork.files]
        assert all(url in text and f"{old}/" not in text for text in texts)
        assert yaml.safe_load(texts[0])["repository"]["url"] == url
        nbformat.validate(nbformat.reads(texts[-1], as_version=4))
        old = url
    assert "github/you/fork-2/blob" in texts[2] and "github/nascore" not in texts[2]
    before = [path.read_bytes() for path in fork.files]
    command = ["make", "repository", "URL=you/fork"]
    done = subprocess.run(command, cwd=fork.root, capture_output=True, env=environment)
    assert done.returncode and b"make repository URL=https://github.com/you/fork" in done.stderr
    assert [path.read_bytes() for path in fork.files] == before


@pytest.mark.parametrize("what", ["open", "_overwrite"])
def test_an_address_is_written_everywhere_or_nowhere(fork, monkeypatch, what):
    before, calls, real = [path.read_bytes() for path in fork.files], [], vars(repository).get(what)

    def fails(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("no space left")
        return (real or open)(*arguments, **options)

    monkeypatch.setattr(repository, what, fails, raising=False)
    with pytest.raises(OSError, match="no space left"):
        repository.write_address(fork.root, "https://github.com/you/fork")
    assert [path.read_bytes() for path in fork.files] == before
    monkeypatch.setattr(repository, what, real or open, raising=False)
    repository.write_address(fork.root, "https://github.com/you/fork")
    assert all(path.read_bytes() != text for path, text in zip(fork.files, before, strict=True))


CODE = """\
import os, pathlib, time
pathlib.Path("../kernel").write_text(str(os.getpid()))
{}"""


@pytest.fixture
def project(tmp_path):
    """Makes a project whose book is a notebook."""

    def make(code):
        shutil.copytree(ROOT / "book" / "builder", tmp_path / "book" / "builder")
        (tmp_path / "_toc.yml").write_text(
            "root: x\nchapters:\n  - file: notebooks/page\n", encoding="utf-8"
        )
        first = new_code_cell("lr = 1.0", metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        page = new_notebook(cells=[first, new_code_cell(code)], metadata={"kernelspec": kernel})
        (tmp_path / "notebooks").mkdir()
        nbformat.write(page, tmp_path / "notebooks" / "page.ipynb")
        return tmp_path

    return make


@pytest.fixture
def no_work(monkeypatch):
    """Nothing is executed or built; returns what would have been executed."""
    executed = []
    monkeypatch.setattr(bookbuild, "_execute_all", lambda some, *_, **__: executed.extend(some))
    monkeypatch.setattr(bookbuild, "write_execution_record", lambda *_: None)
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(bookbuild.subprocess, "run", lambda *_, **__: done)
    return executed


def test_a_build_removes_what_a_killed_one_left(project, no_work):
    root = project("")
    left = root / "book" / "_executed" / "page.part.ipynb"
    left.parent.mkdir(parents=True)
    left.write_text("{", encoding="utf-8")
    bookbuild.build_book(root, "smoke", ["page", "page"], {})
    assert not left.exists() and no_work == [root / "notebooks" / "page.ipynb"]


@pytest.mark.parametrize("name", ["book/_executed", "_build"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(project, no_work, name):
    root = project("")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    with pytest.raises(ConfigError, match=f"cannot write to {root / name} "):
        bookbuild.build_book(root, "smoke", ["page"], {})
    assert no_work == []


def test_a_full_disk_ends_the_build_at_once(project, monkeypatch):
    root, begun = project(""), []

    def full(notebook, *_):
        begun.append(notebook)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(notebook))

    monkeypatch.setattr(bookbuild, "execute", full)
    monkeypatch.setattr(bookbuild, "write_execution_record", lambda *_: pytest.fail("it goes on"))
    with pytest.raises(OSError, match="No space left on device: '.*page.ipynb'"):
        bookbuild.build_book(root, "smoke", ["page"], {})
    assert len(begun) == 1


def test_after_a_failure_no_other_notebook_goes_on(tmp_path, monkeypatch):
    """What is under way is killed, and nothing else begins."""
    killed, begun = threading.Event(), []

    def execute(notebook, copy, _):
        begun.append(notebook.stem)
        if notebook.stem == "fails":
            raise RuntimeError("fails.ipynb, cell [1]: no")
        assert killed.wait(30)
        raise RuntimeError("killed.ipynb: its kernel died")

    monkeypatch.setattr(bookbuild, "execute", execute)
    monkeypatch.setattr(bookbuild, "kill_kernels", killed.set)
    notebooks = [tmp_path / f"{name}.ipynb" for name in ("killed", "fails", "later", "last")]
    with pytest.raises(RuntimeError, match="fails.ipynb"):
        bookbuild._execute_all(dict.fromkeys(notebooks), tmp_path, together=2)
    assert "last" not in begun


@pytest.mark.slow
def test_a_page_without_an_executed_copy_fails_the_build(tmp_path):
    ignore = shutil.ignore_patterns("_executed", "records")
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=ignore)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "growing.ipynb", tmp_path / "notebooks")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/references\nchapters:\n  - file: notebooks/growing\n",
        encoding="utf-8",
    )
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", str(tmp_path), "--all", "-W", "-n", "--keep-going"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert result.returncode != 0
    assert "notebooks/growing has no executed copy" in result.stdout + result.stderr


@pytest.mark.parametrize(
    "commit, pin", [("0123456789ab", "@0123456789ab"), ("0123456789ab-dirty", ""), (None, "")]
)
def test_a_download_installs_the_commit_of_its_page(tmp_path, monkeypatch, commit, pin):
    """If there is one: what is in no commit can be installed from nowhere."""
    monkeypatch.setattr(book_pages, "commit", lambda: commit)
    copy = tmp_path / "_sources" / "notebooks" / "growing.ipynb"
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "growing.ipynb", copy)
    url = yaml.safe_load((ROOT / "_config.yml").read_bytes())["repository"]["url"]
    config = SimpleNamespace(html_theme_options={"repository_url": url})
    book_pages.pin_downloads(SimpleNamespace(outdir=tmp_path, config=config), None)
    assert (
        f'"NASCORE_SOURCE", "git+{url}{pin}"' in nbformat.read(copy, as_version=4).cells[1].source
    )


def book_command(root):
    """Starts the command of a project; the package is the one that is tested."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "book.builder", "build", "--only", "page", "--set", "lr=2.5"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, encoding="utf-8"
    )
    return state.stdout.strip()[:1] not in ("", "Z")


def test_a_cell_that_fails_is_one_line_on_the_console(project):
    root = project("from nascore.errors import ConfigError\nraise ConfigError(f'{lr}: no')")
    command = book_command(root)
    out, err = command.communicate()
    where = "page.ipynb, cell [3] (from nascore.errors import ConfigError): 2.5: no."
    part = root / "book" / "_executed" / "page.part.ipynb"
    told = err.splitlines()  # before the last line, ipykernel may say that it met its end in a send
    assert told[-1] == f"Error: {where} Its output is in {part}" and out == ""
    assert not any("ConfigError:" in line or "papermill" in line for line in told)
    assert command.returncode == 2 and "ConfigError: 2.5: no" in part.read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_kernel_stays_when_the_build_is_stopped(project, number):
    root = project(CODE.format("time.sleep(600)"))
    command = book_command(root)
    while not (pid := root / "kernel").exists() or not pid.read_text(encoding="utf-8"):
        assert command.poll() is None, command.communicate()
        time.sleep(0.1)
    kernel = int(pid.read_text(encoding="utf-8"))
    assert is_alive(kernel)
    command.send_signal(number)
    _, err = command.communicate(timeout=60)
    ends = time.monotonic() + 30  # on a busy machine; else within two seconds
    while is_alive(kernel) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not is_alive(kernel)
    if number == signal.SIGKILL:
        assert command.returncode == -number
        return
    assert command.returncode == 128 + number
    kept = "Searches that have ended are kept: the same command goes on from there."
    assert err == f"Interrupted. {kept}\n"
    assert not (root / "book" / "_executed" / "page.ipynb").exists()
