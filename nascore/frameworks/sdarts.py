import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat

from nascore.frameworks.base import Context, Mask, framework
from nascore.frameworks.darts import DARTS


@framework("sdarts-rs")
class SDARTSRS(DARTS):
    """DARTS in which theta learns under noise, so that the loss is smooth around Z: SmoothDARTS.

    In a step in which theta alone learns, noise of U(-r, r) is added to softmax(alpha), and the sum
    is clamped to 0..1 and normalised again; an edge that is left with no weight gives all of it to
    its largest. The radius r grows linearly with the epochs; the authors' would reach
    ``radius_end`` one epoch after the last. In single level, alpha learns first, without noise.

    Source: Chen and Hsieh, 2020 (arXiv:2002.05283).
    """

    radius: NonNegativeFloat = 0.03  # r in the first epoch
    radius_end: NonNegativeFloat = 0.3  # r in the last one

    separate = True

    def draw(self, context: Context) -> Mask:
        mask = super().draw(context)
        if set(context.learns) != {"theta"}:
            return mask
        r = self.radius + (self.radius_end - self.radius) * context.progress
        noise = torch.empty_like(mask.weight).uniform_(-r, r, generator=context.generator)
        noisy = (mask.weight + noise).where(context.alpha > -torch.inf, -torch.inf)
        z, largest = noisy.clamp(0, 1), F.one_hot(noisy.argmax(dim=1), noisy.shape[1])
        z = z.where(z.sum(dim=1, keepdim=True) > 0, largest.to(z.dtype))
        return Mask(z / z.sum(dim=1, keepdim=True), mask.score)
