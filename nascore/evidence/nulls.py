"""Simulated searches in which nothing grows back: how often does the test of P1 say it does?"""

import numpy as np
from scipy.special import softmax

from nascore.evidence.growth import none_advantage, none_lead, regrown, reordered, turn
from nascore.evidence.significance import sign_flip

EPOCHS, EDGES, OPERATIONS = 60, 5, 8
INPUTS = slice(0, 4)  # of the minimal cell
TURN = 15  # the epoch until which L - H is positive
DRIFT = 3.0  # by how much `none` rises where an edge is pruned, in units of alpha
QUIET, STRONG = 0.02, 0.25  # noise of alpha an epoch; Adam at arch_lr 0.01 moves it by 0.25 at most


def _course(first: int, last: int) -> np.ndarray:
    """`none` of every edge rises between two epochs, evenly, (EPOCHS, EDGES)."""
    drift = np.zeros((EPOCHS, EDGES))
    drift[first:last] = DRIFT / (last - first)
    return drift


NULLS = {
    "walk": (np.zeros((EPOCHS, EDGES)), 0.0),
    "autocorrelated walk": (np.zeros((EPOCHS, EDGES)), 0.9),
    "pruning": (_course(0, EPOCHS), 0.0),
    "late pruning": (_course(EPOCHS // 2, EPOCHS), 0.0),
    "early drop that stays": (_course(0, TURN), 0.0),
}
"""Of each null, the drift of alpha of `none` by epoch and edge, and the share of an epoch's noise
that is carried to the next one."""


def made_alpha(null: str, noise: float, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Alpha of simulated searches, (seeds, EPOCHS + 1, EDGES, OPERATIONS)."""
    drift, carried = NULLS[null]
    updates = noise * rng.normal(size=(seeds, EPOCHS, EDGES, OPERATIONS))
    for epoch in range(1, EPOCHS if carried else 0):
        fresh = np.sqrt(1 - carried**2) * updates[:, epoch]
        updates[:, epoch] = carried * updates[:, epoch - 1] + fresh
    updates[..., 0] += drift
    return np.concatenate([np.zeros_like(updates[:, :1]), updates.cumsum(axis=1)], axis=1)


def p_of_growing(alpha: np.ndarray, output_cost: np.ndarray) -> np.ndarray:
    """p of the three parts of P1's test: edges regrown, and what none loses in advantage and lead.

    Alpha is (seeds, epochs + 1, edges, operations), L - H is (epochs + 1,).
    """
    probability = softmax(alpha[:, :, INPUTS], axis=-1)
    reverse = np.arange(alpha.shape[1] - 1)[::-1]
    back = regrown(alpha) - regrown(reordered(alpha, reverse))  # (seeds,)
    ahead = (none_advantage(probability), none_lead(probability))  # each (seeds, epochs + 1)
    fell = (values[:, turn(output_cost)] - values[:, -1] for values in ahead)
    return np.array([sign_flip(back), *map(sign_flip, fell)])


def false_alarms(null: str, noise: float, *, repetitions: int, seed: int = 0) -> np.ndarray:
    """Share of simulated experiments of 16 seeds that reach p = 0.05, (3,).

    By edges regrown alone, with the advantage that none loses, and with its lead, too.
    """
    rng = np.random.default_rng(seed)
    cost = np.where(np.arange(EPOCHS + 1) <= TURN, 0.2, -0.1)
    made = (made_alpha(null, noise, 16, rng) for _ in range(repetitions))
    p = np.array([p_of_growing(alpha, cost) for alpha in made])  # (repetitions, 3)
    return (np.maximum.accumulate(p, axis=1) <= 0.05).mean(axis=0)
