"""Claims of one's own, beside those of the paper."""

import numpy as np
import pandas
import pytest

from nascore import SearchConfig
from nascore.errors import ConfigError
from nascore.evidence import CLAIMS, Evidence, claim, count_tested, in_order, judge
from nascore.evidence.claims import each

SAID = {
    "says": "Numbers are positive.",
    "short": "Numbers are positive",
    "experiment": None,
    "effect": "a number",
    "test": "above 0",
    "control": "none",
    "bar": 0.5,
    "unit": "nat",
    "tested": True,
}


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Room for claims that are gone after the test."""
    monkeypatch.setattr(CLAIMS, "_known", dict(CLAIMS))


def positive(arms):
    """A number for each of ten seeds, in nats."""
    return Evidence(pandas.Series(1.0, range(10)), "All are 1.", p=2.0**-10)


def test_a_claim_in_another_family_changes_no_verdict():
    effect = pandas.Series(0.6, range(8))
    evidence = Evidence(effect, "Seen.", p=0.008, control=0 * effect)
    before = {name: judge(name, evidence) for name in CLAIMS}
    assert before["P3"].p == pytest.approx(7 * 0.008)
    claim("X1", **SAID)(positive)
    claim("X2", **SAID)(positive)
    assert {name: judge(name, evidence) for name in before} == before
    assert count_tested() == 7
    assert CLAIMS["X1"].family == __name__ and judge("X1", positive({})).p == 2 * 2.0**-10
    assert [said.id for said in in_order()][-2:] == ["X1", "X2"]


def test_a_claim_is_judged_and_says_what_decides_it():
    claim("X1", **SAID)(positive)
    verdict = judge("X1", CLAIMS["X1"].measure({}))
    assert verdict.verdict == "supported" and verdict.n == 10
    assert str(verdict).startswith("**X1: supported.** ")
    assert "(n = 10, effect +1 nat [" in str(verdict)
    text = CLAIMS["X1"].text
    assert "**X1, the claim.** Numbers are positive." in text
    assert "*Bar:* at least 0.5 nat on average over seeds." in text


def test_a_claim_of_a_module_is_known_when_the_module_is_imported(tmp_path, monkeypatch):
    (tmp_path / "own_claims.py").write_text(
        f"""
import pandas
from nascore.evidence import Evidence, claim

@claim("X9", **{SAID!r})
def positive(arms):
    return Evidence(pandas.Series(1.0, range(10)), "All are 1.", p=0.001)
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_claims

    assert CLAIMS["X9"].family == "own_claims"
    assert judge("X9", own_claims.positive.measure({})).verdict == "supported"


def test_mistakes_in_claims():
    with pytest.raises(ConfigError, match="claim 'P1' is registered twice"):
        claim("P1", **SAID)(positive)
    claim("X1", **SAID)(positive)
    claim("X1", **SAID)(positive)  # a cell that is run again
    with pytest.raises(ConfigError, match="claim 'X1' is tested: give its Evidence a p"):
        judge("X1", Evidence(pandas.Series([1.0]), "Seen."))
    with pytest.raises(ConfigError, match="unknown claim 'P9'"):
        judge("P9", positive({}))


def test_each_gives_a_number_by_seed_and_none_for_what_diverged():
    class Made:
        def __init__(self, seed, value):
            self.value, self.diverged = value, np.isnan(value)
            self.config = SearchConfig(seed=seed)

    values = each(lambda run: run.value, [Made(24, 1.0), Made(25, np.nan), Made(26, 3.0)])
    assert values[24] == 1.0 and np.isnan(values[25]) and values.mean() == 2.0
    assert values.index.name == "seed"
