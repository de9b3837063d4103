import pytest
import torch
import torch.nn.functional as F

from nascore.engine.random import gumbel, stream
from nascore.errors import ConfigError
from nascore.frameworks import GDAS, Context
from nascore.runs.algorithm import Search


@pytest.mark.parametrize("temperature", [0.3, 10.0])
@pytest.mark.parametrize("limits", [False, True])
def test_gradient_is_plain_autograd_straight_through(
    limits, temperature, supernet, alpha, restricted, by_cost, by_autograd
):
    """Forward the one-hot sample, backward the soft one: Z = one-hot - constant(q) + q.

    To 1e-10 in float64: gradients of order 1 at most, over some hundred operations of rounding.
    """
    net, a = supernet(restricted if limits else None, channels=8), alpha()
    ours, mask = by_cost(net, GDAS(temperature=temperature), a, seed=3)
    logits = Context({"alpha": a}, space=net.space).alpha
    noise = gumbel(a, stream(3, "mask"))
    q = ((logits.log_softmax(dim=1) + noise) / temperature).softmax(dim=1)
    sampled = q.argmax(dim=1)
    z = F.one_hot(sampled, 8) - q.detach() + q
    plain = by_autograd(net, z, a, active=[[k] for k in sampled.tolist()])
    assert torch.equal(mask.weight, F.one_hot(sampled, 8).double())
    assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
    assert plain.abs().max() > 1e-4  # there is something to compare


def test_closed_form_of_the_gradient(supernet, alpha, by_cost, batch):
    net, a = supernet(channels=8), alpha()
    ours, mask = by_cost(net, GDAS(temperature=0.7), a, seed=3)
    z = mask.per_cell(2)
    F.cross_entropy(net(batch[0], z, mask), batch[1]).backward()
    q = mask.score.detach().exp()
    cost = (q * mask.weight * z.grad.sum(dim=0)).sum(dim=1, keepdim=True)  # C_k of each edge
    assert torch.allclose(ours, cost * (mask.weight - q) / 0.7, rtol=0, atol=1e-12)


def test_samples_follow_the_softmax_at_every_temperature(alpha):
    """Chi-square of 4000 draws on each edge, 7 degrees of freedom; 24.3 is its 0.999 quantile."""
    a, draws = alpha(), 4000
    expected = draws * a.detach().softmax(dim=1)
    for seed, temperature in enumerate((0.1, 10.0)):
        framework, generator = GDAS(temperature=temperature), stream(seed, "mask")
        counts = sum(
            framework.draw(Context({"alpha": a}, generator=generator)).weight for _ in range(draws)
        )
        assert (((counts - expected) ** 2 / expected).sum(dim=1) < 24.3).all()


def test_one_operation_runs_and_its_cost_has_the_weight_of_the_soft_sample(alpha):
    a = alpha()
    mask = GDAS().draw(Context({"alpha": a}, generator=stream(0, "mask")))
    assert mask.one_hot and mask.gradient_only is None
    assert [len(row) for row in mask.active] == [1] * 5
    assert mask.weight.argmax(dim=1).tolist() == [row[0] for row in mask.active]
    assert torch.equal(mask.cost_scale > 0, mask.weight > 0)
    soft = mask.score.detach().exp()
    assert torch.allclose(soft.sum(dim=1), torch.ones(5).double())
    assert torch.equal(mask.cost_scale, mask.weight * soft)


def test_temperature_falls_linearly_to_its_end(tiny):
    options = {"temperature": 2.0, "temperature_end": 0.5}
    searcher = Search(tiny.replace(framework="gdas", framework_options=options, epochs=4))
    seen = []
    for _ in range(5):
        seen.append(searcher.framework.temperature_at(searcher.context().progress))
        searcher.epoch()
    assert seen == pytest.approx([2.0, 2.0, 1.5, 1.0, 0.5])
    usual = [GDAS().temperature_at(progress) for progress in (0, 0.5, 1)]
    assert usual == pytest.approx([10, 5.05, 0.1])


@pytest.mark.parametrize("name", ["temperature", "temperature_end"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "cold"])
def test_a_temperature_must_be_above_zero(name, value, tiny):
    with pytest.raises(ConfigError, match=f"framework 'gdas': {name}={value!r}: input should be"):
        tiny.replace(framework="gdas", framework_options={name: value})
