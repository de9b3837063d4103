from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from nascore.frameworks.base import Context, Formulas, framework
from nascore.frameworks.dsnas import DSNAS


@framework("reinforce")
class REINFORCE(DSNAS):
    """DSNAS with a global reward: the same loss meets the score on every edge.

    dE[L]/dalpha = E[(L - b) dlog p(Z)/dalpha] for any b that the present mask has no part in. Here
    b starts as the first loss and then follows: b <- decay b + (1 - decay) L after each step.

    The control to the local cost, which is recorded all the same. An edge's `none` meets L - b too,
    as does an operation that nothing reaches. The authors sample from a recurrent network and
    reward the accuracy after training; here p = softmax(alpha), and -L on a batch is the reward.

    Arguments:
        decay: of the baseline b.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.95

    formulas = Formulas(
        mask="one-hot sample of p",
        score="log p",
        gradient="(L - b) (delta_km - p_m), k the sampled one, b a moving average of L",
        source="Zoph and Le, 2017 (arXiv:1611.01578)",
    )

    def state(self) -> dict[str, Tensor]:
        return {"baseline": torch.tensor(torch.nan)}  # no loss seen yet

    def loss(self, context: Context) -> Tensor:
        """L, whose mean over the samples is minimised, ()."""
        return context.loss

    def cost(self, context: Context) -> Tensor:
        loss, baseline = self.loss(context), context.state["baseline"]
        return (loss - torch.where(baseline.isnan(), loss, baseline)) * context.mask.weight

    def next_state(self, context: Context) -> dict[str, Tensor]:
        loss, baseline = self.loss(context), context.state["baseline"]
        before = torch.where(baseline.isnan(), loss, baseline)
        return {"baseline": self.decay * before + (1 - self.decay) * loss}
