"""Statistics of an epoch, accumulated on the device: no step waits for the host."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nascore.engine.cost import loss_and_entropy
from nascore.engine.mask import Mask
from nascore.engine.space import SearchSpace
from nascore.runs.history import OUTCOMES, SPLITS, History


class StepResult(NamedTuple):
    """Result of one step."""

    mask: Mask
    logits: Tensor  # (B, classes)
    labels: Tensor  # (B,)
    cost: Tensor | None  # the local cost, (cells, edges, operations); None if it was not measured
    output_cost: Tensor | None  # of the output edges of each cell, (cells,); None likewise


class EpochStatistics(nn.Module):
    """Means over the steps of one epoch. A module, so that a state dict holds its buffers."""

    def __init__(self, space: SearchSpace, cells: int, device: torch.device):
        super().__init__()
        self.space = space
        by_operation = (cells, len(space.edges), len(space.operations))
        shapes = {"count": by_operation, "mean": by_operation, "squares": by_operation}
        shapes |= {"output_cost": (cells,), "examples": ()}  # summed over examples, and how many
        shapes |= {"outcomes": (len(SPLITS), 3, len(OUTCOMES))}  # loss, entropy, examples
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, device=device))

    def update(self, split: str, result: StepResult) -> None:
        """Adds a step on a batch of a split."""
        loss, entropy = loss_and_entropy(result.logits.detach(), result.labels)
        right = (result.logits.argmax(dim=1) == result.labels).to(loss.dtype)
        values = torch.stack([loss, entropy, torch.ones_like(loss)])  # (3, B)
        self.outcomes[SPLITS.index(split)] += values @ torch.stack([right, 1 - right], dim=1)
        if result.cost is None:
            return
        drawn = result.mask.seen(self.space).to(result.cost.dtype)  # (edges, operations)
        self.count += drawn
        deviation = (result.cost - self.mean) * drawn  # Welford's update: float32 is enough
        self.mean += deviation / self.count.clamp(min=1)
        self.squares += deviation * (result.cost - self.mean)
        self.output_cost += result.output_cost * len(right)
        self.examples += len(right)

    def write(self, history: History, epoch: int) -> None:
        """Moves everything to the host, into an epoch of a history: NaN where nothing was seen.

        What is seen from then on is of the next epoch.
        """
        std = (self.squares / self.count.clamp(min=1)).clamp(min=0).sqrt()
        means = {
            "cost_mean": self.mean.where(self.count > 0, torch.nan),
            "cost_std": std.where(self.count > 0, torch.nan),
            "cost_count": self.count,
            "cell_output_cost": self.output_cost / self.examples,
        }
        history.write(epoch, means)
        for split, (loss, entropy, n) in zip(SPLITS, self.outcomes, strict=True):
            history.write(epoch, {"loss": loss / n, "entropy": entropy / n, "examples": n}, split)
        for buffer in self.buffers():
            buffer.zero_()
