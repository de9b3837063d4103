import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nascore import Run, SearchSpace, Wiring, search
from nascore.book import plots
from nascore.engine.mask import Mask
from nascore.engine.operations import (
    NORMS,
    OPERATIONS,
    build_norm,
    build_operation,
    normalisation,
    operation,
)
from nascore.errors import ConfigError

PLUGINS = """
import torch
from torch import nn
from nascore.engine.operations import normalisation, operation

@operation("conv_7x7")
def conv_7x7(channels, norm):
    conv = nn.Conv2d(channels, channels, 7, padding=3, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(channels))

class Gate(nn.Module):  # not registered: found as an attribute of the module
    def __init__(self, channels, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), norm(channels)

    def forward(self, x):
        return self.norm(x * self.conv(x).sigmoid())

@normalisation("doubling")
class Doubling(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return 2 * x
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (OPERATIONS, NORMS):
        monkeypatch.setattr(registry, "_known", dict(registry._known))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with plug-ins, in a folder that is searched."""
    name = f"plugins_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PLUGINS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_it_keeps_the_shape_and_with_a_weight_it_is_the_product(name, norm):
    """``module(x, z)`` against z O(x): output, gradients on x, z and the kernels, to 1e-10."""
    module = build_operation(name, 8, norm).double()
    results = []
    for product in (False, True):
        torch.manual_seed(0)
        x = torch.randn(3, 8, 7, 7, dtype=torch.float64, requires_grad=True)
        z = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        y = z * module(x) if product else module(x, z)
        assert y.shape == x.shape
        wanted = (x, z, *module.parameters())
        results.append((y, *torch.autograd.grad(y, wanted, torch.randn(y.shape).double())))
    assert results[0][2] != 0
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"skip_connect"}))
def test_training_and_evaluation_use_the_same_batch_statistics(name):
    x = torch.randn(3, 4, 5, 5)
    module = build_operation(name, 4)
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize(
    "name, reach",
    [("sep_conv_3x3", 2), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4), ("sep_conv_5x5", 4)],
)
def test_reach_of_each_convolution(name, reach):
    """The cells of the input that move the centre of the output, measured by its gradient."""
    module = build_operation(name, 2, norm="none").double()
    for weight in module.parameters():
        weight.data.abs_()  # so that no ReLU closes
    x = torch.rand(1, 2, 15, 15, dtype=torch.float64).requires_grad_()
    module(x)[0, :, 7, 7].sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero() - 7
    assert touched.abs().max() == reach


def test_only_convolutions_have_weights_and_none_has_a_bias():
    for name in OPERATIONS:
        parameters = dict(build_operation(name, 4).named_parameters())
        assert bool(parameters) == ("conv" in name)
        assert all(p.ndim == 4 for p in parameters.values())


def test_unknown_names():
    with pytest.raises(ConfigError, match="Did you mean 'max_pool_3x3'"):
        build_operation("max_pol_3x3", 4)
    with pytest.raises(ConfigError, match="unknown norm 'bath'"):
        build_operation("max_pool_3x3", 4, "bath")


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("dense", [True, False])
def test_operations_from_outside_equal_plain_autograd(
    dense, norm, module, supernet, batch, alpha, draw, measure
):
    """Logits, cost and theta gradients of a supernet against the formula, in float64, to 1e-10."""
    names = ["none", "skip_connect", f"{module}:conv_7x7", "dil_conv_3x3", f"{module}:Gate"]
    space = SearchSpace(operations=names)
    net = supernet(space, channels=8, norm=norm)
    chosen = (names[2], names[4], "none", names[3], names[2])
    mask = Mask.of(Wiring(space, chosen), torch.float64)
    if dense:
        mask = draw("darts", space, alpha(space))
    seen = measure(net, batch, mask)
    found = [seen.logits, seen.cost, *(p.grad for p in net.parameters())]

    z = mask.weight.detach().expand(2, -1, -1).clone().requires_grad_()
    x = net.stem(batch[0])
    sources = [x, x]
    for cell, row in zip(net.cells, z, strict=True):
        nodes = [preprocess(s) for preprocess, s in zip(cell.preprocess, sources, strict=True)]
        for j in space.intermediate_nodes:
            terms = [
                row[e, int(k)] * o(nodes[i])
                for e, (i, target) in enumerate(space.edges)
                if target == j
                for k, o in cell.operations[e].items()
            ]
            nodes.append(sum(terms))
        sources = [sources[1], torch.cat(nodes[2:], dim=1)]
    logits = net.classifier(sources[1].mean(dim=(2, 3)))
    loss = F.cross_entropy(logits, batch[1])
    slope, *theta = torch.autograd.grad(loss, [z, *net.parameters()], materialize_grads=True)
    expected = [logits, z * slope, *theta]
    for one, other in zip(found, expected, strict=True):
        one = torch.zeros_like(other) if one is None else one  # never ran
        assert torch.allclose(one, other, atol=1e-10)
    assert (found[1][:, :, 2].abs() > 1e-6).any() and (found[1][:, :, 4].abs() > 1e-6).any()


