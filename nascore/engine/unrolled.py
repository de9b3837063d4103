"""Second-order bi-level search: alpha's cost after one virtual step of theta."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from nascore.engine.mask import Mask
from nascore.engine.supernet import Supernet

Batch = tuple[Tensor, Tensor]
"""Images (B, channels, H, W) and labels (B,)."""


@dataclass(frozen=True)
class Unrolled:
    """The local cost when alpha looks one step of theta ahead.

    With theta' = theta - lr (momentum b + weight_decay theta + g), where g is the gradient of the
    loss on the training batch and b the momentum, the loss L on the search batch at theta' depends
    on Z twice: directly, and through g. With v = dL/dtheta',

    C_k = Z_k dL(theta')/dZ_k - lr Z_k d<v, g>/dZ_k

    and, as ever, dL/dalpha = sum_k C_k ds_k/dalpha. The second term is again a local cost: of the
    training batch, differentiated along v. It is exact here, by differentiating twice, and not by a
    finite difference. Theta's real step may clip g; the virtual one does not.

    Source: Liu et al., 2019 (arXiv:1806.09055), their unrolled gradient; cost form ours.

    Arguments:
        supernet: at theta, which stays as it is.
        optimiser: SGD on theta, whose next step is looked at.
    """

    supernet: Supernet
    optimiser: torch.optim.SGD

    def cost(self, mask: Mask, search: Batch, train: Batch) -> tuple[Tensor, Tensor]:
        """The cost, (cells, edges, operations), and the logits (B, classes) of the search batch.

        ``mask`` must be the same in both passes: it is deterministic, as of DARTS.
        """
        theta = dict(self.supernet.named_parameters())
        twin = replace(mask)  # the same Z, with a gradient of its own
        loss = F.cross_entropy(self.supernet(train[0], twin), train[1])
        g = torch.autograd.grad(
            loss, list(theta.values()), create_graph=True, materialize_grads=True
        )
        ahead = {
            name: self._step(p, slope.detach()).requires_grad_()
            for (name, p), slope in zip(theta.items(), g, strict=True)
        }
        logits = functional_call(self.supernet, ahead, (search[0], mask))
        leaves = [mask.per_cell, mask.per_output, *ahead.values()]
        F.cross_entropy(logits, search[1]).backward(inputs=leaves)
        v = [p.grad for p in ahead.values()]
        product = sum((a * b).sum() for a, b in zip(g, v, strict=True) if b is not None)
        (mixed,) = torch.autograd.grad(product, twin.per_cell, materialize_grads=True)
        lr = self.optimiser.param_groups[0]["lr"]
        return mask.cost() - lr * mask.cost_weight * mixed, logits.detach()

    def _step(self, p: Tensor, slope: Tensor) -> Tensor:
        """A parameter after the step of SGD that its gradient would cause."""
        group = self.optimiser.param_groups[0]
        velocity = slope + group["weight_decay"] * p.detach()
        momentum = self.optimiser.state.get(p, {}).get("momentum_buffer")
        if momentum is not None:  # None before the first step
            velocity = velocity + group["momentum"] * momentum
        return p.detach() - group["lr"] * velocity
