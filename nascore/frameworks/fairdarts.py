import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("fairdarts")
class FairDARTS(Framework):
    """Deterministic and dense: each operation has a gate of its own, and none competes.

    Z = sigmoid(alpha), so dL/dalpha_m = C_m (1 - Z_m). The zero-one loss pushes every gate away
    from one half: -zero_one / N sum (Z - 1/2)^2, over all N gates.

    The gate of `none` does nothing and is no part of the zero-one loss. An edge's probability of
    `none` is 1 minus its largest other gate: `none` wins if all of them are below one half.

    The authors start from gates of one half: give ``alpha_mean=0``. From its default of 1, where
    all gates are at 0.73, the zero-one loss opens them all.

    Source: Chu et al., 2020 (arXiv:1911.12126).
    """

    zero_one: NonNegativeFloat = 10.0  # weight of the zero-one loss

    dense = True
    unrolls = True
    normalised = False

    def draw(self, context: Context) -> Mask:
        return Mask(context.alpha.detach().sigmoid(), F.logsigmoid(context.alpha))

    def probability(self, context: Context) -> Tensor:
        alpha = context.alpha
        gates, none, allowed = alpha.sigmoid(), _none(context), alpha > -torch.inf
        no_gate = 1 - gates.masked_fill(none, 0).amax(dim=1, keepdim=True)  # (edges, 1)
        return gates.where(~none, no_gate * allowed)

    def penalty(self, context: Context) -> Tensor:
        alpha = context.alpha
        counts = (alpha > -torch.inf) & ~_none(context)  # (edges, operations)
        away = (alpha.sigmoid() - 0.5).square() * counts
        return -self.zero_one * away.sum() / counts.sum().clamp(min=1)


def _none(context: Context) -> Tensor:
    """True for `none`, (operations,)."""
    names = context.space.operations
    k = names.index("none") if "none" in names else -1
    return torch.arange(len(names), device=context.alpha.device) == k
