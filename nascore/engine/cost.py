"""The reformulation: every framework minimises a local cost on each edge.

The local cost of operation k on edge (i, j) is C_k = Z_k dL/dZ_k = <dL/dx_j, Z_k O_k(x_i)>, with L
the mean loss of the batch (ProxylessNAS weighs dL/dZ_k by a probability in the place of Z_k). The
gradient on alpha is sum_k C_k ds_k/dalpha, s the framework's score.
Positive cost: the operation raises the loss along its own scale, and alpha moves away from it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nascore.errors import ConfigError

OUTCOMES = ("right", "wrong")


def pull_back(score: Tensor, cost: Tensor, alpha: Tensor) -> Tensor:
    """The gradient on alpha, sum_k C_k ds_k/dalpha.

    Arguments:
        score: s, (edges, operations), differentiable in alpha.
        cost: C, (edges, operations), a constant.
        alpha: (edges, operations).

    Returns (edges, operations). Raises ConfigError if the score does not depend on alpha.
    """
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score, alpha, grad_outputs=cost, allow_unused=True)
    if gradient is None:
        raise ConfigError(
            "the score does not depend on alpha, so no cost can reach alpha. Compute it from "
            "alpha, without detach() or no_grad()."
        )
    return gradient


def loss_and_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy L and entropy H of the prediction for each example, two of shape (B,), in nats.

    L - H is the cost at the output (theorem T2): with a linear classifier without bias, it is
    what all output edges cost together.
    """
    log_p = F.log_softmax(logits, dim=1)  # (B, classes)
    loss = F.nll_loss(log_p, labels, reduction="none")
    return loss, -(log_p.exp() * log_p).sum(dim=1)


class CostStatistics:
    """Mean, standard deviation and count of the local cost, accumulated on the device.

    Welford's update, so that float32 is enough.
    """

    def __init__(self, cells: int, edges: int, operations: int, device: torch.device):
        shape = (cells, edges, operations)
        self.count = torch.zeros(shape, device=device)
        self.mean = torch.zeros(shape, device=device)
        self.squares = torch.zeros(shape, device=device)

    def update(self, cost: Tensor, seen: Tensor) -> None:
        """Adds a step: cost (cells, edges, operations), where it counts (edges, operations)."""
        seen = seen.to(cost.dtype)
        self.count += seen
        deviation = (cost - self.mean) * seen
        self.mean += deviation / self.count.clamp(min=1)
        self.squares += deviation * (cost - self.mean)

    def result(self) -> dict[str, Tensor]:
        """`cost_mean`, `cost_std` (population), NaN where nothing was seen, and `cost_count`."""
        seen = self.count > 0
        std = (self.squares / self.count.clamp(min=1)).clamp(min=0).sqrt()
        return {
            "cost_mean": self.mean.where(seen, torch.nan),
            "cost_std": std.where(seen, torch.nan),
            "cost_count": self.count,
        }


class OutputCostStatistics:
    """Mean over examples of what the output edges of each cell bring, accumulated on the device."""

    def __init__(self, cells: int, device: torch.device):
        self.sum = torch.zeros(cells, device=device)
        self.examples = 0

    def update(self, cost: Tensor, examples: int) -> None:
        """Adds a batch: cost (cells,), from the mean loss of that many examples."""
        self.sum += cost * examples
        self.examples += examples

    def result(self) -> dict[str, Tensor]:
        """`cell_output_cost`, (cells,); NaN if there was no example."""
        return {"cell_output_cost": self.sum / (self.examples or torch.nan)}


class OutcomeStatistics:
    """Mean loss and entropy of right and of wrong answers, accumulated on the device."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(3, len(OUTCOMES), device=device)  # loss, entropy, examples

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds one batch: logits (B, classes), labels (B,)."""
        loss, entropy = loss_and_entropy(logits.detach(), labels)
        right = (logits.argmax(dim=1) == labels).to(loss.dtype)
        values = torch.stack([loss, entropy, torch.ones_like(loss)])  # (3, B)
        self.sums += values @ torch.stack([right, 1 - right], dim=1)

    def result(self) -> dict[str, Tensor]:
        """`loss`, `entropy` (NaN where there was no example) and `examples`, each (outcomes,)."""
        loss, entropy, examples = self.sums
        return {"loss": loss / examples, "entropy": entropy / examples, "examples": examples}
