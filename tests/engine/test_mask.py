from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, Wiring
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.errors import ConfigError
from nascore.frameworks import DARTS, Context


def test_what_lies_behind_an_unreached_node_is_not_seen():
    space = SearchSpace()

    def seen(*active):
        wiring = Wiring(space, tuple(space.operations[k] for k in active))
        return Mask.of(wiring).seen(space).any(dim=1).tolist()

    assert seen(1, 0, 1, 1, 4) == [True] * 5
    assert seen(0, 0, 1, 1, 4) == [True] * 4 + [False]  # node 2 is not reached
    dense = DARTS().draw(Context({"alpha": torch.zeros(5, 8, dtype=torch.float64)}))
    assert dense.seen(space).all()


def test_a_dense_weight_too_small_for_float32_is_seen_all_the_same():
    alpha = torch.zeros(5, 8)
    alpha[0, 0] = 200
    space = SearchSpace(allowed={"(1,2)": ["none", "skip_connect"]})
    mask = DARTS().draw(Context({"alpha": alpha}, space=space))
    assert mask.weight[0, 1] == 0
    seen = mask.seen(space)
    assert seen[0].all() and seen[1].tolist() == [True, True] + [False] * 6


def test_what_is_only_probed_reaches_nothing_and_is_seen():
    space = SearchSpace()
    weight = F.one_hot(torch.tensor([0, 0, 1, 1, 4]), 8).double()
    q = weight / 2
    q[0, 5] = 0.5
    mask = Mask(weight, weight, [[0], [0], [1], [1], [4]], True, [[5], [], [], [], []], q)
    seen = mask.seen(space)
    assert seen[0, 5] and seen[0, 0] and not seen[4].any()


def test_z_in_each_cell_is_a_leaf_of_its_own():
    alpha = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    mask = DARTS().draw(Context({"alpha": alpha}))
    z = mask.per_cell(3)
    assert z.is_leaf and z.requires_grad and z.grad is None
    assert torch.equal(z, torch.stack([mask.weight] * 3))
    z.data[1].zero_()
    assert mask.weight.min() > 0  # a plan is not written to
    with pytest.raises(FrozenInstanceError):
        mask.weight = z


def test_a_dense_mask_runs_what_the_space_allows():
    space = SearchSpace(allowed={"(0,2)": ["none"]})
    assert DARTS().draw(Context({"alpha": torch.zeros(5, 8)})).running(space) == space.choices
    assert Mask.of(Wiring(space, ("none",) * 5)).running(space) == [[0]] * 5


def test_a_sampled_mask():
    score = torch.zeros(2, 3)
    mask = Mask.sample(torch.tensor([2, 0]), score, cost_scale=score + 0.5)
    assert mask.weight.tolist() == [[0, 0, 1], [1, 0, 0]] and mask.active == [[2], [0]]
    assert mask.one_hot and mask.gradient_only is None and (mask.cost_scale == 0.5).all()


def test_the_mask_of_a_wiring():
    space = SearchSpace(nodes=1, inputs=1)
    mask = Mask.of(Wiring(space, ("max_pool_3x3",)), torch.float64)
    assert mask.one_hot and mask.active == [[2]]
    assert mask.weight.tolist() == [[0, 0, 1, 0, 0, 0, 0, 0]] and mask.weight.dtype == torch.float64
    with pytest.raises(ConfigError, match="does not depend on alpha"):
        pull_back(mask.score, mask.weight, [torch.zeros(1, 8, requires_grad=True)])
