"""ASAP: annealing, pruning for good, and the gradient over what is alive."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from nascore import search
from nascore.engine.mask import Mask
from nascore.frameworks import Context, make_framework


def test_gradient_is_that_of_a_softmax_over_what_is_alive(learner, restricted, forbidden, batch):
    """Plain autograd through Z, with what is pruned taken out of the softmax: to 1e-12."""
    one = learner("asap", restricted)
    pruned = torch.zeros(5, 8, dtype=torch.bool)
    pruned[1, :3] = pruned[4, 5] = True
    one.state = {"alive": one.state["alive"] & ~pruned}
    alpha = one.alpha.detach().clone().requires_grad_()
    out = forbidden(restricted) | pruned
    unnormalised = (alpha / 1.6).exp() * ~out
    z = unnormalised / unnormalised.sum(dim=1, keepdim=True)
    logits = one.supernet(batch[0], z, Mask(z.detach(), z))
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, batch[1]), alpha)
    result = one.step(batch, ["alpha"])
    assert torch.allclose(result.mask.weight, z, rtol=0, atol=1e-12)
    assert torch.allclose(one.alpha.grad, expected, rtol=0, atol=1e-12)
    assert (one.alpha.grad[out] == 0).all() and expected.abs().max() > 1e-4
    assert not result.mask.seen(restricted)[pruned].any()


def test_what_falls_below_its_share_of_the_threshold_never_comes_back(restricted, forbidden):
    """An edge of N operations prunes below threshold / N, whatever alpha does afterwards."""
    framework = make_framework("asap", threshold=0.8)
    state, out = framework.state(restricted), forbidden(restricted)
    assert torch.equal(state["alive"], ~out)
    alpha = torch.zeros(5, 8, dtype=torch.float64)
    alpha[1, 2] = 1.6 * torch.tensor(0.9).log()  # 0.9 / 7.9 = 0.114, above 0.1
    alpha[2, 6] = 1.6 * torch.tensor(0.7).log()  # 0.7 / 7.7 = 0.091, below
    alpha[3, 1] = 1.6 * torch.tensor(0.9).log()  # of two: 0.474, above 0.4
    alpha[4, :] = torch.arange(8.0) * 9  # one is left
    for alpha_now in (alpha, -alpha, torch.randn_like(alpha)):
        context = Context({"alpha": alpha_now}, state, space=restricted)
        mask = framework.draw(context)
        assert (mask.weight[~state["alive"]] == 0).all()
        assert torch.equal(framework.probability(context), mask.weight)
        state = framework.next_state(replace(context, mask=mask))
        assert state["alive"].dtype == torch.bool and not state["alive"][out].any()
        if alpha_now is alpha:
            assert state["alive"].sum(dim=1).tolist() == [1, 8, 7, 2, 1]
            first = state["alive"]
        assert not (state["alive"] & ~first).any() and state["alive"].any(dim=1).all()


def test_the_temperature_falls_geometrically_and_alpha_waits_for_grace():
    framework = make_framework("asap", temperature=1.6, temperature_end=0.1)
    temperatures = [framework.temperature_at(n / 4) for n in range(5)]
    assert temperatures == pytest.approx([1.6, 0.8, 0.4, 0.2, 0.1])
    assert [set(framework.learns(epoch, 5)) for epoch in (1, 2, 5)] == [
        {"theta"},
        {"theta", "alpha"},
        {"theta", "alpha"},
    ]


@pytest.mark.parametrize("level", ["single", "bi"])
def test_a_search_prunes_until_one_is_left_and_records_it(level, tiny):
    """No edge is pruned in the grace period, and none takes an operation that is pruned."""
    config = tiny.replace(framework="asap", level=level, search_examples=64, epochs=6, arch_lr=0.3)
    run = search(config.replace(framework_options={"temperature_end": 0.01}), progress=False)
    alive = run.history.alive
    assert (alive[:2] == 1).all() and (alive[-1].sum("operation") == 1).all()
    assert (alive.diff("epoch") <= 0).all()
    assert ((run.history.probability > 0) <= (alive == 1))[-1].all()
