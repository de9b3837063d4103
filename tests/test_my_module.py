"""What the chapter "Add your own" adds: notebooks/my_module.py, as a reader imports it."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, SearchSpace, search
from nascore.engine import OPERATIONS, build_operation, pull_back
from nascore.engine.mask import Mask
from nascore.engine.operations import build_norm
from nascore.evidence import CLAIMS, EXPERIMENTS, configs_of, judge, run_experiment
from nascore.frameworks import DARTS, Context
from nascore.runs import DATASETS

FOLDER = Path(__file__).parent.parent / "notebooks"


@pytest.fixture
def mine(monkeypatch):
    """The module; what it registers is gone after the test."""
    monkeypatch.syspath_prepend(FOLDER)
    for registry in (CLAIMS, EXPERIMENTS, DATASETS, OPERATIONS):
        monkeypatch.setattr(registry, "_known", dict(registry))
    module = importlib.import_module("my_module")
    yield importlib.reload(module)


def test_its_gradient_is_plain_autograd_through_alpha(mine, supernet, batch, alpha, measure):
    """In double precision, to 1e-10, with an edge that may not take skip_connect."""
    space = SearchSpace(allowed={"(0,2)": ["none", "sep_conv_3x3"]})
    net, learned = supernet(space), alpha(space)
    context = Context({"alpha": learned}, space=space)
    mask = mine.DARTSMinus(beta=0.7).draw(context)
    cost = measure(net, batch, mask).cost.sum(dim=0)
    (found,) = pull_back(mask.score, cost, [learned])

    plain = context.alpha
    skip = torch.zeros(8, dtype=torch.float64)
    skip[space.operations.index("skip_connect")] = 0.7
    z = plain.softmax(dim=1) + skip * (plain > -torch.inf)
    assert torch.allclose(mask.weight, z) and (z.sum(dim=1) > 1.5).sum() == 4
    loss = F.cross_entropy(net(batch[0], z, Mask(z, z)), batch[1])
    (expected,) = torch.autograd.grad(loss, [learned])
    assert (found - expected).abs().max() < 1e-10 < expected.abs().max()


def test_the_skip_fades_and_what_remains_is_darts(mine, alpha):
    framework, space = mine.DARTSMinus(), SearchSpace()
    darts, skip = DARTS().draw(Context({"alpha": alpha()})), 1
    for epoch, beta in ((1, 1.0), (2, 0.75), (5, 0.0)):
        mask = framework.draw(Context({"alpha": alpha()}, epoch=epoch, epochs=5, space=space))
        more = (mask.weight - darts.weight)[:, skip]
        assert torch.allclose(more, torch.full_like(more, beta))
    assert torch.equal(mask.weight, darts.weight) and torch.equal(mask.score, darts.score)


def test_its_parts_keep_a_shape_and_depend_on_what_they_see(mine):
    x = torch.randn(2, 4, 8, 8)
    seven = build_operation("my_module:conv_7x7", 4, "my_module:RMSNorm")
    assert seven(x).shape == x.shape and seven(x, torch.tensor(0.5)).shape == x.shape
    normed = build_norm("my_module:RMSNorm", 4)(x)
    assert torch.allclose(normed.square().mean(dim=1), torch.ones(2, 8, 8), atol=1e-2)


def test_its_dataset_can_be_learned(mine):
    images, labels = DATASETS["my_module:stripes"].load()
    assert images.shape == (480, 1, 8, 8) and labels.bincount().tolist() == [120] * 4
    assert 0.8 < images.std() < 1.6 and len(images.unique(dim=0)) == 480
    config = SearchConfig(
        framework="darts",
        dataset="my_module:stripes",
        norm="my_module:RMSNorm",
        operations=["none", "skip_connect", "my_module:conv_7x7"],
        augment=False,
        cells=1,
        channels=8,
        batch_size=48,
        epochs=6,
        lr=0.1,
    )
    assert search(config, progress=False).accuracy.sel(split="train")[-1] > 0.7  # chance: 0.25


def test_its_experiment_and_claim_decide(mine, tmp_path):
    arms = configs_of("my_module:auxiliary_skip", "laptop")
    assert {arm: len(configs) for arm, configs in arms.items()} == {"with": 5, "without": 5}
    assert {config.framework_options.get("beta", 1) for config in arms["without"]} == {0}
    arms = configs_of("my_module:auxiliary_skip", "smoke")
    runs = run_experiment(arms, store=tmp_path, workers=0)
    evidence = CLAIMS["my_module:skip"].measure(runs)
    verdict = judge("my_module:skip", evidence)
    assert verdict.verdict in ("undecided", "not supported") and verdict.n == 2
    assert np.isfinite(evidence.effect).all() and evidence.effect.any()
    swapped = CLAIMS["my_module:skip"].measure({"with": runs["without"], "without": runs["with"]})
    assert np.allclose(swapped.effect, -evidence.effect)
    assert CLAIMS["my_module:skip"].family == "my_module"
