"""One step of a search: the same lines for every framework."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from nascore.engine.cost import local_cost, pull_back
from nascore.engine.mask import Mask
from nascore.engine.supernet import Supernet
from nascore.engine.unrolled import Batch, unrolled_cost
from nascore.frameworks.base import Framework


class Seen(NamedTuple):
    """What a step saw."""

    mask: Mask
    logits: Tensor  # (B, classes)
    cost: Tensor | None  # the local cost, (cells, edges, operations); None if it was not measured
    output_cost: Tensor | None  # what the output edges of each cell cost, (cells,); None likewise


@dataclass
class Learner:
    """What learns in a search, and how.

    Arguments:
        supernet: the weights theta.
        framework: on the supernet's space.
        architecture: what the framework learns, by name: leaves, such as alpha (edges, operations).
        state: what the framework remembers from step to step, by name.
        decay_unsampled: whether momentum and weight decay also move what no gradient has reached.
        grad_clip: largest norm of theta's gradient; None for no limit, also in the next two.
        arch_grad_clip: largest norm of the architecture's gradient.
        cost_clamp: largest size of what meets the score.
        order: 2 to look one step of theta ahead.
        mixed_precision: let torch compute maps in bfloat16 where it sees fit.
    """

    supernet: Supernet
    framework: Framework
    architecture: dict[str, Tensor]
    state: dict[str, Tensor]
    theta_optimiser: torch.optim.SGD
    alpha_optimiser: torch.optim.Adam
    decay_unsampled: bool = False
    grad_clip: float | None = None
    arch_grad_clip: float | None = None
    cost_clamp: float | None = None
    order: int = 1
    mixed_precision: bool = False
    theta: list[Tensor] = field(init=False)

    def __post_init__(self):
        self.theta = list(self.supernet.parameters())

    def step(
        self,
        batch: Batch,
        generator: Generator | None,
        *,
        theta: bool = False,
        alpha: bool = False,
        measure: bool = True,
        ahead: Batch | None = None,
    ) -> Seen:
        """One step on a batch, in which theta, the architecture, both or neither learn.

        Arguments:
            batch: images (B, channels, H, W) and labels (B,).
            generator: draws the mask.
            measure: whether the cost is measured, without which the architecture cannot learn.
            ahead: for order 2, the batch that theta learns from next. What is seen is then seen
                after this virtual step of theta.
        """
        mask = self.draw(generator)  # Z and its score
        if alpha and self.order == 2:
            logits, cost, output_cost = unrolled_cost(
                self.supernet, self.theta_optimiser, mask, batch, ahead
            )
        else:
            logits, cost, output_cost = self.backpropagate(mask, batch, theta, measure)
        if theta:
            for p in self.theta if self.decay_unsampled else ():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            self.theta_optimiser.step()
            self.theta_optimiser.zero_grad()
        if alpha:
            self.pull_back(mask, cost, loss=F.cross_entropy(logits, batch[1]))
            self.alpha_optimiser.step()
        return Seen(mask, logits, cost, output_cost)

    def draw(self, generator: Generator | None) -> Mask:
        """A mask from what has been learned so far."""
        return self.framework.mask(self.architecture, generator)

    def backpropagate(
        self, mask: Mask, batch: Batch, theta: bool, measure: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The logits, the local cost and the output cost of a batch; with ``theta``, its gradients.

        Shapes as of ``Seen``.
        """
        images, labels = batch
        z = mask.per_cell(len(self.supernet.cells)).requires_grad_(measure)
        outputs = self.supernet.unit_weights(z) if measure else None
        device = images.device.type
        half = torch.autocast(device, torch.bfloat16) if self.mixed_precision else nullcontext()
        with torch.set_grad_enabled(theta or measure), half:
            logits = self.supernet(images, z, mask, outputs).to(z.dtype)
        if theta or measure:
            loss = F.cross_entropy(logits, labels)
            loss.backward(inputs=None if theta else [z, outputs])  # dL/dtheta, dL/dZ
        if theta and self.grad_clip is not None:
            clip_grad_norm_(self.theta, self.grad_clip)
        if not measure:
            return logits.detach(), None, None
        return logits.detach(), local_cost(z.grad, mask), outputs.grad

    def pull_back(self, mask: Mask, cost: Tensor, loss: Tensor) -> None:
        """Pulls the local cost back to the architecture's gradients: sum_k C_k ds_k/dalpha."""
        cost = self.framework.cost(mask, cost, loss, **self.state)  # (edges, operations)
        self.state = self.framework.next_state(loss, **self.state)
        if self.cost_clamp is not None:
            cost = cost.clamp(-self.cost_clamp, self.cost_clamp)
        learned = list(self.architecture.values())
        for p, gradient in zip(learned, pull_back(mask.score, cost, learned), strict=True):
            p.grad = gradient
        penalty = self.framework.penalty(**self.framework.restricted(self.architecture))
        if penalty is not None:
            penalty.backward(inputs=learned)
        if self.arch_grad_clip is not None:
            clip_grad_norm_(learned, self.arch_grad_clip)

    def recorded(self) -> dict[str, Tensor]:
        """What a record keeps of the architecture: alpha, probability, what the framework names."""
        learned = {name: p.detach() for name, p in self.architecture.items()}
        names = [name for name in ("alpha", *self.framework.recorded) if name in learned]
        probability = self.framework.probability(**self.framework.restricted(learned))
        return {"probability": probability} | {name: learned[name] for name in names}
