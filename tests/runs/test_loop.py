import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nascore import search
from nascore.engine.mask import Mask
from nascore.errors import ConfigError
from nascore.runs import algorithm, loop
from nascore.runs.algorithm import Search
from nascore.runs.randomness import own_global_randomness, seed_global_randomness


def state(one):
    """Everything that a search has learned."""
    learned = [p.detach() for p in one.learned.values()]
    return [*learned, *one.state.values(), *one.supernet.state_dict().values()]


def alpha_of(searcher):
    return searcher.alpha


def theta_of(searcher):
    return list(searcher.supernet.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def finish(one):
    """Runs all epochs."""
    for _ in range(one.config.epochs + 1):
        one.epoch()
    return one


def train(config):
    return finish(Search(config))


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
    setup, plain = (Search(config, torch.float64) for _ in range(2))
    batch = setup.chunks("train")[0]
    z = plain.alpha.softmax(dim=1)
    logits = plain.supernet(batch[0], z, Mask(z, z))
    F.cross_entropy(logits, batch[1]).backward(inputs=[plain.alpha])
    seen = setup.step(batch)
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
    setup, plain = (Search(config, torch.float64) for _ in range(2))
    theta = plain.theta
    velocity = [torch.zeros_like(p) for p in theta]
    batches = setup.batches["train"]
    for images, labels in (next(batches), next(batches)):
        mask = plain.draw()
        loss = F.cross_entropy(plain.supernet(images, mask.weight, mask), labels)
        gradients = torch.autograd.grad(loss, theta)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert norm > 0.01
        with torch.no_grad():
            for p, v, g in zip(theta, velocity, gradients, strict=True):
                v.mul_(0.9).add_(g * 0.01 / (norm + 1e-6) + 0.05 * p)  # as torch clips
                p.sub_(0.1 * v)
        setup.step((images, labels), ["theta"], measure=False)
    for ours, expected in zip(setup.theta, theta, strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)


def test_the_cost_that_is_measured_does_not_depend_on_who_learns(tiny):
    """The same batch and mask: with theta, with alpha, with neither; and none if not measured."""
    costs = []
    for who in ([], ["theta"], ["alpha"], ["theta", "alpha"]):
        setup = Search(tiny, torch.float64)
        before = [p.detach().clone() for p in (setup.alpha, *setup.theta)]
        seen = setup.step(setup.batch(), who)
        costs.append(torch.cat([seen.cost.flatten(), seen.output_cost, seen.logits.flatten()]))
        assert torch.equal(setup.alpha, before[0]) != ("alpha" in who)
        assert same(setup.theta, before[1:]) != ("theta" in who)
    for cost in costs[1:]:
        assert torch.allclose(cost, costs[0], atol=1e-14)
    setup = Search(tiny)
    seen = setup.step(setup.batch(), [], measure=False)
    assert seen.cost is None and seen.output_cost is None and not seen.logits.requires_grad


def test_alphas_gradient_is_clipped(tiny):
    for clip in (1e-6, None):
        searcher = Search(tiny.replace(arch_grad_clip=clip))
        searcher.epoch()
        searcher.epoch()
        assert (alpha_of(searcher).grad.norm() <= 1.01e-6) == (clip is not None)


def test_theta_learns_at_the_rate_of_the_schedule(tiny):
    config = tiny.replace(epochs=3)
    searcher = Search(config)
    searcher.epoch()
    for epoch in (1, 2, 3):
        searcher.epoch()
        (group,) = searcher.theta_optimiser.param_groups
        assert group["lr"] == config.learning_rate(epoch)


def test_augmentation_changes_what_is_learned_and_not_what_is_watched(tiny):
    one, other = (Search(tiny.replace(augment=augment)) for augment in (False, True))
    for searcher in (one, other):
        searcher.epoch()
    histories = [s.history.to_xarray().drop_vars("seconds").sel(epoch=0) for s in (one, other)]
    assert histories[0].identical(histories[1])
    for searcher in (one, other):
        searcher.epoch()
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
        searcher = Search(config.replace(decay_unsampled=decays))
        (images, labels), mask = searcher.batch(), searcher.draw()
        loss = F.cross_entropy(searcher.supernet(images, mask.weight, mask), labels)
        slopes = torch.autograd.grad(loss, searcher.theta, allow_unused=True)
        idle = [n for n, slope in enumerate(slopes) if slope is None]
        before = [p.detach().clone() for p in searcher.theta]
        searcher.step((images, labels), ["theta"], mask=mask)
        assert len(idle) > 10
        for n in idle:
            factor = 1 - config.lr * 0.1 if decays else 1
            assert torch.allclose(searcher.theta[n], factor * before[n], rtol=1e-6)


def test_freeze_alpha_keeps_masks_uniform(tiny):
    run = search(tiny.replace(freeze_alpha=True), progress=False)
    assert (run.history.probability == 1 / 8).all()
    assert float(run.history.cost_count.sum()) > 0


def test_freeze_theta_keeps_theta(tiny):
    for level in ("single", "bi"):
        config = tiny.replace(freeze_theta=True, level=level, search_examples=64)
        after = train(config)
        assert same(theta_of(Search(config)), theta_of(after))
        assert not torch.equal(alpha_of(Search(config)), alpha_of(after))
        examples = after.history.to_xarray().examples.sum("outcome")
        assert (examples.sel(split="train") == 96).all()


def test_with_alpha_frozen_the_search_half_does_not_touch_theta(tiny):
    config = tiny.replace(level="bi", search_examples=64, freeze_alpha=True)
    one, other = Search(config), Search(config)
    other.splits["search"].images.mul_(3).add_(1)
    other.splits["search"].labels.copy_(3 - other.splits["search"].labels)
    for searcher in (one, other):
        finish(searcher)
    assert same(state(one), state(other))
    # and with alpha free it does:
    config = config.replace(freeze_alpha=False)
    one, other = Search(config), Search(config)
    other.splits["search"].labels.copy_(3 - other.splits["search"].labels)
    for searcher in (one, other):
        finish(searcher)
    assert not same(state(one), state(other))


def test_in_bilevel_the_train_half_does_not_touch_alpha_directly(tiny):
    """With theta frozen, other training labels change nothing that alpha sees."""
    config = tiny.replace(level="bi", search_examples=64, freeze_theta=True)
    one, other = Search(config), Search(config)
    other.splits["train"].labels.copy_(3 - other.splits["train"].labels)
    for searcher in (one, other):
        finish(searcher)
    assert torch.equal(alpha_of(one), alpha_of(other))


def test_alpha_may_learn_from_the_training_set_in_steps_of_its_own(tiny):
    """As in bi-level with a search set of the same examples, and unlike single-level."""
    config = tiny.replace(level="bi", search_set="train")
    searcher = Search(config)
    assert searcher.steps == 3 and list(searcher.batches) == ["search", "train"]
    other = Search(tiny.replace(level="bi", search_examples=96))
    for split in ("train", "search"):
        for name in ("images", "labels"):
            same_as = getattr(searcher.splits["train"], name)
            getattr(other.splits[split], name).copy_(same_as)
    for one in (searcher, other):
        finish(one)
    alphas = [alpha_of(one) for one in (searcher, other, train(tiny))]
    assert torch.equal(alphas[0], alphas[1]) and not torch.equal(alphas[0], alphas[2])


def test_search_batches_drawn_anew(tiny):
    config = tiny.replace(level="bi", search_examples=64)
    one, other = Search(config), Search(config.replace(search_order="anew"))
    for searcher in (one, other):
        finish(searcher)
    assert not torch.equal(alpha_of(one), alpha_of(other))
    seen = other.history.to_xarray().examples.sum("outcome").sel(split="search")
    assert (seen[1:] == 96).all()  # three steps an epoch, as many as theta makes


@pytest.mark.parametrize("level", ["single", "bi"])
def test_watching_the_valid_split_changes_nothing(level, tiny):
    config = tiny.replace(level=level, search_examples=64)
    one, other = Search(config), Search(config)
    other.splits["valid"].labels.copy_(3 - other.splits["valid"].labels)
    for searcher in (one, other):
        finish(searcher)
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
    step, step_ahead = Search.step, Search.step_ahead

    def keep(self, batch, learns, **options):
        if "theta" in learns:
            learned.append(batch)
        return step(self, batch, learns, **options)

    def keep_ahead(self, batch, on):
        ahead.append(on)
        return step_ahead(self, batch, on)

    monkeypatch.setattr(Search, "step", keep)
    monkeypatch.setattr(Search, "step_ahead", keep_ahead)
    second = train(config)
    assert len(ahead) == len(learned) == 6
    for one, other in zip(ahead, learned, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    first = train(config.replace(order=1))
    assert not torch.equal(alpha_of(first), alpha_of(second))


def test_temperature_falls_geometrically_to_its_end(tiny):
    options = {"temperature": 2.0, "temperature_end": 0.5}
    config = tiny.replace(framework="snas", framework_options=options, epochs=3)
    searcher = Search(config)
    seen = []
    for _ in range(4):
        seen.append(searcher.framework.temperature_at(searcher.context().progress))
        searcher.epoch()
    assert seen == pytest.approx([2.0, 2.0, 1.0, 0.5])
    searcher = Search(config.replace(epochs=1))
    searcher.epoch()
    assert searcher.context().progress == 1


@pytest.mark.parametrize(
    "framework, level, order",
    [
        *((framework, level, 1) for framework in ("darts", "dsnas") for level in ("single", "bi")),
        ("pcdarts", "single", 1),
        ("darts", "bi", 2),
    ],
)
def test_output_cost_of_a_search_obeys_the_sum_rule(framework, level, order, tiny):
    """T2 from the record, at every epoch: the last cell's output edges bring L - H.

    Float32, means over epochs of numbers of order 1: 1e-5.
    """
    config = tiny.replace(framework=framework, level=level, order=order)
    run = search(config.replace(search_examples=64), progress=False)
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
    searcher = Search(tiny)
    before = [tensor.clone() for tensor in state(searcher)]
    searcher.epoch()
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
    searcher, seen = Search(tiny.replace(channels_last=layout)), []
    stem = searcher.supernet.stem[0]
    stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    searcher.epoch()
    for x in (stem.weight, *seen):
        assert x.is_contiguous(memory_format=torch.channels_last) == (layout is not False)
        assert x.is_contiguous() == (layout is False)


@pytest.mark.parametrize("framework", ["darts", "dsnas"])
def test_a_search_in_mixed_precision_computes_its_maps_in_bfloat16(framework, tiny):
    searcher, seen = Search(tiny.replace(framework=framework, amp=True)), []
    searcher.supernet.classifier.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    searcher.epoch()
    assert set(seen) == {torch.bfloat16}
    alpha = alpha_of(searcher)
    assert alpha.dtype == torch.float32 and alpha.isfinite().all()


def test_recompute_reaches_the_supernet(tiny):
    plain = search(tiny, progress=False).history
    again = search(tiny.replace(recompute=True), progress=False).history
    assert Search(tiny.replace(recompute=True)).supernet.recompute
    assert plain.drop_vars("seconds").equals(again.drop_vars("seconds"))


def test_compile_reaches_every_cell_or_every_operation_if_a_mask_draws_them(tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(algorithm, "compile_kinds", compiled.extend)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    dense = Search(tiny.replace(framework="darts", compile=True))
    assert compiled == list(dense.supernet.cells)
    compiled.clear()
    supernet = Search(tiny.replace(compile=True)).supernet
    inputs = [module for cell in supernet.cells for module in cell.preprocess]
    assert compiled == [*inputs, *(module for _, module in supernet.operations())]


def test_unavailable_device(tiny):
    with pytest.raises(ConfigError, match="device='cuda:99' is not available"):
        search(tiny.replace(device="cuda:99"))
    with pytest.raises(ConfigError, match="device='gpu'"):
        search(tiny.replace(device="gpu"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("asked", [None, True, False])
def test_deterministic_kernels_are_the_default_on_a_gpu(device, asked, tiny, monkeypatch):
    """While the search runs, and without filling memory that it has not written yet."""

    def now():
        filled = torch.utils.deterministic.fill_uninitialized_memory
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.are_deterministic_algorithms_enabled(), filled, warns

    before, seen = now(), []
    monkeypatch.setattr(loop, "find_device", lambda name: torch.device(device))
    config = tiny.replace(deterministic=asked, epochs=1)
    search(config, progress=False, watch=lambda _: seen.append(now()))
    on = device == "cuda" if asked is None else asked
    assert set(seen) == {(True, False, asked is None) if on else before} and now() == before


@pytest.mark.parametrize("amp", [False, True])
def test_convolutions_do_not_round_to_tf32_while_a_search_runs(amp, tiny, monkeypatch):
    """Unless it is in mixed precision; afterwards they are as the caller had them."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    config = tiny.replace(amp=amp, epochs=1)
    search(config, progress=False, watch=lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    assert seen == [amp, amp] and torch.backends.cudnn.allow_tf32


def test_a_search_can_be_watched(tiny):
    seen = []
    run = search(tiny, progress=False, watch=seen.append)
    assert [one.last_epoch for one in seen] == [0, 1, 2]
    for one in seen:
        epochs = slice(one.last_epoch + 1)
        assert one.history.identical(run.history.isel(epoch=epochs).assign_attrs(one.history.attrs))


def test_searches_in_threads_leave_the_global_streams_where_they_were():
    def draws():
        return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002

    def search_there(opened, go_on):
        with own_global_randomness():
            seed_global_randomness(0, "theta")
            opened.set()
            go_on.wait()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    events = [(threading.Event(), threading.Event()) for _ in range(2)]
    threads = [threading.Thread(target=search_there, args=pair) for pair in events]
    threads[0].start()
    events[0][0].wait()
    threads[1].start()  # waits for the first one
    for (opened, go_on), thread in zip(events, threads, strict=True):
        opened.wait()
        go_on.set()
        thread.join()
    assert draws() == expected
