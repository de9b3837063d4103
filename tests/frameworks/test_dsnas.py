import torch

from nascore.engine.random import stream
from nascore.frameworks import DSNAS, Context, ReleasedDSNAS


def test_gradient_is_autograd_through_the_log_of_the_sum_row_by_row(supernet, alpha, by_cost):
    """Each row of d(E log sum_j P_j)/dalpha, times the cost of its own edge, in float64."""
    net, a = supernet(channels=8), alpha()
    ours, mask = by_cost(net, ReleasedDSNAS(), a, seed=3)
    usual, plain = by_cost(net, DSNAS(), a, seed=3)
    assert torch.equal(mask.weight, plain.weight)
    drawn = (plain.weight * a.softmax(dim=1)).sum(dim=1)  # P, (edges,)
    (score,) = torch.autograd.grad(len(drawn) * drawn.sum().log(), a)
    log_p = (plain.weight * a.log_softmax(dim=1)).sum()
    (each_alone,) = torch.autograd.grad(log_p, a)
    cost = (usual / each_alone).mean(dim=1, keepdim=True)  # of each edge
    assert torch.allclose(ours, cost * score, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(ours, usual, rtol=0.1)


def test_what_is_rarely_drawn_learns_little(alpha):
    a = alpha().detach().zero_()
    a[0, 3] = 9.0  # on the first edge, one operation is all but certain
    a.requires_grad_()
    framework, generator = ReleasedDSNAS(), stream(0, "mask")
    mask = framework.draw(Context({"alpha": a}, generator=generator))
    assert mask.weight[0, 3] == 1
    (gradient,) = torch.autograd.grad((mask.weight * mask.score)[1].sum(), a)
    (usual,) = torch.autograd.grad((mask.weight * a.log_softmax(dim=1))[1].sum(), a)
    ratio = 0.125 / ((a[0].softmax(dim=0)[3] + 4 * 0.125) / 5)
    assert torch.allclose(gradient, ratio * usual)
