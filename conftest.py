"""For tests and for the examples in docstrings: what one registers, no other one finds."""

import pytest

from nascore.engine.operations import NORMS, OPERATIONS
from nascore.evidence import CLAIMS, EXPERIMENTS
from nascore.frameworks import FRAMEWORKS
from nascore.runs import DATASETS


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    for registry in (FRAMEWORKS, OPERATIONS, NORMS, DATASETS, EXPERIMENTS, CLAIMS):
        names = list(registry)  # all of the package's own are registered by now
        monkeypatch.setattr(registry, "_known", {name: registry[name] for name in names})
