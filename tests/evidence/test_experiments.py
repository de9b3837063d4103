import json
from pathlib import Path

import pytest

from book.builder.pages import T4
from nascore import SearchConfig
from nascore.errors import ConfigError
from nascore.evidence.experiments import (
    EXPERIMENTS,
    NOT_HELD_OUT,
    ONE,
    ONE_OF_FEWER,
    TWO,
    configs_of,
    experiment,
    flat,
    load_experiment,
    run_experiment,
    searches,
)
from nascore.evidence.profiles import PROFILES, SEEDS
from nascore.evidence.significance import SIGNIFICANCE, bonferroni
from nascore.evidence.verdicts import CLAIMS, count_tested
from nascore.sweeps.store import RunStore

ROOT = Path(__file__).parents[2]
LEVEL = {"level", "search_set", "search_examples"}
DIFFERENCE = {
    "picture": LEVEL | {"train_examples", "valid_examples", "epochs"},
    "picture_in_darts": LEVEL,
    "cost_at_init_and_convergence": set(),
    "right_and_wrong": LEVEL,
    "training_opportunity": {"allowed"},
    "more_cells": {"cells"},
    "path_cost": {"allowed"},
    "elsewhere": LEVEL
    | {"framework", "framework_options", "nodes", "decay_unsampled", "stem_affine", "search_order"}
    | {"train_examples", "valid_examples", "epochs", "image_size", "batch_size", "lr"},
    "label_noise": {"label_noise"},
    "learning_rates": {"lr", "arch_lr"},
    "tried_first": LEVEL
    | {"framework", "cells", "channels", "epochs", "arch_lr", "label_noise"}
    | {"train_examples", "valid_examples"},
}
"""In which fields the arms of an experiment may differ."""

SMALL = dict(augment=False, alpha_mean=0.0, alpha_std=0.0, cells=1, channels=16, seed=24)
FASHION = SMALL | dict(dataset="fashion-mnist", image_size=14, lr=0.3, arch_lr=0.01)
DIGITS = SMALL | dict(dataset="digits", image_size=5, batch_size=48, lr=2.0, arch_lr=0.02)
UNIFORM = FASHION | dict(train_examples=2400, valid_examples=480, epochs=60, freeze_alpha=True)
FEWER = FASHION | dict(train_examples=480, epochs=300)
FEWEST = DIGITS | dict(train_examples=144, epochs=480)
DARTS = FASHION | dict(
    **dict(framework="darts", image_size=8, lr=0.05, batch_size=48, epochs=400, train_examples=144)
)
BI, SINGLE, SAME = dict(level="bi"), dict(level="single"), dict(level="bi", search_set="train")
CHAIN = {"(0,2)": ["none"], "(0,3)": ["none"]}
SETTINGS = {
    ("picture", "published"): [
        UNIFORM | dict(freeze_alpha=False),
        FEWER | BI | dict(search_examples=2400),
        FEWER | SINGLE | dict(search_examples=2400),
        FEWER | SAME,
    ],
    ("picture", "laptop"): [
        DIGITS | dict(train_examples=1152, epochs=60),
        FEWEST | BI | dict(search_examples=960),
        FEWEST | SINGLE | dict(search_examples=0),
        FEWEST | SAME,
    ],
    ("picture_in_darts", "published"): [
        DARTS | BI | dict(search_examples=960),
        DARTS | SAME,
        DARTS | SINGLE,
    ],
    ("cost_at_init_and_convergence", "published"): [UNIFORM],
    ("right_and_wrong", "published"): [
        FEWER | BI | dict(search_examples=2400, freeze_alpha=True),
        FEWER | SAME | dict(freeze_alpha=True),
    ],
    ("training_opportunity", "published"): [
        UNIFORM | dict(output_nodes=[3], allowed=CHAIN),
        UNIFORM | dict(output_nodes=[3], allowed=CHAIN | {"(1,2)": ["sep_conv_5x5"]}),
    ],
}
"""The first search of each arm, as registered before any counted search was looked at."""


