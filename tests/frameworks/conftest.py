"""What the tests of the frameworks share: a space with limits, and both ways to a gradient."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, SearchSpace
from nascore.engine.cost import local_cost, pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.engine.space import edge_name
from nascore.frameworks import Context
from nascore.runs.algorithm import Search


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
        images, labels = batch
        context = Context({"alpha": alpha}, generator=stream(seed, "mask"), space=net.space)
        mask = framework.draw(context)
        z = mask.per_cell(len(net.cells))
        F.cross_entropy(net(images, z, mask), labels).backward()
        cost = framework.cost(replace(context, mask=mask, cost=local_cost(z.grad, mask)))
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


@pytest.fixture
def learner(supernet, alpha):
    """Makes a search in float64 that learns on the small network and the alpha of the tests.

    Nothing but the gradient moves anything: no decay, no momentum, no limit.
    """

    def make(framework, space, **settings):
        config = SearchConfig(
            framework=framework,
            dataset="synthetic",
            nodes=space.nodes,
            inputs=space.inputs,
            operations=space.operations,
            allowed={edge_name(edge): names for edge, names in space.allowed.items()},
            output_nodes=space.output_nodes,
            cells=2,
            channels=8,
            batch_size=12,
            lr=0.1,
            momentum=0,
            weight_decay=0,
            arch_lr=0.1,
            arch_weight_decay=0,
            grad_clip=None,
            arch_grad_clip=None,
            cost_clamp=None,
            **settings,
        )
        one = Search(config, torch.float64)
        one.supernet = supernet(space, channels=8, **one.framework.supernet_settings())
        one.theta = list(one.supernet.parameters())
        one.theta_optimiser = torch.optim.SGD(one.theta, config.lr)
        if "alpha" in one.learned:
            one.alpha.data.copy_(alpha(space).detach())
        return one

    return make
