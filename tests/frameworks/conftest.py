"""What the tests of the frameworks share: a space with limits, and both ways to a gradient."""

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.engine.cost import local_cost, pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream


@pytest.fixture
def restricted():
    """A space where one edge is removed and another may take two operations."""
    return SearchSpace(allowed={"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]})


@pytest.fixture
def forbidden():
    """True where an edge may not take an operation, (edges, operations)."""

    def make(space):
        found = torch.ones(len(space.edges), len(space.operations), dtype=torch.bool)
        for edge, choices in enumerate(space.choices):
            found[edge, list(choices)] = False
        return found

    return make


@pytest.fixture
def by_cost(batch):
    """The gradient on alpha by local cost and score, and the mask: the library's way."""

    def make(net, framework, alpha, seed=0):
        framework, (images, labels) = framework.on(net.space), batch
        parameters = framework.restricted({"alpha": alpha})
        mask = framework.draw(**parameters, generator=stream(seed, "mask"))
        z = mask.per_cell(len(net.cells))
        F.cross_entropy(net(images, z, mask), labels).backward()
        cost = framework.cost(mask, local_cost(z.grad, mask), None)
        return pull_back(mask.score, cost, [alpha])[0], mask

    return make


@pytest.fixture
def by_autograd(batch):
    """The gradient of the loss on alpha through Z, a function of alpha: the plain way.

    Operations may be limited to some for each edge, and each runs with its Z, whatever that is.
    """

    def make(net, z, alpha, active=None):
        images, labels = batch
        logits = net(images, z.expand(len(net.cells), -1, -1), Mask(z.detach(), z, active))
        return torch.autograd.grad(F.cross_entropy(logits, labels), alpha)[0]

    return make
