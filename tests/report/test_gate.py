"""Gates for CI."""

import json

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.reports.gate import FailCondition
from laurel_cli.reports.rows import rows
from tests.report.made import RATES, controlled, document, profile, put, trial


@pytest.mark.parametrize(
    ("text", "tripped"),
    [
        ("added_parameters_percent > 2", ["rw+lr+pa@16 has 2.4"]),
        ("added_parameters_percent > 2.4", []),
        ("added_parameters_percent>=2.4%", ["rw+lr+pa@16 has 2.4"]),
        ("naive+1: added_parameters_percent > 2", ["naive+1 has 4.4"]),
        ("rw: added_parameters < 100", ["rw has 32"]),
        ("added_latency_percent_high > 20", ["rw+lr+pa@16 has 23"]),
        ("gain_low < 0", []),
    ],
)
def test_what_trips(made, text, tripped):
    assert FailCondition.parse(text).tripped(rows(document(made))) == tripped


@pytest.mark.parametrize(
    "text",
    ["", "added", "added_parameters >", "> 2", "a > b", "import os", "a > 1; b > 2", "a > nan", "a < -inf", ": a > 1"],
)
def test_what_is_no_condition(text):
    with pytest.raises(UsageError, match="no condition"):
        FailCondition.parse(text)


@pytest.mark.parametrize("part", [" ", "(", "a ", "a:", "> ", "1", "%", "²"])
def test_long_nonsense_is_refused_and_not_repeated(part):
    with pytest.raises(UsageError, match="no condition") as caught:
        FailCondition.parse(part * 200_000)  # a pattern that goes back and forth over it takes hours
    assert len(caught.value.what) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("added_parameter_percent > 2", "Did you mean added_parameters_percent"),
        ("verdict > 2", "no column"),
        ("rw+lr@17: gain > 2", "Did you mean rw\\+lr@16"),
    ],
)
def test_what_cannot_be_judged(made, text, words):
    with pytest.raises(UsageError, match=words):
        FailCondition.parse(text).tripped(rows(document(made)))


def test_a_gate_does_not_pass_where_nothing_is_known(tmp_path):
    profile(tmp_path, {"copy": (1.0, 0.99, 1.01), "naive+1": (1.05, 1.0, 1.1)})
    with pytest.raises(UsageError, match="is not known of"):
        FailCondition.parse("added_latency_percent > 5").tripped(rows(document(tmp_path)))


def test_controls_do_not_trip(made):
    """The wider baseline adds 6 % parameters, and a control of the recipe is worse than the baseline."""
    flat = rows(document(made))
    assert {row["arm"]: row["role"] for row in flat}["baseline:width=1.125"] == "positive"
    assert FailCondition.parse("added_parameters_percent > 5").tripped(flat) == []
    assert FailCondition.parse("gain < 0").tripped(flat) == []


def is_trial(path, arm, seed):
    content = json.loads(path.read_text())["content"]
    return (content["arm"]["name"], content["seed"]) == (arm, seed)


def test_a_gain_that_may_not_be_judged_does_not_pass_unseen(tmp_path):
    """Its mean would be that of the trials that ended well."""
    controlled(tmp_path)
    path = next(p for p in (tmp_path / "records").iterdir() if is_trial(p, "rw+lr@16", 2))
    path.unlink()
    put(tmp_path, trial("rw+lr@16", "laurel", 2, final=None, status="diverged", reason="loss became NaN"))
    flat = rows(document(tmp_path))
    with pytest.raises(UsageError, match=r"gain_low is not known of rw.lr@16 .unstable: 1 of 5 diverged."):
        FailCondition.parse("gain_low < -5").tripped(flat)
    assert (
        FailCondition.parse("gain > 0.03").tripped(flat)[0].startswith("rw has 0.04")
    )  # what trips is told all the same
    assert FailCondition.parse("added_parameters_percent > 2").tripped(flat) == ["rw+lr+pa@16 has 2.4"]


def test_a_study_that_cannot_tell_does_not_pass_a_gate_of_gains(tmp_path):
    controlled(tmp_path, controls=(("baseline:width=1.125", "against", 60_000, 1.0), *RATES))
    flat = rows(document(tmp_path))
    assert {row["gain"] for row in flat if row["role"] == "arm"} == {None}
    with pytest.raises(UsageError, match="is not known of"):
        FailCondition.parse("gain_low < 0").tripped(flat)
