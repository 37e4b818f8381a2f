"""Gates for CI and advice within a budget."""

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.report.gate import Gate
from laurel_cli.report.recommend import recommend
from laurel_cli.report.rows import rows
from tests.report.made import ARMS, RATIOS, analysis, document, profile, study


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
    assert Gate.parse(text).tripped(rows(document(made))) == tripped


@pytest.mark.parametrize("text", ["", "added", "added_parameters >", "> 2", "a > b", "import os", "a > 1; b > 2"])
def test_what_is_no_condition(text):
    with pytest.raises(UsageError, match="no condition"):
        Gate.parse(text)


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
        Gate.parse(text).tripped(rows(document(made)))


def test_a_gate_does_not_pass_where_nothing_is_known(tmp_path):
    profile(tmp_path, {"copy": (1.0, 0.99, 1.01), "naive+1": (1.05, 1.0, 1.1)})
    with pytest.raises(UsageError, match="is not known of"):
        Gate.parse("added_latency_percent > 5").tripped(rows(document(tmp_path)))


def advice(folder, **budgets):
    return recommend(document(folder)["comparisons"][0], budgets)


def test_with_quality_the_best_that_fits(made):
    assert advice(made)["advice"]["arm"] == "rw+lr+pa@16"
    assert advice(made, parameters=2.0)["advice"]["arm"] == "rw+lr@16"
    assert advice(made, parameters=2.0, latency=5.0)["advice"]["arm"] == "rw"
    found = advice(made, parameters=2.0, latency=15.0)
    assert found["advice"] == {"arm": "rw+lr@16", "options": "--variant rw+lr --rank 16"}
    assert "is better than the baseline" in found["why"][0]
    assert any(said.startswith("latency: measured (infer") for said in found["rests_on"])


def test_of_those_that_are_not_separated_the_cheapest(tmp_path):
    study(tmp_path, [*ARMS[:3], ("rw", "laurel", 32, 0.900), ("rw+lr@16", "laurel", 17_000, 0.8995)])
    found = advice(tmp_path)
    assert found["advice"]["arm"] == "rw"
    assert "cheapest" in " ".join(found["why"])


def test_an_interval_that_crosses_the_budget_is_perhaps(made):
    found = {item["arm"]: item["fits"] for item in advice(made, latency=12.5)["candidates"]}
    assert found == {"rw": "yes", "rw+lr@16": "perhaps", "rw+lr+pa@16": "no"}


def test_without_quality_the_paper(tmp_path):
    ranks = [(f"rw+lr@{r}", "laurel", 1_000 * r, 1.0) for r in (4, 16, 64)]
    analysis(tmp_path, [*ARMS[:4], *ranks])
    assert advice(tmp_path)["advice"]["arm"] == "rw+lr@16"
    assert advice(tmp_path, parameters=1.0)["advice"]["arm"] == "rw+lr@4"
    assert advice(tmp_path, parameters=0.1)["advice"]["arm"] == "rw"
    found = advice(tmp_path, parameters=0.001)
    assert found["advice"] is None
    assert "No recorded arm is known to stay within" in found["why"][0]
    assert any("none recorded" in said for said in found["rests_on"])


def test_what_was_not_measured_is_not_promised(tmp_path):
    analysis(tmp_path)
    found = advice(tmp_path, latency=5.0)
    assert found["advice"] is None
    assert "Not measured" in found["why"][0]
    assert found["next"][0].startswith("laurel profile")
    profile(tmp_path, RATIOS)
    assert advice(tmp_path, latency=5.0)["advice"]["arm"] == "rw"
