"""What every framework must obey. The names come from the registry, and so do those of others."""

import inspect
import re

import numpy as np
import pytest
import torch

from nascore import search
from nascore.errors import ConfigError
from nascore.frameworks import FRAMEWORKS
from nascore.runs import checkpoint
from nascore.runs.algorithm import Search
from nascore.runs.provenance import Maker

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)
levels = pytest.mark.parametrize("level", ["single", "bi"])


def test_what_is_not_allowed_has_weight_gradient_and_probability_zero(
    name, learner, restricted, forbidden, batch
):
    made, out = learner(name, restricted), forbidden(restricted)
    made.step(batch, ["alpha"])  # a moving baseline has seen a loss
    seen = made.step(batch, ["alpha"])
    assert (seen.mask.weight >= 0).all() and (seen.mask.weight[out] == 0).all()
    assert (seen.mask.cost_scale[out] == 0).all()
    assert (seen.cost[:, out] == 0).all()
    for key, p in made.learned.items():
        assert p.grad.isfinite().all() and (p.grad != 0).any(), key
    if "alpha" in made.learned:
        gradient = made.alpha.grad
        assert (gradient[out] == 0).all()
        assert (gradient[0] == 0).all()  # only `none` is allowed there: nothing to choose
    probability = made.recorded()["probability"]
    assert probability.shape == out.shape
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (probability[out] == 0).all()
    assert (probability.max(dim=1).values > 0).all()


def test_nothing_is_random_but_by_the_generator(name, learner, restricted):
    made = learner(name, restricted)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    generator, state = made.streams["mask"], made.streams["mask"].get_state()
    one = made.draw()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    generator.set_state(state)
    other = made.draw()
    for part in ("weight", "score", "cost_scale"):
        assert torch.equal(getattr(one, part), getattr(other, part))


@levels
def test_it_learns_on_both_levels(name, level, tiny):
    config = tiny.replace(framework=name, level=level, search_examples=64)
    learner = Search(config)
    own = {key: p.detach().clone() for key, p in learner.learned.items()}
    theta = [p.detach().clone() for p in learner.theta]
    finish(learner)
    for key, p in learner.learned.items():
        assert p.isfinite().all() and torch.equal(p, own[key]) == config.freeze_alpha, key
    assert all(p.isfinite().all() for p in learner.theta)
    assert any(not torch.equal(p, before) for p, before in zip(learner.theta, theta, strict=True))
    history = learner.history.to_xarray()
    assert np.isfinite(history.probability).all()


def test_resume_is_bit_equal(name, tiny, tmp_path):
    """Two epochs, save, load, two more = four at once: all that has been learned or recorded."""
    small = tiny.replace(cells=1, batch_size=48, epochs=4, augment=True)
    config = small.replace(level="bi", framework=name, search_examples=64)
    whole, first, second = (Search(config) for _ in range(3))
    finish(whole)
    for _ in range(3):
        first.epoch()
    checkpoint.save(tmp_path / "checkpoint", first, Maker(first.device))
    checkpoint.load(tmp_path / "checkpoint", second)
    finish(second)
    for one, other in zip(everything(whole), everything(second), strict=True):
        assert torch.equal(one, other)
    histories = [s.history.to_xarray().drop_vars("seconds") for s in (whole, second)]
    assert histories[0].identical(histories[1])


def finish(one):
    """Runs all epochs that are left."""
    while one.epochs_done < one.config.epochs:
        one.epoch()


def everything(learner):
    """All tensors that a search goes on with."""
    yield from learner.supernet.state_dict().values()
    yield from learner.learned.values()
    yield from learner.state.values()
    for optimiser in (learner.theta_optimiser, learner.alpha_optimiser):
        for values in optimiser.state_dict()["state"].values():
            yield from (value for value in values.values() if isinstance(value, torch.Tensor))


def test_a_step_reads_one_thing_from_the_device_at_most(name, tiny, monkeypatch):
    """On the meta device every read of a value raises, so a whole step there reads none.

    Only a framework that is not dense may read one thing, its choice, by one `tolist`.
    """
    reads, plain = [], torch.Tensor.tolist

    def answer(tensor):
        if tensor.device.type != "meta":
            return plain(tensor)
        reads.append(tensor.shape)
        return np.arange(tensor.numel()).reshape(tensor.shape).__mod__(8).tolist()

    shapes_of_gamma_gradients()
    setup = Search(tiny.replace(framework=name, level="bi", search_examples=64, device="meta"))
    monkeypatch.setattr(torch.Tensor, "tolist", answer)
    for split in setup.batches:
        reads.clear()
        learns = ["theta"] * (split == "train") + ["alpha"] * (split == setup.alpha_split)
        seen = setup.step(setup.batch(split), learns)
        assert seen.logits.device.type == "meta"
        assert len(reads) == (not FRAMEWORKS[name].dense)


def shapes_of_gamma_gradients():
    """Teaches torch what its derivative of a gamma sample looks like without values."""
    nothing = torch.empty(1, device="meta")
    try:
        torch._standard_gamma_grad(nothing, nothing)
    except NotImplementedError:
        library = torch.library.Library("aten", "IMPL", "Meta")
        library.impl("_standard_gamma_grad", lambda c, g: torch.empty_like(g))
        globals()["_kept"] = library  # it teaches as long as it lives


def test_a_search_where_only_none_is_left_goes_on(name, tiny):
    allowed = {edge: ["none"] for edge in ("(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)")}
    run = search(tiny.replace(allowed=allowed, framework=name), progress=False)
    assert np.isfinite(run.history.probability).all()
    assert (run.active_edges == 0).all()
    cost = run.history.cost_mean.sel(operation="none")
    assert (cost.sel(edge="(0,2)") == 0).all()
    assert cost.sel(edge="(2,3)").isnull().all()  # nothing reaches node 2
    assert run.output_cost.sel(split="train").values == pytest.approx(0, abs=1e-5)


def test_second_order_is_for_those_that_unroll(name, tiny):
    settings = dict(framework=name, level="bi", search_examples=64, order=2, epochs=1)
    settings["freeze_alpha"] = False
    if not FRAMEWORKS[name].unrolls:
        with pytest.raises(ConfigError, match=f"order=2 with framework='{name}'"):
            tiny.replace(**settings)
        return
    if name == "darts-pt":
        settings["framework_options"] = {"tuning": 0}  # minutes, and nothing to alpha
    second, first = (
        search(tiny.replace(**{**settings, "order": order}), progress=False).history.alpha
        for order in (2, 1)
    )
    assert np.isfinite(second).all()
    assert not second.equals(first)


def test_an_unknown_option_is_refused(name, tiny):
    with pytest.raises(ConfigError, match=f"framework '{name}': unknown option 'luck'"):
        tiny.replace(framework=name, framework_options={"luck": 7})


def test_it_names_its_source_and_has_a_row_in_the_books_table(name, notebook_cells):
    source = inspect.getdoc(FRAMEWORKS[name]).splitlines()[-1]
    assert re.fullmatch(r"Source: \w+( et al\.| and \w+)?, (19|20)\d\d.*\.", source)
    assert all(notebook_cells("frameworks", "frameworks-formulas")["FORMULAS"][name])
