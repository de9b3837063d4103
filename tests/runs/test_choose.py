"""A framework may choose the final wiring itself, with the trained supernet."""

import pytest
import torch

from nascore import Run, Wiring, search
from nascore.engine.mask import Mask
from nascore.frameworks import DARTS, framework


@pytest.fixture
def chooser():
    @framework("chooser")
    class Chooser(DARTS):
        """Takes the best of three wirings, two of them random."""

        def choose(self, search, batches):
            generator = search.streams["choose"]
            draws = torch.randint(8, (2, 5), generator=generator).tolist()
            names = [
                ("none",) * 5,
                *(tuple(search.space.operations[k] for k in row) for row in draws),
            ]
            wirings = [Wiring(search.space, row) for row in names]
            return max(wirings, key=lambda w: search.accuracy(Mask.of(w), batches))

    return Chooser


def test_the_choice_is_the_wiring_and_is_recorded(chooser, tiny, tmp_path):
    run = search(tiny.replace(framework=chooser, epochs=8, lr=0.1), progress=False)
    assert run.wiring.active_edges  # with `none` everywhere, one of four is right
    assert run.chosen == str(run.wiring) and run.wiring != run.wiring_at(8)
    assert Run.load(run.save(tmp_path / "run.nc")).wiring == run.wiring


@pytest.mark.parametrize("kind", ["chooser", pytest.param("darts-pt", marks=pytest.mark.long)])
def test_a_finished_search_chooses_the_same_again(kind, chooser, tiny, tmp_path):
    """Also by random numbers, and after steps of theta on random crops."""
    config = tiny.replace(framework=chooser if kind == "chooser" else "darts-pt", augment=True)
    config = config.replace(framework_options={} if kind == "chooser" else {"tuning": 1})
    file = tmp_path / "checkpoint"
    chosen = [search(config, progress=False, checkpoint=file).chosen for _ in range(3)]
    assert len(set(chosen)) == 1 and chosen[0] is not None
    assert search(config.replace(seed=1), progress=False).chosen != chosen[0]


def test_a_search_that_diverged_chooses_nothing(chooser, tiny):
    run = search(tiny.replace(framework=chooser, lr=1e30, grad_clip=None), progress=False)
    assert run.diverged and run.chosen is None