def differing(one, other):
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_arms_differ_in_what_they_compare_and_have_the_same_seeds(name):
    for profile in EXPERIMENTS[name].settings:
        arms = configs_of(name, profile)
        first = [config for configs in arms.values() for config in configs[:1]]
        assert set().union(*(differing(first[0], other) for other in first)) <= DIFFERENCE[name]
        assert len({config.hash for config in first}) == len(arms)
        (seeds,) = {tuple(config.seed for config in configs) for configs in arms.values()}
        assert seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))


@pytest.mark.parametrize("profile", ["laptop", "colab", "published"])
def test_every_tested_claim_has_seeds_enough_to_be_supported(profile):
    for claim in CLAIMS.values():
        if claim.tested:
            arms = configs_of(claim.experiment, profile)
            least = min(map(len, arms.values()))
            assert bonferroni(2.0**-least, count_tested()) <= SIGNIFICANCE


@pytest.mark.parametrize("profile", PROFILES)
def test_the_picture_is_one_setting_with_the_level_switched(profile):
    arms = {arm: configs[0] for arm, configs in configs_of("picture", profile).items()}
    assert list(arms) == [ONE, TWO, ONE_OF_FEWER, NOT_HELD_OUT]
    steps = {c.epochs * c.sizes["train"] / c.batch_size for c in arms.values()}
    assert len(steps) == 1, "as many steps of theta in each"
    two, one, same = arms[TWO], arms[ONE_OF_FEWER], arms[NOT_HELD_OUT]
    assert differing(two, one) <= {"level", "search_examples"}
    assert differing(two, same) <= {"search_set", "search_examples"}
    assert {c.sizes["train"] for c in (two, one, same)} == {two.sizes["train"]}
    assert two.sizes["search"] > 0 and same.sizes["search"] == 0
    assert len({c.seed for c in arms.values()}) == 1


@pytest.mark.parametrize("name, profile", SETTINGS)
def test_the_settings_are_those_that_were_registered(name, profile):
    arms = configs_of(name, profile)
    first = [configs[0] for configs in arms.values()]
    assert first == [SearchConfig(**fields) for fields in SETTINGS[name, profile]]
    seeds = 16 if (name, profile) == ("picture", "published") else 8
    assert {len(configs) for configs in arms.values()} == {seeds}


def test_changes_override_the_profile_and_reach_every_arm():
    arms = configs_of("training_opportunity", "laptop", seeds=2, changes={"epochs": 7, "seed": 5})
    assert all(config.epochs == 7 for configs in arms.values() for config in configs)
    assert [config.seed for config in arms["fixed"]] == [5, 6]


def test_the_paper_profile_is_the_authors_protocol():
    (config, *_) = configs_of("picture", "paper")[ONE]
    assert config.changes == {}


SHORT = "training_opportunity"  # two arms of one cell


def run_short(store, **arguments):
    """Its searches of a second, here."""
    configs = configs_of(SHORT, "smoke", **arguments)
    return run_experiment(configs, store=store, workers=0)


@pytest.mark.slow
def test_run_experiment_runs_arms_and_finds_them_again(tmp_path):
    changes = {"epochs": 1}
    first = run_short(tmp_path, seeds=2, changes=changes)
    assert [run.config.seed for run in first["free"]] == [0, 1]
    assert all(run.config.epochs == 1 for run in first["free"])
    again = run_short(tmp_path, seeds=2, changes=changes)
    assert first["free"][0].provenance == again["free"][0].provenance


@pytest.mark.slow
def test_load_experiment_wants_every_run_and_trains_nothing(tmp_path):
    store = RunStore(tmp_path)
    run_short(store, seeds=1)
    assert load_experiment(SHORT, "smoke", store) is None  # the second seed is missing
    made = run_short(store)
    loaded = load_experiment(SHORT, "smoke", store)
    assert [run.provenance for run in loaded["free"]] == [run.provenance for run in made["free"]]


