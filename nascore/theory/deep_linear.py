"""Deep linear networks: how long a path takes to learn, as a function of its depth (A7).

A chain W_D ... W_1 is trained by gradient descent on half the squared distance to a target map;
time is learning rate times steps. If its layers start alike and aligned with the target, each
singular value s of the target is learned by itself: the strength a(t) of its mode, the product of
D equal weights, obeys

    da/dt = D a^(2 - 2/D) (s - a).

Source: Saxe, McClelland and Ganguli, 2014 (arXiv:1312.6120), who give this equation, and its
solution for D = 2. The integral for any other D, by Gauss's hypergeometric function, is ours.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import hyp2f1
from torch import Generator

DEPTHS = (1, 2, 3)  # those that are looked at


def learning_time(a: float, depth: int, strength: float, start: float) -> float:
    """The time at which a chain of D = depth layers has learned a mode from ``start`` up to ``a``.

    The strength s is the singular value of the target; ``a`` and the start lie between 0 and it.
    """
    b, s = 2 / depth - 1, strength

    def integral(a: float) -> float:  # of da / (D a^(1 - b) (s - a))
        if b == 0:
            return np.log(a / (s - a)) / (depth * s)
        return a**b * hyp2f1(1, b, b + 1, a / s) / (b * depth * s)

    return integral(a) - integral(start)


def learning_curve(times: Sequence[float], depth: int, strength: float, start: float) -> np.ndarray:
    """The strength a(t) of a mode at some times: ``learning_time``, inverted."""

    def at(time: float) -> float:
        end = strength * (1 - 1e-12)
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
    shape = (depth + 1, len(strengths), len(strengths))
    drawn = [torch.randn(shape, dtype=torch.float64, generator=rng) for rng in rngs]
    # Random orthogonal matrices, the directions of the modes at each node: (chains, modes, modes).
    frames = torch.linalg.qr(torch.stack(drawn, dim=1))[0]
    weight = start ** (1 / depth)
    layers = [(weight * left @ right.mT).requires_grad_() for right, left in pairwise(frames)]
    target = frames[-1] @ torch.diag(torch.tensor(strengths).double()) @ frames[0].mT
    course = []
    for _ in range(steps + 1):
        product = reduce(lambda below, layer: layer @ below, layers)
        course.append((frames[-1] * (product.detach() @ frames[0])).sum(dim=-2))
        gradients = torch.autograd.grad((product - target).square().sum() / 2, layers)
        with torch.no_grad():
            for layer, gradient in zip(layers, gradients, strict=True):
                layer -= lr * gradient
    return torch.stack(course).numpy()
