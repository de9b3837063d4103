import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.frameworks import DARTS
from nascore.mask import Mask


def test_what_lies_behind_an_unreached_node_is_not_seen():
    space = SearchSpace.minimal()

    def seen(*active):
        weight = F.one_hot(torch.tensor(active), 8)
        return Mask(weight, weight, [[k] for k in active], True).seen(space).any(dim=1).tolist()

    assert seen(1, 0, 1, 1, 4) == [True] * 5
    assert seen(0, 0, 1, 1, 4) == [True] * 4 + [False]  # node 2 is not reached
    dense = DARTS(space).draw(torch.zeros(5, 8, dtype=torch.float64))
    assert dense.seen(space).all()


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
