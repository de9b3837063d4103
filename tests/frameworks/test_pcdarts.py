"""PC-DARTS, against its formulas written out as a plain loop, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from nascore import SearchConfig, SearchSpace, Wiring, search
from nascore.engine.mask import Mask
from nascore.errors import ConfigError
from nascore.frameworks import PCDARTS, Context, make_framework
from nascore.runs.algorithm import Search

SPACES = {
    "minimal": SearchSpace(),
    "normal": SearchSpace(nodes=4, operations=["none", "skip_connect", "dil_conv_3x3"]),
    "restricted": SearchSpace(
        allowed={
            "(0,2)": ["none"],
            "(1,2)": ["sep_conv_3x3"],
            "(1,3)": ["skip_connect", "sep_conv_3x3"],
        }
    ),
    "without none": SearchSpace(nodes=1, operations=["skip_connect", "avg_pool_3x3"]),
}
CONFIG = {"framework": "pcdarts", "framework_options": {"share": 2}, "search_examples": 64}


def shuffled(x, groups):
    """Channel g n + c goes to c K + g, for K groups of n channels."""
    n = x.shape[1] // groups
    return x[:, [g * n + c for c in range(n) for g in range(groups)]]


def plain_logits(net, images, alpha, beta, share):
    """The network as the method's formulas say it, with its own operations on C/K channels."""
    space, x = net.space, net.stem(images)
    inputs = [x] * space.inputs
    for cell in net.cells:
        nodes = [module(x) for module, x in zip(cell.preprocess, inputs, strict=True)]
        for j in space.intermediate_nodes:
            into = [e for e, (_, target) in enumerate(space.edges) if target == j]
            q = beta[into].softmax(dim=0)
            node = 0
            for e, weight in zip(into, q, strict=True):
                choices = space.choices[e]
                p = dict(zip(choices, alpha[e, choices].softmax(dim=0), strict=True))
                n = nodes[0].shape[1] // share
                part, rest = nodes[space.edges[e][0]].split([n, n * (share - 1)], dim=1)
                added, passed = torch.zeros_like(part), torch.zeros_like(rest)
                for k in choices:
                    if space.operations[k] != "none":
                        added = added + p[k] * cell.operations[e][str(k)].operation(part)
                        passed = passed + p[k] * rest
                node = node + weight * shuffled(torch.cat([added, passed], dim=1), share)
            nodes.append(node)
        x = torch.cat([nodes[j] for j in space.output_nodes], dim=1)
        inputs = [*inputs, x][1:]
    return net.classifier(x.mean(dim=(2, 3)))


@pytest.fixture
def pcdarts(learner):
    """Makes a search by PC-DARTS with random alpha and beta."""

    def make(space, share, **settings):
        one = learner(PCDARTS(share=share), space, **settings)
        noise = torch.randn(len(space.edges), generator=torch.Generator().manual_seed(3))
        one.learned["beta"].data.copy_(noise)
        return one

    return make


@pytest.mark.parametrize("share", [2, 4])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_forward_and_both_gradients_equal_plain_autograd(space, share, pcdarts, batch):
    """The gradients on alpha and beta come from the same costs: to 1e-10."""
    one = pcdarts(space, share)
    images, labels = batch
    before = [p.detach().clone().requires_grad_() for p in one.learned.values()]
    logits = plain_logits(one.supernet, images, *before, share)
    exact = torch.autograd.grad(F.cross_entropy(logits, labels), before)
    seen = one.step(batch, ["alpha"])
    assert torch.allclose(seen.logits, logits, rtol=0, atol=1e-10)
    for p, gradient in zip(one.learned.values(), exact, strict=True):
        assert torch.allclose(p.grad, gradient, rtol=0, atol=1e-10)
        assert gradient.abs().max() > 1e-4
    if "none" in space.operations:
        assert (seen.cost[..., space.operations.index("none")] == 0).all()


