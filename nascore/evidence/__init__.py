"""Experiments and claims: which searches are run, what is measured in them, what is decided."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.evidence.analyses import later_cost as later_cost
    from nascore.evidence.analyses import mean_cost as mean_cost
    from nascore.evidence.analyses import of_all_edges as of_all_edges
    from nascore.evidence.analyses import passed_cost as passed_cost
    from nascore.evidence.claims import Arms as Arms
    from nascore.evidence.claims import Evidence as Evidence
    from nascore.evidence.claims import claim as claim
    from nascore.evidence.claims import each as each
    from nascore.evidence.claims import seeds_of as seeds_of
    from nascore.evidence.experiments import EXPERIMENTS as EXPERIMENTS
    from nascore.evidence.experiments import NOT_HELD_OUT as NOT_HELD_OUT
    from nascore.evidence.experiments import ONE as ONE
    from nascore.evidence.experiments import ONE_OF_FEWER as ONE_OF_FEWER
    from nascore.evidence.experiments import TWO as TWO
    from nascore.evidence.experiments import configs_of as configs_of
    from nascore.evidence.experiments import experiment as experiment
    from nascore.evidence.experiments import flat as flat
    from nascore.evidence.experiments import load_experiment as load_experiment
    from nascore.evidence.experiments import open_store as open_store
    from nascore.evidence.experiments import recorded as recorded
    from nascore.evidence.experiments import run_experiment as run_experiment
    from nascore.evidence.growth import kept_edges as kept_edges
    from nascore.evidence.growth import turn as turn
    from nascore.evidence.nulls import NULLS as NULLS
    from nascore.evidence.nulls import QUIET as QUIET
    from nascore.evidence.nulls import STRONG as STRONG
    from nascore.evidence.nulls import false_alarms as false_alarms
    from nascore.evidence.phenomena import dropped_edges as dropped_edges
    from nascore.evidence.phenomena import measured_cost as measured_cost
    from nascore.evidence.phenomena import regrown_edges as regrown_edges
    from nascore.evidence.profiles import EXPLORED as EXPLORED
    from nascore.evidence.profiles import SEEDS as SEEDS
    from nascore.evidence.significance import SIGNIFICANCE as SIGNIFICANCE
    from nascore.evidence.significance import bonferroni as bonferroni
    from nascore.evidence.significance import interval as interval
    from nascore.evidence.significance import sign_flip as sign_flip
    from nascore.evidence.verdicts import CLAIMS as CLAIMS
    from nascore.evidence.verdicts import count_tested as count_tested
    from nascore.evidence.verdicts import in_order as in_order
    from nascore.evidence.verdicts import judge as judge
    from nascore.evidence.verdicts import scorecard as scorecard

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
