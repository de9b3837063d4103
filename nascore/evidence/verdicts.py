"""The claims of the paper: what decides each of them, fixed before any result is looked at.

A claim is tested or checked. A tested claim has an effect, one number a seed, that is positive if
the claim holds. It is supported if the effect is more than chance allows and at least its bar. A
checked claim is an identity: its residual is below a tolerance in every seed, or it fails.
"""

from dataclasses import dataclass

import numpy as np
import pandas

# The claims register themselves: importing their modules is what fills CLAIMS.
from nascore.evidence import analyses, phenomena  # noqa: F401
from nascore.evidence.claims import CLAIMS, Arms, Claim, Evidence
from nascore.evidence.experiments import PROFILES, configs_of, load_experiment
from nascore.evidence.significance import LEVEL, bonferroni, interval
from nascore.runs.records import RunStore


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Arguments:
        claim: its id.
        effect: mean over the seeds; of a checked claim, the largest residual.
        interval: 95 percent interval of the mean; of a checked claim, from 0 to the effect.
        p: corrected for the number of tested claims; None if the claim is checked.
        n: number of seeds.
        verdict: supported, not supported or undecided.
        why: what was seen, in words.
        control: mean effect of the negative control; NaN without one.
    """

    claim: str
    effect: float
    interval: tuple[float, float]
    p: float | None
    n: int
    verdict: str
    why: str
    control: float

    def __str__(self) -> str:
        unit = CLAIMS[self.claim].unit
        if self.p is None:
            return f"**{self.claim}: {self.verdict}.** {self.why}"
        low, high = self.interval
        return (
            f"**{self.claim}: {self.verdict}.** Effect {self.effect:+.3g} {unit} "
            f"(95 percent interval {low:+.3g} to {high:+.3g}, n = {self.n}, "
            f"corrected p = {self.p:.2g}). {self.why}"
        )


def judge(claim: str, evidence: Evidence) -> Verdict:
    """The verdict on a claim, from its evidence.

    A run that diverged counts as no effect in a test, and fails a check.
    """
    bar, n = CLAIMS[claim].bar, len(evidence.effect)
    control = float(np.mean(evidence.control)) if len(evidence.control) else np.nan
    if not CLAIMS[claim].tested:
        worst = float(np.abs(evidence.effect).max())
        verdict = "supported" if worst <= bar and evidence.met else "not supported"
        return Verdict(claim, worst, (0.0, worst), None, n, verdict, evidence.why, control)
    effect, tests = np.nan_to_num(evidence.effect), sum(c.tested for c in CLAIMS.values())
    mean, (low, high) = float(effect.mean()), interval(effect)
    p, why = bonferroni(evidence.p, tests), evidence.why
    if p <= LEVEL and mean >= bar and evidence.met:
        verdict = "supported"
    elif high < bar or not evidence.met:
        verdict = "not supported"
    else:
        verdict = "undecided"
        if bonferroni(2.0**-n, tests) > LEVEL:
            why += f" With n = {n}, no result could be below the level of {LEVEL}."
    return Verdict(claim, mean, (low, high), p, n, verdict, why, control)


def verdicts(profile: str, store: RunStore) -> dict[str, Verdict]:
    """The verdict on every claim whose experiment a store has in full, by id."""
    found = {claim.id: load_experiment(claim.experiment, profile, store) for claim in in_order()}
    return {
        name: judge(name, CLAIMS[name].measure(arms))
        for name, arms in found.items()
        if arms is not None
    }


def scorecard(store: RunStore) -> dict[str, dict[str, Verdict]]:
    """The verdicts of every profile that has runs in a store, by profile (the largest first)."""
    cards = {profile: verdicts(profile, store) for profile in reversed(PROFILES)}
    return {
        profile: card
        for profile, card in cards.items()
        if any(configs_of(CLAIMS[name].experiment, profile) for name in card)
    }


def across(claim: str, arms: Arms) -> pandas.DataFrame:
    """What a claim looks at, in every arm of an experiment that explores: means over seeds.

    It decides nothing: there is no test and no verdict.
    """
    rows = {}
    for arm, runs in arms.items():
        evidence = CLAIMS[claim].measure({arm: runs})
        rows[arm] = {name: float(np.mean(values)) for name, values in evidence.values.items()}
        low, high = interval(np.nan_to_num(evidence.effect))
        rows[arm] |= {
            "effect": float(np.nan_to_num(evidence.effect).mean()),
            "from": low,
            "to": high,
            "control": float(np.mean(evidence.control)),
            "seeds": len(runs),
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def listed() -> pandas.DataFrame:
    """Every claim with its effect, test, bar and control, in words."""
    rows = [
        {
            "claim": claim.id,
            "effect": claim.effect,
            "decided by": claim.test,
            "bar": f"{'≥' if claim.tested else '≤'} {claim.bar:g} {claim.unit}",
            "negative control": claim.control,
        }
        for claim in in_order()
    ]
    return pandas.DataFrame(rows).set_index("claim")


def in_order() -> list[Claim]:
    """The phenomena first, then the analyses."""
    return sorted(CLAIMS.values(), key=lambda claim: (claim.id[0] != "P", claim.id))