def test_load_experiment_takes_more_seeds_where_all_arms_have_them(tmp_path, monkeypatch):
    store, there = RunStore(tmp_path), set()
    monkeypatch.setattr(store, "get", lambda config: config if config in there else None)
    there.update(flat(configs_of("picture", "smoke", seeds=5)))
    there -= {configs_of("picture", "smoke", seeds=5)[TWO][4]}
    loaded = load_experiment("picture", "smoke", store)
    assert loaded == configs_of("picture", "smoke", seeds=4)


@pytest.mark.slow
def test_records_that_come_with_the_book_are_found(tmp_path, monkeypatch):
    """A notebook's own folder of records is filled only with what the book does not have."""
    book = tmp_path / "book" / "records"
    monkeypatch.setattr("nascore.evidence.experiments.shipped", tmp_path.joinpath)
    run_short(RunStore(book), seeds=1)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)
    run_short("runs", seeds=2)
    assert len(list((notebooks / "runs").glob("*.nc"))) == 2
    assert len(list(book.glob("*"))) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("pictur", "laptop"), "unknown experiment 'pictur'. Did you mean 'picture'"),
        (("picture", "labtop"), "unknown profile 'labtop'. Did you mean 'laptop'"),
        (("no_module_has_this_name:mine", "laptop"), "no module 'no_module_has_this_name'"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ConfigError, match=message):
        configs_of(*arguments)


def test_searches_leave_out_experiments_without_the_profile():
    names = ["label_noise", "picture"]
    assert searches("smoke", names) == flat(configs_of("picture", "smoke"))
    with pytest.raises(ConfigError, match="unknown profile 'smoke'. Allowed: published"):
        searches("smoke", names[:1])
    with pytest.raises(ConfigError, match="unknown profile 'smok'. Did you mean 'smoke'"):
        searches("smok")


def test_impossible_settings():
    with pytest.raises(ConfigError, match="seeds=0"):
        configs_of("picture", "laptop", seeds=0)
    with pytest.raises(ConfigError, match="unknown config field 'epoch'"):
        configs_of("picture", "laptop", changes={"epoch": 3})


