import itertools
import sys
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchSpace, search
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import gumbel, stream
from nascore.errors import ConfigError
from nascore.frameworks import (
    DARTS,
    DSNAS,
    FRAMEWORKS,
    SNAS,
    Framework,
    ProxylessNAS,
    framework,
    make_framework,
)
from nascore.runs.setup import check_framework
from nascore.runs.step import Learner

RESTRICTED = SearchSpace(allowed={"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]})


@pytest.mark.parametrize("name", sorted(set(FRAMEWORKS) - {"fairdarts", "pcdarts"}))
def test_mask_is_a_distribution_over_allowed_operations(name, alpha, draw):
    mask = draw(name, RESTRICTED, alpha())
    assert torch.allclose(mask.weight.sum(dim=1), torch.ones(5, dtype=torch.float64))
    forbidden = torch.ones(5, 8, dtype=torch.bool)
    for edge, choices in enumerate(RESTRICTED.choices):
        forbidden[edge, list(choices)] = False
    assert (mask.weight[forbidden] == 0).all()
    assert all(
        set(row) <= set(choices)
        for row, choices in zip(mask.running(RESTRICTED), RESTRICTED.choices, strict=True)
    )


def test_darts_weights_are_the_softmax(alpha):
    a = alpha()
    mask = DARTS().draw(a)
    assert torch.allclose(mask.weight, a.softmax(dim=1))
    assert not mask.one_hot


def test_dsnas_samples_from_the_softmax(alpha):
    """Chi-square of 4000 draws on each edge, 7 degrees of freedom; 24.3 is its 0.999 quantile."""
    a, generator, draws = alpha(), stream(0, "mask"), 4000
    counts = sum(DSNAS().draw(a, generator).weight for _ in range(draws))
    expected = draws * a.detach().softmax(dim=1)
    assert (((counts - expected) ** 2 / expected).sum(dim=1) < 24.3).all()


def test_dsnas_evaluates_one_operation_an_edge(alpha):
    mask = DSNAS().draw(alpha(SearchSpace.normal()), stream(0, "mask"))
    assert [len(row) for row in mask.active] == [1] * 14
    assert mask.weight.argmax(dim=1).tolist() == [row[0] for row in mask.active]


def test_snas_approaches_a_one_hot_sample_of_the_softmax_as_it_cools(alpha):
    a = alpha()
    cold = SNAS(temperature=1e-3).draw(a, stream(0, "mask")).weight
    sample = DSNAS().draw(a, stream(0, "mask")).weight
    assert torch.allclose(cold, sample, atol=1e-6)
    hot = SNAS(temperature=1e3).draw(a, stream(0, "mask")).weight
    assert torch.allclose(hot, torch.full_like(hot, 1 / 8), atol=2e-3)


def test_gumbel_noise_has_the_right_mean_and_variance():
    noise = gumbel(torch.empty(200_000), stream(0, "mask"))
    assert abs(noise.mean() - 0.5772) < 4 * 1.2825 / 200_000**0.5
    assert abs(noise.var() - torch.pi**2 / 6) < 0.03


@pytest.mark.parametrize("kind", [DARTS, SNAS, DSNAS, ProxylessNAS])
def test_permuting_the_operations_permutes_the_gradient(kind, alpha, monkeypatch):
    """With the noise permuted along, nothing else changes."""
    a, order = alpha(), torch.randperm(8, generator=stream(0, "order"))
    cost = torch.randn(5, 8, dtype=torch.float64, generator=stream(0, "cost"))
    noises = [gumbel(a, stream(seed, "mask")) for seed in (0, 1)]

    def gradient(a, cost, noises):
        a, rest = a.detach().requires_grad_(), iter(noises)
        module = sys.modules[kind.__module__]
        monkeypatch.setattr(module, "gumbel", lambda like, generator: next(rest), raising=False)
        mask = kind().on(SearchSpace.minimal()).draw(a, None)
        return pull_back(mask.score, mask.cost_weight * cost, [a])[0]

    permuted = gradient(a[:, order], cost[:, order], [noise[:, order] for noise in noises])
    assert torch.allclose(permuted, gradient(a, cost, noises)[:, order], atol=1e-14)


def test_closed_forms_of_the_alpha_gradient(alpha):
    """DARTS: C_m - Z_m sum C; SNAS: the same over temperature; DSNAS: C_k (delta_km - p_m)."""
    a, random = alpha(), torch.randn(5, 8, dtype=torch.float64, generator=stream(0, "cost"))
    for dense, temperature in ((DARTS(), 1), (SNAS(temperature=0.4), 0.4)):
        mask = dense.draw(a, stream(0, "mask"))
        cost = mask.weight * random
        expected = (cost - mask.weight * cost.sum(dim=1, keepdim=True)) / temperature
        assert torch.allclose(pull_back(mask.score, cost, [a])[0], expected, atol=1e-12)
    mask = DSNAS().draw(a, stream(0, "mask"))
    cost = mask.weight * random[:, :1]
    expected = cost.sum(dim=1, keepdim=True) * (mask.weight - F.softmax(a, dim=1))
    assert torch.allclose(pull_back(mask.score, cost, [a])[0], expected, atol=1e-12)
    mask = ProxylessNAS().on(SearchSpace()).draw(a, stream(0, "mask"))
    q = mask.cost_weight
    cost = q * random
    expected = cost - q * cost.sum(dim=1, keepdim=True)
    assert torch.allclose(pull_back(mask.score, cost, [a])[0], expected, atol=1e-12)
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
        mask = ProxylessNAS().on(space).draw(a, generator)
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


class Halved(Framework):
    """DARTS with an option, an own parameter, a penalty and a state."""

    share: float = 0.5
    recorded: ClassVar = {"edge_weight": (("epoch", "edge"), "f4", "weight of the edge", "1")}

    def parameters(self, alpha):
        return {"alpha": alpha, "edge_weight": alpha.new_zeros(len(alpha))}

    def state(self):
        return {"steps": torch.zeros(())}

    def next_state(self, loss, steps):
        return {"steps": steps + 1}

    def draw(self, alpha, edge_weight, generator):
        gate = edge_weight.sigmoid().unsqueeze(1)
        score = alpha.log_softmax(dim=1) + self.share * gate.log()
        return Mask(score.detach().exp(), score)

    def probability(self, alpha, edge_weight):
        return alpha.softmax(dim=1)

    def cost(self, mask, cost, loss, steps):
        return (steps + 1) * cost.sum(dim=0)

    def penalty(self, alpha, edge_weight):
        return self.share * (edge_weight - 1).square().sum()


def test_a_framework_that_learns_more_and_remembers(supernet, batch, alpha):
    """Own parameters, state, schedule of the cost and penalty, against plain autograd: 1e-10."""
    net, framework = supernet(), Halved(share=0.3).on(SearchSpace())
    learned = {n: p.detach().requires_grad_() for n, p in framework.parameters(alpha()).items()}
    learner = Learner(
        supernet=net,
        framework=framework,
        architecture=learned,
        state=framework.state(),
        theta_optimiser=torch.optim.SGD(net.parameters(), 0.0),
        alpha_optimiser=torch.optim.Adam(learned.values(), 1e-9),
    )
    for factor in (1, 2):
        learner.step(batch, None, alpha=True)
        a, e = (p.detach().requires_grad_() for p in learned.values())
        z = a.softmax(dim=1) * e.sigmoid().unsqueeze(1) ** 0.3
        loss = factor * F.cross_entropy(net(batch[0], z, Mask(z, z)), batch[1])
        (loss + 0.3 * (e - 1).square().sum()).backward()
        assert torch.allclose(learned["alpha"].grad, a.grad, atol=1e-8)
        assert torch.allclose(learned["edge_weight"].grad, e.grad, atol=1e-8)
    assert learner.state["steps"] == 2
    assert set(learner.recorded()) == {"alpha", "edge_weight", "probability"}


def test_options_are_fields(alpha):
    assert make_framework("snas", temperature=2) == SNAS(temperature=2.0)
    with pytest.raises(
        ConfigError, match="unknown option 'temprature'. Did you mean 'temperature'"
    ):
        make_framework("snas", temprature=2)
    with pytest.raises(ConfigError, match="temperature=0: input should be greater than 0"):
        make_framework("snas", temperature=0)
    with pytest.raises(ConfigError, match="temperature=inf"):
        make_framework("snas", temperature=float("inf"))
    with pytest.raises(ConfigError, match="framework 'darts': unknown option .* Allowed: none"):
        make_framework("darts", temperature=0.5)


def test_a_schedule_is_another_value():
    cooling = SNAS(temperature=2.0, temperature_end=0.5)
    assert [cooling.at(x).temperature for x in (0, 0.5, 1)] == pytest.approx([2.0, 1.0, 0.5])
    assert cooling.temperature == 2.0 and SNAS().at(0.5) == SNAS() and DARTS().at(0.5) == DARTS()


def test_a_framework_knows_its_space_once_it_is_told():
    with pytest.raises(ConfigError, match="DARTS has no space yet"):
        _ = DARTS().space
    free = DARTS()
    assert free.on(RESTRICTED).space is RESTRICTED
    with pytest.raises(ConfigError, match="no space yet"):
        _ = free.space  # a value: nothing was written to it


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(FRAMEWORKS, "_known", dict(FRAMEWORKS._known))


def test_a_name_is_registered_once(registry):
    class Mine(Framework):
        width: int = 3

        def draw(self, alpha, generator):
            return DARTS().draw(alpha)

    with pytest.raises(ConfigError, match=r"'darts' is registered twice: it is .*DARTS already"):
        framework("darts")(Mine)
    assert framework("mine")(Mine) is Mine
    assert make_framework("mine", width=4) == Mine(width=4)
    framework("mine")(Mine)  # the same again, as when a cell runs again
    with pytest.raises(ConfigError, match="Choose another name for .*, or replace=True"):
        framework("mine")(Halved)
    framework("mine", replace=True)(Halved)
    assert FRAMEWORKS["mine"] is Halved


def test_what_is_no_framework_is_refused():
    class NoDraw(Framework):
        pass

    class Required(Framework):
        width: int

        def draw(self, alpha, generator):
            return DARTS().draw(alpha)

    with pytest.raises(ConfigError, match="'x': .* Make it a class that inherits from Framework"):
        framework("x")(object)
    with pytest.raises(ConfigError, match=r"NoDraw has no draw\(self, alpha, generator\)"):
        framework("x")(NoDraw)
    with pytest.raises(ConfigError, match="option width has no default"):
        framework("x")(Required)
    assert "x" not in FRAMEWORKS


def test_a_mask_that_cannot_work_is_refused_before_any_work(alpha):
    class Deaf(Framework):
        def draw(self, alpha, generator):
            return Mask(alpha.softmax(dim=1), alpha.detach())

    class Flat(Framework):
        def draw(self, alpha, generator):
            return Mask(alpha.softmax(dim=1).sum(dim=0), alpha)

    with pytest.raises(ConfigError, match="Deaf: the score does not depend on alpha"):
        check_framework(Deaf().on(SearchSpace()), {"alpha": alpha()})
    with pytest.raises(ConfigError, match=r"Flat: weight of its mask is \(8,\), not \(5, 8\)"):
        check_framework(Flat().on(SearchSpace()), {"alpha": alpha()})
    with pytest.raises(ConfigError, match="does not depend on alpha"):
        pull_back(DARTS().draw(alpha()).score, torch.zeros(5, 8).double(), [alpha()])


def test_unknown_framework():
    with pytest.raises(ConfigError, match="unknown framework 'dart'. Did you mean 'darts'"):
        make_framework("dart")


@pytest.mark.parametrize(
    "method, message",
    [
        (lambda self, alpha, generator: alpha.softmax(dim=1), "draw returns Tensor, not a Mask"),
        (lambda self, alpha, generator: alpha.sofmax(), "fails, line .*: AttributeError: 'Tensor'"),
        (lambda self, alpha: None, "fails, TypeError: .* argument 'generator'"),
    ],
)
def test_a_draw_that_fails_is_named(method, message, alpha):
    kind = type("Mine", (DARTS,), {"draw": method, "__module__": __name__})
    with pytest.raises(ConfigError, match=f"framework Mine:? {message}"):
        check_framework(kind().on(SearchSpace()), {"alpha": alpha()})


@pytest.mark.parametrize(
    "name, method, message",
    [
        ("probability", lambda self, alpha: alpha[0], r"probability is \(8,\), not \(5, 8\)"),
        ("cost", lambda self, mask, cost, loss: cost, r"cost is \(1, 5, 8\), not \(5, 8\)"),
        ("penalty", lambda self, alpha: alpha, r"penalty is \(5, 8\), not a scalar"),
        ("next_state", lambda self, loss: {"b": loss}, r"next_state returns \['b'\], but state"),
    ],
)
def test_what_a_step_could_not_use_is_named(name, method, message, alpha):
    kind = type("Mine", (DARTS,), {name: method, "__module__": __name__})
    with pytest.raises(ConfigError, match=f"framework Mine: {message}"):
        check_framework(kind().on(SearchSpace()), {"alpha": alpha()})


class Controller(Framework):
    """Learns no alpha: the scores are a product of two small matrices."""

    def parameters(self, alpha):
        draw = torch.Generator().manual_seed(0)
        left = torch.randn(len(alpha), 2, generator=draw)
        return {"left": left, "right": torch.randn(2, alpha.shape[1], generator=draw)}

    def draw(self, left, right, generator):
        score = (left @ right).log_softmax(dim=1)
        sampled = score.detach().exp().multinomial(1, generator=generator)
        return Mask.sample(sampled[:, 0], score)

    def probability(self, left, right):
        return (left @ right).softmax(dim=1)


def test_a_framework_need_not_learn_an_alpha(tiny):
    run = search(tiny.replace(framework=Controller), progress=False)
    assert run.history.alpha.isnull().all()
    moved = run.history.probability[-1] - run.history.probability[0]
    assert float(abs(moved).max()) > 0.01 and run.wiring.space == tiny.space