def test_closed_forms_of_both_gradients(pcdarts, batch):
    one = pcdarts(SPACES["minimal"], 4)
    p = one.learned["alpha"].detach().softmax(dim=1)
    beta = one.learned["beta"].detach().clone()
    cost = one.step(batch, ["alpha"]).cost.sum(dim=0)
    of_edge = cost.sum(dim=1)
    expected = cost - p * of_edge.unsqueeze(1)
    assert torch.allclose(one.learned["alpha"].grad, expected, rtol=0, atol=1e-12)
    for into in ([0, 1], [2, 3, 4]):
        q = beta[into].softmax(dim=0)
        expected = of_edge[into] - q * of_edge[into].sum()
        assert torch.allclose(one.learned["beta"].grad[into], expected, rtol=0, atol=1e-12)


def test_edges_share_the_node_that_they_lead_to(alpha):
    """Also where one of them is removed: its share stays with it."""
    space = SPACES["restricted"]
    framework, beta = make_framework("pcdarts"), torch.randn(5).double()
    mask = framework.draw(Context({"alpha": alpha(space), "beta": beta}, space=space))
    share = mask.weight.sum(dim=1)  # of each edge
    assert torch.allclose(share[:2], beta[:2].softmax(dim=0))
    assert torch.allclose(share[2:], beta[2:].softmax(dim=0))
    assert torch.allclose(mask.weight[1, 4], share[1])  # one operation only


def test_what_is_not_allowed_has_weight_and_gradient_zero(pcdarts, batch):
    one = pcdarts(SPACES["restricted"], 2)
    weight = one.step(batch, ["alpha"]).mask.weight
    slope = one.learned["alpha"].grad
    for e, choices in enumerate(SPACES["restricted"].choices):
        others = [k for k in range(8) if k not in choices]
        assert (weight[e, others] == 0).all() and (slope[e, others] == 0).all()
    assert (slope[:2] == 0).all()  # nothing to choose
    assert (one.learned["beta"].grad != 0).all()


def test_an_edge_that_takes_none_lets_nothing_pass(supernet, batch):
    """No channel of its source reaches the node, neither through operations nor beside them."""
    space = SearchSpace(nodes=1)
    net = supernet(space, channels=8, **PCDARTS(share=4).supernet_settings())
    wiring = Wiring(space, ("skip_connect", "none"))
    mask, cell = Mask.of(wiring, torch.float64), net.cells[0]
    x = [torch.randn(2, 24, 6, 6, dtype=torch.float64) for _ in range(2)]
    weights = mask.weight.flatten().unbind(0)
    first, _, node = cell.nodes(x, weights, mask)
    assert torch.equal(node, shuffled(first, 4))  # the skip of (0,2) and what passes by it
    nothing = Mask.of(Wiring(space, ("none", "none")), torch.float64)
    assert cell.nodes(x, weights, nothing)[-1] is None


def test_second_order_equals_autograd_through_a_step_of_theta(pcdarts, batch):
    images, labels = batch
    train, held_out = (images[:6], labels[:6]), (images[6:], labels[6:])
    one = pcdarts(SPACES["minimal"], 2)
    before = [p.detach().clone().requires_grad_() for p in one.learned.values()]
    exact = _through_one_step(one.supernet, before, train, held_out, share=2, lr=0.1)
    one.step_ahead(held_out, train)
    for p, gradient in zip(one.learned.values(), exact, strict=True):
        assert torch.allclose(p.grad, gradient, rtol=0, atol=1e-10)


def _through_one_step(net, learned, train, held_out, share, lr):
    theta = dict(net.named_parameters())
    loss = F.cross_entropy(plain_logits(net, train[0], *learned, share), train[1])
    slopes = torch.autograd.grad(loss, theta.values(), create_graph=True, materialize_grads=True)
    stepped = {name: p - lr * g for (name, p), g in zip(theta.items(), slopes, strict=True)}
    ahead = {f"net.{name}": p for name, p in stepped.items()}
    logits = functional_call(Plain(net, share), ahead, (held_out[0], learned))
    return torch.autograd.grad(F.cross_entropy(logits, held_out[1]), learned)


