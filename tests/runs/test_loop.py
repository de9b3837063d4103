import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nascore import search
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.errors import ConfigError
from nascore.frameworks import FRAMEWORKS
from nascore.runs.loop import Searcher
from nascore.runs.setup import set_up
from nascore.runs.step import Learner


def state(searcher):
    """Everything that a search has learned."""
    learner = searcher.setup.learner
    architecture = [p.detach() for p in learner.architecture.values()]
    return [*architecture, *learner.state.values(), *learner.supernet.state_dict().values()]


def alpha_of(searcher):
    return searcher.setup.alpha


def theta_of(searcher):
    return list(searcher.setup.supernet.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def train(config):
    searcher = Searcher(config)
    searcher.finish(progress=False)
    return searcher


def test_search_learns_something(tiny):
    """Thirty epochs on four well separated classes: the loss halves at least."""
    run = search(tiny.replace(epochs=30, lr=0.1), progress=False)
    loss = run.mean_loss.sel(split="train")
    assert float(loss[-1]) < float(loss[0]) / 2


def test_alpha_of_a_single_level_step_is_adam_on_cost_times_score(tiny):
    """The loop's alpha after one step, against Adam on plain autograd through alpha (DARTS).

    In float64: the gradient to 1e-12, and alpha after Adam's step, which divides by it, to 1e-9.
    """
    config = tiny.replace(framework="darts", cost_clamp=None, arch_grad_clip=None)
    setup, plain = (set_up(config, torch.float64) for _ in range(2))
    batch = next(setup.chunks("train"))
    z = plain.alpha.softmax(dim=1)
    logits = plain.supernet(batch[0], z, Mask(z, z))
    F.cross_entropy(logits, batch[1]).backward(inputs=[plain.alpha])
    seen = setup.learner.step(batch, None, theta=True, alpha=True)
    assert torch.allclose(setup.alpha.grad, plain.alpha.grad, atol=1e-12)
    assert plain.alpha.grad.abs().max() > 1e-3
    torch.optim.Adam([plain.alpha], 0.05, (0.5, 0.999), weight_decay=1e-3).step()
    assert torch.allclose(setup.alpha, plain.alpha, atol=1e-9)
    assert {t.dtype for t in (seen.logits, seen.cost, seen.output_cost)} == {torch.float64}


def test_theta_of_a_step_is_sgd_with_clipping_momentum_and_decay(tiny):
    """Two steps of the loop's theta against SGD written out, on a gradient that is clipped."""
    config = tiny.replace(
        framework="darts", freeze_alpha=True, lr=0.1, weight_decay=0.05, grad_clip=0.01
    )
    setup, plain = (set_up(config, torch.float64) for _ in range(2))
    theta = plain.learner.theta
    velocity = [torch.zeros_like(p) for p in theta]
    batches = setup.batches("train")
    for images, labels in (next(batches), next(batches)):
        mask = plain.learner.draw(None)
        loss = F.cross_entropy(plain.supernet(images, mask.weight, mask), labels)
        gradients = torch.autograd.grad(loss, theta)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert norm > 0.01
        with torch.no_grad():
            for p, v, g in zip(theta, velocity, gradients, strict=True):
                v.mul_(0.9).add_(g * 0.01 / (norm + 1e-6) + 0.05 * p)  # as torch clips
                p.sub_(0.1 * v)
        setup.learner.step((images, labels), None, theta=True, measure=False)
    for ours, expected in zip(setup.learner.theta, theta, strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)


def test_the_cost_that_is_measured_does_not_depend_on_who_learns(tiny):
    """The same batch and mask: with theta, with alpha, with neither; and none if not measured."""
    costs = []
    for who in ({}, {"theta": True}, {"alpha": True}, {"theta": True, "alpha": True}):
        setup = set_up(tiny, torch.float64)
        before = [p.detach().clone() for p in (setup.alpha, *setup.learner.theta)]
        seen = setup.learner.step(setup.batch(), setup.streams["mask"], **who)
        costs.append(torch.cat([seen.cost.flatten(), seen.output_cost, seen.logits.flatten()]))
        assert torch.equal(setup.alpha, before[0]) != ("alpha" in who)
        assert same(setup.learner.theta, before[1:]) != ("theta" in who)
    for cost in costs[1:]:
        assert torch.allclose(cost, costs[0], atol=1e-14)
    setup = set_up(tiny)
    seen = setup.learner.step(setup.batch(), setup.streams["mask"], measure=False)
    assert seen.cost is None and seen.output_cost is None and not seen.logits.requires_grad


def test_alphas_gradient_is_clipped(tiny):
    for clip in (1e-6, None):
        searcher = Searcher(tiny.replace(arch_grad_clip=clip))
        searcher.run_epoch(1)
        assert (alpha_of(searcher).grad.norm() <= 1.01e-6) == (clip is not None)


def test_theta_learns_at_the_rate_of_the_schedule(tiny):
    config = tiny.replace(epochs=3)
    searcher = Searcher(config)
    for epoch in (1, 2, 3):
        searcher.run_epoch(epoch)
        (group,) = searcher.setup.learner.theta_optimiser.param_groups
        assert group["lr"] == config.learning_rate(epoch)


def test_augmentation_changes_what_is_learned_and_not_what_is_watched(tiny):
    one, other = (Searcher(tiny.replace(augment=augment)) for augment in (False, True))
    for searcher in (one, other):
        searcher.run_epoch(0)
    histories = [s.history.to_xarray().drop_vars("seconds").sel(epoch=0) for s in (one, other)]
    assert histories[0].identical(histories[1])
    for searcher in (one, other):
        searcher.run_epoch(1)
    assert not same(state(one), state(other))


def test_cost_clamp_limits_what_meets_the_score(tiny, monkeypatch):
    seen = []
    plain = torch.autograd.grad

    def keep(outputs, inputs, grad_outputs, **options):
        seen.append(grad_outputs.abs().max().item())
        return plain(outputs, inputs, grad_outputs=grad_outputs, **options)

    monkeypatch.setattr("nascore.engine.cost.torch.autograd.grad", keep)
    train(tiny.replace(cost_clamp=1e-3))
    assert max(seen) == pytest.approx(1e-3)
    seen.clear()
    train(tiny.replace(cost_clamp=None))
    assert max(seen) > 2e-3


def test_weights_that_were_not_drawn_may_decay_all_the_same(tiny):
    """A step with momentum and decay moves them by -lr (decay w), else by nothing."""
    config = tiny.replace(weight_decay=0.1)
    for decays in (False, True):
        searcher = Searcher(config.replace(decay_unsampled=decays))
        learner, batch = searcher.setup.learner, searcher.setup.batch()
        learner.backpropagate(learner.draw(stream(0, "mask")), batch, theta=True, measure=False)
        idle = [n for n, p in enumerate(learner.theta) if p.grad is None]
        before = [p.detach().clone() for p in learner.theta]
        learner.theta_optimiser.zero_grad()
        learner.step(batch, stream(0, "mask"), theta=True)
        assert len(idle) > 10
        for n in idle:
            factor = 1 - config.lr * 0.1 if decays else 1
            assert torch.allclose(learner.theta[n], factor * before[n], rtol=1e-6)


def test_freeze_alpha_keeps_masks_uniform(tiny):
    run = search(tiny.replace(freeze_alpha=True), progress=False)
    assert (run.history.probability == 1 / 8).all()
    assert float(run.history.cost_count.sum()) > 0


def test_freeze_theta_keeps_theta(tiny):
    for level in ("single", "bi"):
        config = tiny.replace(freeze_theta=True, level=level, search_examples=64)
        after = train(config)
        assert same(theta_of(Searcher(config)), theta_of(after))
        assert not torch.equal(alpha_of(Searcher(config)), alpha_of(after))
        examples = after.history.to_xarray().examples.sum("outcome")
        assert (examples.sel(split="train") == 96).all()


def test_with_alpha_frozen_the_search_half_does_not_touch_theta(tiny):
    config = tiny.replace(level="bi", search_examples=64, freeze_alpha=True)
    one, other = Searcher(config), Searcher(config)
    other.setup.splits["search"].images.mul_(3).add_(1)
    other.setup.splits["search"].labels.copy_(3 - other.setup.splits["search"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert same(state(one), state(other))
    # and with alpha free it does:
    config = config.replace(freeze_alpha=False)
    one, other = Searcher(config), Searcher(config)
    other.setup.splits["search"].labels.copy_(3 - other.setup.splits["search"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert not same(state(one), state(other))


def test_in_bilevel_the_train_half_does_not_touch_alpha_directly(tiny):
    """With theta frozen, other training labels change nothing that alpha sees."""
    config = tiny.replace(level="bi", search_examples=64, freeze_theta=True)
    one, other = Searcher(config), Searcher(config)
    other.setup.splits["train"].labels.copy_(3 - other.setup.splits["train"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert torch.equal(alpha_of(one), alpha_of(other))


def test_alpha_may_learn_from_the_training_set_in_steps_of_its_own(tiny):
    """As in bi-level with a search set of the same examples, and unlike single-level."""
    config = tiny.replace(level="bi", search_set="train")
    searcher = Searcher(config)
    assert searcher.setup.steps == 3 and list(searcher.batches) == ["search", "train"]
    other = Searcher(tiny.replace(level="bi", search_examples=96))
    for split in ("train", "search"):
        for name in ("images", "labels"):
            same_as = getattr(searcher.setup.splits["train"], name)
            getattr(other.setup.splits[split], name).copy_(same_as)
    for one in (searcher, other):
        one.finish(progress=False)
    alphas = [alpha_of(one) for one in (searcher, other, train(tiny))]
    assert torch.equal(alphas[0], alphas[1]) and not torch.equal(alphas[0], alphas[2])


def test_search_batches_drawn_anew(tiny):
    config = tiny.replace(level="bi", search_examples=64)
    one, other = Searcher(config), Searcher(config.replace(search_order="anew"))
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert not torch.equal(alpha_of(one), alpha_of(other))
    seen = other.history.to_xarray().examples.sum("outcome").sel(split="search")
    assert (seen[1:] == 96).all()  # three steps an epoch, as many as theta makes


@pytest.mark.parametrize("level", ["single", "bi"])
def test_watching_the_valid_split_changes_nothing(level, tiny):
    config = tiny.replace(level=level, search_examples=64)
    one, other = Searcher(config), Searcher(config)
    other.setup.splits["valid"].labels.copy_(3 - other.setup.splits["valid"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert same(state(one), state(other))


def test_an_operation_that_is_not_allowed_stays_out(tiny):
    allowed = {"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]}
    run = search(tiny.replace(allowed=allowed), progress=False)
    probability = run.history.probability.sel(edge="(1,3)")
    assert (probability.sel(operation="none") == 0).all()
    assert (run.none_probability.sel(edge="(0,2)") == 1).all()
    counts = run.history.cost_count.sel(edge="(1,3)").sum(["epoch", "cell"])
    assert set(counts.operation.values[counts > 0]) == {"skip_connect", "sep_conv_3x3"}
    assert "(0,2) none" in str(run.wiring)


@pytest.mark.parametrize("level", ["single", "bi"])
def test_same_seed_same_bits_another_seed_differs(level, tiny):
    config = tiny.replace(level=level, search_examples=64, augment=True)
    one, same_seed, other = (
        search(config.replace(seed=seed), progress=False).history.drop_vars("seconds")
        for seed in (0, 0, 1)
    )
    assert one.identical(same_seed)
    assert not one.alpha.equals(other.alpha)


def test_second_order_looks_ahead_to_the_batch_that_theta_learns_from(tiny, monkeypatch):
    config = tiny.replace(framework="darts", level="bi", search_examples=64, order=2, augment=True)
    ahead, learned = [], []
    step = Learner.step

    def keep(self, batch, generator, *, theta=False, alpha=False, measure=True, ahead=None):
        if alpha:
            ahead_of.append(ahead)
        if theta:
            learned.append(batch)
        options = {"theta": theta, "alpha": alpha, "measure": measure, "ahead": ahead}
        return step(self, batch, generator, **options)

    ahead_of = ahead
    monkeypatch.setattr(Learner, "step", keep)
    second = train(config)
    assert len(ahead) == len(learned) == 6
    for one, other in zip(ahead, learned, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    first = train(config.replace(order=1))
    assert not torch.equal(alpha_of(first), alpha_of(second))


def test_temperature_falls_geometrically_to_its_end(tiny):
    options = {"temperature": 2.0, "temperature_end": 0.5}
    config = tiny.replace(framework="snas", framework_options=options, epochs=3)
    searcher = Searcher(config)
    seen = []
    for epoch in range(4):
        searcher.run_epoch(epoch)
        seen.append(searcher.setup.learner.framework.temperature)
    assert seen == pytest.approx([2.0, 2.0, 1.0, 0.5])
    searcher = Searcher(config.replace(epochs=1))
    searcher.run_epoch(1)
    assert searcher.setup.learner.framework.temperature == 0.5


@pytest.mark.parametrize(
    "framework, level, order",
    [
        *((framework, level, 1) for framework in FRAMEWORKS for level in ("single", "bi")),
        ("darts", "bi", 2),
    ],
)
def test_output_cost_of_a_search_obeys_the_sum_rule(framework, level, order, tiny):
    """T2 from the record, at every epoch: the last cell's output edges bring L - H.

    Float32, means over epochs of numbers of order 1: 1e-5.
    """
    config = tiny.replace(framework=framework, level=level, search_examples=64, order=order)
    run = search(config, progress=False)
    split = "train" if level == "single" else "search"
    measured = run.history.cell_output_cost.isel(cell=-1).values
    assert measured == pytest.approx(run.output_cost.sel(split=split).values, abs=1e-5)
    assert np.abs(measured).max() > 1e-2  # there is something to compare


def test_history_counts_examples_and_steps(tiny):
    run = search(tiny.replace(level="bi", search_examples=64, train_examples=100), progress=False)
    examples = run.history.examples.sum("outcome")
    assert examples.sel(split="train").values.tolist() == [100, 96, 96]  # full batches only
    assert examples.sel(split="search").values.tolist() == [64, 96, 96]
    assert examples.sel(split="valid").values.tolist() == [32, 32, 32]
    counts = run.history.cost_count.sum("operation")
    assert (counts.sel(epoch=0) == 2).all() and (counts.sel(epoch=1) == 3).all()
    assert np.isnan(run.history.learning_rate[0]) and run.history.learning_rate[1] > 0


def test_epoch_zero_learns_nothing(tiny):
    searcher = Searcher(tiny)
    before = [tensor.clone() for tensor in state(searcher)]
    searcher.run_epoch(0)
    assert same(before, state(searcher))
    assert alpha_of(searcher).grad is None


def test_progress_bar_tells_what_matters(tiny, capsys):
    search(tiny)
    text = capsys.readouterr().err
    for part in ("epoch 2/2", "loss ", "L-H ", "active edges ", "/5", "<"):
        assert part in text
    search(tiny, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("layout", [True, False, None])
def test_layout_in_memory(layout, tiny):
    """On a CPU, channels last is the default. The forward pass sees images of the same layout."""
    searcher, seen = Searcher(tiny.replace(channels_last=layout)), []
    stem = searcher.setup.supernet.stem[0]
    stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    searcher.run_epoch(1)
    for x in (stem.weight, *seen):
        assert x.is_contiguous(memory_format=torch.channels_last) == (layout is not False)
        assert x.is_contiguous() == (layout is False)


@pytest.mark.parametrize("framework", ["darts", "dsnas"])
def test_a_search_in_mixed_precision_computes_its_maps_in_bfloat16(framework, tiny):
    searcher, seen = Searcher(tiny.replace(framework=framework, amp=True)), []
    searcher.setup.supernet.classifier.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    searcher.run_epoch(1)
    assert set(seen) == {torch.bfloat16}
    alpha = alpha_of(searcher)
    assert alpha.dtype == torch.float32 and alpha.isfinite().all()


def test_recompute_reaches_the_supernet(tiny):
    plain = search(tiny, progress=False).history
    again = search(tiny.replace(recompute=True), progress=False).history
    assert set_up(tiny.replace(recompute=True)).supernet.recompute
    assert plain.drop_vars("seconds").equals(again.drop_vars("seconds"))


def test_compile_reaches_every_cell(tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    setup = set_up(tiny.replace(framework="darts", compile=True))
    assert compiled == list(setup.supernet.cells)


def test_unavailable_device(tiny):
    with pytest.raises(ConfigError, match="device='cuda:99' is not available"):
        search(tiny.replace(device="cuda:99"))
    with pytest.raises(ConfigError, match="device='gpu'"):
        search(tiny.replace(device="gpu"))


def test_deterministic_kernels_only_while_the_search_runs(tiny):
    search(tiny.replace(deterministic=True, epochs=1), progress=False)
    assert not torch.are_deterministic_algorithms_enabled()
