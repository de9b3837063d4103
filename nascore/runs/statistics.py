"""Statistics of an epoch, accumulated on the device: no step waits for the host."""

import torch
from torch import Tensor

from nascore.engine.cost import loss_and_entropy
from nascore.engine.space import SearchSpace
from nascore.engine.step import Seen
from nascore.runs.data import SPLITS
from nascore.runs.history import OUTCOMES, History


class EpochStatistics:
    """What the steps of one epoch saw."""

    def __init__(self, space: SearchSpace, cells: int, device: torch.device):
        shape = (cells, len(space.edges), len(space.operations))
        self.space = space
        self.count, self.mean, self.squares = (torch.zeros(shape, device=device) for _ in range(3))
        self.output_cost = torch.zeros(cells, device=device)  # summed over examples
        self.examples = 0  # on which costs were measured
        sums = (3, len(OUTCOMES))  # loss, entropy, examples
        self.outcomes = {split: torch.zeros(sums, device=device) for split in SPLITS}

    def update(self, split: str, seen: Seen, labels: Tensor) -> None:
        """Adds a step on a batch of a split, with labels (B,)."""
        loss, entropy = loss_and_entropy(seen.logits.detach(), labels)
        right = (seen.logits.argmax(dim=1) == labels).to(loss.dtype)
        values = torch.stack([loss, entropy, torch.ones_like(loss)])  # (3, B)
        self.outcomes[split] += values @ torch.stack([right, 1 - right], dim=1)
        if seen.cost is None:
            return
        drawn = seen.mask.seen(self.space).to(seen.cost.dtype)  # (edges, operations)
        self.count += drawn
        deviation = (seen.cost - self.mean) * drawn  # Welford's update: float32 is enough
        self.mean += deviation / self.count.clamp(min=1)
        self.squares += deviation * (seen.cost - self.mean)
        self.output_cost += seen.output_cost * len(labels)
        self.examples += len(labels)

    def write(self, history: History, epoch: int) -> None:
        """Moves everything to the host, into an epoch of a history: NaN where nothing was seen."""
        std = (self.squares / self.count.clamp(min=1)).clamp(min=0).sqrt()
        means = {
            "cost_mean": self.mean.where(self.count > 0, torch.nan),
            "cost_std": std.where(self.count > 0, torch.nan),
            "cost_count": self.count,
            "cell_output_cost": self.output_cost / (self.examples or torch.nan),
        }
        history.write(epoch, means)
        for split, (loss, entropy, n) in self.outcomes.items():
            history.write(epoch, {"loss": loss / n, "entropy": entropy / n, "examples": n}, split)
