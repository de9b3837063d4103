"""What the tests of runs share: one small run."""

import pytest

from nascore import SearchConfig, search


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
