import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Dirichlet, kl_divergence

from nascore import SearchSpace
from nascore.engine.cost import pull_back
from nascore.engine.random import stream
from nascore.errors import ConfigError
from nascore.frameworks import Context, DrNAS

SPACE = SearchSpace()
DRAWS = 20_000


def concentration(a):
    return F.elu(a) + 1


@pytest.mark.parametrize("limits", [False, True])
def test_gradient_is_plain_autograd_through_the_gamma_samples(
    limits, supernet, alpha, restricted, forbidden, by_cost, by_autograd
):
    """To 1e-10 in float64: gradients of order 1 at most, over some hundred operations."""
    space = restricted if limits else SPACE
    net, a = supernet(space, channels=8), alpha()
    ours, mask = by_cost(net, DrNAS(), a)
    out = forbidden(space)
    # A gamma sample takes as many random numbers as it needs: where nothing is allowed too.
    c = torch.where(out, torch.full_like(a, torch.tensor(-80.0).double().exp()), concentration(a))
    g = torch._standard_gamma(c, generator=stream(0, "mask")) * ~out
    z = g / g.sum(dim=1, keepdim=True)
    plain = by_autograd(net, z, a)
    assert torch.allclose(mask.weight, z, rtol=0, atol=1e-14)
    assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
    assert plain.abs().max() > 1e-3


def test_closed_form_of_the_gradient(alpha):
    a = alpha()
    mask = DrNAS().draw(Context({"alpha": a}, generator=stream(0, "mask")))
    cost = mask.weight * torch.randn(5, 8, generator=stream(1, "mask"), dtype=torch.float64)
    ours = pull_back(mask.score, cost, [a])[0]
    c = concentration(a)
    g = torch._standard_gamma(c, generator=stream(0, "mask"))
    (slope,) = torch.autograd.grad(g.log().sum(), a)  # dlog(g_m)/dalpha_m
    expected = (cost - mask.weight * cost.sum(dim=1, keepdim=True)) * slope
    assert torch.allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.fixture
def draws():
    """Many draws of one edge as the edges of one mask: alpha, Z and the score."""
    row = torch.tensor([-1.2, -0.3, 0.0, 0.8, 2.0], dtype=torch.float64)
    a = row.expand(DRAWS, -1).clone().requires_grad_()
    return a, DrNAS().draw(Context({"alpha": a}, generator=stream(0, "mask")))


@pytest.mark.parametrize("power", [1, 2])
def test_mean_gradient_is_the_derivative_of_the_exact_expectation(draws, power):
    """E[Z_k] = c_k / c_0 and E[Z_k^2] = c_k (c_k + 1) / (c_0 (c_0 + 1)), for each k.

    Within 4 standard errors of 20,000 draws: 50 comparisons, two-sided 6e-5 each.
    """
    a, mask = draws
    row = a.detach()[0].requires_grad_()
    c = concentration(row)
    exact = [c / c.sum(), c * (c + 1) / (c.sum() * (c.sum() + 1))][power - 1]
    for k in range(5):
        value = mask.weight[:, k] ** power
        cost = torch.zeros_like(mask.weight)
        cost[:, k] = power * value  # Z d(Z^power)/dZ
        sampled = torch.autograd.grad(mask.score, a, cost, retain_graph=True)[0]
        (derivative,) = torch.autograd.grad(exact[k], row, retain_graph=True)
        error = sampled.std(dim=0) / DRAWS**0.5
        assert ((sampled.mean(dim=0) - derivative).abs() < 4 * error).all()
        assert (derivative.abs() > 8 * error).all()  # a derivative of 0 would be seen
        assert (value.mean() - exact[k]).abs() < 4 * value.std() / DRAWS**0.5


def test_probability_is_the_mean_of_the_samples(draws, alpha, restricted, forbidden):
    a, mask = draws
    p = DrNAS().probability(Context({"alpha": a.detach()[:1]}))[0]
    error = mask.weight.std(dim=0) / DRAWS**0.5
    assert ((mask.weight.mean(dim=0) - p).abs() < 4 * error).all()
    p = DrNAS().probability(Context({"alpha": alpha().detach()}, space=restricted))
    assert torch.allclose(p.sum(dim=1), torch.ones(5).double())
    assert (p[forbidden(restricted)] == 0).all() and p[0, 0] == 1


