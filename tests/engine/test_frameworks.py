import itertools
import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, SearchSpace, search
from nascore.engine.cost import pull_back
from nascore.engine.frameworks import (
    DARTS,
    DSNAS,
    FRAMEWORKS,
    SNAS,
    ProxylessNAS,
    build_framework,
    describe,
    gumbel,
    register,
)
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.errors import ConfigError

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
    noises = [gumbel(a, stream(seed, "mask")) for seed in (0, 1)]

    def gradient(a, cost, noises):
        a, rest = a.detach().requires_grad_(), iter(noises)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nascore.engine.frameworks.gumbel", lambda like, generator: next(rest))
            mask = FRAMEWORKS[name](space).draw(a, None)
        return pull_back(mask.score, mask.cost_weight * cost, a)

    permuted = gradient(a[:, order], cost[:, order], [noise[:, order] for noise in noises])
    assert torch.allclose(permuted, gradient(a, cost, noises)[:, order], atol=1e-14)


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
    mask = ProxylessNAS(space).draw(a, stream(0, "mask"))
    q = mask.cost_weight
    cost = q * torch.randn_like(q)
    expected = cost - q * cost.sum(dim=1, keepdim=True)
    assert torch.allclose(pull_back(mask.score, cost, a), expected, atol=1e-12)
    assert ((expected != 0).sum(dim=1) == 2).all()


def test_proxylessnas_compares_two_operations_and_runs_one(alpha):
    """Pairs without replacement from p, the active one of them by q: 4000 draws on one edge.

    Chi-square over the 6 ordered pairs of 3 operations, 5 degrees of freedom; 20.5 is its 0.999
    quantile.
    """
    space = SearchSpace(nodes=1, inputs=1, operations=["none", "skip_connect", "sep_conv_3x3"])
    a, generator, draws = alpha(space), stream(0, "mask"), 4000
    p = a.detach().softmax(dim=1)[0]
    counts, expected = torch.zeros(3, 3), torch.zeros(3, 3)
    for _ in range(draws):
        mask = ProxylessNAS(space).draw(a, generator)
        ((k,),), ((m,),) = mask.active, mask.probed
        counts[k, m] += 1
        assert mask.weight[0, k] == 1 and mask.weight.sum() == 1
        q = p[[k, m]] / p[[k, m]].sum()
        assert torch.allclose(mask.cost_weight[0, [k, m]], q)
        assert mask.cost_weight.sum() == pytest.approx(1)
    for k, m in itertools.permutations(range(3), 2):
        together = p[k] * p[m] / (1 - p[k]) + p[m] * p[k] / (1 - p[m])
        expected[k, m] = draws * together * p[k] / (p[k] + p[m])
    assert expected.sum().item() == pytest.approx(draws)
    off = expected > 0
    assert ((counts - expected)[off] ** 2 / expected[off]).sum() < 20.5


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr("nascore.engine.frameworks.FRAMEWORKS", dict(FRAMEWORKS))

    @dataclass(frozen=True)
    class Mine:
        space: SearchSpace

        def draw(self, alpha, generator):
            return DARTS(self.space).draw(alpha)

    with pytest.raises(ConfigError, match="'darts' is registered twice: it is DARTS already"):
        register("darts")(Mine)
    assert register("mine")(Mine) is Mine
    assert build_framework("mine", SearchSpace.minimal(), temperature=3.0) == Mine(SearchSpace())
    with pytest.raises(ConfigError, match="Choose another name for .*, or replace=True"):
        register("mine")(Mine)
    register("mine", replace=True)(Mine)

    @register("warm")
    @dataclass(frozen=True)
    class Warm(Mine):
        width: int = 3
        temperature: float = 1.0

    assert build_framework("warm", SearchSpace(), temperature=0.3) == Warm(SearchSpace(), 3, 0.3)
    assert SearchConfig(framework="mine", dataset="synthetic").framework == "mine"


def test_a_score_that_does_not_depend_on_alpha_is_refused(monkeypatch, alpha, tiny):
    monkeypatch.setattr("nascore.engine.frameworks.FRAMEWORKS", dict(FRAMEWORKS))

    @register("deaf")
    @dataclass(frozen=True)
    class Deaf:
        space: SearchSpace

        def draw(self, alpha, generator):
            mask = DARTS(self.space).draw(alpha)
            return Mask(mask.weight, mask.score.detach(), mask.active, one_hot=False)

    with pytest.raises(ConfigError, match="framework 'deaf': the score does not depend on alpha"):
        search(tiny.replace(framework="deaf"), progress=False)
    a, other = alpha(), alpha()
    with pytest.raises(ConfigError, match="does not depend on alpha"):
        pull_back(DARTS(SearchSpace()).draw(other).score, torch.zeros(5, 8).double(), a)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_describes_itself(name):
    """The book's table is made of these lines."""
    text = describe(name)
    assert set(text) == {"mask", "score", "gradient", "source"}
    assert all(text.values())
    assert re.fullmatch(r"\w+ et al., 20\d\d \(arXiv:\d{4}\.\d{5}\)", text["source"])


def test_unknown_framework():
    with pytest.raises(ConfigError, match="unknown framework 'dart'. Did you mean 'darts'"):
        build_framework("dart", SearchSpace.minimal())
