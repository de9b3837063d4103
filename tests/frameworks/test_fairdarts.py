import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.errors import ConfigError
from nascore.frameworks import Context, FairDARTS
from nascore.runs.algorithm import Search

SPACE = SearchSpace()


@pytest.mark.parametrize("limits", [False, True])
def test_gradient_is_plain_autograd_through_the_gates(
    limits, supernet, alpha, restricted, forbidden, by_cost, by_autograd
):
    """To 1e-10 in float64: gradients of order 1 at most, over some hundred operations."""
    space = restricted if limits else SPACE
    net, a = supernet(space, channels=8), alpha()
    ours, mask = by_cost(net, FairDARTS(), a)
    z = torch.sigmoid(a) * ~forbidden(space)
    plain = by_autograd(net, z, a)
    assert torch.allclose(mask.weight, z, rtol=0, atol=1e-15)
    assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
    assert (plain[:, 0] == 0).all() and (ours[:, 0] == 0).all()  # `none` has no effect
    assert plain.abs().max() > 1e-3


def test_gates_do_not_compete(alpha):
    a = alpha()
    before = FairDARTS().draw(Context({"alpha": a})).weight
    with torch.no_grad():
        a[1, 4] += 3
    after = FairDARTS().draw(Context({"alpha": a})).weight
    assert ((before != after).nonzero() == torch.tensor([[1, 4]])).all()


@pytest.mark.parametrize("limits", [False, True])
def test_zero_one_loss_is_minus_the_mean_over_gates(limits, alpha, restricted):
    """Value and slope of -w/N sum (sigmoid - 1/2)^2, term by term, without `none`."""
    space = restricted if limits else SPACE
    framework, a = FairDARTS(zero_one=3.0), alpha()
    gates = [
        (e, k) for e, row in enumerate(space.choices) for k in row if space.operations[k] != "none"
    ]
    assert len(gates) == (3 * 7 + 2 if limits else 5 * 7)
    s = a.detach().sigmoid()
    expected = -3 * sum((s[gate] - 0.5) ** 2 for gate in gates) / len(gates)
    slope = torch.zeros_like(s)
    for gate in gates:
        slope[gate] = -3 * 2 * (s[gate] - 0.5) * s[gate] * (1 - s[gate]) / len(gates)
    penalty = framework.penalty(Context({"alpha": a}, space=space))
    (gradient,) = torch.autograd.grad(penalty, a)
    assert torch.allclose(penalty, expected, rtol=0, atol=1e-14)
    assert torch.allclose(gradient, slope, rtol=0, atol=1e-14)
    assert torch.equal(gradient == 0, slope == 0)


def test_slope_of_the_zero_one_loss_agrees_with_finite_differences(alpha):
    framework, a = FairDARTS(), alpha()

    def penalty(a):
        return framework.penalty(Context({"alpha": a}, space=SPACE))

    assert torch.autograd.gradcheck(penalty, [a])


def test_a_step_follows_the_loss_and_the_zero_one_loss(tiny):
    """The gradient that Adam gets, in float64, to 1e-10."""
    config = tiny.replace(
        framework="fairdarts", cost_clamp=None, arch_grad_clip=None, alpha_mean=0.0, alpha_std=1.0
    )
    setup = Search(config, torch.float64)
    (images, labels), a = setup.batch(), setup.alpha.detach().clone().requires_grad_()
    gates = a.sigmoid()
    logits = setup.supernet(images, gates.expand(2, -1, -1), setup.draw())
    loss = F.cross_entropy(logits, labels) - 10 * (gates[:, 1:] - 0.5).square().mean()
    (plain,) = torch.autograd.grad(loss, a)
    setup.step((images, labels), ["alpha"])
    assert torch.allclose(setup.alpha.grad, plain, rtol=0, atol=1e-10)


def test_none_wins_exactly_if_every_other_gate_is_below_one_half():
    space = SearchSpace(
        nodes=1, operations=["skip_connect", "none", "sep_conv_3x3"], allowed={"(1,2)": ["none"]}
    )

    def probability(*row):
        alpha = torch.tensor([row, row], dtype=torch.float64)
        return FairDARTS().probability(Context({"alpha": alpha}, space=space))

    for row, wins in (
        ((-0.1, -9.0, -0.2), True),
        ((-0.1, 9.0, 0.2), False),
        ((0.1, 9.0, 0.2), False),
    ):
        p = probability(*row)
        gates = torch.tensor(row).double().sigmoid()
        assert torch.allclose(p[0, [0, 2]], gates[[0, 2]])
        assert p[0, 1] == 1 - max(p[0, 0], p[0, 2])
        assert (p[0].argmax() == 1) == wins
        assert p[1].tolist() == [0, 1, 0]  # only `none` is allowed there


def test_none_has_probability_zero_where_it_is_not_allowed(alpha, restricted):
    p = FairDARTS().probability(Context({"alpha": alpha()}, space=restricted))
    assert p[3, 0] == 0 and (p[3, [1, 4]] > 0).all()
    space = SearchSpace(operations=["skip_connect", "sep_conv_3x3"])
    a = alpha(space)
    p = FairDARTS().probability(Context({"alpha": a}, space=space))
    assert torch.equal(p, a.sigmoid())


@pytest.mark.parametrize("value", [-1.0, float("inf"), "much"])
def test_weight_of_the_zero_one_loss_is_checked(value, tiny):
    with pytest.raises(ConfigError, match=f"framework 'fairdarts': zero_one={value!r}: input sho"):
        tiny.replace(framework="fairdarts", framework_options={"zero_one": value})
