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
    """C = Z dL/dZ, unless the mask gives dL/dZ another weight than Z, (cells, edges, operations).

    Arguments:
        gradient: dL/dZ in each cell, such as ``z.grad`` after a backward pass, (cells, edges,
            operations). It is 0 where nothing ran, as in a mask whose edges are all `none`.
    """
    return mask.cost_scale * gradient


def pull_back(score: Tensor, cost: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient on what a framework learns, sum_k C_k ds_k/dalpha.

    Arguments:
        score: s, (edges, operations), differentiable in the parameters.
        cost: C, (edges, operations), a constant.
        parameters: alpha, (edges, operations), and whatever else the framework learns.

    Returns a gradient for each parameter, 0 for one that the score does not depend on. Raises
    ConfigError if it depends on none of them.

    >>> alpha = torch.zeros(1, 2, requires_grad=True)
    >>> pull_back(alpha.log_softmax(1), torch.tensor([[0.0, 1.0]]), [alpha])
    (tensor([[-0.5000,  0.5000]]),)
    """
    gradients = (None,)
    if score.requires_grad:
        gradients = torch.autograd.grad(score, parameters, grad_outputs=cost, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ConfigError(
            "the score does not depend on alpha, so no cost can reach it. "
            "Compute it from alpha, without detach() or no_grad()."
        )
    return tuple(
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    )


def loss_and_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy L and entropy H of the prediction for each example, two of shape (B,), in nats.

    L - H is the cost at the output (theorem T2): with a linear classifier without bias, it is
    what all output edges cost together.

    >>> loss, entropy = loss_and_entropy(torch.zeros(1, 2), torch.tensor([0]))
    >>> (loss - entropy).item()  # a uniform prediction is as sure as it is right
    0.0
    """
    log_p = F.log_softmax(logits, dim=1)  # (B, classes)
    loss = F.nll_loss(log_p, labels, reduction="none")
    return loss, -(log_p.exp() * log_p).sum(dim=1)
