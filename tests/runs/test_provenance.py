from importlib.metadata import PackageNotFoundError

import torch

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


def test_provenance_is_that_of_the_start_also_where_nothing_is_installed(monkeypatch):
    """A folder on the path has no version; the source may change while a search runs."""

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(provenance, "version", missing)
    monkeypatch.setattr(provenance, "commit", lambda: "first")
    maker = provenance.Maker(torch.device("cpu"))
    monkeypatch.setattr(provenance, "commit", lambda: "second")
    (part,) = maker.parts()
    assert part["nascore"] is None and part["commit"] == "first"
