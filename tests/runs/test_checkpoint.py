"""A search that was stopped goes on bit for bit; a checkpoint is right or refused."""

import os
import signal
import threading
from itertools import count

import numpy as np
import pytest
import torch

from nascore import Run, SearchConfig, search
from nascore.engine.mask import Mask
from nascore.errors import ConfigError, Interrupted, RecordError
from nascore.runs import checkpoint as checkpoints
from nascore.runs.algorithm import Search
from nascore.runs.provenance import Maker, code


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


@pytest.mark.parametrize(
    "framework, stops", [("dsnas", range(1, 10)), ("reinforce", (3, 7)), ("pcdarts", (2, 8))]
)
def test_a_search_stopped_after_any_step_goes_on_bit_for_bit(framework, stops, bilevel, tmp_path):
    """Epoch 0 asks once; each of the two epochs asks after its three steps and at its end."""
    config = bilevel.replace(framework=framework)
    whole = search(config, progress=False)
    for steps in stops:
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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_after_the_step_and_saves(signum, tiny, tmp_path, monkeypatch):
    path, plain, steps = tmp_path / "checkpoint", Search.epoch, []

    def epoch(self, tick):
        def signalled():
            steps.append(self.steps_done)
            if len(steps) == 2:
                os.kill(os.getpid(), signum)
            tick()

        plain(self, signalled)

    monkeypatch.setattr(Search, "epoch", epoch)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="stopped after 0 of 2 epochs") as error:
        search(tiny, progress=False, checkpoint=path)
    assert error.value.signum == signum and signal.getsignal(signum) is before
    assert len(steps) == 2
    again = search(tiny, progress=False, checkpoint=path)
    assert len(steps) == 6  # three steps an epoch, none of them twice
    assert numbers(again).identical(numbers(search(tiny, progress=False)))


def test_a_second_signal_stops_at_once(tiny, monkeypatch):
    def twice(self, tick):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)  # a step that takes for ever

    monkeypatch.setattr(Search, "epoch", twice)
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
    """A checkpoint from the middle of an epoch, and its config."""
    path = tmp_path / "checkpoint"
    stopped(bilevel, path, 7)
    return bilevel, path


def test_no_flipped_bit_is_silent(saved):
    """One bit of 100 bytes; `make soak` flips more."""
    config, path = saved
    raw, one = path.read_bytes(), Search(config)
    before = [p.detach().clone() for p in one.theta]
    for place in np.linspace(0, len(raw) - 1, 100).astype(int):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(RecordError, match="is not whole"):
            checkpoints.load(path, one)
    for kept in (0, 10, 1000, len(raw) - 1):
        path.write_bytes(raw[:kept])
        with pytest.raises(RecordError, match="is not whole.* Delete it"):
            checkpoints.load(path, one)
    for p, kept in zip(one.theta, before, strict=True):
        assert torch.equal(p, kept)  # nothing was taken over
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match="there is no file"):
        checkpoints.load(path, one)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("code", "0" * 12, "made with another code"),
        ("torch", "1.0", "made with another torch"),
        ("device", "cuda (H100)", "another device .cuda, here cpu"),
    ],
)
def test_a_checkpoint_that_was_made_otherwise_is_refused(name, value, message, saved, monkeypatch):
    config, path = saved
    with monkeypatch.context() as other:
        parts = Maker.parts
        other.setattr(Maker, "parts", lambda self: [*self.before, parts(self)[-1] | {name: value}])
        one = Search(config)
        checkpoints.save(path, one, Maker(one.device))
    with pytest.raises(RecordError, match=message) as error:
        search(config, progress=False, checkpoint=path)
    assert "\n" not in str(error.value) and "Delete it to start anew." in str(error.value)
    checkpoints.save(path, one, Maker(one.device))
    with pytest.raises(RecordError, match="belongs to another config"):
        search(config.replace(seed=1), progress=False, checkpoint=path)


def test_trained_weights_can_be_kept_and_loaded(tiny, tmp_path):
    """The checkpoint of a search that has ended: its accuracy is the recorded one."""
    run = search(tiny, progress=False, checkpoint=tmp_path / "checkpoint")
    one = Search(tiny)
    checkpoints.load(tmp_path / "checkpoint", one)
    assert torch.equal(one.alpha, torch.from_numpy(run.history.alpha.values[-1]))
    mask = Mask.of(run.wiring)
    before, after = (s.accuracy(mask, s.chunks("train")) for s in (Search(tiny), one))
    assert after > before + 0.1


def test_a_search_goes_on_with_as_many_threads_as_it_began_with(saved):
    """Another number rounds otherwise. To ask for one that the checkpoint has not is refused."""
    config, path = saved
    torch.set_num_threads(2)
    one = Search(config)
    checkpoints.load(path, one)
    torch.set_num_threads(2)
    checkpoints.save(path, one, Maker(one.device))
    torch.set_num_threads(1)
    with pytest.raises(RecordError, match=r"made with 2 thread\(s\), and 1 is asked for"):
        search(config, progress=False, checkpoint=path, threads=1)
    before = torch.get_num_threads()
    run = search(config, progress=False, checkpoint=path)
    assert run.provenance["threads"] == 2 and torch.get_num_threads() == before
    assert search(config, progress=False, threads=2).provenance["threads"] == 2


def test_a_search_that_meets_a_nan_ends_there(tiny, tmp_path):
    """Its record is NaN from that epoch on, and says so."""
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


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_is_named(tiny, monkeypatch, error):
    def step(*args, **named):
        raise error

    monkeypatch.setattr(Search, "step", step)
    with pytest.raises(MemoryError, match="ran out, with batch_size=32.*recompute=True") as found:
        search(tiny, progress=False)
    assert "\n" not in str(found.value)


def test_other_errors_stay_what_they_are(tiny, monkeypatch):
    def step(*args, **named):
        raise RuntimeError("something else")

    monkeypatch.setattr(Search, "step", step)
    with pytest.raises(RuntimeError, match="something else"):
        search(tiny, progress=False)


def test_no_search_on_the_meta_device(tiny):
    with pytest.raises(ConfigError, match="device='meta' holds no numbers"):
        search(tiny.replace(device="meta"), progress=False)


def test_a_record_is_no_checkpoint_and_a_checkpoint_no_record(tmp_path):
    config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    record, state = tmp_path / "run.nc", tmp_path / "state"
    search(config, progress=False, checkpoint=state).save(record)
    with pytest.raises(RecordError, match="run.nc is no checkpoint. Name another, or delete it"):
        search(config, progress=False, checkpoint=record)
    with pytest.raises(RecordError, match="state is no record"):
        Run.load(state)
    assert record.exists() and state.exists()