def test_a_search_with_operations_from_outside_is_recorded_and_drawn(module, tiny, tmp_path):
    """Its records bear the full name, its figures the part after the colon."""
    name = f"{module}:conv_7x7"
    allowed = {"(0,2)": ["conv_7x7"]}
    config = tiny.replace(operations=["none", "skip_connect", name], allowed=allowed, epochs=1)
    run = Run.load(search(config, progress=False).save(tmp_path / "run.nc"))
    assert list(run.history.operation.values) == ["none", "skip_connect", name]
    assert run.wiring[0, 2] == name
    assert (run.history.cost_count.sel(edge="(0,2)", operation=name)[1] > 0).all()
    ax = plots.wiring(run, 1, plt.gca())
    assert "conv 7x7" in [text.get_text() for text in ax.texts]
    ax = plots.cost([run], slice(1, None), plt.figure().gca())
    assert "conv 7x7" in [text.get_text() for text in ax.get_xticklabels()]


def test_a_normalisation_from_outside_follows_every_convolution_and_pool(
    module, supernet, batch, measure
):
    net = supernet(norm=f"{module}:doubling")
    found = [type(part).__name__ for part in net.modules()]
    assert found.count("Doubling") == 1 + 2 * (2 + 5 * 8)
    wiring = Wiring(net.space, ("max_pool_3x3", "sep_conv_3x3", "none", "none", "skip_connect"))
    mask = Mask.of(wiring, torch.float64)
    cost = measure(net, batch, mask).cost
    assert (cost.sum(dim=0)[[0, 1, 4]].abs().amax(dim=1) > 0).all()


def test_a_definition_is_enough(batch):
    """Decorated here, found by its name, weighted outside of it."""

    @operation("flip")
    class Flip(nn.Module):
        def __init__(self, channels, norm):
            super().__init__()
            self.norm = norm(channels)

        def forward(self, x):
            return self.norm(x.flip(3))

    @normalisation("halving")
    def halving(channels):
        module = nn.Identity()
        module.forward = lambda x: x / 2
        return module

    x, z = batch[0], torch.tensor(3.0)
    module = build_operation("flip", 3, "halving")
    assert torch.equal(module(x), x.flip(3) / 2) and torch.equal(module(x, z), z * x.flip(3) / 2)
    assert SearchSpace(operations=["none", "flip"]).operations == ("none", f"{__name__}:flip")


def test_to_try_a_plugin_draws_no_random_number(module):
    """Its weights, and what is drawn after it, are as without the trial."""
    drawn = []
    for build in (
        lambda: build_operation(f"{module}:conv_7x7", 4).module[1],
        lambda: nn.Conv2d(4, 4, 7, padding=3, bias=False),
    ):
        torch.manual_seed(0)
        drawn.append((build().weight, torch.rand(3)))
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "plugin, message",
    [
        (lambda channels, norm: nn.AvgPool2d(2), r"makes \(2, 4, 4, 4\) .* must keep the shape"),
        (lambda channels, norm: nn.Conv2d(3, 4, 1), r"fails for channels=4 .*RuntimeError"),
        (lambda channels: nn.Identity(), "fails for channels=4 .*TypeError"),
        (lambda channels, norm: F.relu, "fails for channels=4 .*no attribute 'forward'"),
        (lambda channels, norm: norm(channels + 1), "norm='group'.* not 5"),
    ],
)
def test_an_operation_that_cannot_serve_is_refused_when_it_is_built(plugin, message):
    operation("mine")(plugin)
    with pytest.raises(ConfigError, match=message):
        build_operation("mine", 4, "group" if "group" in message else "batch")


@pytest.mark.parametrize("channels", [3, 4, 6])
def test_a_normalisation_says_which_channels_it_takes(channels):
    with pytest.raises(ConfigError, match=f"must be 8, 12, 16, ..., not {channels}"):
        build_norm("group", channels)
    assert build_norm("group", 12).num_groups == 4
