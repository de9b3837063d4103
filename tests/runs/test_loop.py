import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nascore import search
from nascore.engine.frameworks import FRAMEWORKS
from nascore.engine.unrolled import Unrolled
from nascore.errors import ConfigError, RecordError
from nascore.runs.loop import Searcher


def state(searcher):
    """Everything that a search has learned."""
    return [searcher.alpha.detach(), *searcher.supernet.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def train(config):
    searcher = Searcher(config)
    searcher.finish(progress=False)
    return searcher


@pytest.mark.parametrize("level", ["single", "bi"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_framework_learns_on_both_levels(framework, level, tiny):
    config = tiny.replace(framework=framework, level=level, search_examples=64)
    before = Searcher(config)
    after = train(config)
    assert not torch.equal(before.alpha, after.alpha)
    assert not same(state(before)[1:], state(after)[1:])
    assert all(tensor.isfinite().all() for tensor in state(after))


def test_search_learns_something(tiny):
    """Thirty epochs on four well separated classes: the loss halves at least."""
    run = search(tiny.replace(epochs=30, lr=0.1), progress=False)
    loss = run.mean_loss.sel(split="train")
    assert float(loss[-1]) < float(loss[0]) / 2


def test_alpha_of_a_single_level_step_is_adam_on_cost_times_score(tiny):
    """The loop's alpha after one step, against Adam on plain autograd through alpha (DARTS).

    The gradient to 1e-6 in float32. Adam divides it by its own size, which would blow up the
    rounding of small ones: so Adam's step is compared on the loop's own gradient.
    """
    searcher = Searcher(tiny.replace(framework="darts", cost_clamp=None))
    searcher.start_statistics()
    images, labels = next(searcher.splits["train"].batches(32, None))
    plain = searcher.alpha.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([plain], 0.05, (0.5, 0.999), weight_decay=1e-3)
    mask = searcher.framework.draw(plain)
    z = plain.softmax(dim=1)
    mask.copies = lambda cells, track: (z.expand(cells, -1, -1), z.new_ones(cells))
    F.cross_entropy(searcher.supernet(images, mask), labels).backward()
    searcher.theta_optimiser.zero_grad()
    searcher.step(images, labels, "train")
    assert torch.allclose(searcher.alpha.grad, plain.grad, atol=1e-6)
    assert plain.grad.abs().max() > 1e-3
    plain.grad = searcher.alpha.grad.clone()
    optimiser.step()
    assert torch.allclose(searcher.alpha, plain, atol=1e-6)


def test_theta_of_a_step_is_sgd_with_clipping_momentum_and_decay(tiny):
    """Two steps of the loop's theta against SGD written out, on a gradient that is clipped."""
    config = tiny.replace(
        framework="darts", freeze_alpha=True, lr=0.1, weight_decay=0.05, grad_clip=0.01
    )
    searcher, plain = Searcher(config), Searcher(config)
    theta, velocity = plain.theta, [torch.zeros_like(p) for p in plain.theta]
    searcher.start_statistics()
    batches = searcher.batches("train")
    for images, labels in (next(batches), next(batches)):
        mask = plain.framework.draw(plain.alpha)
        loss = F.cross_entropy(plain.supernet(images, mask), labels)
        gradients = torch.autograd.grad(loss, theta)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert norm > 0.01
        with torch.no_grad():
            for p, v, g in zip(theta, velocity, gradients, strict=True):
                v.mul_(0.9).add_(g * 0.01 / norm + 0.05 * p)
                p.sub_(0.1 * v)
        searcher.step(images, labels, "train")
    for ours, expected in zip(searcher.theta, theta, strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)


def test_alphas_gradient_is_clipped(tiny):
    for clip in (1e-6, None):
        searcher = Searcher(tiny.replace(arch_grad_clip=clip))
        searcher.run_epoch(1)
        assert (searcher.alpha.grad.norm() <= 1.01e-6) == (clip is not None)


def test_theta_learns_at_the_rate_of_the_schedule(tiny):
    searcher = Searcher(tiny.replace(epochs=3))
    for epoch in (1, 2, 3):
        searcher.run_epoch(epoch)
        (group,) = searcher.theta_optimiser.param_groups
        assert group["lr"] == searcher.config.learning_rate(epoch)


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


def test_freeze_alpha_keeps_masks_uniform(tiny):
    run = search(tiny.replace(freeze_alpha=True), progress=False)
    assert (run.history.probability == 1 / 8).all()
    assert float(run.history.cost_count.sum()) > 0


def test_freeze_theta_keeps_theta(tiny):
    for level in ("single", "bi"):
        config = tiny.replace(freeze_theta=True, level=level, search_examples=64)
        after = train(config)
        assert same(state(Searcher(config))[1:], state(after)[1:])
        assert not torch.equal(Searcher(config).alpha, after.alpha)
        examples = after.history.to_xarray().examples.sum("outcome")
        assert (examples.sel(split="train") == 96).all()


def test_with_alpha_frozen_the_search_half_does_not_touch_theta(tiny):
    config = tiny.replace(level="bi", search_examples=64, freeze_alpha=True)
    one, other = Searcher(config), Searcher(config)
    other.splits["search"].images.mul_(3).add_(1)
    other.splits["search"].labels.copy_(3 - other.splits["search"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert same(state(one), state(other))
    # and with alpha free it does:
    config = config.replace(freeze_alpha=False)
    one, other = Searcher(config), Searcher(config)
    other.splits["search"].labels.copy_(3 - other.splits["search"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert not same(state(one), state(other))


def test_in_bilevel_the_train_half_does_not_touch_alpha_directly(tiny):
    """With theta frozen, other training labels change nothing that alpha sees."""
    config = tiny.replace(level="bi", search_examples=64, freeze_theta=True)
    one, other = Searcher(config), Searcher(config)
    other.splits["train"].labels.copy_(3 - other.splits["train"].labels)
    for searcher in (one, other):
        searcher.finish(progress=False)
    assert torch.equal(one.alpha, other.alpha)


@pytest.mark.parametrize("level", ["single", "bi"])
def test_watching_the_valid_split_changes_nothing(level, tiny):
    config = tiny.replace(level=level, search_examples=64)
    one, other = Searcher(config), Searcher(config)
    other.splits["valid"].labels.copy_(3 - other.splits["valid"].labels)
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


def test_a_search_where_only_none_is_left_goes_on(tiny):
    allowed = {name: ["none"] for name in ("(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)")}
    for framework in FRAMEWORKS:
        run = search(tiny.replace(allowed=allowed, framework=framework), progress=False)
        assert (run.active_edges == 0).all()
        cost = run.history.cost_mean.sel(operation="none")
        assert (cost.sel(edge="(0,2)") == 0).all()
        assert cost.sel(edge="(2,3)").isnull().all()  # nothing reaches node 2
        assert run.output_cost.sel(split="train").values == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("level", ["single", "bi"])
def test_same_seed_same_bits_another_seed_differs(level, tiny):
    config = tiny.replace(level=level, search_examples=64, augment=True)
    one, same_seed, other = (
        search(config.replace(seed=seed), progress=False).history.drop_vars("seconds")
        for seed in (0, 0, 1)
    )
    assert one.identical(same_seed)
    assert not one.alpha.equals(other.alpha)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("level", ["single", "bi"])
def test_resume_is_bit_equal(level, framework, tiny, tmp_path):
    """Two epochs, save, load, two more = four at once: alpha, theta, optimisers, history."""
    config = tiny.replace(
        level=level, framework=framework, search_examples=64, epochs=4, augment=True
    )
    whole = train(config)
    first = Searcher(config)
    for epoch in range(3):
        first.run_epoch(epoch)
    first.save(tmp_path / "checkpoint")
    second = Searcher(config)
    second.load(tmp_path / "checkpoint")
    assert second.epochs_done == 2
    run = second.finish(progress=False)
    assert same(state(whole), state(second))
    for name in ("theta_optimiser", "alpha_optimiser"):
        one, other = (getattr(s, name).state_dict()["state"] for s in (whole, second))
        for key, values in one.items():
            for field, value in values.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, other[key][field])
    history = run.history.drop_vars("seconds")
    assert history.identical(whole.history.to_xarray().drop_vars("seconds"))


def test_search_takes_up_a_checkpoint(tiny, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "checkpoint"
    monkeypatch.setattr("nascore.runs.loop.SECONDS_BETWEEN_CHECKPOINTS", 0)
    plain = Searcher.run_epoch

    def break_down(self, epoch, tick):
        if epoch == 2:
            raise KeyboardInterrupt
        plain(self, epoch, tick)

    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "run_epoch", break_down)
        with pytest.raises(KeyboardInterrupt):
            search(tiny, progress=False, checkpoint=path)
    assert path.exists()
    epochs = []
    monkeypatch.setattr(
        Searcher, "run_epoch", lambda self, n, tick: (epochs.append(n), plain(self, n, tick))
    )
    run = search(tiny, progress=False, checkpoint=path)
    assert epochs == [2]
    epochs.clear()
    search(tiny, progress=False, checkpoint=path)
    assert epochs == []  # it stays until the run is saved elsewhere
    whole = search(tiny, progress=False)
    assert run.history.drop_vars("seconds").identical(whole.history.drop_vars("seconds"))


def test_a_damaged_or_foreign_checkpoint_is_refused(tiny, tmp_path):
    path = tmp_path / "checkpoint"
    searcher = Searcher(tiny)
    searcher.run_epoch(0)
    searcher.save(path)
    with pytest.raises(RecordError, match="belongs to another config"):
        Searcher(tiny.replace(seed=1)).load(path)
    state = torch.load(path, weights_only=True)
    state["streams"]["mask"] = torch.zeros(3, dtype=torch.uint8)
    torch.save(state, path)
    with pytest.raises(RecordError, match="another kind of device"):
        Searcher(tiny).load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordError, match="not a whole checkpoint"):
        Searcher(tiny).load(path)


@pytest.mark.parametrize("level", ["single", "bi"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_step_synchronises_with_the_host_once_at_most(framework, level, tiny, monkeypatch):
    """On the meta device every read of a value raises, so a whole step there reads none.

    Only a discrete framework may read one thing, its choice of operations, by one `tolist`.
    """
    reads, plain = [], torch.Tensor.tolist

    def answer(tensor):
        if tensor.device.type != "meta":
            return plain(tensor)
        reads.append(tensor.shape)
        return np.arange(tensor.numel()).reshape(tensor.shape).__mod__(8).tolist()

    config = tiny.replace(
        framework=framework, level=level, search_examples=64, device="meta", augment=True
    )
    searcher = Searcher(config)
    searcher.start_statistics()
    monkeypatch.setattr(torch.Tensor, "tolist", answer)
    splits = ["train"] if level == "single" else ["search", "train"]
    for split in splits:
        reads.clear()
        images, labels = next(searcher.batches(split))
        searcher.step(images, labels, split)
        assert len(reads) == (framework in ("dsnas", "proxylessnas"))
    assert searcher.costs.mean.device.type == "meta"


def test_second_order_looks_ahead_to_the_batch_that_theta_learns_from(tiny, monkeypatch):
    config = tiny.replace(framework="darts", level="bi", search_examples=64, order=2, augment=True)
    ahead, learned = [], []
    plain = Unrolled.cost

    def keep(self, mask, search, train):
        ahead.append(train)
        return plain(self, mask, search, train)

    monkeypatch.setattr(Unrolled, "cost", keep)
    step = Searcher.step

    def keep_step(self, images, labels, split, learn=True, ahead=None):
        if learn and split == "train":
            learned.append((images, labels))
        step(self, images, labels, split, learn, ahead)

    monkeypatch.setattr(Searcher, "step", keep_step)
    second = train(config)
    assert len(ahead) == len(learned) == 6
    for one, other in zip(ahead, learned, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    first = train(config.replace(order=1))
    assert not torch.equal(first.alpha, second.alpha)


def test_temperature_falls_geometrically_to_its_end(tiny):
    config = tiny.replace(framework="snas", temperature=2.0, temperature_end=0.5, epochs=3)
    searcher = Searcher(config)
    seen = []
    for epoch in range(4):
        searcher.run_epoch(epoch)
        seen.append(searcher.framework.temperature)
    assert seen == pytest.approx([2.0, 2.0, 1.0, 0.5])
    constant = tiny.replace(framework="snas", temperature=2.0)
    assert [constant.temperature_at(epoch) for epoch in range(3)] == [2.0] * 3
    assert config.replace(epochs=1).temperature_at(1) == 0.5


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
    assert searcher.alpha.grad is None


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
    searcher.supernet.stem[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    searcher.run_epoch(1)
    for x in (searcher.supernet.stem[0].weight, *seen):
        assert x.is_contiguous(memory_format=torch.channels_last) == (layout is not False)
        assert x.is_contiguous() == (layout is False)


@pytest.mark.parametrize("framework", ["darts", "dsnas"])
def test_a_search_in_mixed_precision_computes_its_maps_in_bfloat16(framework, tiny):
    searcher, seen = Searcher(tiny.replace(framework=framework, amp=True)), []
    searcher.supernet.classifier.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    searcher.run_epoch(1)
    assert set(seen) == {torch.bfloat16}
    assert searcher.alpha.dtype == torch.float32 and searcher.alpha.isfinite().all()


def test_recompute_reaches_the_supernet(tiny):
    plain = search(tiny, progress=False).history
    again = search(tiny.replace(recompute=True), progress=False).history
    assert Searcher(tiny.replace(recompute=True)).supernet.recompute
    assert plain.drop_vars("seconds").equals(again.drop_vars("seconds"))


def test_compile_reaches_every_cell(tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    searcher = Searcher(tiny.replace(framework="darts", compile=True))
    assert compiled == list(searcher.supernet.cells)


def test_unavailable_device(tiny):
    with pytest.raises(ConfigError, match="device='cuda:99' is not available"):
        search(tiny.replace(device="cuda:99"))
    with pytest.raises(ConfigError, match="device='gpu'"):
        search(tiny.replace(device="gpu"))


def test_deterministic_kernels_only_while_the_search_runs(tiny):
    search(tiny.replace(deterministic=True, epochs=1), progress=False)
    assert not torch.are_deterministic_algorithms_enabled()
