"""What becomes of edges while a search goes on: dropped, grown back, and what `none` gains.

Arrays are (..., edges, operations), and `none` is the first operation.
"""

import numpy as np

from nascore.runs.run import Run

NONE_MARGIN = 0.1
"""How far alpha of `none` is above alpha of every other operation, at least, on a dropped edge."""

LOWEST = -1e30
"""Alpha of what is not allowed: below all else, and a number, so that its updates are 0."""


def alpha_of(run: Run) -> np.ndarray:
    """A run's alpha, (epochs + 1, edges, operations); lowest where not allowed."""
    space = run.config.space
    allowed = [[k in space.allowed[edge] for k in _none_first(run)] for edge in space.edges]
    return np.where(allowed, _read(run, "alpha"), LOWEST)


def probability_of(run: Run) -> np.ndarray:
    """A run's probabilities, (epochs + 1, edges, operations)."""
    return _read(run, "probability")


def _read(run: Run, name: str) -> np.ndarray:
    """A variable in float64. Raises KeyError for a run without `none`."""
    return run.history[name].sel(operation=_none_first(run)).values.astype(float)


def _none_first(run: Run) -> list[str]:
    return ["none", *(name for name in run.config.space.operations if name != "none")]


def dropped(alpha: np.ndarray) -> np.ndarray:
    """Whether an edge is dropped, (..., edges). A tie, as at the start, is no drop."""
    return alpha[..., 0] - alpha[..., 1:].max(axis=-1) >= NONE_MARGIN


def kept_edges(run: Run) -> np.ndarray:
    """Number of edges that are not dropped, (epochs + 1,)."""
    return (~dropped(alpha_of(run))).sum(axis=1)


def regrown(alpha: np.ndarray) -> np.ndarray:
    """R, (...): how many edges are dropped at some epoch from 1 on, and are not at the last one.

    Alpha is (..., epochs + 1, edges, operations), the first before training.
    """
    gone = dropped(alpha)
    return (gone[..., 1:, :].any(axis=-2) & ~gone[..., -1, :]).sum(axis=-1)


def reordered(alpha: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The course of alpha if its updates, epoch by epoch, had come in another order.

    Start and end stay as they were. Reversed, the updates keep their autocorrelation, too.

    Arguments:
        alpha: (..., epochs + 1, edges, operations).
        order: a permutation of the epochs' updates, (epochs,).
    """
    start = alpha[..., :1, :, :]
    updates = np.diff(alpha, axis=-3)[..., order, :, :]
    return np.concatenate([start, start + updates.cumsum(axis=-3)], axis=-3)


def turn(output_cost: np.ndarray) -> int:
    """t*: the epoch at which the running sum of L - H is highest; 0 if it never rises.

    L - H, (epochs + 1,), is that of the examples from which alpha learns.
    """
    return int(np.argmax(np.cumsum(output_cost)))


def none_advantage(probability: np.ndarray) -> np.ndarray:
    """A: log p(none) minus the log of the mean p of the other operations, mean over edges, (...).

    Where alpha of the others is noisy, their mean p grows with time, so that A falls by itself.
    """
    others = np.log(probability[..., 1:].mean(axis=-1))
    return np.mean(np.log(probability[..., 0]) - others, axis=-1)


def none_lead(probability: np.ndarray) -> np.ndarray:
    """log p(none) minus the mean log p of the other operations, mean over edges, (...).

    It is linear in alpha: noise without a drift does not move it on average.
    """
    logs = np.log(probability)
    return np.mean(logs[..., 0] - logs[..., 1:].mean(axis=-1), axis=-1)
