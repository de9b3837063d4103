import torch
from torch import Tensor

from nascore.engine.space import SearchSpace
from nascore.frameworks.base import Context, Share, framework
from nascore.frameworks.dsnas import DSNAS


@framework("reinforce")
class REINFORCE(DSNAS):
    """DSNAS with a global reward: the same loss meets the score on every edge.

    dE[L]/dalpha = E[(L - b) dlog p(Z)/dalpha] for any b that the present mask has no part in. Here
    b starts as the first loss and then follows: b <- decay b + (1 - decay) L after each step.

    The control to the local cost, which is recorded all the same. An edge's `none` meets L - b too,
    as does an operation that nothing reaches. The authors sample from a recurrent network and
    reward the accuracy after training; here p = softmax(alpha), and -L on a batch is the reward.

    Source: Zoph and Le, 2017 (arXiv:1611.01578).
    """

    decay: Share = 0.95  # of the baseline b

    def state(self, space: SearchSpace) -> dict[str, Tensor]:
        return {"baseline": torch.tensor(torch.nan)}  # no loss seen yet

    def loss(self, context: Context) -> Tensor:
        """L, whose mean over the samples is minimised, ()."""
        return context.loss

    def baseline(self, context: Context) -> Tensor:
        """b, which starts as the first loss, ()."""
        baseline = context.state["baseline"]
        return torch.where(baseline.isnan(), self.loss(context), baseline)

    def cost(self, context: Context) -> Tensor:
        return (self.loss(context) - self.baseline(context)) * context.mask.weight

    def next_state(self, context: Context) -> dict[str, Tensor]:
        b, loss = self.baseline(context), self.loss(context)
        return {"baseline": self.decay * b + (1 - self.decay) * loss}