class Plain(torch.nn.Module):
    """``plain_logits`` as a module, for ``functional_call``."""

    def __init__(self, net, share):
        super().__init__()
        self.net, self.share = net, share

    def forward(self, images, learned):
        return plain_logits(self.net, images, *learned, self.share)


def test_one_share_is_edge_normalisation_alone(supernet, batch, alpha):
    """Of equal edges each has the same part: DARTS, divided by the number of edges into a node."""
    space = SPACES["minimal"]
    framework = make_framework("pcdarts", share=1)
    a = alpha()
    mask = framework.draw(Context(framework.parameters(a, None), space=space))
    nets = supernet(space, **framework.supernet_settings()), supernet(space)
    assert torch.allclose(*(net(batch[0], mask.weight, mask) for net in nets))
    darts = make_framework("darts").draw(Context({"alpha": a}))
    assert torch.allclose(mask.weight * torch.tensor([[2], [2], [3], [3], [3]]), darts.weight)


@pytest.mark.parametrize(("channels", "share"), [(6, 4), (4, 8), (8, 3)])
def test_a_share_that_does_not_divide_the_channels_is_refused(channels, share, tiny, supernet):
    message = f"channels={channels} with share={share}"
    with pytest.raises(ConfigError, match=message):
        supernet(channels=channels, **PCDARTS(share=share).supernet_settings())
    with pytest.raises(ConfigError, match=message):
        config = tiny.replace(channels=channels, framework="pcdarts")
        search(config.replace(framework_options={"share": share}), progress=False)
    with pytest.raises(ConfigError, match="share=0"):
        SearchConfig(framework="pcdarts", framework_options={"share": 0})


def test_a_norm_that_cannot_take_the_part_is_refused(supernet):
    with pytest.raises(ConfigError, match="channels must be 8, .* not 2"):
        supernet(channels=8, norm="group", **PCDARTS(share=4).supernet_settings())


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_operations_are_built_on_their_part_of_the_channels(norm, supernet):
    for (_, _, k), module in supernet(
        channels=8, norm=norm, **PCDARTS(share=4).supernet_settings()
    ).operations():
        assert {p.shape[0] for p in module.parameters()} <= {2}
        x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
        z = torch.tensor(0.3, dtype=torch.float64)
        assert module(x).shape == x.shape, k
        assert torch.allclose(module(x, z), z * module(x))


def test_what_it_learns_is_recorded_as_it_says(pcdarts, batch):
    one = pcdarts(SPACES["minimal"], 4)
    recorded = one.recorded()
    assert recorded.keys() == {"alpha", "beta", "probability"}
    assert recorded["beta"].shape == (5,) and not recorded["beta"].requires_grad
    assert torch.allclose(recorded["probability"], one.learned["alpha"].softmax(dim=1))
    start = one.framework.parameters(torch.ones(5, 8), None)
    assert torch.equal(start["beta"], torch.zeros(5))


@pytest.mark.parametrize("level", ["single", "bi"])
def test_it_learns_in_a_search(level, tiny):
    """Without weight decay, so that only the gradient moves anything."""
    config = tiny.replace(level=level, arch_weight_decay=0, **CONFIG)
    history = search(config, progress=False).history
    assert history.beta.dims == ("epoch", "edge") and (history.beta[0] == 0).all()
    assert (abs(history.beta[-1]) > 1e-3).all()
    assert (abs(history.alpha[-1] - history.alpha[0]) > 1e-3).all()
    assert (history.cost_mean.sel(operation="none")[1:] == 0).all()


def test_a_step_on_the_meta_device_reads_no_value(tiny, monkeypatch):
    """Every read of a value raises there."""
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: pytest.fail("a value was read"))
    setup = Search(tiny.replace(device="meta", **CONFIG))
    for _ in range(2):
        setup.step(setup.batch())
    assert setup.learned["beta"].grad.device.type == "meta"
