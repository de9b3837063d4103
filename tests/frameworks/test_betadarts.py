import pytest
import torch

from nascore import SearchConfig, SearchSpace
from nascore.frameworks import BetaDARTS, Context


@pytest.mark.parametrize("limits", [False, True])
def test_gradient_is_plain_autograd_of_the_loss_and_the_penalty(
    limits, learner, restricted, forbidden, by_autograd, batch
):
    """In the middle of the search, where the weight is 25, on 5 edges: to 1e-10 in float64."""
    space = restricted if limits else SearchSpace()
    one = learner("beta-darts", space, epochs=5)
    one.epochs_done = 2
    alpha, out = one.alpha.detach().clone().requires_grad_(), forbidden(space)
    masked = alpha.masked_fill(out, -1e9)  # e^-1e9 is 0
    plain = by_autograd(one.supernet, masked.softmax(dim=1), alpha)
    rows = zip(alpha, ~out, strict=True)
    penalty = 25 * sum(row[allowed].exp().sum().log() for row, allowed in rows) / 5
    plain = plain + torch.autograd.grad(penalty, alpha)[0]
    one.step(batch, ["alpha"])
    assert torch.allclose(one.alpha.grad, plain, rtol=0, atol=1e-10)
    assert (one.alpha.grad[out] == 0).all()


def test_the_weight_grows_linearly_from_zero():
    framework, alpha = BetaDARTS(weight=40.0), torch.zeros(3, 8).double()
    weights = [
        framework.penalty(Context({"alpha": alpha}, epoch=epoch, epochs=5)) / torch.tensor(8).log()
        for epoch in range(1, 6)
    ]
    assert torch.tensor(weights).tolist() == pytest.approx([0, 10, 20, 30, 40])


def test_it_replaces_weight_decay():
    config = SearchConfig(framework="beta-darts")
    assert (config.arch_weight_decay, config.arch_grad_clip) == (0, None)
