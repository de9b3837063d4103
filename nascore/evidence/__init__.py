"""Experiments and claims: which searches are run, what is measured in them, what is decided."""

from nascore.evidence import growth
from nascore.evidence.analyses import later_cost, mean_cost, of_all_edges, passed_cost
from nascore.evidence.claims import CLAIMS, Evidence, claim, each
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
    open_store,
    recorded,
    run_experiment,
)
from nascore.evidence.phenomena import dropped_edges, measured_cost, regrown_edges
from nascore.evidence.profiles import EXPLORED
from nascore.evidence.significance import SIGNIFICANCE, bonferroni, interval, sign_flip
from nascore.evidence.verdicts import count_tested, in_order, judge, verdicts
