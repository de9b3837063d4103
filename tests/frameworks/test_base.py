import itertools
import sys
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, SearchSpace, search
from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import gumbel, stream
from nascore.errors import ConfigError
from nascore.frameworks import (
    DARTS,
    DSNAS,
    FRAMEWORKS,
    SNAS,
    Context,
    Framework,
    ProxylessNAS,
    framework,
    make_framework,
)
from nascore.runs.algorithm import Search

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
    mask = DARTS().draw(Context({"alpha": a}))
    assert torch.allclose(mask.weight, a.softmax(dim=1))
    assert not mask.one_hot


def test_dsnas_samples_from_the_softmax(alpha):
    """Chi-square of 4000 draws on each edge, 7 degrees of freedom; 24.3 is its 0.999 quantile."""
    a, generator, draws = alpha(), stream(0, "mask"), 4000
    counts = sum(
        DSNAS().draw(Context({"alpha": a}, generator=generator)).weight for _ in range(draws)
    )
    expected = draws * a.detach().softmax(dim=1)
    assert (((counts - expected) ** 2 / expected).sum(dim=1) < 24.3).all()


def test_dsnas_evaluates_one_operation_an_edge(alpha):
    mask = DSNAS().draw(
        Context({"alpha": alpha(SearchSpace(nodes=4))}, generator=stream(0, "mask"))
    )
    assert [len(row) for row in mask.active] == [1] * 14
    assert mask.weight.argmax(dim=1).tolist() == [row[0] for row in mask.active]


def test_snas_approaches_a_one_hot_sample_of_the_softmax_as_it_cools(alpha):
    a = alpha()
    cold = SNAS(temperature=1e-3).draw(Context({"alpha": a}, generator=stream(0, "mask"))).weight
    sample = DSNAS().draw(Context({"alpha": a}, generator=stream(0, "mask"))).weight
    assert torch.allclose(cold, sample, atol=1e-6)
    hot = SNAS(temperature=1e3).draw(Context({"alpha": a}, generator=stream(0, "mask"))).weight
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
        mask = kind().draw(Context({"alpha": a}, space=SearchSpace()))
        return pull_back(mask.score, mask.cost_scale * cost, [a])[0]

    permuted = gradient(a[:, order], cost[:, order], [noise[:, order] for noise in noises])
    assert torch.allclose(permuted, gradient(a, cost, noises)[:, order], atol=1e-14)


def test_closed_forms_of_the_alpha_gradient(alpha):
    """DARTS: C_m - Z_m sum C; SNAS: the same over temperature; DSNAS: C_k (delta_km - p_m)."""
    a, random = alpha(), torch.randn(5, 8, dtype=torch.float64, generator=stream(0, "cost"))
    for dense, temperature in ((DARTS(), 1), (SNAS(temperature=0.4), 0.4)):
        mask = dense.draw(Context({"alpha": a}, generator=stream(0, "mask")))
        cost = mask.weight * random
        expected = (cost - mask.weight * cost.sum(dim=1, keepdim=True)) / temperature
        assert torch.allclose(pull_back(mask.score, cost, [a])[0], expected, atol=1e-12)
    mask = DSNAS().draw(Context({"alpha": a}, generator=stream(0, "mask")))
    cost = mask.weight * random[:, :1]
    expected = cost.sum(dim=1, keepdim=True) * (mask.weight - F.softmax(a, dim=1))
    assert torch.allclose(pull_back(mask.score, cost, [a])[0], expected, atol=1e-12)
    mask = ProxylessNAS().draw(
        Context({"alpha": a}, generator=stream(0, "mask"), space=SearchSpace())
    )
    q = mask.cost_scale
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
        mask = ProxylessNAS().draw(Context({"alpha": a}, generator=generator, space=space))
        ((k,),), ((m,),) = mask.active, mask.gradient_only
        counts[k, m] += 1
        assert mask.weight[0, k] == 1 and mask.weight.sum() == 1
        q = p[[k, m]] / p[[k, m]].sum()
        assert torch.allclose(mask.cost_scale[0, [k, m]], q)
        assert mask.cost_scale.sum() == pytest.approx(1)
    for k, m in itertools.permutations(range(3), 2):
        together = p[k] * p[m] / (1 - p[k]) + p[m] * p[k] / (1 - p[m])
        expected[k, m] = draws * together * p[k] / (p[k] + p[m])
    assert expected.sum().item() == pytest.approx(draws)
    off = expected > 0
    assert ((counts - expected)[off] ** 2 / expected[off]).sum() < 20.5


