"""Each notebook alone in an empty folder, as on Colab: the package comes from a git address.

As the notebook is downloaded from its page: it names a commit, and the branch has gone on since.
"""

import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import papermill
import pytest
import yaml
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from book._ext.book_pages import pinned

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_bytes())["repository"]["url"]
NOT_ON_COLAB = ("beartype", "h5netcdf", "loky")


def run(*words, **options):
    done = subprocess.run([*map(str, words)], capture_output=True, encoding="utf-8", **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A repository of the package as it is now, and its commit; the next one has no package."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("nascore", "book/records", "benchmarks/results"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "notebooks").mkdir()
    for name in (".gitignore", "pyproject.toml", "README.md", "LICENSE", "notebooks/my_module.py"):
        shutil.copy(ROOT / name, folder / name)
    git = ("git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@y.z")
    run(*git, "init", "--quiet")
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "--message", "x")
    commit = run(*git, "rev-parse", "--short=12", "HEAD").strip()
    run(*git, "rm", "--quiet", "-r", "nascore")
    run(*git, "commit", "--quiet", "--message", "y")
    return f"file://{folder}", commit


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """A manager of kernels in an environment with the packages that Colab has, and torch."""
    folder = tmp_path_factory.mktemp("colab")
    run(sys.executable, "-m", "venv", folder)
    here = Path(sysconfig.get_path("purelib"))
    (there,) = folder.glob("lib/python*/site-packages")
    for path in here.iterdir():
        missing = path.name.startswith(("nascore", "_", "pip", *NOT_ON_COLAB))
        if not missing and path.suffix != ".pth" and not (there / path.name).exists():
            (there / path.name).symlink_to(path)
    pip = (folder / "bin" / "python", "-m", "pip")
    download = [*pip, "download", "--quiet", "--no-deps", "--dest", folder, "loky"]
    if subprocess.run(download).returncode:
        pytest.skip("pip reaches no package registry")

    class Kernels(AsyncKernelManager):
        kernel_spec = KernelSpec(
            argv=[f"{folder}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            env={"PYTHONPATH": ""},
        )

    return Kernels


def execute(name, profile, folder, source, colab):
    """Executes a copy of a notebook, alone in a folder, and returns it."""
    address, commit = source
    text = (
        (ROOT / "notebooks" / f"{name}.ipynb")
        .read_text(encoding="utf-8")
        .replace(REPOSITORY, address)
    )
    notebook = str(folder / f"{name}.ipynb")
    Path(notebook).write_text(pinned(text, address, commit), encoding="utf-8")
    given = {"profile": profile} if "profile" in papermill.inspect_notebook(notebook) else {}
    return papermill.execute_notebook(
        notebook,
        notebook,
        given,
        cwd=str(folder),
        kernel_manager_class=colab,
        kernel_name="python3",
        progress_bar=False,
    )


@pytest.mark.filterwarnings("ignore")  # papermill's own
@pytest.mark.slow
@pytest.mark.long
def test_a_published_page_shows_its_first_figure_within_two_minutes(source, colab, tmp_path):
    start = time.time()
    notebook = execute("growing", "published", tmp_path, source, colab)
    assert time.time() - start < 120
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not list(tmp_path.glob("runs/*.nc")), "nothing was searched: the records came along"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.colab
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_alone(source, colab, tmp_path, name):
    execute(name, "smoke", tmp_path, source, colab)
