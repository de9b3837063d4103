"""Second-order bi-level search: alpha's cost after one virtual step of theta."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from nascore.engine.cost import local_cost
from nascore.engine.mask import Mask
from nascore.engine.supernet import Supernet

Batch = tuple[Tensor, Tensor]  # images (B, channels, H, W) and labels (B,)


def unrolled_cost(
    supernet: Supernet, optimiser: torch.optim.SGD, mask: Mask, search: Batch, train: Batch
) -> tuple[Tensor, Tensor, Tensor]:
    """The local cost when alpha looks one step of theta ahead.

    With theta' = theta - lr (momentum b + weight_decay theta + g), where g is the gradient of the
    loss on the training batch and b the momentum, the loss L on the search batch at theta' depends
    on Z twice: directly, and through g. With v = dL/dtheta', the local cost is

    C_k = Z_k dL(theta')/dZ_k - lr Z_k d<v, g>/dZ_k

    and, as ever, dL/dalpha = sum_k C_k ds_k/dalpha. The second term is exact, by differentiating
    twice, and not by a finite difference. Theta's real step may clip g; the virtual one does not.

    The mask is the same in both passes: it must depend on alpha alone, as of DARTS. The supernet
    and the optimiser stay as they are.

    Returns the logits of the search batch, (B, classes), the cost, (cells, edges, operations), and
    what the output edges of each cell cost, (cells,).

    Source: Liu et al., 2019 (arXiv:1806.09055), their unrolled gradient; cost form ours.
    """
    theta = dict(supernet.named_parameters())
    here, ahead = (mask.per_cell(len(supernet.cells)) for _ in range(2))  # Z in the two passes
    outputs = supernet.unit_weights(ahead)
    loss = F.cross_entropy(supernet(train[0], here, mask), train[1])
    g = torch.autograd.grad(loss, list(theta.values()), create_graph=True, materialize_grads=True)
    stepped, group = {}, optimiser.param_groups[0]
    for (name, p), slope in zip(theta.items(), g, strict=True):
        velocity = slope.detach() + group["weight_decay"] * p.detach()
        momentum = optimiser.state.get(p, {}).get("momentum_buffer")
        if momentum is not None:  # None before the first step
            velocity = velocity + group["momentum"] * momentum
        stepped[name] = (p.detach() - group["lr"] * velocity).requires_grad_()

    def backward(module, inputs, logits):  # while theta' stands in: recompute needs it, too
        leaves = [ahead, outputs, *stepped.values()]
        F.cross_entropy(logits, search[1]).backward(inputs=leaves)

    with supernet.register_forward_hook(backward):
        logits = functional_call(supernet, stepped, (search[0], ahead, mask, outputs))
    v = [p.grad for p in stepped.values()]
    product = sum((a * b).sum() for a, b in zip(g, v, strict=True) if b is not None)
    (mixed,) = torch.autograd.grad(product, here, materialize_grads=True)
    cost = local_cost(ahead.grad, mask) - group["lr"] * mask.cost_scale * mixed
    return logits.detach(), cost, outputs.grad
