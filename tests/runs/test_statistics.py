import numpy as np
import pytest
import torch

from nascore import SearchSpace
from nascore.engine.cost import loss_and_entropy
from nascore.engine.mask import Mask
from nascore.runs.history import History
from nascore.runs.statistics import EpochStatistics, StepResult

SPACE = SearchSpace()
LOGITS, LABELS = torch.tensor([[2.0, 0], [2, 0], [0, 1]]), torch.tensor([0, 1, 1])


def written(*updates):
    """The arrays of a history in whose epoch 1 the steps were seen: (split, result)."""
    statistics = EpochStatistics(SPACE, 2, torch.device("cpu"))
    for update in updates:
        statistics.update(*update)
    history = History(SPACE, epochs=1, cells=2)
    statistics.write(history, 1)
    return {name: array[1] for name, array in history.arrays.items()}


def measured(cost, output_cost, operations, labels):
    """A step that drew one operation on each edge."""
    mask = Mask.sample(torch.tensor(operations), torch.zeros(5, 8))
    return "train", StepResult(mask, torch.zeros(len(labels), 2), labels, cost, output_cost)


def test_statistics_of_costs_equal_those_of_the_listed_costs():
    generator = torch.Generator().manual_seed(0)
    costs = torch.randn(50, 2, 5, 8, generator=generator) + 100  # far from 0: sums would cancel
    drawn = torch.randint(1, 8, (50, 5), generator=generator)  # never operation 0, which is none
    steps = (
        measured(cost, torch.zeros(2), row.tolist(), LABELS)
        for cost, row in zip(costs, drawn, strict=True)
    )
    result = written(*steps)
    assert np.isnan(result["cost_mean"][:, 0, 0]).all()
    assert (
        np.isnan(result["cost_std"][:, 0, 0]).all() and (result["cost_count"][:, 0, 0] == 0).all()
    )
    for c, e, k in [(0, 0, 1), (1, 4, 3), (0, 1, 2)]:
        seen = costs[drawn[:, e] == k][:, c, e, k].double()
        assert result["cost_count"][c, e, k] == len(seen) > 2
        assert result["cost_mean"][c, e, k] == pytest.approx(seen.mean().item(), rel=1e-6)
        std = seen.std(correction=0).item()
        assert result["cost_std"][c, e, k] == pytest.approx(std, rel=1e-4)


def test_output_costs_of_batches_are_weighed_by_their_examples():
    cost, operations = torch.zeros(2, 5, 8), [1] * 5
    one = measured(cost, torch.tensor([1.0, 2.0]), operations, torch.zeros(30, dtype=torch.long))
    other = measured(cost, torch.tensor([5.0, 0.0]), operations, torch.zeros(10, dtype=torch.long))
    assert written(one, other)["cell_output_cost"].tolist() == [2.0, 1.5]


def test_outcomes_are_split_by_right_and_wrong():
    """Also where no cost was measured; what saw no example is NaN."""
    mask = Mask.sample(torch.ones(5, dtype=torch.long), torch.zeros(5, 8))
    results = [StepResult(mask, LOGITS[p], LABELS[p], None, None) for p in (slice(2), slice(2, 3))]
    result = written(*(("search", r) for r in results))
    loss, entropy = loss_and_entropy(LOGITS, LABELS)
    assert result["examples"].tolist() == [[0, 0], [2, 1], [0, 0]]
    for name, values in (("loss", loss), ("entropy", entropy)):
        expected = [values[[0, 2]].mean(), values[1]]
        np.testing.assert_allclose(result[name][1], expected, rtol=1e-6)
        assert np.isnan(result[name][[0, 2]]).all()
    assert np.isnan(result["cell_output_cost"]).all() and np.isnan(result["cost_mean"]).all()
