import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace
from nascore.cost import pull_back
from nascore.errors import ConfigError
from nascore.frameworks import DARTS, DSNAS, FRAMEWORKS, SNAS, build_framework, gumbel
from nascore.mask import Mask
from nascore.streams import stream

RESTRICTED = SearchSpace(allowed={"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]})


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_mask_is_a_distribution_over_allowed_operations(name, alpha):
    mask = build_framework(name, RESTRICTED).draw(alpha(), stream(0, "mask"))
    assert torch.allclose(mask.weight.sum(dim=1), torch.ones(5, dtype=torch.float64))
    forbidden = torch.ones(5, 8, dtype=torch.bool)
    for edge, choices in enumerate(RESTRICTED.choices):
        forbidden[edge, list(choices)] = False
    assert (mask.weight[forbidden] == 0).all()
    assert all(
        set(row) <= set(choices)
        for row, choices in zip(mask.active, RESTRICTED.choices, strict=True)
    )


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_gradient_of_what_is_not_allowed_is_exactly_zero(name, alpha):
    a = alpha()
    mask = build_framework(name, RESTRICTED).draw(a, stream(0, "mask"))
    gradient = pull_back(mask.score, mask.weight * torch.randn_like(mask.weight), a)
    assert gradient.isfinite().all()
    assert (gradient[0] == 0).all()  # only `none` is allowed there: nothing to choose
    assert (gradient[3, [0, 2, 3, 5, 6, 7]] == 0).all()
    assert (gradient[1] != 0).any()


def test_darts_weights_are_the_softmax(alpha):
    a = alpha()
    mask = DARTS(SearchSpace.minimal()).draw(a)
    assert torch.allclose(mask.weight, a.softmax(dim=1))
    assert not mask.one_hot


def test_dsnas_samples_from_the_softmax(alpha):
    """Chi-square of 4000 draws on each edge, 7 degrees of freedom; 24.3 is its 0.999 quantile."""
    a, generator, draws = alpha(), stream(0, "mask"), 4000
    counts = sum(DSNAS(SearchSpace.minimal()).draw(a, generator).weight for _ in range(draws))
    expected = draws * a.detach().softmax(dim=1)
    assert (((counts - expected) ** 2 / expected).sum(dim=1) < 24.3).all()


def test_dsnas_evaluates_one_operation_an_edge(alpha):
    mask = DSNAS(SearchSpace.normal()).draw(alpha(SearchSpace.normal()), stream(0, "mask"))
    assert [len(row) for row in mask.active] == [1] * 14
    assert mask.weight.argmax(dim=1).tolist() == [row[0] for row in mask.active]


def test_what_lies_behind_an_unreached_node_is_not_seen():
    space = SearchSpace.minimal()

    def seen(*active):
        weight = F.one_hot(torch.tensor(active), 8)
        return Mask(weight, weight, [[k] for k in active], True).seen(space).any(dim=1).tolist()

    assert seen(1, 0, 1, 1, 4) == [True] * 5
    assert seen(0, 0, 1, 1, 4) == [True] * 4 + [False]  # node 2 is not reached
    dense = DARTS(space).draw(torch.zeros(5, 8, dtype=torch.float64))
    assert dense.seen(space).all()


def test_snas_approaches_a_one_hot_sample_of_the_softmax_as_it_cools(alpha):
    a = alpha()
    cold = SNAS(SearchSpace.minimal(), 1e-3).draw(a, stream(0, "mask")).weight
    sample = DSNAS(SearchSpace.minimal()).draw(a, stream(0, "mask")).weight
    assert torch.allclose(cold, sample, atol=1e-6)
    hot = SNAS(SearchSpace.minimal(), 1e3).draw(a, stream(0, "mask")).weight
    assert torch.allclose(hot, torch.full_like(hot, 1 / 8), atol=2e-3)


def test_gumbel_noise_has_the_right_mean_and_variance():
    noise = gumbel(torch.empty(200_000), stream(0, "mask"))
    assert abs(noise.mean() - 0.5772) < 4 * 1.2825 / 200_000**0.5
    assert abs(noise.var() - torch.pi**2 / 6) < 0.03


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_permuting_the_operations_permutes_the_gradient(name, alpha):
    """With the noise permuted along, nothing else changes."""
    a, order = alpha(), torch.randperm(8)
    space = SearchSpace.minimal()
    cost = torch.randn(5, 8, dtype=torch.float64)
    noise = gumbel(a, stream(0, "mask"))

    def gradient(a, cost, noise):
        a = a.detach().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nascore.frameworks.gumbel", lambda like, generator: noise)
            mask = build_framework(name, space).draw(a, None)
        return pull_back(mask.score, mask.weight * cost, a)

    permuted = gradient(a[:, order], cost[:, order], noise[:, order])
    assert torch.allclose(permuted, gradient(a, cost, noise)[:, order], atol=1e-14)


def test_closed_forms_of_the_alpha_gradient(alpha):
    """DARTS: C_m - Z_m sum C; SNAS: the same over temperature; DSNAS: C_k (delta_km - p_m)."""
    a, space = alpha(), SearchSpace.minimal()
    for framework, temperature in ((DARTS(space), 1), (SNAS(space, 0.4), 0.4)):
        mask = framework.draw(a, stream(0, "mask"))
        cost = mask.weight * torch.randn_like(mask.weight)
        expected = (cost - mask.weight * cost.sum(dim=1, keepdim=True)) / temperature
        assert torch.allclose(pull_back(mask.score, cost, a), expected, atol=1e-12)
    mask = DSNAS(space).draw(a, stream(0, "mask"))
    cost = mask.weight * torch.randn(5, 1, dtype=torch.float64)
    expected = cost.sum(dim=1, keepdim=True) * (mask.weight - F.softmax(a, dim=1))
    assert torch.allclose(pull_back(mask.score, cost, a), expected, atol=1e-12)


def test_unknown_framework():
    with pytest.raises(ConfigError, match="unknown framework 'dart'. Did you mean 'darts'"):
        build_framework("dart", SearchSpace.minimal())
