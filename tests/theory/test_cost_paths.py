import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, Wiring
from nascore.engine.cost import loss_and_entropy
from nascore.engine.mask import Mask
from nascore.engine.operations import NORMS, OPERATIONS
from nascore.engine.supernet import Supernet
from nascore.frameworks import DARTS, Context
from nascore.theory.cost_paths import split_by_path

CARRYING = sorted(set(NORMS) - {"instance"})
"""Instance normalisation leaves no cost to speak of: see the last test."""


KINDS = ("darts", "snas", "dsnas", "proxylessnas", "gdas")
"""One of each kind of mask: dense, random, discrete, with gradient-only operations or a scale."""


def paired(norms):
    """A dense and a discrete framework with every norm, the others with batch normalisation."""
    both = ["darts", "dsnas"]
    return [(n, norm) for n in KINDS for norm in norms if n in both or norm == "batch"]


def wiring_mask(space, last):
    """One-hot: ``last`` on the last edge, (2,3) in the minimal cell, sep_conv_3x3 elsewhere."""
    names = ["sep_conv_3x3"] * (len(space.edges) - 1) + [last]
    return Mask.of(Wiring(space, tuple(names)), torch.float64)


@pytest.mark.parametrize("name, norm", paired(CARRYING))
def test_incoming_cost_is_what_the_paths_bring(name, norm, supernet, batch, alpha, draw):
    """Of every node, in every cell, dense or not: one sum written in two ways, to 1e-12."""
    space = SearchSpace(nodes=3)
    net = supernet(space, norm=norm, channels=8)
    mask = draw(name, space, alpha(space), seed=0)
    split = split_by_path(net, mask, *batch)
    assert (split.incoming != 0).any() and (split.through != 0).any()
    for j in space.intermediate_nodes:
        later = sum(split.through[:, e].sum(1) for e, (i, _) in enumerate(space.edges) if i == j)
        paths = split.output[:, j - 2] + later
        assert torch.allclose(split.incoming[:, j - 2], paths, atol=1e-12)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_the_output_edges_cost_what_the_mask_says(name, supernet, batch, alpha, measure, draw):
    """Node by node here, in sum there, in every cell: to 1e-12. T2 itself is in test_cost.py."""
    net = supernet()
    mask = draw(name, net.space, alpha(), seed=0)
    split = split_by_path(net, mask, *batch)
    assert torch.allclose(
        measure(net, batch, mask).output_cost, split.output.sum(dim=1), atol=1e-12
    )


def test_a_bias_breaks_the_sum_rule_by_its_own_share(supernet, batch, alpha):
    """T2 fails with a bias b in the classifier, by <dL/dy, b>."""
    net = supernet()
    features = net.classifier.in_features
    net.classifier = torch.nn.Linear(features, 5, bias=True).double()
    mask = DARTS().draw(Context({"alpha": alpha()}))
    split = split_by_path(net, mask, *batch)
    logits = net(batch[0], mask.weight, mask).detach().requires_grad_()
    mean_loss = F.cross_entropy(logits, batch[1])
    mean_loss.backward()
    share = (logits.grad * net.classifier.bias).sum()
    loss, entropy = loss_and_entropy(logits.detach(), batch[1])
    gap = split.output[-1].sum() - (loss - entropy).mean()
    assert gap.abs() > 1e-3
    assert torch.allclose(gap, -share, atol=1e-12)


@pytest.mark.parametrize(
    "operation, norm",
    [(name, "batch") for name in sorted(set(OPERATIONS) - {"skip_connect"})]
    + [("sep_conv_3x3", norm) for norm in sorted(set(CARRYING) - {"none", "batch"})],
)
def test_no_cost_passes_a_normalised_intermediate_edge(operation, norm, supernet, batch, page):
    """T1 in the network, with eps next to nothing: 1e-10, where the output brings over 1e-5."""
    net = page["set_eps"](supernet(norm=norm, channels=8), 1e-30)
    split = split_by_path(net, wiring_mask(net.space, operation), *batch)
    assert (split.path("(2,3)").abs() < 1e-10).all()
    assert (split.incoming[:, 0] - split.output[:, 0]).abs().max() < 1e-10
    assert split.output[-1, 0].abs() > 1e-5