class Halved(Framework):
    """DARTS with an option, an own parameter, a penalty and a state."""

    share: float = 0.5
    recorded: ClassVar = {
        "edge_weight": (("epoch", "edge"), "f4", "weight of the edge", "1"),
        "steps": (("epoch",), "i4", "steps so far", "1"),
    }

    def parameters(self, alpha, generator):
        return {"alpha": alpha, "edge_weight": alpha.new_zeros(len(alpha))}

    def optimiser(self, parameters, config):
        return torch.optim.SGD(parameters, config.arch_lr)

    def state(self, space):
        return {"steps": torch.tensor(0)}

    def next_state(self, context):
        return {"steps": context.state["steps"] + 1}

    def draw(self, context):
        gate = context.learned["edge_weight"].sigmoid().unsqueeze(1)
        score = context.alpha.log_softmax(dim=1) + self.share * gate.log()
        return Mask(score.detach().exp(), score)

    def cost(self, context):
        return (context.state["steps"] + 1) * context.cost.sum(dim=0)

    def penalty(self, context):
        return self.share * (context.learned["edge_weight"] - 1).square().sum()


def test_a_framework_that_learns_more_and_remembers(learner, batch):
    """Own parameters, optimiser, state, cost and penalty, against plain autograd: 1e-10."""
    one = learner(Halved(share=0.3), SearchSpace())
    for factor in (1, 2):
        before = {name: p.detach().clone() for name, p in one.learned.items()}
        a, e = (p.clone().requires_grad_() for p in before.values())
        one.step(batch, ["alpha"])
        z = a.softmax(dim=1) * e.sigmoid().unsqueeze(1) ** 0.3
        loss = factor * F.cross_entropy(one.supernet(batch[0], z, Mask(z, z)), batch[1])
        (loss + 0.3 * (e - 1).square().sum()).backward()
        for name, p in (("alpha", a), ("edge_weight", e)):
            assert torch.allclose(one.learned[name].grad, p.grad, atol=1e-10)
            assert torch.allclose(one.learned[name], before[name] - 0.1 * p.grad, atol=1e-10)
    recorded = one.recorded()
    assert set(recorded) == {"alpha", "edge_weight", "probability", "steps"}
    assert recorded["steps"] == 2


class Seen(Framework):
    """Keeps every context that it gets, to look at."""

    seen: ClassVar[list] = []
    separate: ClassVar[bool] = True

    def draw(self, context):
        self.seen.append(("draw", context))
        return DARTS().draw(context)

    def learns(self, epoch, epochs):
        return ("theta",) if epoch == 1 else ("theta", "alpha")

    def next_state(self, context):
        self.seen.append(("next_state", context))
        return context.state


def test_a_context_says_who_learns_when_and_what_was_seen(learner, tiny):
    """Theta alone in the first epoch, then both, by masks of their own."""
    Seen.seen.clear()
    one = Search(tiny.replace(framework=Seen, train_examples=64, valid_examples=0))
    for _ in range(3):
        one.epoch()
    assert [(name, c.epoch, c.step, list(c.learns)) for name, c in Seen.seen] == [
        *[("draw", 0, 0, [])] * 2,
        *[("draw", 1, step, ["theta"]) for step in (0, 1)],
        *(
            (name, 2, step, [who])
            for step in (0, 1)
            for name, who in (("draw", "alpha"), ("next_state", "alpha"), ("draw", "theta"))
        ),
    ]
    (name, last), epochs = Seen.seen[-2], [c.progress for _, c in Seen.seen]
    assert name == "next_state" and last.epochs == 2 and epochs == [0] * 4 + [1] * 6
    assert last.mask.weight.shape == (5, 8) and last.cost.shape == (2, 5, 8)
    assert last.logits.shape == (32, 4) and last.labels.shape == (32,)
    assert torch.equal(last.loss, F.cross_entropy(last.logits, last.labels))


