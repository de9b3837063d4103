"""The verdicts: rules that turn evidence into a verdict, fixed before any result is looked at.

A claim is tested or checked. A tested claim has an effect, one number a seed, that is positive if
the claim is right. It is supported if the effect is more than chance allows and at least its bar,
and it is not tested here where its cause cannot act. A checked claim is an identity: its residual
is below a tolerance in every seed, and it holds, or it fails.
"""

from dataclasses import dataclass

import numpy as np

from nascore.errors import ConfigError, RecordError
from nascore.evidence.claims import CLAIMS, Claim, Evidence
from nascore.evidence.experiments import EXPERIMENTS, load_experiment
from nascore.evidence.significance import SIGNIFICANCE, bonferroni, interval
from nascore.sweeps.store import RunStore

ROUNDING = 1e-9  # a mean of shares such as 0.4 may be just below it


@dataclass(frozen=True)
class Verdict:
    """What came of a claim."""

    claim: Claim
    effect: float  # mean over the n seeds; of a checked claim, the largest residual
    interval: tuple[float, float]  # 95 percent, of the mean; of a checked claim, 0 to the effect
    p: float | None  # corrected for the tested claims of the family; None if the claim is checked
    n: int
    verdict: str  # supported, not supported, undecided, not tested here; if checked, holds or fails
    why: str  # what was measured, in words
    control: float  # its mean; NaN without one

    @property
    def numbers(self) -> str:
        """Effect, 95 percent interval, bar, p and control, in a line."""
        claim, (low, high) = self.claim, self.interval
        if self.p is None:
            text = f"at most {self.effect:.2g} {claim.unit}, bar {claim.bar:g}"
        else:
            text = f"effect {self.effect:+.2g} {claim.unit} [{low:+.2g}, {high:+.2g}], "
            text += f"bar {claim.bar:g}, corrected p = {self.p:.2g}"
        return text + ("" if np.isnan(self.control) else f", control {self.control:+.2g}")

    def __str__(self) -> str:
        return f"**{self.claim.id}: {self.verdict}.** {self.why} (n = {self.n}, {self.numbers})"


def judge(claim: Claim | str, evidence: Evidence) -> Verdict:
    """The verdict on a claim, or on the one of a name, from its evidence.

    A run that diverged counts as no effect in a test, and fails a check. Raises ConfigError for an
    unknown claim, or a tested one whose evidence has no p.
    """
    claim = CLAIMS[claim] if isinstance(claim, str) else claim
    n, why, bar = len(evidence.effect), evidence.why, claim.bar
    control = np.nan if evidence.control is None else float(evidence.control.mean(skipna=False))
    if not claim.tested:
        worst = float(evidence.effect.abs().max(skipna=False))
        verdict = "holds" if worst <= bar and evidence.met else "fails"
        return Verdict(claim, worst, (0.0, worst), None, n, verdict, why, control)
    if evidence.p is None:
        raise ConfigError(f"claim {claim.id!r} is tested: give its Evidence a p, as of sign_flip.")
    effect, tests = evidence.effect.fillna(0), max(1, count_tested(claim.family))
    mean, (low, high), p = float(effect.mean()), interval(effect), bonferroni(evidence.p, tests)
    if not evidence.testable:
        verdict = "not tested here"
        why += f" The claim is tested only where {claim.precondition}, which is not so here."
    elif p <= SIGNIFICANCE and mean >= bar - ROUNDING and evidence.met:
        verdict = "supported"
    elif high < bar - ROUNDING or not evidence.met:
        verdict = "not supported"
    else:
        verdict = "undecided"
        if bonferroni(2.0**-n, tests) > SIGNIFICANCE:
            why += f" With n = {n}, no result could be below the level of {SIGNIFICANCE}."
    return Verdict(claim, mean, (low, high), p, n, verdict, why, control)


def judge_records(name: str, store: RunStore) -> dict[str, Verdict]:
    """The verdicts on a claim by profile, of those whose records a store has in full.

    Raises ConfigError for an unknown claim, and RecordError if there is no such profile.
    """
    claim = CLAIMS[name]
    if claim.experiment is None:
        return {"no records needed": judge(claim, claim.measure({}))}
    profiles = [p for p in EXPERIMENTS[claim.experiment].settings if p != "smoke"] or ["smoke"]
    cards = {profile: _verdict(claim, profile, store) for profile in reversed(profiles)}
    whole = {profile: verdict for profile, verdict in cards.items() if verdict is not None}
    if not whole:
        raise RecordError(
            f"claim {name!r} needs all records of {claim.experiment!r} in a profile, and "
            f"{store.folder} has them in none. Make them: python -m nascore sweep "
            f"{claim.experiment} --profile {profiles[0]} --store {store.folder}"
        )
    return whole


def _verdict(claim: Claim, profile: str, store: RunStore) -> Verdict | None:
    arms = load_experiment(claim.experiment, profile, store) if claim.experiment else {}
    return None if arms is None else judge(claim, claim.measure(arms))


def count_tested(family: str = "book") -> int:
    """How many claims of a family are tested: what p is multiplied by."""
    return sum(claim.tested for claim in CLAIMS.values() if claim.family == family)


def verdicts(profile: str, store: RunStore) -> dict[str, Verdict]:
    """The verdict on every claim that needs no runs, or whose runs a store has in full, by id."""
    cards = {claim.id: _verdict(claim, profile, store) for claim in in_order()}
    return {id: verdict for id, verdict in cards.items() if verdict is not None}


def in_order() -> list[Claim]:
    """The paper's phenomena first, then what ours adds to them, its analyses, claims of others."""
    return sorted(CLAIMS.values(), key=lambda c: (c.family != "book", "POA".find(c.id[0]), c.id))
