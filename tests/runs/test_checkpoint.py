"""A search that was stopped goes on bit for bit; a checkpoint is right or refused."""

import hashlib
import io
import os
import signal
import threading
from itertools import count

import numpy as np
import pytest
import torch

from nascore import Run, search
from nascore.errors import Interrupted, RecordError
from nascore.runs import checkpoint as checkpoints
from nascore.runs.loop import Searcher
from nascore.runs.provenance import code


@pytest.fixture
def bilevel(tiny):
    """Augmented, on two levels whose batches do not end together: 3 steps, then what is watched."""
    return tiny.replace(level="bi", search_examples=64, augment=True)


def after(steps):
    """Says when to stop: at the end of so many steps."""
    asked = count(1)
    return lambda: next(asked) >= steps


def numbers(run):
    return run.history.drop_vars("seconds")


def stopped(config, path, steps):
    with pytest.raises(Interrupted, match="Search again to go on from") as error:
        search(config, progress=False, checkpoint=path, stop=after(steps))
    return error.value


@pytest.mark.parametrize("framework", ["dsnas", "reinforce", "pcdarts"])
def test_a_search_stopped_after_any_step_goes_on_bit_for_bit(framework, bilevel, tmp_path):
    """Epoch 0 asks once; each of the two epochs asks after its three steps and at its end."""
    config = bilevel.replace(framework=framework)
    whole = search(config, progress=False)
    for steps in range(1, 10):
        path = tmp_path / str(steps)
        stopped(config, path, steps)
        again = search(config, progress=False, checkpoint=path)
        assert numbers(again).identical(numbers(whole)), steps
        assert again.history.seconds.notnull().all()
        assert len(again.provenance["parts"]) == 2


def test_a_search_may_be_stopped_again_and_again(bilevel, tmp_path):
    path, stops = tmp_path / "deep" / "checkpoint", 0
    while True:
        try:
            run = search(bilevel, progress=False, checkpoint=path, stop=after(1))
            break
        except Interrupted:
            stops += 1
            assert stops < 12
    assert stops == 9
    assert numbers(run).identical(numbers(search(bilevel, progress=False)))
    parts = run.provenance["parts"]
    assert len(parts) == 10 and all(part["code"] == code() for part in parts)
    total = sum(part["wall_seconds"] for part in parts)
    assert run.provenance["wall_seconds"] == pytest.approx(total)
    assert path.exists()  # until the run is saved elsewhere


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_saves(signum, tiny, tmp_path, monkeypatch):
    path, plain, steps = tmp_path / "checkpoint", Searcher.run_epoch, []

    def run_epoch(self, epoch, tick):
        def signalled():
            steps.append(epoch)
            if len(steps) == 2:
                os.kill(os.getpid(), signum)
            tick()

        plain(self, epoch, signalled)

    monkeypatch.setattr(Searcher, "run_epoch", run_epoch)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="stopped in epoch 1 of 2") as error:
        search(tiny, progress=False, checkpoint=path)
    assert error.value.signum == signum and signal.getsignal(signum) is before
    assert len(steps) == 2
    again = search(tiny, progress=False, checkpoint=path)
    assert len(steps) == 6  # three steps an epoch, none of them twice
    assert numbers(again).identical(numbers(search(tiny, progress=False)))


def test_a_second_signal_stops_at_once(tiny, monkeypatch):
    def twice(self, epoch, tick):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)  # a step that takes for ever

    monkeypatch.setattr(Searcher, "run_epoch", twice)
    with pytest.raises(KeyboardInterrupt) as error:
        search(tiny, progress=False)
    assert not isinstance(error.value, Interrupted)


def test_in_another_thread_a_search_runs_and_leaves_signals_alone(tiny):
    before, runs = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=lambda: runs.append(search(tiny, progress=False)))
    thread.start()
    thread.join()
    assert runs and signal.getsignal(signal.SIGINT) is before


def test_without_a_checkpoint_it_says_that_nothing_is_kept(tiny):
    with pytest.raises(Interrupted, match="No checkpoint was asked for"):
        search(tiny, progress=False, stop=after(2))


@pytest.fixture
def saved(bilevel, tmp_path):
    """A checkpoint from the middle of an epoch, its config, and how to write other contents."""
    path = tmp_path / "checkpoint"
    stopped(bilevel, path, 7)

    def write(change):
        state = checkpoints.load(path, torch.device("cpu"))
        change(state)
        checkpoints.save(path, state)

    return bilevel, path, write


def test_no_flipped_bit_is_silent(saved):
    """One bit of 300 bytes; `make soak` flips more."""
    config, path, _ = saved
    raw = path.read_bytes()
    for place in np.linspace(0, len(raw) - 1, 300).astype(int):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(RecordError, match="not a whole checkpoint"):
            checkpoints.load(path, torch.device("cpu"))
    for kept in (0, 10, 1000, len(raw) - 1):
        path.write_bytes(raw[:kept])
        with pytest.raises(RecordError, match="not a whole checkpoint. Delete it"):
            Searcher(config).load(path)