def test_a_framework_may_ask_for_settings():
    @framework("asking")
    class Asking(DARTS):
        settings: ClassVar = {"arch_weight_decay": 0, "alpha_mean": 0.0}

    config = SearchConfig(framework=Asking)
    assert (config.arch_weight_decay, config.alpha_mean) == (0, 0)
    assert SearchConfig(framework=Asking, alpha_mean=2).alpha_mean == 2
    back = config.replace(framework="darts")
    assert (back.arch_weight_decay, back.alpha_mean) == (1e-3, 1)
    assert back == SearchConfig(framework="darts")
    kept = config.replace(alpha_mean=2).replace(framework="darts")
    assert kept == SearchConfig(framework="darts", alpha_mean=2)

    @framework("wrong")
    class Wrong(DARTS):
        settings: ClassVar = {"arch_wd": 0}

    with pytest.raises(ConfigError, match="unknown config field 'arch_wd'"):
        SearchConfig(framework=Wrong)


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


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(FRAMEWORKS, "_known", dict(FRAMEWORKS._known))


def test_a_name_is_registered_once(registry):
    class Mine(Framework):
        width: int = 3

        def draw(self, context):
            return DARTS().draw(context)

    with pytest.raises(ConfigError, match=r"'darts' is registered twice: it is .*DARTS already"):
        framework("darts")(Mine)
    assert framework("mine")(Mine) is Mine
    assert make_framework("mine", width=4) == Mine(width=4)
    framework("mine")(Mine)  # the same again, as when a cell runs again
    with pytest.raises(ConfigError, match="Choose another name for .*Halved"):
        framework("mine")(Halved)


def test_what_is_no_framework_is_refused():
    class NoDraw(Framework):
        pass

    class Required(Framework):
        width: int

        def draw(self, context):
            return DARTS().draw(context)

    with pytest.raises(ConfigError, match="'x': .* Make it a class that inherits from Framework"):
        framework("x")(object)
    with pytest.raises(ConfigError, match=r"NoDraw has no draw\(self, context\)"):
        framework("x")(NoDraw)
    with pytest.raises(ConfigError, match="option width has no default"):
        framework("x")(Required)
    assert "x" not in FRAMEWORKS


def test_unknown_framework():
    with pytest.raises(ConfigError, match="unknown framework 'dart'. Did you mean 'darts'"):
        make_framework("dart")


class Controller(Framework):
    """Learns no alpha: the scores are a product of two small matrices."""

    def parameters(self, alpha, generator):
        left = torch.randn(len(alpha), 2, generator=generator)
        return {"left": left, "right": torch.randn(2, alpha.shape[1], generator=generator)}

    def draw(self, context):
        score = (context.learned["left"] @ context.learned["right"]).log_softmax(dim=1)
        sampled = score.detach().exp().multinomial(1, generator=context.generator)
        return Mask.sample(sampled[:, 0], score)

    def probability(self, context):
        return (context.learned["left"] @ context.learned["right"]).softmax(dim=1)


def test_a_framework_need_not_learn_an_alpha(tiny):
    run = search(tiny.replace(framework=Controller), progress=False)
    assert run.history.alpha.isnull().all()
    moved = run.history.probability[-1] - run.history.probability[0]
    assert float(abs(moved).max()) > 0.01 and run.wiring.space == tiny.space


@pytest.mark.parametrize("epochs", [1, 2])
def test_after_the_last_epoch_a_schedule_stays_at_its_end(epochs):
    assert Context({}, epoch=epochs + 1, epochs=epochs).progress == 1


@pytest.mark.parametrize("options", [None, [1]])
def test_options_are_a_dictionary(options):
    with pytest.raises(ConfigError, match="framework_options=.*: give a dictionary"):
        SearchConfig(framework_options=options)
