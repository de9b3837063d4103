"""What many tests share: one thread, fixed seeds, small configs and networks, a run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import nbformat
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from hypothesis import HealthCheck, settings

from nascore import SearchConfig, SearchSpace, Supernet, search
from nascore.engine import local_cost, stream
from nascore.frameworks import Context, make_framework

ROOT = Path(__file__).parent.parent

matplotlib.use("Agg")
torch.set_num_threads(1)  # two processes of tests share the cores
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start, too
os.environ["PYTHONUTF8"] = "1"  # what these say
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # a GPU takes part only if it is asked to
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of a shell's job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
settings.register_profile(  # the same examples in every run, however busy the machine
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def pytest_collection_modifyitems(items):
    """Two processes begin with the longest: pages at a desk, then what is slow.

    They take turns file by file, class by class (`--dist loadscope`), so a short file at the end is
    soon over. One builds the pages, if need be, while the other has the slow tests.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
        items.sort(key=lambda item: "::TestAtADesk::" not in item.nodeid)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The pages that `make book PROFILE=smoke` has built, if nothing has changed since.

    Otherwise they are built here, once for all processes, from a copy of the project: the reader's
    own book stays. NASCORE_PAGES names pages that are built, of any profile, to be looked at:
    `NASCORE_PAGES=_build/html pytest tests/test_browser.py`.
    """
    if "NASCORE_PAGES" in os.environ:
        return Path(os.environ["NASCORE_PAGES"]).resolve()
    if _is_built():
        return ROOT / "_build" / "html"
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "project.lock"):
        if not (shared / "project").exists():
            _build(shared / "project")
    return shared / "project" / "_build" / "html"


def _build(copy):
    copy.mkdir()
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("_executed", "runs", ".ipynb_checkpoints", "__pycache__")
    for name in ("book", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    command = [sys.executable, "-m", "book.builder", "build", "--profile", "smoke"]
    result = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert "The book is built" in result.stdout


def _is_built():
    """Whether the project's own pages are of profile smoke and newer than all that they show."""
    executed = ROOT / "book" / "_executed"
    copies = [executed / path.name for path in (ROOT / "notebooks").glob("*.ipynb")]
    index = ROOT / "_build" / "html" / "index.html"
    if not all(path.exists() for path in (*copies, index)):
        return False
    notebooks = [nbformat.read(path, as_version=4) for path in copies]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8")
    sources = [ROOT / name for name in listed.stdout.splitlines() if not name.startswith("tests/")]
    newest = max((path.stat().st_mtime for path in sources if path.exists()), default=float("inf"))
    oldest = min(path.stat().st_mtime for path in (*copies, index))
    profiles = {n.metadata.papermill.parameters.get("profile", "smoke") for n in notebooks}
    return newest < oldest and profiles == {"smoke"}


@pytest.fixture(autouse=True)
def seed():
    """What a test draws without a generator is the same in every run and in any order of tests."""
    torch.manual_seed(0)


@pytest.fixture
def umask():
    """The usual one, by which a file is its owner's to write."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def notebook_cells():
    """Runs some cells of a notebook, by their ids, with what they use; returns what they define."""

    def execute(name, *ids, **defined):
        path = ROOT / "notebooks" / f"{name}.ipynb"
        cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
        with matplotlib.rc_context():
            for id in ids:
                exec(compile(cells[id], f"{path.name}, {id}", "exec"), defined)
        return defined

    return execute


@pytest.fixture(scope="session")
def run():
    """Bi-level, 2 epochs, one edge restricted. Not to change: tests take a copy."""
    config = SearchConfig(
        level="bi",
        dataset="synthetic",
        train_examples=64,
        search_examples=64,
        allowed={"(2,3)": ["none", "skip_connect"]},
        augment=False,
        cells=2,
        channels=4,
        batch_size=32,
        epochs=2,
    )
    return search(config, progress=False)


@pytest.fixture
def tiny():
    """A search of about a second."""
    return SearchConfig(
        dataset="synthetic",
        train_examples=96,
        valid_examples=32,
        augment=False,
        cells=2,
        channels=4,
        batch_size=32,
        epochs=2,
        arch_lr=0.05,
    )


@pytest.fixture
def supernet():
    """Makes a supernet in float64, channels last, the same for the same arguments."""

    def make(space=None, **settings):
        torch.manual_seed(0)
        settings = {"classes": 5, "image_channels": 3, "cells": 2, "channels": 4, **settings}
        net = Supernet(space or SearchSpace(), **settings)
        return net.to(torch.float64, memory_format=torch.channels_last)

    return make


@pytest.fixture
def batch():
    """Images (12, 3, 6, 6) in float64, channels last, and labels (12,)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 6, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(5, (12,), generator=generator)
    return images.to(memory_format=torch.channels_last), labels


@pytest.fixture
def measure():
    """Makes a forward and a backward pass: logits, Z as a leaf, cost and output cost."""

    def measure(net, batch, mask):
        images, labels = batch
        z = mask.per_cell(len(net.cells))
        outputs = net.unit_weights(z)
        logits = net(images, z, mask, outputs)
        F.cross_entropy(logits, labels).backward()
        cost = local_cost(z.grad, mask)
        return SimpleNamespace(logits=logits.detach(), z=z, cost=cost, output_cost=outputs.grad)

    return measure


@pytest.fixture
def draw():
    """Draws a mask of a framework, by name, for a space; alpha is the usual start."""

    def draw(name, space, alpha, seed=0):
        framework = make_framework(name)
        parameters, state = framework.parameters(alpha, None), framework.state(space)
        return framework.draw(Context(parameters, state, stream(seed, "mask"), space=space))

    return draw


@pytest.fixture
def alpha():
    """Makes learned parameters (edges, operations) in float64."""

    def make(space=None, seed=2):
        space = space or SearchSpace()
        shape = (len(space.edges), len(space.operations))
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    return make
