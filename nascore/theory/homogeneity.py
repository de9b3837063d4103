"""The theorems in numbers: what passes back through an operation (T1), and what L - H means (T3).

T2 needs no function: ``Supernet.unit_weights`` and ``loss_and_entropy`` give its two sides.
"""

import torch
from scipy.optimize import brentq
from torch import Generator, Tensor, nn


def scale_response(module: nn.Module, x: Tensor) -> float:
    """How much of its input's scale a module lets through: |dy(s x)/d ln s| / |y(x)| at s = 1.

    By Euler's theorem it is 0 for a module that does not see the scale, such as one with a
    normalisation, and 1 for a linear one, such as `skip_connect`. Because the cost that passes back
    is <dL/dx, x> = <dL/dy, dy/d ln s> for every loss, a module that responds with 0 passes none.
    Its input x is in float64 where small residuals matter.
    """
    y, response = torch.autograd.functional.jvp(module, x, x)
    return float(response.norm() / y.norm())


def set_eps(module: nn.Module, eps: float) -> nn.Module:
    """Gives every normalisation in a module another eps, and returns the module."""
    for part in module.modules():
        if hasattr(part, "eps"):
            part.eps = eps
    return module


def make_affine(module: nn.Module, generator: Generator) -> nn.Module:
    """Gives every batch normalisation a standard normal scale and shift; returns the module."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for name in ("weight", "bias"):
                values = torch.randn(part.num_features, generator=generator)
                setattr(part, name, nn.Parameter(values))
    return module


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 that minimises the cross entropy of ``logits / T``; logits (B, classes).

    The loss is convex in 1 / T, so T > 1 exactly if L - H > 0. It is 0 if every answer is right
    (sharper is always better) and infinite if the logits point away from the labels on average.
    """
    y = logits.detach().double()
    target = y.gather(1, labels.unsqueeze(1)).squeeze(1)  # (B,)

    def slope(s: float) -> float:  # dL(s y)/ds
        return float((((s * y).softmax(dim=1) * y).sum(dim=1) - target).mean())

    if (target >= y.max(dim=1).values).all():
        return 0.0
    if slope(0.0) >= 0:
        return float("inf")
    high = 1.0
    while slope(high) < 0:
        high *= 2
    return 1 / brentq(slope, 0.0, high)
