"""DARTS-PT: the choice by what the supernet loses without an operation."""

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, search
from nascore.engine.mask import Mask
from nascore.runs.algorithm import Search

SPACE = SearchSpace(
    nodes=2,
    inputs=1,
    operations=["none", "skip_connect", "sep_conv_3x3"],
    allowed={"(0,1)": ["none", "skip_connect"], "(0,2)": ["skip_connect"]},
)
SETTINGS = {"operations": SPACE.operations, "nodes": 2, "inputs": 1}
SETTINGS |= {"allowed": {"(0,1)": ["none", "skip_connect"], "(0,2)": ["skip_connect"]}}


@pytest.fixture
def trained(tiny):
    """Makes a search of DARTS-PT after its last epoch, in float64."""

    def make(**options):
        config = tiny.replace(framework="darts-pt", framework_options=options, lr=0.1, **SETTINGS)
        one = Search(config, torch.float64)
        for _ in range(3):
            one.epoch()
        return one

    return make


def test_each_edge_takes_what_the_supernet_can_least_do_without(trained, monkeypatch):
    """The accuracy is made up: a table of what is lost with each operation of an edge."""
    one, seen = trained(tuning=0), []
    lost = torch.tensor([[5.0, 5, 9], [9, 1, 9], [1, 2, 3]])  # a tie, no choice, the costliest

    def accuracy(mask, batches):
        runs = torch.zeros(3, 3)
        for e, row in enumerate(mask.active):
            runs[e, row] = 1
        seen.append(runs)
        return -((1 - runs) * lost).sum().item()

    monkeypatch.setattr(one, "accuracy", accuracy)
    assert one.choose().operations == ("none", "skip_connect", "sep_conv_3x3")
    assert len(seen) == 5 and all(runs[1].tolist() == [0, 1, 0] for runs in seen)


def test_choice_and_tuned_theta_are_those_of_dense_weights_and_plain_autograd(trained):
    """What is taken out has Z = 0 and nothing else changes; theta's steps are plain SGD.

    In float64, the logits under the chosen wiring to 1e-10.
    """
    one, plain = trained(tuning=2), trained()
    net, generator = plain.supernet, plain.streams["choose"]
    images, labels = plain.chunks("valid")[0]
    z = plain.alpha.detach().clone()
    z[0, 2] = z[1, 0] = z[1, 2] = -torch.inf
    z = z.softmax(dim=1)
    optimiser = plain.theta_optimiser
    optimiser.param_groups[0]["lr"] = 0.01
    for e in torch.randperm(3, generator=generator).tolist():
        if e == 1:
            continue
        right = []
        for k in range(2 if e == 0 else 3):
            without = z.clone()
            without[e, k] = 0
            logits = net(images, without, Mask(without, without))
            right.append((logits.argmax(dim=1) == labels).sum().item())
        z[e] = F.one_hot(torch.tensor(right).argmin(), 3)
        for _ in range(2 * 3):
            x, y = plain.batch("train")
            F.cross_entropy(net(x, z, Mask(z, z)), y).backward()
            torch.nn.utils.clip_grad_norm_(plain.theta, plain.config.grad_clip)
            optimiser.step()
            optimiser.zero_grad()
    before = one.supernet(images, z, Mask(z, z))
    wiring = one.choose()
    assert wiring.operations == tuple(SPACE.operations[k] for k in z.argmax(dim=1))
    after, expected = (s.supernet(images, z, Mask(z, z)) for s in (one, plain))
    assert torch.allclose(after, expected, rtol=0, atol=1e-10)
    assert (after - before).abs().max() > 1e-3


def test_frozen_theta_is_not_tuned(tiny):
    config = tiny.replace(framework="darts-pt", freeze_theta=True, **SETTINGS)
    one = Search(config)
    before = [p.detach().clone() for p in one.theta]
    one.choose()
    assert all(torch.equal(*pair) for pair in zip(one.theta, before, strict=True))


@pytest.mark.parametrize("level", ["single", "bi"])
def test_a_search_ends_with_the_choice(level, tiny):
    options = {"tuning": 1}
    config = tiny.replace(framework="darts-pt", framework_options=options, level=level, **SETTINGS)
    config = config.replace(search_examples=32 if level == "bi" else None)
    run = search(config, progress=False)
    assert run.chosen == str(run.wiring)
