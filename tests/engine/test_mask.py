import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, Wiring
from nascore.engine.cost import pull_back
from nascore.engine.frameworks import DARTS
from nascore.engine.mask import Mask
from nascore.errors import ConfigError


def test_what_lies_behind_an_unreached_node_is_not_seen():
    space = SearchSpace.minimal()

    def seen(*active):
        wiring = Wiring(space, tuple(space.operations[k] for k in active))
        return Mask.of(wiring).seen(space).any(dim=1).tolist()

    assert seen(1, 0, 1, 1, 4) == [True] * 5
    assert seen(0, 0, 1, 1, 4) == [True] * 4 + [False]  # node 2 is not reached
    dense = DARTS(space).draw(torch.zeros(5, 8, dtype=torch.float64))
    assert dense.seen(space).all()


def test_a_dense_weight_too_small_for_float32_is_seen_all_the_same():
    alpha = torch.zeros(5, 8)
    alpha[0, 0] = 200
    mask = DARTS(SearchSpace(allowed={"(1,2)": ["none", "skip_connect"]})).draw(alpha)
    assert mask.weight[0, 1] == 0
    seen = mask.seen(SearchSpace.minimal())
    assert seen[0].all() and seen[1].tolist() == [True, True] + [False] * 6


def test_what_is_only_probed_reaches_nothing_and_is_seen():
    space = SearchSpace.minimal()
    weight = F.one_hot(torch.tensor([0, 0, 1, 1, 4]), 8).double()
    q = weight / 2
    q[0, 5] = 0.5
    mask = Mask(weight, weight, [[0], [0], [1], [1], [4]], True, [[5], [], [], [], []], q)
    seen = mask.seen(space)
    assert seen[0, 5] and seen[0, 0] and not seen[4].any()


def test_without_a_backward_pass_every_cost_is_zero():
    mask = DARTS(SearchSpace.minimal()).draw(torch.zeros(5, 8))
    mask.copies(3)
    assert torch.equal(mask.cost(), torch.zeros(3, 5, 8))
    assert torch.equal(mask.output_cost(), torch.zeros(3))


def test_the_mask_of_a_wiring():
    space = SearchSpace(nodes=1, inputs=1)
    mask = Mask.of(Wiring(space, ("max_pool_3x3",)), torch.float64)
    assert mask.one_hot and mask.active == [[2]]
    assert mask.weight.tolist() == [[0, 0, 1, 0, 0, 0, 0, 0]] and mask.weight.dtype == torch.float64
    with pytest.raises(ConfigError, match="does not depend on alpha"):
        pull_back(mask.score, mask.weight, torch.zeros(1, 8))
