import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.engine.cost import loss_and_entropy, pull_back
from nascore.engine.mask import Mask
from nascore.engine.operations import NORMS
from nascore.engine.random import gumbel, stream
from nascore.frameworks import (
    DARTS,
    DSNAS,
    FRAMEWORKS,
    SNAS,
    Context,
    ProxylessNAS,
)

CARRYING = sorted(set(NORMS) - {"instance"})
"""With instance normalisation the pooled output is 0, and so is every cost (test_cost_paths.py)."""


KINDS = ("darts", "snas", "dsnas", "proxylessnas", "gdas")
"""One of each kind of mask: dense, random, discrete, with gradient-only operations or a scale."""


def paired(norms):
    """A dense and a discrete framework with every norm, the others with batch normalisation."""
    both = ["darts", "dsnas"]
    return [(n, norm) for n in KINDS for norm in norms if n in both or norm == "batch"]


@pytest.mark.parametrize(
    "name, norm",
    [(name, "batch") for name in FRAMEWORKS if name != "enas"]  # which learns no alpha
    + [pair for pair in paired(CARRYING) if pair[1] != "batch"],
)
def test_alpha_gets_a_finite_nonzero_gradient_and_none_costs_nothing(
    name, norm, supernet, batch, alpha, measure, draw
):
    net, a = supernet(norm=norm, channels=8), alpha()
    mask = draw(name, net.space, a, seed=0)
    cost = measure(net, batch, mask).cost
    (gradient,) = pull_back(mask.score, cost.sum(dim=0), [a])
    assert gradient.isfinite().all() and (gradient != 0).any()
    assert (cost[:, :, 0] == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("framework", [DARTS, SNAS])
def test_cost_times_score_is_plain_autograd_through_alpha(
    framework, norm, supernet, batch, alpha, measure
):
    """The unified view, exact for the dense frameworks.

    To 1e-10 in float64: gradients of order 1 at most, over some hundred operations of rounding.
    """
    net, a = supernet(norm=norm, channels=8), alpha()
    kind = DARTS() if framework is DARTS else SNAS(temperature=0.7)
    mask = kind.draw(Context({"alpha": a}, generator=stream(0, "mask")))
    (ours,) = pull_back(mask.score, measure(net, batch, mask).cost.sum(dim=0), [a])

    noise = gumbel(a, stream(0, "mask"))
    plain = a.detach().requires_grad_()
    if framework is DARTS:
        z = plain.softmax(dim=1)
    else:
        z = ((plain.log_softmax(dim=1) + noise) / 0.7).softmax(dim=1)
    F.cross_entropy(net(batch[0], z, Mask(z, z)), batch[1]).backward()
    assert torch.allclose(ours, plain.grad, atol=1e-10)


def masks_of(framework, space, p):
    """Every mask that a discrete framework can draw: its probability, the mask, and q.

    q is the distribution on each edge that the score is the logarithm of.
    """
    edges, operations = p.shape
    outcomes = []  # for each edge, of (probability, active, probed, q)
    for e in range(edges):
        if framework is DSNAS:
            outcomes.append([(p[e, k], k, (), p[e]) for k in range(operations)])
            continue
        outcomes.append([])
        for k, m in itertools.permutations(range(operations), 2):
            together = p[e, k] * p[e, m] * (1 / (1 - p[e, k]) + 1 / (1 - p[e, m]))
            q = torch.zeros_like(p[e])
            q[[k, m]] = p[e, [k, m]] / p[e, [k, m]].sum()
            outcomes[e].append((together * q[k], k, (m,), q))
    for drawn in itertools.product(*outcomes):
        probability, active, probed, q = zip(*drawn, strict=True)
        weight = F.one_hot(torch.tensor(active), operations).double()
        scale = weight if framework is DSNAS else torch.stack(q)
        mask = Mask(weight, weight, [[k] for k in active], True, probed, scale)
        yield math.prod(probability), mask, torch.stack(q)


def plan(mask):
    """What a mask runs and probes, to find it again by."""
    probed = mask.gradient_only or [()] * len(mask.active)
    return str((mask.active, [list(row) for row in probed]))


@pytest.mark.parametrize(
    "framework, norm", [(DSNAS, "batch"), (DSNAS, "none"), (ProxylessNAS, "batch")]
)
def test_sampled_gradient_has_the_exact_expectation(
    framework, norm, supernet, batch, alpha, measure
):
    """On a cell of three edges and three operations all masks can be listed: 27 and 216.

    The mean of 1000 sampled gradients lies within 4 standard errors of the exact expectation
    sum_Z p(Z) sum_k C_k(Z) ds_k/dalpha, which is written here without pull_back, and with a cost
    from the dense path of the supernet.
    """
    space = SearchSpace(nodes=2, inputs=1, operations=["none", "skip_connect", "sep_conv_3x3"])
    net, a = supernet(space, cells=1, channels=8, norm=norm), alpha(space)
    exact, total, costs = torch.zeros(3, 3).double(), 0, {}
    for probability, mask, q in masks_of(framework, space, a.detach().softmax(dim=1)):
        runs = [sorted({*k, *m}) for k, m in zip(mask.active, mask.gradient_only, strict=True)]
        dense = Mask(mask.weight, mask.score, runs, one_hot=False, cost_scale=mask.cost_scale)
        cost = measure(net, batch, dense).cost.sum(dim=0)  # (edges, operations)
        exact += probability * (cost - q * cost.sum(dim=1, keepdim=True))
        costs[plan(mask)] = measure(net, batch, mask).cost
        total += probability
    assert total.item() == pytest.approx(1)
    generator, samples = stream(0, "mask"), []
    for _ in range(1000):
        mask = framework().draw(Context({"alpha": a}, generator=generator, space=space))
        cost = costs[plan(mask)].sum(dim=0)
        samples += pull_back(mask.score, cost, [a])
    samples = torch.stack(samples)
    error = samples.std(dim=0) / len(samples) ** 0.5
    assert ((samples.mean(dim=0) - exact).abs() <= 4 * error + 1e-12).all()
    assert (exact.abs() > 4 * error).any()  # the test could have failed


def test_permuting_the_operations_permutes_the_cost_and_nothing_else(
    supernet, batch, alpha, measure
):
    """Through the whole network, with the weights permuted along, to 1e-10."""
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    plain, a = supernet(), alpha()
    space = SearchSpace(operations=[plain.space.operations[k] for k in order])
    permuted = supernet(space)
    state = {}
    for name, value in plain.state_dict().items():
        parts = name.split(".")  # cells.C.operations.E.K...
        if parts[0] == "cells" and parts[2] == "operations":
            parts[4] = str(order.index(int(parts[4])))
        state[".".join(parts)] = value
    permuted.load_state_dict(state)
    costs = []
    for net, logits in ((plain, a), (permuted, a[:, order])):
        costs.append(measure(net, batch, DARTS().draw(Context({"alpha": logits}))).cost)
    assert torch.allclose(costs[0][:, :, order], costs[1], atol=1e-10)


@pytest.mark.parametrize("name, norm", paired(NORMS))
def test_cost_is_the_inner_product_with_the_nodes_gradient(
    name, norm, supernet, batch, alpha, measure, draw
):
    """C_k = <dL/dx_j, Z_k O_k(x_i)>, and their sum over a node's in-edges is <dL/dx_j, x_j>.

    For ProxylessNAS, C_k = q_k <dL/dx_j, O_k(x_i)>, and Z dL/dZ is what sums. Two orders of one
    sum of order 1 in float64: 1e-12.
    """
    net, a = supernet(norm=norm, channels=8), alpha()
    mask = draw(name, net.space, a, seed=0)
    nodes = []
    for cell in net.cells:
        plain = cell.nodes

        def keep(*args, plain=plain):
            result = plain(*args)
            for x in filter(lambda x: x is not None, result):
                x.retain_grad()
            nodes.append(result)
            return result

        cell.nodes = keep
    seen = measure(net, batch, mask)
    cost = seen.cost
    with torch.no_grad():
        for c, cell in enumerate(net.cells):
            for e, (i, j) in enumerate(net.space.edges):
                for k in range(1, 8):
                    inner = torch.zeros(()).double()
                    if mask.cost_scale[e, k] > 0:
                        y = mask.cost_scale[e, k] * cell.operations[e][str(k)](nodes[c][i])
                        inner = (nodes[c][j].grad * y).sum()
                    assert torch.allclose(cost[c, e, k], inner, atol=1e-12)
            into_node = mask.weight * seen.z.grad[c]
            for j in (2, 3):
                into = [e for e, edge in enumerate(net.space.edges) if edge[1] == j]
                inner = (nodes[c][j].grad * nodes[c][j]).sum()
                assert torch.allclose(into_node[into].sum(), inner, atol=1e-12)


@pytest.mark.parametrize("name, norm", paired(CARRYING))
def test_cost_by_finite_differences(name, norm, supernet, batch, alpha, measure, draw):
    """dL/dZ of every operation that runs on edges of cell 1, by a central difference.

    Step 1e-5 in float64: rounding leaves 1e-16 / 1e-5, the third order 1e-10 times a derivative of
    some hundred at most: 1e-7 in all.
    """
    net, a = supernet(norm=norm, channels=8), alpha()
    mask = draw(name, net.space, a, seed=0)
    cost = measure(net, batch, mask).cost
    rows = zip(mask.running(net.space), mask.gradient_only or [()] * 5, strict=True)
    runs = [sorted({*k, *m}) for k, m in rows]

    def loss(e, k, step):
        shifted = mask.weight.expand(2, -1, -1).clone()
        shifted[1, e, k] += step
        probe = Mask(mask.weight, mask.score, runs)
        with torch.no_grad():
            return F.cross_entropy(net(batch[0], shifted, probe), batch[1])

    for e in (2, 4):  # (0,3) and (2,3)
        for k in runs[e]:
            slope = (loss(e, k, 1e-5) - loss(e, k, -1e-5)) / 2e-5
            assert torch.allclose(cost[1, e, k], mask.cost_scale[e, k] * slope, atol=1e-7)


@pytest.mark.parametrize("name, norm", paired(CARRYING))
def test_sum_rule_at_the_output(name, norm, supernet, batch, alpha, measure, draw):
    """T2: the output edges of the last cell cost L - H, per example and on average.

    Exact; sums of some thousand terms of order 1e-3 in float64: 1e-12.
    """
    net, a = supernet(norm=norm, channels=8), alpha()
    outputs = []

    def keep(module, args, output):
        output.retain_grad()
        outputs.append(output)

    net.cells[-1].register_forward_hook(keep)
    mask = draw(name, net.space, a, seed=0)
    seen = measure(net, batch, mask)
    loss, entropy = loss_and_entropy(seen.logits, batch[1])
    (x,) = outputs
    assert torch.allclose(seen.output_cost[-1], (loss - entropy).mean(), atol=1e-12)
    assert (loss - entropy).mean().abs() > 1e-6
    per_example = len(batch[1]) * (x.grad * x).sum(dim=(1, 2, 3))
    assert torch.allclose(per_example, loss - entropy, atol=1e-12)


def test_loss_and_entropy_at_a_uniform_and_at_a_sure_prediction():
    labels = torch.tensor([0, 1])
    loss, entropy = loss_and_entropy(torch.zeros(2, 4), labels)
    assert torch.allclose(loss, entropy) and torch.allclose(loss, torch.tensor(4.0).log())
    sure = torch.tensor([[30.0, 0, 0, 0]] * 2)
    loss, entropy = loss_and_entropy(sure, labels)
    assert (loss - entropy)[0].abs() < 1e-5 and (loss - entropy)[1] > 29  # confidently wrong
