"""What becomes of edges while a search goes on: dropped, grown back, and what `none` gains."""

import numpy as np

from nascore.runs.run import Run

NONE_MARGIN = 0.1
"""How far alpha of `none` is above alpha of every other operation, at least, on a dropped edge."""

LOWEST = -1e30
"""Alpha of what is not allowed: below all else, and a number, so that its updates are 0."""


def dropped(alpha: np.ndarray, none: int = 0) -> np.ndarray:
    """Whether an edge is dropped, (..., edges). A tie, as at the start, is no drop.

    Arguments:
        alpha: (..., edges, operations).
        none: the position of `none` among the operations.
    """
    others = np.delete(alpha, none, axis=-1).max(axis=-1)
    return alpha[..., none] - others >= NONE_MARGIN


def regrown(alpha: np.ndarray, none: int = 0) -> np.ndarray:
    """R, (...): how many edges are dropped at some epoch from 1 on, and are not at the last one.

    Arguments:
        alpha: (..., epochs + 1, edges, operations), the first before training.
        none: the position of `none` among the operations.
    """
    gone = dropped(alpha, none)
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

    Arguments:
        output_cost: L - H on the examples that alpha sees, (epochs + 1,).
    """
    return int(np.argmax(np.cumsum(output_cost)))


def none_advantage(probability: np.ndarray, none: int = 0) -> np.ndarray:
    """A: log p(none) minus the log of the mean p of the other operations, mean over edges, (...).

    Where alpha of the others is noisy, their mean p grows with time, so that A falls by itself.

    Arguments:
        probability: of the edges to look at, (..., edges, operations).
        none: the position of `none` among the operations.
    """
    others = np.delete(probability, none, axis=-1).mean(axis=-1)
    return np.mean(np.log(probability[..., none]) - np.log(others), axis=-1)


def none_lead(probability: np.ndarray, none: int = 0) -> np.ndarray:
    """log p(none) minus the mean log p of the other operations, mean over edges, (...).

    It is linear in alpha: noise without a drift does not move it on average. Arguments as above.
    """
    logs = np.log(probability)
    others = np.delete(logs, none, axis=-1).mean(axis=-1)
    return np.mean(logs[..., none] - others, axis=-1)


def alpha_of(run: Run) -> np.ndarray:
    """A run's alpha in float64, (epochs + 1, edges, operations); lowest where not allowed."""
    alpha, space = run.history.alpha.values.astype(float), run.config.space
    for edge, allowed in enumerate(space.choices):
        forbidden = [k for k in range(len(space.operations)) if k not in allowed]
        alpha[:, edge, forbidden] = LOWEST
    return alpha


def none_of(run: Run) -> int:
    """The position of `none` among a run's operations. Raises ValueError if it is not there."""
    return run.config.space.operations.index("none")


def kept_edges(run: Run) -> np.ndarray:
    """Number of edges that are not dropped, (epochs + 1,)."""
    return (~dropped(alpha_of(run), none_of(run))).sum(axis=1)
