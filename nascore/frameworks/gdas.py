import torch.nn.functional as F
from pydantic import PositiveFloat

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("gdas")
class GDAS(Framework):
    """Discrete and straight through: one sampled operation runs, a soft sample is differentiated.

    Forward Z = one-hot argmax of q, backward dZ = dq. Only the sampled operation k has a slope, so
    dL/dalpha = dL/dZ_k dq_k/dalpha = C_k d log q_k/dalpha, with the cost C_k = q_k dL/dZ_k.

    Source: Dong and Yang, 2019 (arXiv:1910.04465).
    """

    temperature: PositiveFloat = 10.0  # of q, in the first epoch
    temperature_end: PositiveFloat = 0.1  # in the last epoch, reached linearly

    def temperature_at(self, progress: float) -> float:
        return (1 - progress) * self.temperature + progress * self.temperature_end

    def draw(self, context: Context) -> Mask:
        alpha = context.alpha
        noisy = alpha.log_softmax(dim=1) + gumbel(alpha, context.generator)
        score = (noisy / self.temperature_at(context.progress)).log_softmax(dim=1)  # log q
        sampled = score.argmax(dim=1)
        soft = F.one_hot(sampled, alpha.shape[1]) * score.detach().exp()
        return Mask.sample(sampled, score, cost_scale=soft)
