import pytest

from nascore.errors import ConfigError
from nascore.evidence.experiments import (
    EXPERIMENTS,
    FEWER_SEEDS,
    PROFILES,
    SEEDS,
    configs_of,
    flat,
    load_experiment,
    run_experiment,
)
from nascore.runs.store import RunStore

DIFFERENCE = {
    "growing": set(),
    "width_preference": set(),
    "bilevel_failure": {"level", "label_noise"},
    "across_frameworks": {"framework", "nodes"},
    "learning_rates": {"lr", "arch_lr"},
    "label_noise": {"label_noise"},
    "failure_of_dsnas": {"level", "label_noise"},
    "cost_at_init_and_convergence": set(),
    "sum_rule": set(),
    "path_cost": {"allowed"},
    "cell_sums": set(),
    "right_and_wrong": {"level", "label_noise"},
    "training_opportunity": {"allowed"},
    "deep_linear": set(),
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


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "one, other",
    [
        ("growing", "width_preference"),
        ("growing", "sum_rule"),
        ("growing", "cell_sums"),
        ("bilevel_failure", "right_and_wrong"),
    ],
)
def test_experiments_share_their_runs(one, other, profile):
    assert configs_of(one, profile) == configs_of(other, profile)


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
        "growing", "smoke", seeds=2, changes=changes, store=tmp_path, progress=False
    )
    assert [run.config.seed for run in first["single-level"]] == [0, 1]
    assert all(run.config.epochs == 1 for run in first["single-level"])
    again = run_experiment(
        "width_preference", "smoke", seeds=2, changes=changes, store=tmp_path, progress=False
    )
    assert first["single-level"][0].provenance == again["single-level"][0].provenance


@pytest.mark.slow
def test_load_experiment_wants_every_run_and_trains_nothing(tmp_path):
    store = RunStore(tmp_path)
    run_experiment("growing", "smoke", seeds=2, store=store, progress=False)
    assert load_experiment("growing", "smoke", store) is None  # the third seed is missing
    made = run_experiment("growing", "smoke", store=store, progress=False)
    loaded = load_experiment("growing", "smoke", store)
    assert [run.provenance for run in loaded["single-level"]] == [
        run.provenance for run in made["single-level"]
    ]
    assert load_experiment("deep_linear", "smoke", store) == {}


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
    run_experiment("growing", "smoke", seeds=1, store=RunStore(book), progress=False)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)
    run_experiment("growing", "smoke", seeds=2, store="runs", progress=False)
    assert len(list((notebooks / "runs").glob("*.nc"))) == 1
    assert len(list(book.glob("*"))) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("grow",), "unknown experiment 'grow'. Did you mean 'growing'"),
        (("growing", "labtop"), "unknown profile 'labtop'. Did you mean 'laptop'"),
        (("deep_linear", "labtop"), "unknown profile 'labtop'"),
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
