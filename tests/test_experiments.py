import pytest

from nascore.errors import ConfigError
from nascore.experiments import EXPERIMENTS, PROFILES, run_experiment


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_three_seeds_in_every_profile(name, profile):
    arms = EXPERIMENTS[name](profile)
    for configs in arms.values():
        assert [config.seed for config in configs] == [0, 1, 2]


def test_growing_and_width_preference_share_their_runs():
    for profile in PROFILES:
        one, other = (EXPERIMENTS[name](profile) for name in ("growing", "width_preference"))
        assert one == other


@pytest.mark.parametrize("profile", PROFILES)
def test_arms_of_the_failure_differ_in_one_thing(profile):
    arms = EXPERIMENTS["bilevel_failure"](profile)

    def differing(one, other):
        return {
            name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)
        }

    bilevel, single = arms["bi-level"][0], arms["single-level"][0]
    assert differing(bilevel, single) == {"level"}
    assert bilevel.sizes == single.sizes
    if "control" in arms:
        assert differing(bilevel, arms["control"][0]) == {"label_noise"}


def test_changes_override_the_profile_and_reach_every_arm():
    arms = EXPERIMENTS["bilevel_failure"]("laptop", 2, epochs=7, seed=5)
    assert all(config.epochs == 7 for configs in arms.values() for config in configs)
    assert [config.seed for config in arms["control"]] == [5, 6]


def test_the_paper_profile_is_the_authors_protocol():
    (config, *_) = EXPERIMENTS["growing"]("paper")["single-level"]
    assert config.changes == {}


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("grow",), "unknown experiment 'grow'. Did you mean 'growing'"),
        (("growing", "labtop"), "unknown profile 'labtop'. Did you mean 'laptop'"),
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
