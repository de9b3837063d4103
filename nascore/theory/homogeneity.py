"""Theorem T1 in numbers: what passes back through an operation.

T2 needs no function: ``Supernet.unit_weights`` and ``loss_and_entropy`` give its two sides.
"""

import torch
from torch import Tensor, nn


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
