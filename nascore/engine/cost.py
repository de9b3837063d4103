"""The reformulation: every framework minimises a local cost on each edge.

The local cost of operation k on edge (i, j) is C_k = Z_k dL/dZ_k = <dL/dx_j, Z_k O_k(x_i)>, with L
the mean loss of the batch. The gradient on alpha is sum_k C_k ds_k/dalpha, s the framework's score.
Positive cost: a little more of the operation would raise the loss, so alpha moves away from it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.errors import ConfigError


def local_cost(gradient: Tensor, mask: Mask) -> Tensor:
    """C from dL/dZ, both (cells, edges, operations): Z dL/dZ, unless the mask has another scale."""
    return mask.cost_scale * gradient


def pull_back(score: Tensor, cost: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient on each of the parameters, sum_k C_k ds_k/dalpha, from s and C.

    Both are (edges, operations), s differentiable in the parameters and C a constant. Raises
    ConfigError if s is differentiable in nothing.

    >>> alpha = torch.zeros(1, 2, requires_grad=True)
    >>> pull_back(alpha.log_softmax(1), torch.tensor([[0.0, 1.0]]), [alpha])
    (tensor([[-0.5000,  0.5000]]),)
    """
    if not score.requires_grad:
        raise ConfigError(
            "the score does not depend on alpha, so no cost can reach it. "
            "Compute it from alpha, without detach() or no_grad()."
        )
    return torch.autograd.grad(score, parameters, cost, materialize_grads=True)


def loss_and_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy L and entropy H of the prediction for each example, two of shape (B,), in nats.

    L - H is the cost at the output (theorem T2): with a linear classifier without bias, it is
    what all output edges cost together.
    """
    log_p = F.log_softmax(logits, dim=1)  # (B, classes)
    loss = F.nll_loss(log_p, labels, reduction="none")
    return loss, -(log_p.exp() * log_p).sum(dim=1)
