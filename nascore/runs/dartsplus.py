"""DARTS+: a rule that ends a search of any framework early, before skip connections take over."""

from collections.abc import Sequence

import numpy as np

from nascore.runs.history import most_probable


def ends_early(
    probability: np.ndarray,
    operations: Sequence[str],
    learnable: Sequence[int],
    skips: int | None,
    stable: int | None,
) -> bool:
    """Whether a search ends after its latest epoch, by one of two criteria. None leaves one out.

    The first: so many edges would be skip connections. The second: so many epochs have left the
    ranking of the learnable operations (their indices) on every edge as it was. The authors stop at
    two skip connections in a normal cell, or after about ten such epochs. No search ends before
    training.

    The probability, (epochs, edges, operations), is that after each epoch, the first before
    training. Source: Liang et al., 2019 (arXiv:1909.06035).

    >>> start, after = [[0.6, 0.4], [0.5, 0.5]], [[0.3, 0.7], [0.2, 0.8]]
    >>> names = ["none", "skip_connect"]
    >>> ends_early(np.array([start, after]), names, [], skips=2, stable=None)
    True
    """
    if len(probability) < 2 or np.isnan(probability[-1]).any():
        return False
    if skips is not None:
        winners = most_probable(probability[-1], operations)
        if sum(operations[k] == "skip_connect" for k in winners) >= skips:
            return True
    if stable is None or len(probability) <= stable:
        return False
    ranking = probability[-1 - stable :, :, learnable].argsort(axis=-1, kind="stable")
    return bool((ranking == ranking[-1]).all())
