import pytest

from nascore.errors import ConfigError
from nascore.evidence.experiments import (
    EXPERIMENTS,
    configs_of,
    experiment,
    flat,
    load_experiment,
    run_experiment,
)
from nascore.evidence.profiles import FEWER_SEEDS, PROFILES, SEEDS
from nascore.sweeps.store import RunStore

DIFFERENCE = {
    "growing": set(),
    "bilevel_failure": {"level", "label_noise"},
    "across_frameworks": {"framework", "nodes"},
    "learning_rates": {"lr", "arch_lr"},
    "label_noise": {"label_noise"},
    "failure_of_dsnas": {"level", "label_noise"},
    "cost_at_init_and_convergence": set(),
    "path_cost": {"allowed"},
    "training_opportunity": {"allowed"},
}
"""In which fields the arms of an experiment may differ."""


def differing(one, other):
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_arms_differ_in_what_they_compare_and_have_the_same_seeds(name, profile):
    arms = configs_of(name, profile)
    first = [config for configs in arms.values() for config in configs[:1]]
    assert set().union(*(differing(first[0], other) for other in first)) <= DIFFERENCE[name]
    assert len({config.hash for config in first}) == len(arms)
    for configs in arms.values():
        seeds = [config.seed for config in configs]
        assert seeds in (list(range(SEEDS[profile])), list(range(FEWER_SEEDS[profile])))


def test_the_published_book_has_enough_seeds_on_fashion_mnist():
    for name in EXPERIMENTS:
        for configs in configs_of(name, "published").values():
            assert len(configs) >= 5
            assert all(c.dataset == "fashion-mnist" and c.image_size >= 14 for c in configs)
    for name in ("growing", "bilevel_failure", "cost_at_init_and_convergence"):
        assert all(len(configs) >= 8 for configs in configs_of(name, "published").values())


@pytest.mark.parametrize("profile", ["laptop", "published"])
def test_the_dial_of_the_cause_shares_runs_with_the_failure(profile):
    failure = set(flat(configs_of("bilevel_failure", profile)))
    dial = configs_of("label_noise", profile)
    shared = [arm for arm, configs in dial.items() if failure.issuperset(configs)]
    assert len(shared) == 2 and "noise 0.0" in shared


@pytest.mark.parametrize("profile", PROFILES)
def test_arms_of_the_failure_differ_in_one_thing_each(profile):
    arms = EXPERIMENTS["bilevel_failure"](profile)
    bilevel, single = arms["bi-level"][0], arms["single-level"][0]
    assert differing(bilevel, single) == {"level"}
    assert bilevel.sizes == single.sizes
    if "control" in arms:
        assert differing(bilevel, arms["control"][0]) == {"label_noise"}


def test_only_the_chain_is_left_in_the_training_opportunity():
    arms = configs_of("training_opportunity", "laptop")
    for configs in arms.values():
        space = configs[0].space
        assert [e for e in space.edges if space.allowed[e] == ("none",)] == [(0, 2), (0, 3)]
        assert space.output_nodes == (3,) and configs[0].freeze_alpha
    assert arms["fixed"][0].space.allowed[1, 2] == ("sep_conv_5x5",)
    assert len(arms["free"][0].space.allowed[1, 2]) == 8


def test_changes_override_the_profile_and_reach_every_arm():
    arms = EXPERIMENTS["bilevel_failure"]("laptop", 2, epochs=7, seed=5)
    assert all(config.epochs == 7 for configs in arms.values() for config in configs)
    assert [config.seed for config in arms["control"]] == [5, 6]


def test_the_paper_profile_is_the_authors_protocol():
    (config, *_) = EXPERIMENTS["growing"]("paper")["single-level"]
    assert config.changes == {}


@pytest.mark.slow
def test_run_experiment_runs_arms_and_finds_them_again(tmp_path):
    changes = {"epochs": 1, "lr": None}
    first = run_experiment(
        "growing", "smoke", seeds=2, changes=changes, store=tmp_path, workers=1, progress=False
    )
    assert [run.config.seed for run in first["single-level"]] == [0, 1]
    assert all(run.config.epochs == 1 for run in first["single-level"])
    again = run_experiment(
        "growing", "smoke", seeds=2, changes=changes, store=tmp_path, progress=False
    )
    assert first["single-level"][0].provenance == again["single-level"][0].provenance


@pytest.mark.slow
def test_load_experiment_wants_every_run_and_trains_nothing(tmp_path):
    store = RunStore(tmp_path)
    run_experiment("growing", "smoke", seeds=2, store=store, workers=0, progress=False)
    assert load_experiment("growing", "smoke", store) is None  # the third seed is missing
    made = run_experiment("growing", "smoke", store=store, workers=0, progress=False)
    loaded = load_experiment("growing", "smoke", store)
    assert [run.provenance for run in loaded["single-level"]] == [
        run.provenance for run in made["single-level"]
    ]