TINY = {"dataset": "synthetic", "train_examples": 96, "cells": 1, "channels": 4, "epochs": 1}
MINE = """
from nascore.evidence import experiment

@experiment({"smoke": %r}, seeds={"smoke": 2})
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
    (tmp_path / "own_experiments.py").write_text(MINE % TINY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    arms = configs_of("own_experiments:mine", "smoke")
    runs = run_experiment(arms, store=tmp_path / "r", workers=0)
    assert {arm: [run.config.seed for run in there] for arm, there in runs.items()} == {
        "one cell": [0, 1],
        "two cells": [0, 1],
    }
    assert configs_of("mine", "smoke") == configs_of("own_experiments:mine", "smoke")
    assert load_experiment("mine", "published", RunStore(tmp_path / "r")) is None
    with pytest.raises(ConfigError, match="unknown profile 'laptop'.* Allowed: smoke"):
        configs_of("mine", "laptop")
    with pytest.raises(ConfigError, match="plain': decorate it with @experiment"):
        configs_of("own_experiments:plain", "smoke")


def test_an_experiment_of_a_notebook_is_found_by_its_name(own):
    @experiment({"laptop": TINY})
    def mine(base):
        return {"batch": base, "none": base.replace(norm="none")}

    arms = configs_of("mine", "laptop", seeds=4, changes={"epochs": 3, "seed": 7})
    assert [config.seed for config in arms["none"]] == [7, 8, 9, 10]
    assert {config.epochs for config in flat(arms)} == {3}
    assert len(configs_of("mine", "laptop")["batch"]) == SEEDS["laptop"]


RESULTS = json.loads((ROOT / "benchmarks" / "results" / "h100.json").read_bytes())
H100 = {row["step"]: row["seconds"] for row in RESULTS["steps"]["rows"]}
PAGES = {
    "growing": [("picture", [ONE])],
    "width_preference": [("picture", [ONE])],
    "bilevel_failure": [("picture", [ONE_OF_FEWER, TWO, NOT_HELD_OUT])],
    "cost_over_training": [("cost_at_init_and_convergence", None)],
    "right_and_wrong": [("right_and_wrong", None)],
    "training_opportunity": [("training_opportunity", None)],
    "sum_rule": [("more_cells", None), ("path_cost", None)],
    "theorems": [("picture", [ONE]), ("more_cells", None)],
    "add_your_own": [("my_module:auxiliary_skip", None)],
}


def t4_seconds(config):
    """About how long a search takes on a free T4."""
    one, eight = H100["DSNAS, a search in one cell"], H100["DSNAS, a search in eight cells"]
    a_step = one + (config.cells - 1) * (eight - one) / 7
    if config.level == "bi":
        a_step *= H100["DSNAS, bi-level"] / H100["DSNAS"]
    if config.make_framework().dense:
        a_step *= H100["DARTS"] / H100["DSNAS"]
    return config.epochs * (config.sizes["train"] // config.batch_size) * a_step * T4


def test_a_page_takes_ten_minutes_on_colab_at_most(monkeypatch):
    """By this estimate, which the introduction tells."""
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    for page, parts in PAGES.items():
        arms = [configs_of(name, "colab", arms=arms) for name, arms in parts]
        assert sum(t4_seconds(config) for some in arms for config in flat(some)) < 600, page


def test_what_a_laptop_can_do_colab_can():
    for name, arms in EXPERIMENTS.items():
        assert ("laptop" in arms.settings) == ("colab" in arms.settings), name


def test_the_search_of_colab_is_none_that_comes_with_the_book():
    published = {c for name in EXPERIMENTS for c in searches_of(name, "published")}
    assert not any(
        c in published for name in ("picture", "path_cost") for c in searches_of(name, "colab")
    )


def searches_of(name, profile):
    return flat(configs_of(name, profile)) if profile in EXPERIMENTS[name].settings else []


def test_settings_without_a_number_of_seeds(own):
    with pytest.raises(ConfigError, match="say how many for profile 'mine'"):
        experiment({"mine": TINY}, seeds={"smoke": 1})


@pytest.mark.parametrize(
    "name, field, value",
    [
        ("picture_in_darts", "framework", "snas"),
        ("more_cells", "cells", 3),
        ("path_cost", "freeze_alpha", False),
    ],
)
def test_a_change_that_would_do_nothing_is_refused(name, field, value):
    with pytest.raises(ConfigError, match=f"{field}=.*: experiment '{name}' sets it itself"):
        configs_of(name, "smoke", changes={field: value})
    assert configs_of(name, "smoke", changes={"channels": 8})  # and any other one is taken


@pytest.mark.parametrize("profile", ["smoke", "laptop"])
def test_a_change_that_an_experiment_reckons_with_is_taken(profile):
    """On two levels fewer examples train, in more epochs: the number of steps is that of one."""
    usual = configs_of("right_and_wrong", profile)[TWO][0].epochs
    base = EXPERIMENTS["right_and_wrong"].settings[profile]["epochs"]
    for factor in (1, 2):
        made = configs_of("right_and_wrong", profile, changes={"epochs": factor * base})
        assert {config.epochs for config in flat(made)} == {factor * usual}


def test_an_experiment_may_ask_for_the_profile(own):
    @experiment({"smoke": TINY, "paper": {}}, seeds={"smoke": 1, "paper": 1})
    def mine(base, profile):
        return {profile: base}

    for profile in ("smoke", "paper"):
        assert list(configs_of("mine", profile)) == [profile]


def test_an_unknown_arm_is_named():
    with pytest.raises(ConfigError, match="unknown arm 'one levl'. Did you mean 'one level'"):
        configs_of("picture", "smoke", arms=["one levl"])
