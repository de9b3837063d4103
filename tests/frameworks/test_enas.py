"""ENAS: its controller against one of torch's modules, its gradient against exact enumeration."""

import itertools

import pytest
import torch

from nascore import SearchConfig, SearchSpace
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.frameworks import Context, make_framework
from nascore.runs.algorithm import Search

SPACE = SearchSpace(
    nodes=2,
    inputs=1,
    operations=["none", "skip_connect", "sep_conv_3x3"],
    allowed={"(0,2)": ["none", "sep_conv_3x3"]},
)
SEQUENCES = [
    names for names in itertools.product(range(3), repeat=3) if names[1] != 1
]  # 18, of (0,1), (0,2), (1,2)


@pytest.fixture
def enas():
    """A framework for SPACE and its parameters, ten times the usual, so that edges differ."""

    def make(**options):
        framework = make_framework("enas", size=5, tanh_constant=2.0, **options)
        start = framework.parameters(torch.zeros(3, 3).double(), stream(0, "alpha"))
        return framework, {name: (10 * p).requires_grad_() for name, p in start.items()}

    return make


def conditional(learned, sequence):
    """p of every operation given those of a sequence on the edges before, (3, 3)."""
    cell = torch.nn.LSTMCell(5, 5, bias=False).double()
    weights = dict(zip(("weight_ih", "weight_hh"), learned["lstm"].split(5, dim=1), strict=True))
    rows, x, state = [], learned["start"], None
    for e, k in enumerate(sequence):
        state = torch.func.functional_call(cell, weights, (x, state))
        p = (2 * torch.tanh(state[0][0] @ learned["output"])).exp()
        p = p * torch.tensor([1.0, e != 1, 1])
        rows.append(p / p.sum())
        x = learned["embedding"][k : k + 1]
    return torch.stack(rows)


def drawn(framework, learned):
    """A mask of every sequence, by drawing until none is missing."""
    masks, generator = {}, stream(0, "mask")
    while len(masks) < len(SEQUENCES):
        mask = framework.draw(Context(learned, generator=generator, space=SPACE))
        masks[tuple(mask.weight.argmax(dim=1).tolist())] = mask
    return masks


def test_score_is_log_p_given_the_edges_before(enas):
    framework, learned = enas()
    masks = drawn(framework, learned)
    assert set(masks) == set(SEQUENCES)
    for sequence, mask in masks.items():
        expected = conditional(learned, sequence).log()
        assert torch.allclose(mask.score, expected, rtol=0, atol=1e-12)
    last = torch.stack([mask.score[2] for mask in masks.values()])
    assert last.std(dim=0).min() > 0.01  # it does depend on the edges before


def test_sequences_are_drawn_as_often_as_they_are_probable(enas):
    """Chi-square of 1500 draws, 17 degrees of freedom; 40.8 is its 0.999 quantile."""
    framework, learned = enas()
    generator, counts = stream(1, "mask"), dict.fromkeys(SEQUENCES, 0)
    for _ in range(1500):
        mask = framework.draw(Context(learned, generator=generator, space=SPACE))
        counts[tuple(mask.weight.argmax(dim=1).tolist())] += 1
    p = {s: conditional(learned, s)[range(3), s].prod().item() for s in SEQUENCES}
    expected = {s: 1500 * p[s] for s in SEQUENCES}
    assert sum(expected.values()) == pytest.approx(1500)
    assert sum((counts[s] - expected[s]) ** 2 / expected[s] for s in SEQUENCES) < 40.8


@pytest.mark.parametrize("baseline, entropy", [(-0.4, 0.0), (3.0, 0.0), (-0.4, 0.5)])
def test_mean_over_all_masks_is_the_exact_gradient(baseline, entropy, enas, supernet, batch):
    """Of the expected reward of a supernet, the entropy a number in it: in float64 to 1e-12."""
    framework, learned = enas(entropy=entropy)
    net, (images, labels), mean, expected = supernet(SPACE), batch, 0, 0
    rewards = set()
    for sequence, mask in drawn(framework, learned).items():
        with torch.no_grad():
            logits = net(images, mask.weight, mask)
        state = {"baseline": torch.tensor(baseline).double()}
        context = Context(learned, state, mask=mask, logits=logits, labels=labels)
        gradients = pull_back(mask.score, framework.cost(context), list(learned.values()))
        rows = conditional(learned, sequence)
        p = rows[range(3), sequence].prod()
        mean = [p.detach() * g + m for g, m in zip(gradients, mean or [0] * 4, strict=True)]
        entropies = -sum(q * q.log() for q in rows.detach().flatten() if q > 0)
        right = (logits.argmax(dim=1) == labels).sum().item() / len(labels)
        rewards.add(right)
        expected = expected - p * (right + entropy * entropies)
    exact = torch.autograd.grad(expected, list(learned.values()))
    assert len(rewards) > 1
    for ours, theirs in zip(mean, exact, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12) and theirs.abs().max() > 1e-4


def test_baseline_follows_the_reward(enas):
    framework, learned = enas(decay=0.9, entropy=0.0)
    mask = Mask.sample(torch.tensor([0, 2, 1]), torch.zeros(3, 3))
    state, logits = framework.state(SPACE), torch.eye(4)
    for labels, baseline in (([0, 1, 2, 0], -0.75), ([0, 0, 0, 0], -0.9 * 0.75 - 0.1 * 0.25)):
        context = Context(learned, state, mask=mask, logits=logits, labels=torch.tensor(labels))
        state = framework.next_state(context)
        assert state["baseline"].item() == pytest.approx(baseline)


def test_probability_is_that_of_the_greedy_sequence(enas):
    framework, learned = enas()
    sequence = ()
    for _ in range(3):
        rows = conditional(learned, (*sequence, 0))
        sequence = (*sequence, rows[len(sequence)].argmax().item())
    probability = framework.probability(Context(learned, space=SPACE))
    assert torch.allclose(probability, conditional(learned, sequence), rtol=0, atol=1e-12)
    assert probability.argmax(dim=1).tolist() == list(sequence)


def test_it_asks_for_the_learning_rate_of_its_controller():
    config = SearchConfig(framework="enas")
    assert (config.arch_lr, config.arch_weight_decay) == (0.0035, 0)


@pytest.mark.parametrize("level", ["single", "bi"])
def test_theta_and_the_controller_learn_in_turns(level, tiny):
    """What does not learn is measured all the same, on whole splits."""
    one = Search(tiny.replace(framework="enas", level=level, search_examples=64, epochs=4))
    one.epoch()
    for epoch in range(1, 5):
        before = [[p.detach().clone() for p in ps] for ps in (one.theta, one.learned.values())]
        one.epoch()
        after = one.theta, one.learned.values()
        kept = [all(map(torch.equal, *pair)) for pair in zip(before, after, strict=True)]
        assert kept == ([False, True] if epoch % 2 else [True, False])
    examples = one.history.to_xarray().examples.sum("outcome")
    assert (examples.sel(split="train") == 96).all()
    assert (examples.sel(split=one.alpha_split)[1:] == 96).all()
