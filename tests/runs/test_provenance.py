import subprocess
import sys

import torch

import nascore
from nascore.runs import provenance
from nascore.runs.provenance import commit as cached


def test_provenance_is_complete(run):
    names = "nascore commit code torch python system device threads started wall_seconds"
    assert list(run.provenance) == [*names.split(), "peak_memory_mib", "parts"]
    assert run.provenance["device"].startswith("cpu")
    assert run.provenance["peak_memory_mib"] > 50


def test_commit_is_that_of_the_packages_own_checkout(monkeypatch, tmp_path):
    """From whatever folder the process runs in; None where git knows nothing of the package."""
    here, commit = cached(), cached.__wrapped__
    monkeypatch.chdir(tmp_path)
    assert commit() == here
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert commit() is None


def test_provenance_is_that_of_the_start(monkeypatch):
    """The source may change while a search runs."""
    monkeypatch.setattr(provenance, "commit", lambda: "first")
    maker = provenance.Maker(torch.device("cpu"))
    monkeypatch.setattr(provenance, "commit", lambda: "second")
    (part,) = maker.parts()
    assert part["commit"] == "first"


def test_a_folder_on_the_path_is_as_good_as_an_installed_package():
    """Without any metadata: it has its version, and searches."""
    script = """
import importlib.metadata as metadata
def missing(name, real=metadata.distribution):
    if name == "nascore":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.distribution = missing
from nascore import SearchConfig, search
import nascore.__main__
config = SearchConfig(dataset="synthetic", train_examples=32, batch_size=32, cells=1, epochs=1)
print(search(config, progress=False).provenance["nascore"])
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == f"{nascore.__version__}\n"
