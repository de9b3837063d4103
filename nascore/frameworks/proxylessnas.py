import torch
import torch.nn.functional as F

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("proxylessnas")
class ProxylessNAS(Framework):
    """Discrete: of two sampled operations on each edge one is active, and both are compared.

    The two are drawn without replacement. The gradient is the one on the binary gates g:
    C_m - q_m sum_k C_k, with q between the two and C_k = q_k dL/dg_k for both. The authors also
    rescale the two alphas after each update, which keeps the probability of the others; that is no
    part of the gradient and is left out. Where nothing else reaches the node of a closed gate, the
    slope behind it is the one at 0: 1 / sqrt(eps) through a pool, large, and taken as 0 through
    what begins with a ReLU.

    Source: Cai et al., 2019 (arXiv:1812.00332).
    """

    def draw(self, context: Context) -> Mask:
        alpha, generator = context.alpha, context.generator
        log_p = alpha.log_softmax(dim=1)
        noisy = log_p.detach() + gumbel(alpha, generator)
        pair = noisy.topk(min(2, alpha.shape[1]), dim=1).indices  # (edges, 2)
        outside = torch.ones_like(noisy, dtype=torch.bool).scatter(1, pair, False)
        score = log_p.masked_fill(outside, -torch.inf).log_softmax(dim=1)  # log q
        gate = (score.detach() + gumbel(alpha, generator)).argmax(dim=1, keepdim=True)  # (edges, 1)
        weight = F.one_hot(gate.squeeze(1), alpha.shape[1]).to(alpha.dtype)
        active, gradient_only = [], []
        rows = torch.cat([gate, pair], dim=1).tolist()  # the one host synchronisation of a step
        for choices, (k, *both) in zip(context.space.choices, rows, strict=True):
            active.append([k])
            gradient_only.append([m for m in both if m != k and m in choices])
        q = score.detach().exp()
        return Mask(weight, score, active, one_hot=True, gradient_only=gradient_only, cost_scale=q)
