import math

import pytest
import torch
import torch.nn.functional as F

from nascore.engine.cost import loss_and_entropy
from nascore.engine.operations import NORMS, OPERATIONS, build_operation

NORMALISED = sorted(set(OPERATIONS) - {"skip_connect"})
PAIRS = [(name, "batch") for name in NORMALISED]
PAIRS += [("sep_conv_3x3", norm) for norm in sorted(set(NORMS) - {"none", "batch"})]


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 8, 6, 6, dtype=torch.float64, generator=generator)


def operation(name, norm="batch"):
    torch.manual_seed(0)
    return build_operation(name, 8, norm).double()


@pytest.fixture
def scale_response(page):
    return page["scale_response"]


@pytest.fixture
def set_eps(page):
    return page["set_eps"]


@pytest.mark.parametrize("name, norm", PAIRS)
def test_a_normalised_operation_does_not_see_its_inputs_scale(
    name, norm, x, scale_response, set_eps
):
    """T1. With eps next to nothing only rounding is left: 1e-12 of the output."""
    assert scale_response(set_eps(operation(name, norm), 1e-30), x) < 1e-12


@pytest.mark.parametrize("norm", NORMS)
def test_skip_connect_lets_the_scale_through(norm, x, scale_response):
    assert scale_response(operation("skip_connect", norm), x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_normalisation_every_operation_lets_the_scale_through(name, x, scale_response):
    """Where T1 ends: ReLU, convolutions and pools without a bias have degree 1, exactly."""
    assert scale_response(operation(name, "none"), x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name, norm", PAIRS)
def test_the_residual_is_of_the_order_of_eps(name, norm, x, scale_response, set_eps):
    """Two decades of eps are two decades of residual, to 5 percent: higher orders are small.

    Four decades for two layer normalisations in a row: each has one variance for an example.
    """
    low, high = (scale_response(set_eps(operation(name, norm), eps), x) for eps in (1e-7, 1e-5))
    order = 2 if norm == "layer" and name.startswith("sep_conv") else 1
    assert high / low == pytest.approx(100**order, rel=0.05)
    assert high < 1e-2


def test_the_residual_of_one_normalisation_is_eps_over_eps_plus_variance(
    x, scale_response, set_eps
):
    """avg_pool_3x3 in closed form: y = v / sqrt(var + eps) responds with y eps / (var + eps)."""
    pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    variance = pooled.var(dim=(0, 2, 3), correction=0)  # (C,)
    eps = 1e-3
    share = variance / (variance + eps)  # of each channel's power in |y|^2, times (1 - share)^2
    expected = (share * (1 - share) ** 2).sum().sqrt() / share.sum().sqrt()
    found = scale_response(set_eps(operation("avg_pool_3x3"), eps), x)
    assert found == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("name", NORMALISED)
def test_an_affine_normalisation_keeps_the_theorem(name, x, page, scale_response, set_eps):
    generator = torch.Generator().manual_seed(1)
    module = page["make_affine"](set_eps(operation(name), 1e-30), generator).double()
    assert any(p.ndim == 1 for p in module.parameters())
    assert scale_response(module, x) < 1e-12


@pytest.fixture
def best_temperature(page):
    return page["best_temperature"]


def test_temperature_is_above_one_exactly_if_the_output_costs(best_temperature):
    """T3, on random logits of several scales; and dL(s y)/d ln s at s = 1 is L - H."""
    generator = torch.Generator().manual_seed(0)
    signs = set()
    for scale in (0.1, 0.5, 1, 2, 5):
        labels = torch.randint(5, (40,), generator=generator)
        logits = torch.randn(40, 5, dtype=torch.float64, generator=generator)
        logits = scale * (logits + F.one_hot(labels, 5))
        loss, entropy = loss_and_entropy(logits, labels)
        cost = (loss - entropy).mean()
        s = torch.ones((), dtype=torch.float64, requires_grad=True)
        F.cross_entropy(s * logits, labels).backward()
        assert torch.allclose(s.grad, cost, atol=1e-12)
        temperature = best_temperature(logits, labels)
        assert (temperature > 1) == (cost > 0)
        signs.add(bool(cost > 0))
        best = F.cross_entropy(logits / temperature, labels)
        for factor in (0.99, 1.01):
            assert best < F.cross_entropy(logits / (temperature * factor), labels)
    assert signs == {True, False}


def test_temperature_at_its_ends(best_temperature):
    labels = torch.tensor([0, 1])
    assert best_temperature(torch.tensor([[2.0, 0], [0, 1]]), labels) == 0  # all right
    assert best_temperature(torch.tensor([[0.0, 2], [1, 0]]), labels) == math.inf  # all wrong