def test_load_experiment_takes_more_seeds_where_all_arms_have_them(tmp_path, monkeypatch):
    store, there = RunStore(tmp_path), set()
    monkeypatch.setattr(store, "find", lambda config: config if config in there else None)
    monkeypatch.setattr(store, "get", store.find)
    there.update(flat(configs_of("bilevel_failure", "smoke", seeds=5)))
    there -= {configs_of("bilevel_failure", "smoke", seeds=5)["control"][4]}
    loaded = load_experiment("bilevel_failure", "smoke", store)
    assert loaded == configs_of("bilevel_failure", "smoke", seeds=4)


@pytest.mark.slow
def test_records_that_come_with_the_book_are_found(tmp_path, monkeypatch):
    """A notebook's own folder of records is filled only with what the book does not have."""
    book = tmp_path / "book" / "records"
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    run_experiment("growing", "smoke", seeds=1, store=RunStore(book), workers=0, progress=False)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)
    run_experiment("growing", "smoke", seeds=2, store="runs", workers=0, progress=False)
    assert len(list((notebooks / "runs").glob("*.nc"))) == 1
    assert len(list(book.glob("*"))) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("grow",), "unknown experiment 'grow'. Did you mean 'growing'"),
        (("growing", "labtop"), "unknown profile 'labtop'. Did you mean 'laptop'"),
        (("no_module_has_this_name:mine",), "no module 'no_module_has_this_name'"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ConfigError, match=message):
        run_experiment(*arguments)


def test_impossible_settings():
    with pytest.raises(ConfigError, match="seeds=0"):
        run_experiment("growing", seeds=0)
    with pytest.raises(ConfigError, match="unknown config field 'epoch'"):
        run_experiment("growing", changes={"epoch": 3})


TINY = {"dataset": "synthetic", "train_examples": 96, "cells": 1, "channels": 4, "epochs": 1}
MINE = """
from nascore.evidence import experiment

@experiment({"smoke": %r}, seeds={"smoke": 2}, framework="snas")
def mine(base):
    return {"one cell": base, "two cells": base.replace(cells=2)}

def plain(base):
    return {}
"""


@pytest.fixture
def own(monkeypatch):
    """Room for experiments that are gone after the test."""
    monkeypatch.setattr(EXPERIMENTS, "_known", dict(EXPERIMENTS))


def test_an_experiment_of_a_module_outside_the_package(own, tmp_path, monkeypatch):
    (tmp_path / "own_experiments.py").write_text(MINE % TINY)
    monkeypatch.syspath_prepend(tmp_path)
    runs = run_experiment(
        "own_experiments:mine", "smoke", store=tmp_path / "r", workers=0, progress=False
    )
    assert {arm: [run.config.seed for run in there] for arm, there in runs.items()} == {
        "one cell": [0, 1],
        "two cells": [0, 1],
    }
    assert runs["two cells"][0].config.framework == "snas"
    assert configs_of("mine", "smoke") == configs_of("own_experiments:mine", "smoke")
    assert load_experiment("mine", "published", RunStore(tmp_path / "r")) is None
    with pytest.raises(ConfigError, match="unknown profile 'laptop'.* Allowed: smoke"):
        run_experiment("mine", "laptop")
    with pytest.raises(ConfigError, match="plain': decorate it with @experiment"):
        configs_of("own_experiments:plain", "smoke")


def test_an_experiment_of_a_notebook_is_found_by_its_name(own):
    @experiment({"laptop": TINY}, level="single")
    def mine(base):
        return {"batch": base, "none": base.replace(norm="none")}

    arms = configs_of("mine", "laptop", seeds=4, changes={"epochs": 3, "seed": 7})
    assert [config.seed for config in arms["none"]] == [7, 8, 9, 10]
    assert {config.epochs for config in flat(arms)} == {3}
    assert {config.level for config in flat(arms)} == {"single"}
    assert len(mine("laptop")["batch"]) == SEEDS["laptop"]


def test_settings_without_a_number_of_seeds(own):
    with pytest.raises(ConfigError, match="say how many for profile 'mine'"):
        experiment({"mine": TINY}, seeds={"smoke": 1})


@pytest.mark.parametrize(
    "name, field, value",
    [
        ("failure_of_dsnas", "framework", "snas"),
        ("across_frameworks", "framework", "gdas"),
        ("label_noise", "label_noise", 0.2),
    ],
)
def test_a_change_that_would_do_nothing_is_refused(name, field, value):
    with pytest.raises(ConfigError, match=f"experiment '{name}' sets {field} itself"):
        EXPERIMENTS[name]("smoke", **{field: value})
    assert EXPERIMENTS[name]("smoke", channels=8)  # and any other one is taken
