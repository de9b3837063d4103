"""Claims of one's own, beside those of the paper."""

import numpy as np
import pytest

from nascore.errors import ConfigError
from nascore.evidence import CLAIMS, Evidence, claim, count_tested, in_order, judge
from nascore.evidence.claims import each, mean

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
    return Evidence(range(10), np.ones(10), "All are 1.", p=2.0**-10)


def test_a_claim_in_another_family_changes_no_verdict():
    evidence = Evidence(range(8), np.full(8, 0.6), "Seen.", p=0.008, control=[0.0])
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
import numpy as np
from nascore.evidence import Evidence, claim

@claim("X9", **{SAID!r})
def positive(arms):
    return Evidence(range(10), np.ones(10), "All are 1.", p=0.001)
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
        judge("X1", Evidence([0], np.array([1.0]), "Seen."))
    with pytest.raises(ConfigError, match="unknown claim 'P9'"):
        judge("P9", positive({}))


def test_each_and_mean_leave_out_what_diverged():
    class Made:
        def __init__(self, value):
            self.value, self.diverged = value, np.isnan(value)

    values = each(lambda run: run.value, [Made(1.0), Made(np.nan), Made(3.0)])
    assert np.array_equal(values, [1.0, np.nan, 3.0], equal_nan=True) and mean(values) == 2.0
    assert np.isnan(mean(values[1:2]))
