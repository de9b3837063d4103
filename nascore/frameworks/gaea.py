from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nascore.frameworks.base import Context, Mask, framework
from nascore.frameworks.darts import DARTS


@framework("gaea")
class GAEA(DARTS):
    """DARTS whose Z moves on the simplex, by exponentiated gradient: Z <- Z exp(-lr dL/dZ) / sum.

    With Z = softmax(alpha), this is alpha <- alpha - lr dL/dZ, with no derivative of the softmax.
    Weight decay of alpha is then the authors' entropic regulariser, which they leave at 0. They
    also keep Z above 1e-5, which is not done here.

    Source: Li et al., 2021 (arXiv:2004.07802).
    """

    settings = {
        "arch_lr": 0.1,
        "arch_weight_decay": 0.0,
        "arch_grad_clip": None,
        "cost_clamp": None,
        "alpha_std": 0.0,  # uniform
    }

    def draw(self, context: Context) -> Mask:
        return Mask(self.probability(context).detach(), context.alpha)

    def cost(self, context: Context) -> Tensor:
        """dL/dZ, (edges, operations), 0 where Z is."""
        z = context.mask.weight
        return (context.cost.sum(dim=0) / z).where(z > 0, 0)

    def optimiser(self, parameters: Sequence[Tensor], config: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, config.arch_lr, weight_decay=config.arch_weight_decay)