@pytest.mark.parametrize("norm", CARRYING)
def test_t1_fails_for_skip_connect(norm, supernet, batch, measure):
    """What it passes back is all that it brings, as for any map of degree 1: to 1e-12."""
    net = supernet(norm=norm, channels=8)
    mask = wiring_mask(net.space, "skip_connect")
    split = split_by_path(net, mask, *batch)
    brought = measure(net, batch, mask).cost[:, 4].sum(dim=1)  # on edge (2,3)
    assert torch.allclose(split.path("(2,3)"), brought, atol=1e-12)
    assert brought[-1].abs() > 1e-5


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_t1_fails_without_normalisation(operation, supernet, batch, measure):
    """Of degree 1, an operation passes back all the cost that it brings: both sides to 1e-12."""
    net = supernet(norm="none")
    mask = wiring_mask(net.space, operation)
    split = split_by_path(net, mask, *batch)
    brought = measure(net, batch, mask).cost[:, 4].sum(dim=1)  # on edge (2,3)
    assert torch.allclose(split.path("(2,3)"), brought, atol=1e-12)
    assert brought.abs().max() > 1e-9


@pytest.mark.parametrize("norm", sorted(set(CARRYING) - {"none"}))
def test_cells_before_the_last_cost_nothing_in_sum(norm, supernet, batch, alpha, draw, page):
    """At their output edges always; over all their edges if no skip_connect lies between nodes."""
    allowed = {"(2,3)": [name for name in SearchSpace().operations if name != "skip_connect"]}
    space = SearchSpace(allowed=allowed)
    net = page["set_eps"](supernet(space, norm=norm, cells=4, channels=8), 1e-30)
    split = split_by_path(net, draw("darts", space, alpha()), *batch)
    assert (split.output[:-1].sum(dim=1).abs() < 1e-10).all()
    assert (split.incoming[:-1].sum(dim=1).abs() < 1e-10).all()
    assert split.output[-1].sum().abs() > 1e-3
    assert (split.output[:-1].abs() > 1e-6).any()  # node by node it is not 0


def test_without_normalisation_earlier_cells_do_cost(supernet, batch, alpha):
    net = supernet(norm="none", cells=4)
    split = split_by_path(net, DARTS().draw(Context({"alpha": alpha()})), *batch)
    assert (split.output[:-1].sum(dim=1).abs() > 1e-9).all()


def test_a_node_that_is_no_output_gets_its_cost_from_later_edges(supernet, batch, alpha, draw):
    space = SearchSpace(output_nodes=[3])
    split = split_by_path(supernet(space), draw("darts", space, alpha()), *batch)
    assert (split.output[:, 0] == 0).all()
    assert torch.allclose(split.incoming[:, 0], split.through[:, 4].sum(dim=1), atol=1e-12)


@pytest.mark.parametrize("last", ["none", "skip_connect"])
def test_where_nothing_arrives_every_path_costs_nothing(last, supernet, batch):
    net = supernet()
    mask = Mask.of(Wiring(net.space, ("none",) * 4 + (last,)), torch.float64)
    split = split_by_path(net, mask, *batch)
    assert not (split.incoming.any() or split.output.any() or split.through.any())


def test_a_path_that_no_operation_takes(supernet, batch):
    net = supernet()
    split = split_by_path(net, wiring_mask(net.space, "none"), *batch)
    assert torch.equal(split.path((2, 3)), torch.zeros(2, dtype=torch.float64))
    assert not net.cells[0].operations[0]["1"]._forward_pre_hooks  # nothing is left behind


def test_instance_normalisation_leaves_nothing_to_the_classifier(supernet, batch, alpha):
    """The mean of a normalised map over space is 0, and that mean is all that a logit sees."""
    net = supernet(norm="instance")
    mask = DARTS().draw(Context({"alpha": alpha()}))
    assert net(batch[0], mask.weight, mask).abs().max() < 1e-12
    split = split_by_path(net, mask, *batch)
    assert split.output[-1].abs().max() < 1e-12


def test_cells_that_are_computed_again_are_split_alike():
    torch.manual_seed(0)
    plain = Supernet(SearchSpace(), classes=3, cells=2, channels=4).double()
    again = Supernet(SearchSpace(), classes=3, cells=2, channels=4, recompute=True).double()
    again.load_state_dict(plain.state_dict())
    mask = DARTS().draw(Context({"alpha": torch.zeros(5, 8, dtype=torch.float64)}))
    batch = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    one, other = (split_by_path(net, mask, *batch) for net in (plain, again))
    for name in ("incoming", "output", "through"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-12)