def drop(*keys):
    def change(state):
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


def put(value, *keys):
    def change(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value(state[keys[-1]]) if callable(value) else value

    return change


def with_nan(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[0] = torch.nan
    return tensor


@pytest.mark.parametrize(
    "change, message",
    [
        (drop("architecture"), "state.architecture is missing"),
        (drop("streams", "mask"), "state.streams.mask is missing"),
        (put(1, "more"), "state.more is not expected"),
        (put(lambda t: t[:4], "architecture", "alpha"), r"alpha is \(4, 8\) of torch.float32"),
        (put(lambda t: t.double(), "architecture", "alpha"), "torch.float64, not"),
        (put(with_nan, "architecture", "alpha"), "alpha is not finite"),
        (put(with_nan, "supernet", "classifier.weight"), "classifier.weight is not finite"),
        (put(lambda t: t[:1], "statistics", "mean"), "statistics.mean is"),
        (put(lambda t: t[1:], "history", "loss"), "history.loss is"),
        (put({}, "theta_optimiser", "state"), "SGD has no state after 5 steps"),
        (put({}, "alpha_optimiser", "state"), "Adam has no state after 5 steps"),
        (put(torch.tensor(3.0), "alpha_optimiser", "state", 0, "step"), "Adam has done 3 steps"),
        (put(with_nan, "alpha_optimiser", "state", 0, "exp_avg"), "exp_avg is not finite"),
        (put(lambda t: t[:1], "alpha_optimiser", "state", 0, "exp_avg"), "Adam.exp_avg is"),
        (put([], "theta_optimiser", "param_groups"), "SGD.param_groups"),
        (put(0, "epochs_done"), "Adam has done 5 steps, not 2"),
        (put(99, "epochs_done"), "99 epochs and 2 steps, which cannot be"),
        (put(-2, "epochs_done"), "cannot be"),
        (put(4, "steps_done"), "4 steps, which cannot be"),
        (put("1", "epochs_done"), "epochs_done is a str, not a int"),
        (put(torch.tensor([64]), "batches", "search"), "its batches of the search split"),
        (put("other", "address"), "belongs to another config"),
        (put("0" * 12, "maker", "code"), "made by other code"),
        (put("1.0", "maker", "torch"), "made by other code"),
        (put("cuda (H100)", "maker", "device"), "another kind of device"),
    ],
)
def test_a_checkpoint_that_is_not_of_this_search_is_refused(change, message, saved):
    config, path, write = saved
    write(change)
    searcher = Searcher(config)
    before = [p.detach().clone() for p in searcher.setup.learner.theta]
    with pytest.raises(RecordError, match=message) as error:
        searcher.load(path)
    assert "\n" not in str(error.value) and "Delete it to start anew." in str(error.value)
    for p, kept in zip(searcher.setup.learner.theta, before, strict=True):
        assert torch.equal(p, kept)  # nothing was taken over


def test_a_file_of_another_kind_is_refused(bilevel, tmp_path):
    path, content = tmp_path / "checkpoint", io.BytesIO()
    torch.save([1, 2], content)
    path.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    with pytest.raises(RecordError, match="is not a checkpoint"):
        Searcher(bilevel).load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        Searcher(bilevel).load(path)


def test_a_search_goes_on_with_as_many_threads_as_it_began_with(saved):
    """Another number rounds otherwise. To ask for one that the checkpoint has not is refused."""
    config, path, write = saved
    write(put(2, "maker", "threads"))
    with pytest.raises(RecordError, match=r"made with 2 thread\(s\), and 1 is asked for"):
        search(config, progress=False, checkpoint=path, threads=1)
    before = torch.get_num_threads()
    run = search(config, progress=False, checkpoint=path)
    assert run.provenance["threads"] == 2 and torch.get_num_threads() == before
    assert search(config, progress=False, threads=2).provenance["threads"] == 2


def test_a_search_that_meets_a_nan_ends_there(tiny, tmp_path):
    """Its record is NaN from that epoch on, and says so; no checkpoint holds a NaN."""
    path = tmp_path / "checkpoint"
    config = tiny.replace(epochs=6, lr=1e30, lr_min=0, grad_clip=None)
    run = search(config, progress=False, checkpoint=path)
    assert run.diverged and not path.exists()
    assert 1 <= run.last_epoch < 6
    assert f"the run diverged in epoch {run.last_epoch}" in str(run)
    assert np.isnan(run.mean_loss.sel(split="train")[run.last_epoch])
    later = run.history[["alpha", "probability", "loss"]].isel(
        epoch=slice(run.last_epoch + 1, None)
    )
    assert all(variable.isnull().all() for variable in later.values())
    assert (tmp_path / "run.nc") == run.save(tmp_path / "run.nc")
    assert Run.load(tmp_path / "run.nc").last_epoch == run.last_epoch
