import pytest
import torch

from nascore import SearchSpace
from nascore.engine.random import stream
from nascore.frameworks import SDARTSRS, Context
from nascore.runs.algorithm import Search


def perturbed(p, allowed, noise):
    """One edge, number by number, as the paper and its code say it."""
    moved = {k: p[k] + noise[k] for k in allowed}
    clamped = {k: min(max(v, 0.0), 1.0) for k, v in moved.items()}
    if sum(clamped.values()) == 0:
        clamped = {k: float(k == max(moved, key=moved.get)) for k in allowed}
    return [clamped.get(k, 0.0) / sum(clamped.values()) for k in range(len(p))]


@pytest.mark.parametrize("epoch, radius", [(1, 0.03), (3, 0.165), (5, 0.3)])
@pytest.mark.parametrize("limits", [False, True])
def test_theta_learns_at_the_perturbed_weights(epoch, radius, limits, alpha, restricted):
    space = restricted if limits else SearchSpace()
    framework, a = SDARTSRS(), alpha()
    context = Context({"alpha": a}, {}, stream(0, "mask"), ["theta"], epoch, 5, space=space)
    noise = torch.empty(5, 8).double().uniform_(-radius, radius, generator=stream(0, "mask"))
    p = context.alpha.detach().softmax(dim=1)
    edges = zip(p.tolist(), space.choices, noise.tolist(), strict=True)
    expected = torch.tensor([perturbed(*edge) for edge in edges], dtype=torch.float64)
    z = framework.draw(context).weight
    assert torch.allclose(z, expected, rtol=0, atol=1e-14)
    assert not torch.allclose(z, p, atol=radius / 10)


def test_an_edge_without_any_weight_takes_its_largest():
    """Of 1,000 edges with three operations and noise of 5, about 100 have nothing above 0."""
    framework = SDARTSRS(radius=5)
    context = Context({"alpha": torch.zeros(1000, 3)}, {}, stream(0, "mask"), ["theta"], 1, 5)
    z = framework.draw(context).weight
    noise = torch.empty(1000, 3).uniform_(-5, 5, generator=stream(0, "mask"))
    empty = (noise + 1 / 3 <= 0).all(dim=1)
    assert 50 < empty.sum() < 150
    assert torch.equal(z[empty].argmax(dim=1), noise[empty].argmax(dim=1))
    assert (z[empty].max(dim=1).values == 1).all()
    assert torch.allclose(z.sum(dim=1), torch.ones(1000))


@pytest.mark.parametrize("level", ["single", "bi"])
def test_only_thetas_step_is_perturbed(level, tiny, monkeypatch):
    search, plain, steps = Search(tiny.replace(framework="sdarts-rs", level=level)), [], []
    step = Search.step

    def spy(self, batch, learns, **settings):
        plain.append(self.alpha.detach().softmax(dim=1))
        result = step(self, batch, learns, **settings)
        steps.append((*learns, torch.allclose(result.mask.weight, plain[-1])))
        return result

    monkeypatch.setattr(Search, "step", spy)
    search.epoch()
    assert set(steps) == {(True,)}  # before training, nothing learns
    steps.clear()
    search.epoch()
    assert {one for one in steps if len(one) > 1} == {("alpha", True), ("theta", False)}


def test_alpha_learns_as_in_darts(learner, batch):
    gradients = []
    for name in ("darts", "sdarts-rs"):
        one = learner(name, SearchSpace())
        one.step(batch, ["alpha"])
        gradients.append(one.alpha.grad)
    assert torch.equal(*gradients)


def test_theta_gets_the_gradient_at_the_perturbed_weights(learner, batch):
    """A step of rate 0.1 without momentum or decay, against plain autograd at the same Z."""
    one, other = (learner("sdarts-rs", SearchSpace()) for _ in range(2))
    mask = one.step(batch, ["theta"], measure=False).mask
    logits = other.supernet(batch[0], mask.weight, mask)
    loss = torch.nn.functional.cross_entropy(logits, batch[1])
    slopes = torch.autograd.grad(loss, other.theta)
    for p, before, slope in zip(one.theta, other.theta, slopes, strict=True):
        assert torch.allclose(p, before - 0.1 * slope, rtol=0, atol=1e-12)
