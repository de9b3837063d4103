import pytest
import torch

from nascore import SearchConfig, SearchSpace


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("limits", [False, True])
def test_steps_are_exponentiated_gradient_on_the_simplex(
    limits, decay, learner, restricted, by_autograd, batch
):
    """Written out by hand, with the authors' regulariser decay * sum p log(p n): to 1e-12.

    Three steps of rate 0.1 on the same batch, with theta fixed.
    """
    space = restricted if limits else SearchSpace()
    one = learner("gaea", space)
    one.alpha_optimiser.param_groups[0]["weight_decay"] = decay
    p = start = one.recorded()["probability"]
    allowed = p > 0
    for _ in range(3):
        leaf = p.clone().requires_grad_()
        entropy = torch.where(allowed, leaf, 1).log().mul(leaf).sum()  # n adds a constant
        slope = by_autograd(one.supernet, leaf, leaf)
        slope = slope + decay * torch.autograd.grad(entropy, leaf)[0]
        p = p * torch.exp(-0.1 * slope)
        p = p / p.sum(dim=1, keepdim=True)
        one.step(batch, ["alpha"])
        assert torch.allclose(one.recorded()["probability"], p, rtol=0, atol=1e-12)
    assert (p - start).abs().max() > 1e-3


def test_it_starts_uniform_and_takes_the_authors_settings():
    config = SearchConfig(framework="gaea")
    assert (config.arch_lr, config.arch_weight_decay, config.alpha_std) == (0.1, 0, 0)
    assert config.arch_grad_clip is None and config.cost_clamp is None


def test_an_operation_whose_weight_has_become_zero_does_no_harm(learner, batch):
    one = learner("gaea", SearchSpace())
    one.alpha.data[0, 4] = -2000.0  # e^-2000 is 0 in float64
    one.step(batch, ["alpha"])
    assert one.alpha.isfinite().all() and one.alpha.grad[0, 4] == 0
