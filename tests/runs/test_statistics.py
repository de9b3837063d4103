import pytest
import torch

from nascore.engine.cost import loss_and_entropy
from nascore.runs.statistics import CostStatistics, OutcomeStatistics, OutputCostStatistics


def test_cost_statistics_equal_those_of_the_listed_costs():
    generator = torch.Generator().manual_seed(0)
    costs = torch.randn(50, 2, 3, 4, generator=generator) + 100  # far from 0: sums would cancel
    weights = (torch.rand(50, 3, 4, generator=generator) < 0.5).float()
    weights[:, 0, 0] = 0
    statistics = CostStatistics(2, 3, 4, torch.device("cpu"))
    for cost, weight in zip(costs, weights, strict=True):
        statistics.update(cost * weight, weight > 0)
    result = statistics.result()
    assert result["cost_mean"][:, 0, 0].isnan().all()
    for c, e, k in [(0, 0, 1), (1, 2, 3), (0, 1, 2)]:
        seen = costs[weights[:, e, k] > 0][:, c, e, k].double()
        assert result["cost_count"][c, e, k] == len(seen)
        assert result["cost_mean"][c, e, k].item() == pytest.approx(seen.mean().item(), rel=1e-6)
        std = seen.std(correction=0).item()
        assert result["cost_std"][c, e, k].item() == pytest.approx(std, rel=1e-4)


def test_output_cost_statistics_weigh_batches_by_their_examples():
    statistics = OutputCostStatistics(2, torch.device("cpu"))
    assert statistics.result()["cell_output_cost"].isnan().all()
    statistics.update(torch.tensor([1.0, 2.0]), 30)
    statistics.update(torch.tensor([5.0, 0.0]), 10)
    assert statistics.result()["cell_output_cost"].tolist() == [2.0, 1.5]


def test_outcome_statistics_split_by_right_and_wrong():
    logits = torch.tensor([[2.0, 0], [2, 0], [0, 1]])
    labels = torch.tensor([0, 1, 1])
    statistics = OutcomeStatistics(torch.device("cpu"))
    statistics.update(logits[:2], labels[:2])
    statistics.update(logits[2:], labels[2:])
    result = statistics.result()
    loss, entropy = loss_and_entropy(logits, labels)
    assert result["examples"].tolist() == [2, 1]
    expected = torch.stack([loss[[0, 2]].mean(), loss[1]])
    assert torch.allclose(result["loss"], expected)
    assert torch.allclose(result["entropy"], torch.stack([entropy[[0, 2]].mean(), entropy[1]]))
