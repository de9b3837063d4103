from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

from nascore.engine.operations import build_operation
from nascore.errors import ConfigError
from nascore.fast.layout import concatenate
from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("pcdarts")
class PCDARTS(Framework):
    """Deterministic and dense, on a part of the channels; edges share the node that they lead to.

    Z_ijk = p_ijk q_ij, with p = softmax(alpha) and q = softmax(beta) over the edges into node j.
    The gradient on beta_ij is C_ij - q_ij sum_i C_ij, where C_ij = sum_k C_ijk is an edge's cost.

    An operation sees C/K channels, and the others pass by with the same weight. The authors let
    them pass whatever alpha says. Here `none` may win and closes the whole edge, so it costs 0.
    The wiring is read from p alone, and a removed edge keeps its share q. The authors start beta
    with noise of 1e-3 and freeze alpha for 15 epochs; here beta starts at 0, and nothing is frozen.

    Source: Xu et al., 2020 (arXiv:1907.05737).
    """

    share: PositiveInt = 4  # K

    dense = True
    unrolls = True
    recorded = {
        "beta": (("epoch", "edge"), "f4", "edge normalisation parameter after the epoch", "1")
    }

    def parameters(self, alpha: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        return {"alpha": alpha, "beta": alpha.new_zeros(len(alpha))}

    def draw(self, context: Context) -> Mask:
        edges_into = list(context.space.intermediate_nodes)  # j of them into node j
        nodes = context.learned["beta"].split(edges_into)  # of (edges,)
        log_q = torch.cat([beta.log_softmax(dim=0) for beta in nodes])
        score = context.alpha.log_softmax(dim=1) + log_q.unsqueeze(1)
        return Mask(score.detach().exp(), score)

    def supernet_settings(self) -> dict[str, Any]:
        return {"build": partial(build_partial, share=self.share)}


class Partial(nn.Module):
    """An operation on the first C/share channels. The others pass by, and all are shuffled.

    A weight z is that of all channels, so that an edge whose weights are 0 lets nothing pass. In
    the source, Xu et al., 2020 (arXiv:1907.05737), it is that of the first channels alone.
    """

    def __init__(self, operation: nn.Module, share: int):
        super().__init__()
        self.operation, self.share = operation, share

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        channels = x.shape[1] // self.share
        part, rest = x.split([channels, x.shape[1] - channels], dim=1)
        rest = rest if z is None else z * rest
        return F.channel_shuffle(concatenate([self.operation(part, z), rest]), self.share)


def build_partial(name: str, channels: int, norm: str, share: int) -> nn.Module:
    """The module of one operation on 1/share of the channels. Raises ConfigError."""
    if channels % share:
        raise ConfigError(f"channels={channels} with share={share}: it must divide them.")
    return Partial(build_operation(name, channels // share, norm), share)