def test_the_authors_derivative_is_the_mean_of_ours_over_the_sum_of_gammas():
    """Theirs is the one of torch's Dirichlet. For one Z, 200,000 sums, within 4 standard errors.

    Torch approximates both derivatives, with a relative error below 1e-3.
    """
    c = torch.tensor([0.6, 1.0, 1.8, 3.0], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    z = Dirichlet(c).rsample()
    theirs = torch.stack([torch.autograd.grad(z[k], c, retain_graph=True)[0] for k in range(4)])
    total = torch._standard_gamma(c.detach().sum().expand(200_000), generator=stream(0, "mask"))
    g = z.detach() * total[:, None]  # (sums, operations)
    pace = torch._standard_gamma_grad(c.detach().expand_as(g).contiguous(), g) / total[:, None]
    error = pace.std(dim=0) / 200_000**0.5
    expected = theirs.diagonal() / (1 - z.detach())  # dZ_m/dc_m = (1 - Z_m) pace_m
    allowance = 4 * error + 1e-3 * expected
    assert ((pace.mean(dim=0) - expected).abs() < allowance).all()
    assert torch.allclose(theirs, (torch.eye(4) - z[:, None].detach()) * expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-200.0, -60.0, -17.0, -5.0])
def test_a_concentration_near_zero_does_no_harm(low, dtype):
    """Elu(alpha) + 1 is rounded to 0 in float32 from -17 on."""
    a = torch.tensor([[low, 0.0, 1.0]], dtype=dtype).requires_grad_()
    generator = stream(0, "mask")
    for _ in range(100):
        mask = DrNAS().draw(Context({"alpha": a}, generator=generator))
        gradient = pull_back(mask.score, mask.weight, [a])[0]
        assert gradient.isfinite().all() and mask.score.isfinite().all()
    lower = torch.full((1, 3), low, dtype=dtype)
    assert torch.allclose(
        DrNAS().probability(Context({"alpha": lower})), torch.full((1, 3), 1 / 3, dtype=dtype)
    )


@pytest.mark.parametrize("limits", [False, True])
def test_anchor_is_the_divergence_from_the_uniform_distribution(limits, alpha, restricted):
    """Against torch's, edge by edge, over the operations that the edge may take."""
    space = restricted if limits else SPACE
    framework, a = DrNAS(anchor=0.3), alpha()
    expected = sum(
        kl_divergence(
            Dirichlet(concentration(a[e, list(row)])), Dirichlet(torch.ones(len(row)).double())
        )
        for e, row in enumerate(space.choices)
        if len(row) > 1  # torch knows no distribution over one thing: nothing to diverge
    )
    penalty = framework.penalty(Context({"alpha": a}, space=space))
    ours, plain = (torch.autograd.grad(value, a)[0] for value in (penalty, 0.3 * expected))
    assert torch.allclose(penalty, 0.3 * expected, rtol=0, atol=1e-12)
    assert torch.allclose(ours, plain, rtol=0, atol=1e-12)
    assert torch.equal(ours != 0, plain != 0)
    one = torch.zeros(5, 8).double()
    assert framework.penalty(Context({"alpha": one}, space=space)).abs() < 1e-12


def test_slope_of_the_anchor_agrees_with_finite_differences(alpha):
    framework, a = DrNAS(anchor=1.0), alpha()
    assert torch.autograd.gradcheck(lambda a: framework.penalty(Context({"alpha": a})), [a])


def test_there_is_no_anchor_by_default(alpha):
    assert DrNAS().penalty(Context({"alpha": alpha()})) is None


@pytest.mark.parametrize("value", [-1.0, float("nan"), "far"])
def test_weight_of_the_anchor_is_checked(value, tiny):
    with pytest.raises(ConfigError, match=f"framework 'drnas': anchor={value!r}: input should be"):
        tiny.replace(framework="drnas", framework_options={"anchor": value})
