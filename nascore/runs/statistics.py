"""Statistics of an epoch, accumulated on the device: no step waits for the host."""

import torch
from torch import Tensor

from nascore.engine.cost import loss_and_entropy
from nascore.engine.space import SearchSpace
from nascore.engine.step import Seen
from nascore.runs.data import SPLITS
from nascore.runs.history import OUTCOMES, History


class EpochStatistics:
    """What the steps of one epoch saw.

    Arguments:
        space: the search space.
        cells: number of cells.
        device: where the numbers are kept.
    """

    def __init__(self, space: SearchSpace, cells: int, device: torch.device):
        self.space = space
        self.costs = CostStatistics(cells, len(space.edges), len(space.operations), device)
        self.output_costs = OutputCostStatistics(cells, device)
        self.outcomes = {split: OutcomeStatistics(device) for split in SPLITS}

    def update(self, split: str, seen: Seen, labels: Tensor) -> None:
        """Adds a step on a batch of a split, with labels (B,)."""
        self.outcomes[split].update(seen.logits, labels)
        if seen.cost is not None:
            self.costs.update(seen.cost, seen.mask.seen(self.space))
            self.output_costs.update(seen.output_cost, len(labels))

    def write(self, history: History, epoch: int) -> None:
        """Moves everything to the host, into an epoch of a history."""
        history.write(epoch, self.costs.result())
        history.write(epoch, self.output_costs.result())
        for split, outcome in self.outcomes.items():
            history.write(epoch, outcome.result(), split)


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
