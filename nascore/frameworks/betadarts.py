from pydantic import NonNegativeFloat
from torch import Tensor

from nascore.frameworks.base import Context, framework
from nascore.frameworks.darts import DARTS


@framework("beta-darts")
class BetaDARTS(DARTS):
    """DARTS with a penalty in place of alpha's weight decay: w mean(log sum exp(alpha)).

    The mean is over edges, and w grows linearly from 0 in the first epoch to ``weight`` in the
    last. The authors' w grows by 0.5 an epoch, of which they have 100. Their code keeps a weight
    decay of 1e-3 besides, and forgets the penalty in second order; here both orders have it.

    Source: Ye et al., 2022 (arXiv:2203.01665).
    """

    weight: NonNegativeFloat = 50.0  # of the penalty in the last epoch

    settings = {"arch_weight_decay": 0.0, "arch_grad_clip": None}

    def penalty(self, context: Context) -> Tensor:
        return self.weight * context.progress * context.alpha.logsumexp(dim=1).mean()
