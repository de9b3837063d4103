from contextlib import nullcontext

import pytest
import torch
from torch import nn

from nascore import SearchSpace
from nascore.engine.cpu import folded
from nascore.engine.operations import BatchNorm, Chain, Pool, Separable, Weighted, max_pool


def separable(kernel, dilation, own=None):
    return lambda channels, norm: Separable(channels, kernel, dilation, own or norm)


def loose_norm(channels):
    norm = BatchNorm(channels)
    norm.eps = 0.5
    return norm


def instance_norm(channels):
    return Weighted(nn.InstanceNorm2d(channels))


class Plain(nn.Module):
    """Without a weight and without a fold."""

    def __init__(self, channels, norm):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x).tanh()


class WithoutFold(Separable):
    """Takes its weight along, and says that it does not fold."""

    fold = None

    def __init__(self, channels, norm):
        super().__init__(channels, 3, 2, norm)


def two(first, last):
    return lambda channels, norm: Chain(first(channels, norm), last(channels, norm))


sep_conv_7x7 = two(separable(7, 1), separable(7, 1))
dil_conv_7x7 = separable(7, 2)
sep_conv_dilation_3 = separable(3, 3)
dilated_twice = two(separable(3, 2), separable(5, 2))
plain_first = two(Plain, separable(3, 1, BatchNorm))
plain_last = two(separable(5, 2), WithoutFold)
instance = separable(3, 2, instance_norm)


def loose_max_pool(channels, norm):
    return Pool(max_pool, loose_norm(channels))


def instance_pool(channels, norm):
    return Pool(max_pool, instance_norm(channels))


FOLDS = ["sep_conv_7x7", "dil_conv_7x7", "sep_conv_dilation_3", "dilated_twice", "loose_max_pool"]
DOES_NOT = ["Plain", "WithoutFold", "instance", "instance_pool"]
OWN = [f"{__name__}:{name}" for name in (*FOLDS, *DOES_NOT, "plain_first", "plain_last")]
BUILT_IN = ["none", "skip_connect", "max_pool_3x3", "dil_conv_3x3", "sep_conv_3x3"]


@pytest.mark.parametrize("names", [[*BUILT_IN, own] for own in OWN] + [[OWN[5]], OWN])
def test_beside_folded_operations_every_other_one_is_exact(
    names, supernet, batch, alpha, draw, measure
):
    """Logits, cost and the gradients of theta and images, against each module's own, to 1e-10."""
    space = SearchSpace(operations=names)
    net, results = supernet(space), []
    for fold in (False, True):
        net.zero_grad()
        x = batch[0].clone().requires_grad_()
        mask = draw("darts", space, alpha(space))
        with nullcontext() if fold else net.unfolded():
            assert folded.applies(net.cells[0], mask, x) == fold
            seen = measure(net, (x, batch[1]), mask)
        theta = [p.grad for p in net.parameters()]
        results.append((seen.logits, seen.cost, x.grad, *theta))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_who_folds_says_so_itself(supernet, batch, alpha, draw):
    """The module of an operation that folds is never called; each of the others is called once."""
    space = SearchSpace(nodes=1, inputs=1, operations=[*BUILT_IN, *OWN[:-2]])
    net, ran = supernet(space, cells=1), []
    for (_, _, k), module in net.operations():
        module.register_forward_hook(lambda *_, k=k: ran.append(space.operations[k]))
    mask = draw("darts", space, alpha(space))
    net(batch[0], mask.weight, mask)
    assert ran == [f"{__name__}:{name}" for name in DOES_NOT]


def test_a_pool_is_computed_once_for_all_edges_with_the_same_normalisation(supernet, batch):
    calls = []

    def pool(x):
        calls.append(1)
        return max_pool(x)

    source, z = folded.Source(batch[0]), torch.tensor(0.5, dtype=torch.float64)
    one, other = (source.through(Pool(pool, norm), z) for norm in (BatchNorm(3), BatchNorm(3)))
    assert len(calls) == 1 and torch.equal(one.a, other.a)
    loose = source.through(Pool(pool, loose_norm(3)), z)
    assert len(calls) == 2 and not torch.allclose(one.a, loose.a)
