"""Short searches give the alpha that they gave before the package came in layers, bit by bit."""

import json
from pathlib import Path

import numpy as np
import pytest

from nascore import SearchConfig, search

BEFORE = json.loads((Path(__file__).parent / "alpha_before.json").read_bytes())["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BEFORE)
def test_alpha_is_what_it_was(name):
    """Exactly where this processor rounds as theirs did, which the untrained losses tell.

    Elsewhere the rounding of three epochs is amplified: then to 0.05, where alpha moves by 0.5.
    """
    framework, level, *order = name.split("-")
    config = SearchConfig(
        framework=framework,
        level=level,
        order=2 if order else 1,
        dataset="synthetic",
        train_examples=96,
        search_examples=64,
        valid_examples=32,
        cells=3,
        channels=4,
        batch_size=32,
        epochs=3,
        arch_lr=0.05,
        lr=0.1,
        alpha_mean=0,
        alpha_std=0.5,
    )
    history = search(config, progress=False).history
    untrained = history.loss.values[0].ravel()
    untrained = untrained[np.isfinite(untrained)]
    expected = np.array(BEFORE[name]["alpha"], dtype="f4")
    if np.array_equal(untrained, np.array(BEFORE[name]["untrained"], dtype="f4")):
        assert np.array_equal(history.alpha.values[-1], expected)
    else:
        assert np.allclose(history.alpha.values[-1], expected, atol=0.05)
    assert np.abs(history.alpha.values[-1] - history.alpha.values[0]).max() > 0.2
