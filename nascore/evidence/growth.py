"""What becomes of edges while a search goes on: dropped, grown back, and what `none` gains.

Arrays are (..., edges, operations), and `none` is the first operation.
"""

import numpy as np

from nascore.errors import ConfigError
from nascore.runs.run import Run


def alpha_of(run: Run) -> np.ndarray:
    """A run's alpha, (epochs + 1, edges, operations); -1e30 where not allowed: its updates are 0.

    Raises ConfigError for a run without `none`.
    """
    space, names = run.config.space, none_first(run)
    allowed = [[name in space.allowed[edge] for name in names] for edge in space.edges]
    alpha = run.history.alpha
    if alpha[0].isnull().all():  # as of ENAS: log p, which is alpha up to a constant for each edge
        alpha = np.log(run.history.probability.clip(min=1e-30))
    return np.where(allowed, alpha.sel(operation=names).values.astype(float), -1e30)


def none_first(run: Run) -> list[str]:
    """The operations of a run, in the order of these arrays."""
    if "none" not in run.config.space.operations:
        raise ConfigError("edges are dropped in favour of `none`: add it to operations.")
    return ["none", *(name for name in run.config.space.operations if name != "none")]


def dropped(alpha: np.ndarray) -> np.ndarray:
    """Whether alpha of `none` is above that of every other operation by 0.1, (..., edges)."""
    return alpha[..., 0] - alpha[..., 1:].max(axis=-1) >= 0.1


def kept_edges(run: Run) -> np.ndarray:
    """Number of edges that are not dropped, (epochs + 1,); NaN where alpha has diverged."""
    kept, lost = (~dropped(alpha_of(run))).sum(axis=1), run.active_edges.isnull().values
    return np.where(lost, np.nan, kept) if lost.any() else kept


def regrown(alpha: np.ndarray) -> np.ndarray:
    """R, (...): how many edges are dropped at some epoch from 1 on, and are not at the last one.

    Alpha is (..., epochs + 1, edges, operations), the first before training.
    """
    gone = dropped(alpha)
    return (gone[..., 1:, :].any(axis=-2) & ~gone[..., -1, :]).sum(axis=-1)


def reordered(alpha: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The course of alpha if its updates, epoch by epoch, had come in another order, (epochs,).

    Alpha is (..., epochs + 1, edges, operations). Start and end stay as they were. Reversed, the
    updates keep their autocorrelation, too.
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
