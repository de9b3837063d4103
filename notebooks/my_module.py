"""Six things of one's own, for the chapter "Add your own". Change them at will.

A setting names them as "my_module:DARTSMinus", wherever Python can import this
file: from the folder that it lies in, or installed.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import nn

from nascore.engine import Mask
from nascore.evidence import (
    EXPLORED,
    Evidence,
    claim,
    each,
    experiment,
    sign_flip,
)
from nascore.frameworks import Context, Framework
from nascore.runs import dataset


class DARTSMinus(Framework):
    """DARTS with a fading skip connection beside the operations of every edge.

    An edge computes beta x + sum_k p_k O_k(x), p = softmax(alpha), so Z is p,
    plus beta for skip_connect. Beta is no function of alpha, so the cost that
    meets the score log p is p_k dL/dZ_k. At beta = 0 this is DARTS.

    Left out: the authors' reduction cells. They search on two levels
    (``level="bi"``) and have no `none`. An edge that may not take skip_connect
    has no fading one either.

    Source: Chu et al., 2021 (arXiv:2009.01027).

    Arguments:
        beta: in the first epoch; it falls linearly to 0 in the last.
    """

    beta: NonNegativeFloat = 1.0

    dense: ClassVar = True
    unrolls: ClassVar = True

    def draw(self, context: Context) -> Mask:
        alpha = context.alpha
        score = alpha.log_softmax(dim=1)  # log p, (edges, operations)
        p = score.detach().exp()
        names = context.space.operations
        skip = [name == "skip_connect" for name in names]
        skip = torch.tensor(skip, device=alpha.device) & (alpha > -torch.inf)
        beta = (1 - context.progress) * self.beta
        return Mask(torch.where(skip, p + beta, p), score, cost_scale=p)


def conv_7x7(channels, norm):
    """ReLU, 7x7 convolution, normalisation."""
    conv = nn.Conv2d(channels, channels, 7, padding=3, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(channels))


class RMSNorm(nn.Module):
    """Divides what is at a place by its root mean square over the channels.

    Source: Zhang and Sennrich, 2019 (arXiv:1910.07467); no gain is learned.
    """

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()


@dataset("stripes", examples=480, classes=4, channels=1)
def stripes():
    """Noisy stripes of 8x8: the class is their direction, the phase random."""
    random = np.random.default_rng(0)
    labels = np.arange(480) % 4
    y, x = np.mgrid[:8, :8]
    angle = np.pi / 4 * labels[:, None, None]
    wave = (
        np.cos(angle) * x
        + np.sin(angle) * y
        + random.uniform(0, 8, (480, 1, 1))
    )
    images = np.sin(2 * np.pi / 4 * wave) + random.normal(size=(480, 8, 8))
    return images[:, None].astype(np.float32), labels


WEIGHTLESS = ["none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"]
SEEDS = {"smoke": 2, "laptop": 5, "colab": 5, "published": 5, "paper": 5}


@experiment(EXPLORED, seeds=SEEDS)
def auxiliary_skip(base):
    """DARTS with the auxiliary skip and without, among five operations."""
    base = base.replace(operations=[*WEIGHTLESS, "sep_conv_3x3"])
    return {
        "with": base.replace(framework=DARTSMinus()),
        "without": base.replace(framework=DARTSMinus(beta=0)),
    }


@claim(
    id="skip",
    says="Part of what makes skip_connect probable is that it eases training: "
    "an auxiliary skip connection takes that part away.",
    short="An auxiliary skip makes skip_connect less probable",
    experiment="my_module:auxiliary_skip",
    effect=(
        "p(skip_connect) at the end, mean over edges, without the auxiliary "
        "skip minus with it"
    ),
    test="above 0 across seeds: exact sign flips",
    control="the same for the two pools, which have no weights either",
    bar=0.01,
    unit="p(skip_connect)",
    tested=True,
)
def skip_is_less_probable(arms):
    """How much more probable skip_connect ends without the auxiliary skip."""

    def at_the_end(arm, *names):
        def p(run):
            end = run.history.probability.isel(epoch=-1)
            return end.sel(operation=list(names)).mean()

        return each(p, arms[arm])

    pools = ("max_pool_3x3", "avg_pool_3x3")
    values = {arm: at_the_end(arm, "skip_connect") for arm in arms}
    effect = (values["without"] - values["with"]).fillna(0)
    return Evidence(
        effect,
        f"p(skip_connect) ends at {values['without'].mean():.3f} without "
        f"the auxiliary skip and at {values['with'].mean():.3f} with it.",
        sign_flip(effect),
        at_the_end("without", *pools) - at_the_end("with", *pools),
        values=values,
    )
