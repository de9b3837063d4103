"""REINFORCE with a global reward, against the exact gradient of the expected loss."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, search
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.errors import ConfigError
from nascore.frameworks import Context, make_framework
from nascore.runs import algorithm
from nascore.runs.algorithm import Search

SPACE = SearchSpace(nodes=2, inputs=1, operations=["none", "skip_connect", "sep_conv_3x3"])
CONFIG = {"framework": "reinforce", "search_examples": 64}


@pytest.fixture
def losses(supernet, batch):
    """The loss under every mask of a cell of three edges, (3, 3, 3)."""
    net, (images, labels) = supernet(SPACE), batch
    values = torch.empty(3, 3, 3, dtype=torch.float64)
    for choice in itertools.product(range(3), repeat=3):
        mask = Mask.sample(torch.tensor(choice), torch.zeros(3, 3, dtype=torch.float64))
        with torch.no_grad():
            values[choice] = F.cross_entropy(net(images, mask.per_cell(2), mask), labels)
    return values


def exact_gradient(alpha, losses):
    """d/dalpha of the expected loss, by plain autograd."""
    p = alpha.softmax(dim=1)
    expected = torch.einsum("i,j,k,ijk->", *p, losses)
    return torch.autograd.grad(expected, alpha)[0]


def estimate(framework, mask, alpha, losses, baseline):
    """The gradient that one mask gives."""
    loss = losses[tuple(mask.weight.argmax(dim=1).tolist())]
    return pull_back(mask.score, framework.cost(seen(mask, loss, baseline)), [alpha])[0]


def seen(mask, loss, baseline):
    """The context of a step with this loss: -log p of the right one of two classes."""
    loss = torch.as_tensor(loss, dtype=torch.float64)
    logits = torch.stack([-loss.expm1().log(), torch.zeros_like(loss)])[None]
    state = {"baseline": torch.as_tensor(baseline, dtype=torch.float64)}
    return Context({}, state, mask=mask, logits=logits, labels=torch.tensor([0]))


@pytest.mark.parametrize("baseline", [-3.0, 0.0, 1.5, 100.0])
def test_mean_over_all_masks_is_the_exact_gradient_for_any_baseline(baseline, alpha, losses):
    """Over 27 masks, weighted by their probability, in float64 to 1e-10."""
    a, framework, total = alpha(SPACE), make_framework("reinforce"), 0
    p = a.detach().softmax(dim=1)
    for choice in itertools.product(range(3), repeat=3):
        mask = Mask.sample(torch.tensor(choice), a.log_softmax(dim=1))
        weight = p[range(3), choice].prod()
        total = total + weight * estimate(framework, mask, a, losses, baseline)
    exact = exact_gradient(a, losses)
    assert torch.allclose(total, exact, rtol=0, atol=1e-10) and exact.abs().max() > 1e-3


def test_mean_over_drawn_masks_is_within_four_standard_errors(alpha, losses):
    a, framework, generator = (
        alpha(SPACE),
        make_framework("reinforce"),
        stream(0, "mask"),
    )
    baseline, context = losses.mean().item(), Context({"alpha": a}, generator=generator)
    draws = torch.stack(
        [estimate(framework, framework.draw(context), a, losses, baseline) for _ in range(3000)]
    )
    error = draws.std(dim=0) / len(draws) ** 0.5
    exact = exact_gradient(a, losses)
    assert ((draws.mean(dim=0) - exact).abs() < 4 * error).all()
    assert (exact.abs() > 8 * error).any()  # so that a wrong sign would show


def test_every_edge_meets_the_same_loss_none_included():
    framework = make_framework("reinforce")
    mask = Mask.sample(torch.tensor([0, 1, 2]), torch.zeros(3, 3))
    cost = framework.cost(seen(mask, 2.5, 2.0))
    assert torch.allclose(cost.float(), 0.5 * torch.eye(3))


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_baseline_starts_as_the_first_loss_and_follows(decay):
    framework = make_framework("reinforce", decay=decay)
    mask = Mask.sample(torch.tensor([1, 1, 1]), torch.zeros(3, 3))
    state, b = framework.state(SPACE), None
    for loss in (2.0, 1.0, 4.0, 3.0):
        context = seen(mask, loss, state["baseline"])
        advantage = framework.cost(context)[0, 1]
        assert advantage.item() == pytest.approx(0 if b is None else loss - b)
        state = framework.next_state(context)
        b = loss if b is None else decay * b + (1 - decay) * loss
        assert state["baseline"].item() == pytest.approx(b)


def test_a_decay_of_one_would_never_learn():
    with pytest.raises(ConfigError, match="decay=1"):
        make_framework("reinforce", decay=1)


def test_gradient_of_what_is_not_allowed_is_exactly_zero(alpha):
    space = SearchSpace(allowed={"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]})
    a, framework = alpha(space), make_framework("reinforce")
    mask = framework.draw(Context({"alpha": a}, generator=stream(0, "mask"), space=space))
    cost = framework.cost(seen(mask, 2.0, 1.0))
    (gradient,) = pull_back(mask.score, cost, [a])
    assert (gradient[0] == 0).all() and (gradient[3, [0, 2, 3, 5, 6, 7]] == 0).all()
    assert (gradient[1] != 0).all() and gradient.isfinite().all()


@pytest.mark.parametrize("level", ["single", "bi"])
def test_a_step_takes_the_loss_of_the_batch_that_alpha_sees(level, tiny, monkeypatch):
    """What meets the score is clamped; the local cost is what is seen."""
    met, plain = [], algorithm.pull_back
    monkeypatch.setattr(
        algorithm, "pull_back", lambda *args: (met.append(args[1]), plain(*args))[1]
    )
    setup = Search(tiny.replace(level=level, **CONFIG), dtype=torch.float64)
    batch = setup.batch(setup.alpha_split)
    setup.state = {"baseline": torch.tensor(100.0).double()}
    result = setup.step(batch, ["theta", "alpha"] if level == "single" else ["alpha"])
    (cost,), mask = met, result.mask
    loss = F.cross_entropy(result.logits, batch[1])
    assert loss - 100 < -5 and torch.equal(cost, -5 * mask.weight)
    expected = -5 * mask.weight - setup.alpha.new_tensor(-5.0) * mask.score.detach().exp()
    assert torch.allclose(
        setup.alpha.grad, expected * min(1, setup.config.arch_grad_clip / expected.norm())
    )
    assert result.cost.shape == (2, 5, 8) and not torch.equal(result.cost.sum(dim=0), cost)
    assert setup.state["baseline"].item() == pytest.approx(0.95 * 100 + 0.05 * loss.item())


@pytest.mark.parametrize("level", ["single", "bi"])
def test_it_learns_in_a_search(level, tiny):
    """Without weight decay, so that only the gradient moves anything."""
    run = search(tiny.replace(level=level, arch_weight_decay=0, **CONFIG), progress=False)
    alpha = run.history.alpha
    assert (abs(alpha[-1] - alpha[0]) > 1e-3).all()
    assert (run.history.cost_mean.sel(operation="none")[-1].fillna(0) == 0).all()


def test_a_step_on_the_meta_device_reads_the_sampled_operations_only(tiny, monkeypatch):
    """Every read of a value raises there; one `tolist` is answered, the sampled operations."""
    setup = Search(tiny.replace(device="meta", **CONFIG))
    reads = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(t.shape) or [1] * t.numel())
    for _ in range(2):
        reads.clear()
        setup.step(setup.batch())
        assert reads == [(5,)]
    assert setup.state["baseline"].device.type == "meta"
