"""SPOS: uniform samples, and the evolution of wirings with the shared weights."""

import itertools

import pytest

from nascore import SearchSpace, Wiring, search
from nascore.engine.mask import Mask
from nascore.runs.algorithm import Search

TARGET = ("sep_conv_3x3", "none", "dil_conv_5x5", "skip_connect", "max_pool_3x3")


@pytest.fixture
def evolve(tiny, monkeypatch):
    """Lets wirings evolve whose accuracy is made up: the share of edges that are as in TARGET.

    Returns the one that is chosen and all that were evaluated, in order.
    """

    def make(seed=0, allowed=None, **options):
        config = tiny.replace(framework="spos", framework_options=options, seed=seed)
        one, seen = Search(config.replace(allowed=allowed or {})), []

        def accuracy(mask, batches):
            seen.append(tuple(one.space.operations[k] for (k,) in mask.active))
            return sum(map(str.__eq__, seen[-1], TARGET)) / 5

        monkeypatch.setattr(one, "accuracy", accuracy)
        return one.choose(), seen

    return make


def test_in_a_small_space_it_finds_the_best_of_all_wirings(tiny):
    """27 wirings of a trained supernet, each evaluated once."""
    space = SearchSpace(nodes=2, inputs=1, operations=["none", "skip_connect", "sep_conv_3x3"])
    config = tiny.replace(framework="spos", operations=space.operations, inputs=1, lr=0.1)
    one = Search(config)
    while one.epochs_done < 2:
        one.epoch()
    batches = one.chunks("valid")
    accuracy = {
        names: one.accuracy(Mask.of(Wiring(space, names)), batches)
        for names in itertools.product(space.operations, repeat=3)
    }
    assert accuracy[one.choose().operations] == max(accuracy.values()) > min(accuracy.values())


def test_evolution_finds_one_wiring_among_32768_by_less_than_1000(evolve):
    wiring, seen = evolve()
    assert wiring.operations == TARGET
    assert len(seen) == len(set(seen)) < 50 * 20
    assert evolve() == (wiring, seen)
    assert evolve(seed=1)[1] != seen


def test_it_returns_the_best_that_it_has_evaluated(evolve):
    wiring, seen = evolve(generations=3, population=5, parents=2)
    right = [sum(map(str.__eq__, names, TARGET)) for names in seen]
    assert wiring.operations == seen[right.index(max(right))] and 5 < len(seen) <= 15


def test_children_without_mutation_have_their_parents_operations(evolve):
    _, seen = evolve(mutation=0, population=8, parents=8)
    first, later = seen[:8], seen[8:]
    genes = [set(column) for column in zip(*first, strict=True)]
    assert later and all(k in row for names in later for k, row in zip(names, genes, strict=True))


def test_with_mutation_alone_an_edge_may_take_what_no_parent_had(evolve):
    """One parent, whose crossings are itself: what is new comes from its mutants."""
    _, seen = evolve(population=2, parents=1, generations=30, mutation=0.2)
    changed = [sum(map(str.__ne__, seen[0], names)) for names in seen[2:]]
    assert len(changed) > 5 and min(changed) >= 1


def test_what_is_not_allowed_is_never_evaluated(evolve):
    allowed = {"(0,2)": ["none"], "(1,3)": ["skip_connect", "sep_conv_3x3"]}
    wiring, seen = evolve(allowed=allowed, generations=5)
    assert wiring.operations == ("none", *TARGET[1:])
    assert {names[0] for names in seen} == {"none"}
    assert {names[3] for names in seen} == {"skip_connect", "sep_conv_3x3"}


@pytest.mark.parametrize("level", ["single", "bi"])
def test_a_search_samples_uniformly_and_ends_with_the_choice(level, tiny):
    options = {"population": 4, "generations": 2}
    config = tiny.replace(framework="spos", framework_options=options, level=level)
    run = search(config.replace(search_examples=64), progress=False)
    assert config.freeze_alpha and (run.history.probability == 1 / 8).all()
    assert run.chosen == str(run.wiring) and run.wiring != run.wiring_at(2)
