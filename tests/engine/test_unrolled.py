import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from nascore import SearchSpace, Wiring
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.unrolled import unrolled_cost
from nascore.frameworks import DARTS, Context


@pytest.fixture
def problem(supernet, batch):
    """Makes a supernet after some steps of SGD, its optimiser, a training and a search batch."""

    def make(steps, space=None):
        net = supernet(space, channels=2, cells=2)
        optimiser = torch.optim.SGD(net.parameters(), 0.3, momentum=0.9, weight_decay=0.05)
        images, labels = batch
        zeros = torch.zeros(len(net.space.edges), len(net.space.operations)).double()
        mask = DARTS().draw(Context({"alpha": zeros}, space=net.space))
        for _ in range(steps):
            optimiser.zero_grad()
            F.cross_entropy(net(images[:4], mask.weight, mask), labels[:4]).backward()
            optimiser.step()
        optimiser.zero_grad()
        return net, optimiser, (images[:6], labels[:6]), (images[6:], labels[6:])

    return make


def exact_gradient(net, optimiser, alpha, train, search):
    """d/dalpha of the search loss after one step of SGD, by autograd through the whole step."""
    z = alpha.softmax(dim=1)
    mask = Mask(z, z)
    group = optimiser.param_groups[0]
    theta = dict(net.named_parameters())
    loss = F.cross_entropy(functional_call(net, theta, (train[0], z, mask)), train[1])
    slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
    stepped = {}
    for (name, p), g in zip(theta.items(), slopes, strict=True):
        velocity = g + group["weight_decay"] * p
        if p in optimiser.state:
            velocity = velocity + group["momentum"] * optimiser.state[p]["momentum_buffer"]
        stepped[name] = p - group["lr"] * velocity
    loss = F.cross_entropy(functional_call(net, stepped, (search[0], z, mask)), search[1])
    return torch.autograd.grad(loss, alpha)[0]


@pytest.mark.parametrize("steps", [0, 2])  # without and with momentum in the optimiser
def test_gradient_equals_autograd_through_one_step_of_sgd(steps, problem, alpha):
    """Float64, to 1e-10: two orders of the same sums. The second order is no small thing here."""
    net, optimiser, train, search = problem(steps)
    a = alpha()
    exact = exact_gradient(net, optimiser, a, train, search)
    mask = DARTS().draw(Context({"alpha": a}))
    _, cost, _ = unrolled_cost(net, optimiser, mask, search, train)
    (ours,) = pull_back(mask.score, cost.sum(dim=0), [a])
    assert torch.allclose(ours, exact, atol=1e-10)
    optimiser.param_groups[0]["lr"] = 0.0  # without the second term, and without the step
    mask = DARTS().draw(Context({"alpha": a}))
    _, cost, _ = unrolled_cost(net, optimiser, mask, search, train)
    (direct,) = pull_back(mask.score, cost.sum(dim=0), [a])
    assert (ours - direct).norm() > 0.1 * direct.norm()


def test_recomputed_cells_cost_the_same(problem, alpha):
    """Their backward pass computes them again, with theta' and not with theta."""
    net, optimiser, train, search = problem(2)
    mask = DARTS().draw(Context({"alpha": alpha()}))
    expected = unrolled_cost(net, optimiser, mask, search, train)
    net.recompute = True
    for ours, value in zip(
        unrolled_cost(net, optimiser, mask, search, train), expected, strict=True
    ):
        assert torch.equal(ours, value)


def test_a_one_hot_mask_has_the_cost_of_the_dense_formula(problem):
    """The discrete path of the supernet, differentiated twice: to 1e-10."""
    net, optimiser, train, search = problem(1)
    names = ("sep_conv_3x3", "skip_connect", "max_pool_3x3", "dil_conv_3x3", "avg_pool_3x3")
    one_hot = Mask.of(Wiring(net.space, names), torch.float64)
    dense = Mask(one_hot.weight, one_hot.score, one_hot.active)
    costs = [unrolled_cost(net, optimiser, mask, search, train)[1] for mask in (one_hot, dense)]
    assert torch.allclose(*costs, atol=1e-10) and (costs[0].abs() > 1e-3).any()


def test_without_a_step_it_is_the_first_order(problem, alpha, measure):
    net, optimiser, train, search = problem(2)
    optimiser.param_groups[0]["lr"] = 0.0
    mask = DARTS().draw(Context({"alpha": alpha()}))
    logits, cost, output_cost = unrolled_cost(net, optimiser, mask, search, train)
    plain = measure(net, search, mask)
    assert torch.allclose(logits, plain.logits, atol=1e-12)
    assert torch.allclose(cost, plain.cost, atol=1e-12)
    assert torch.allclose(output_cost, plain.output_cost, atol=1e-12)


def test_theta_and_its_optimiser_stay_as_they_are(problem, alpha):
    net, optimiser, train, search = problem(1)
    theta = [p.clone() for p in net.parameters()]
    momentum = [optimiser.state[p]["momentum_buffer"].clone() for p in net.parameters()]
    unrolled_cost(net, optimiser, DARTS().draw(Context({"alpha": alpha()})), search, train)
    for p, before, buffer in zip(net.parameters(), theta, momentum, strict=True):
        assert torch.equal(p, before) and p.grad is None
        assert torch.equal(optimiser.state[p]["momentum_buffer"], buffer)


def test_it_survives_where_only_none_is_left_and_where_some_theta_is_unused(problem, alpha, draw):
    edges = ("(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)")
    for space in (
        SearchSpace(allowed={edge: ["none"] for edge in edges}),
        SearchSpace(output_nodes=[2]),
    ):
        net, optimiser, train, search = problem(1, space)
        mask = draw("darts", space, alpha(space))
        _, cost, _ = unrolled_cost(net, optimiser, mask, search, train)
        assert cost.isfinite().all()
        assert (cost[:, 4] == 0).all()
