"""Deep linear networks: how long a path takes to learn, as a function of its depth (A7).

A chain W_D ... W_1 is trained by gradient descent on half the squared distance to a target map;
time is learning rate times steps. If its layers start alike and aligned with the target, each
singular value s of the target is learned by itself: the strength a(t) of its mode, the product of
D equal weights, obeys

    da/dt = D a^(2 - 2/D) (s - a).

Source: Saxe, McClelland and Ganguli, 2014 (arXiv:1312.6120), who give this equation, and its
solution for D = 2. The integral for D = 3 and the pair of paths are ours.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Generator, Tensor

from nascore.errors import ConfigError

DEPTHS = (1, 2, 3)


def learning_time(a: float, depth: int, strength: float, start: float) -> float:
    """The time at which a chain of D = depth layers has learned a mode from ``start`` up to ``a``.

    The strength s is the singular value of the target; ``a`` is below it. Raises ConfigError for a
    depth that is not in DEPTHS, or a start that is not between 0 and the strength.
    """
    if depth not in DEPTHS:
        raise ConfigError(f"depth={depth}: the closed form is written out for {DEPTHS}.")
    if not 0 < start < strength:
        pair = f"start={start} with strength={strength}"
        raise ConfigError(f"{pair}: a mode starts above 0 and below its strength.")
    s = strength
    if depth == 1:
        return np.log((s - start) / (s - a))
    if depth == 2:
        return np.log(a * (s - start) / (start * (s - a))) / (2 * s)
    r = s ** (1 / 3)

    def integral(w: float) -> float:  # of dw / (w^2 (s - w^3)), where a = w^3
        angle = np.sqrt(3) * np.arctan((2 * w + r) / (np.sqrt(3) * r))
        logs = np.log(w * w + r * w + r * r) / 2 - np.log(r - w)
        return -1 / (s * w) + (logs - angle) / (3 * r * s)

    return integral(a ** (1 / 3)) - integral(start ** (1 / 3))


def learning_curve(times: Sequence[float], depth: int, strength: float, start: float) -> np.ndarray:
    """The strength a(t) of a mode at some times: ``learning_time``, inverted."""

    def at(time: float) -> float:
        end = strength * (1 - 1e-15)
        if learning_time(end, depth, strength, start) <= time:
            return strength
        return brentq(lambda a: learning_time(a, depth, strength, start) - time, start, end)

    return np.array([at(time) for time in times])


def train_chain(
    depth: int, strengths: Sequence[float], start: float, lr: float, steps: int, *rngs: Generator
) -> np.ndarray:
    """Trains linear chains of square matrices, one for each generator, and watches their modes.

    The target has these strengths as singular values, and random singular vectors; every mode
    starts with the strength ``start``. Gradient descent follows the closed form up to an error of
    the order of lr. Returns the strengths of the modes, (steps + 1, chains, modes).
    """
    frames = _frames(len(strengths), depth + 1, *rngs)
    layers = [_layer(left, right, start ** (1 / depth)) for right, left in pairwise(frames)]

    def product() -> Tensor:
        return reduce(lambda below, layer: layer @ below, layers)

    def watch() -> Tensor:
        return _modes(product(), frames[-1], frames[0])

    target = frames[-1] @ torch.diag(torch.tensor(strengths).double()) @ frames[0].mT
    return _descend(layers, lambda: product() - target, watch, lr, steps)


def pair_weights(b: np.ndarray, start: float) -> dict[str, np.ndarray]:
    """The weights of the pair of ``train_pair`` as functions of the wide edge's weight b.

    With error e = s - v (b + c a), the flow is db/dt = v e, da/dt = v c e, dc/dt = v a e and
    dv/dt = (b + c a) e. From equal starts w, a = c throughout, so da = a db, and
    d(v^2) = d(b^2) + d(a^2):

        a = c = w exp(b - w),    v^2 = b^2 + a^2 - w^2.

    Deep edges grow by a factor where the wide edge grows by an amount: they come late.
    """
    a = start * np.exp(b - start)
    return {"a": a, "b": b, "c": a, "v": np.sqrt(b**2 + a**2 - start**2)}


def pair_end(strength: float, start: float) -> dict[str, float]:
    """The weights of the pair when it has learned a mode: v (b + c a) = s on the curve above."""

    def error(b: float) -> float:
        w = pair_weights(b, start)
        return w["v"] * (w["b"] + w["c"] * w["a"]) - strength

    return pair_weights(brentq(error, start, start + np.sqrt(strength)), start)


def train_pair(
    strengths: Sequence[float], start: float, lr: float, steps: int, rng: Generator
) -> dict[str, np.ndarray]:
    """Trains a wide and a deep path to the same node, as in the simplified cell, made linear.

    Node 1 is ``a x``, node 2 is ``b x + c (node 1)``, and the output ``v (node 2)``: edges (0,1),
    (0,2), (1,2) and the output edge of node 2. The paths are 3-2-0 and 3-2-1-0. Every mode starts
    with the weight ``start`` in each of the four matrices; the rest is as for ``train_chain``.

    Returns the weights `a`, `b`, `c`, `v` mode by mode, each (steps + 1, modes).
    """
    x, node1, node2, y = _frames(len(strengths), 4, rng)
    ends = {"a": (node1, x), "b": (node2, x), "c": (node2, node1), "v": (y, node2)}
    a, b, c, v = layers = [_layer(left, right, start) for left, right in ends.values()]
    target = y @ torch.diag(torch.tensor(strengths).double()) @ x.mT

    def watch() -> Tensor:
        return torch.stack([_modes(w, *e) for w, e in zip(layers, ends.values(), strict=True)])

    watched = _descend(layers, lambda: v @ (b + c @ a) - target, watch, lr, steps)
    return {name: watched[:, n, 0] for n, name in enumerate(ends)}


def _frames(size: int, number: int, *rngs: Generator) -> list[Tensor]:
    """Random orthogonal matrices, the directions of the modes at each node: (rngs, size, size)."""
    shape = (number, size, size)
    drawn = [torch.randn(shape, dtype=torch.float64, generator=rng) for rng in rngs]
    return list(torch.linalg.qr(torch.stack(drawn, dim=1))[0])


def _layer(left: Tensor, right: Tensor, weight: float) -> Tensor:
    """A matrix that maps every mode of one node to the same mode of another, times ``weight``."""
    return (weight * left @ right.mT).requires_grad_()


def _modes(matrix: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The strength of each mode in a matrix, (rngs, modes)."""
    return (left * (matrix @ right)).sum(dim=-2)


def _descend(layers: list, error: Callable, watch: Callable, lr: float, steps: int) -> np.ndarray:
    """Descends on half of |error()|^2 by the layers; returns ``watch()`` at each step, stacked."""
    course = [watch().detach()]
    for _ in range(steps):
        gradients = torch.autograd.grad(error().square().sum() / 2, layers)
        with torch.no_grad():
            for layer, gradient in zip(layers, gradients, strict=True):
                layer -= lr * gradient
        course.append(watch().detach())
    return torch.stack(course).numpy()
