"""Two measurements are of one arm where the same thing was built."""

import json

import pytest

from laurel_cli.arms import AGAINST, KINDS, Arm, parse_arms, read, write
from laurel_cli.errors import UsageError
from laurel_cli.reports.arms import labels, options_of
from laurel_cli.rivals import RIVALS

DEFAULTS = {"lags": 3, "history": "auto", "normalize": "2softmax", "vector_weights": False, "init": "xavier"} | {
    "per": "connection"
}


def named(name, options):
    return read(name, {}, options)


def described(name, fields, kind=""):
    return read(name, {"spec": fields, "kind": kind}, {})


def spec(**fields):
    return {"rw": False, "lr": False, "pa": False, "rank": 16} | DEFAULTS | fields


def of_analyze(variant, **fields):
    base = {"variant": variant, "rank": None, "lags": None, "history": "none", "normalize": None}
    return base | {"vector_weights": False, "init": None, "per": "connection"} | fields


@pytest.mark.parametrize(
    ("name", "trial", "count"),
    [
        ("rw", spec(rw=True), of_analyze("rw", normalize="2softmax")),
        ("rw", spec(rw=True, rank=64, lags=None, init="orthogonal"), of_analyze("rw", normalize="2softmax")),
        ("lr@8", spec(lr=True, rank=8, normalize="none"), of_analyze("lr", rank=8, init="xavier")),
        ("pa", spec(pa=True), of_analyze("pa", lags=3, history="identity")),
        (
            "rw+lr+pa@4",
            spec(rw=True, lr=True, pa=True, rank=4),
            of_analyze("rw+lr+pa", rank=4, lags=3, history="per-lag", normalize="2softmax", init="xavier"),
        ),
    ],
)
def test_one_arm_whoever_describes_it(name, trial, count):
    trained, counted, timed = described(name, trial, "laurel"), described(name, count), named(name, DEFAULTS)
    assert trained.form == counted.form == timed.form


@pytest.mark.parametrize(
    "fields",
    [{"lags": None}, {"lags": 2}, {"normalize": "softmax"}, {"history": "shared"}, {"per": "block"}, {"rank": 8}],
)
def test_what_changes_the_cost_is_another_arm(fields):
    base = described("rw+lr+pa@16", spec(rw=True, lr=True, pa=True))
    other = described("rw+lr+pa@16", spec(rw=True, lr=True, pa=True) | fields)
    assert base.form != other.form
    assert base != other


def test_the_start_changes_quality_alone():
    base, other = (described("lr@16", spec(lr=True, init=init)) for init in ("xavier", "orthogonal"))
    assert base.form == other.form
    assert base != other


def test_all_lags_is_not_no_lags():
    assert described("pa", of_analyze("pa", lags="all", history="identity")).spec.lags is None
    assert described("pa", spec(pa=True, lags=None)).spec.lags is None


def test_other_arms():
    assert named("naive+2", {}).form == ("naive", 2)
    assert named("naive+2", {}).form != named("naive+1", {}).form
    assert named("my_model.py:other", {}).kind is AGAINST
    assert described("rw", None, "against").kind is AGAINST  # a model that is called as a variant is


@pytest.mark.parametrize(
    "plain",
    [
        {"spec": {"variant": "of a later version"}},
        {"spec": {"rival": "of a later version"}},
        {"spec": {"rival": "rezero", "of": "a later version"}},
        {"kind": "of a later version", "spec": None},
    ],
)
def test_an_arm_that_is_not_known_is_no_baseline(plain):
    with pytest.raises(UsageError, match="unknown"):
        read("x", plain, {})


@pytest.mark.parametrize("name", ["copy", "naive+2", "rw", "rw+lr@4", "pa", *RIVALS])
def test_what_is_written_is_read(name):
    arm = parse_arms(name)[1]
    plain = json.loads(json.dumps(write(arm)))
    again = read(plain["name"], plain, {})
    assert again == (arm if arm.spec is None else Arm(arm.name, arm.kind, arm.blocks, arm.spec.plain))
    assert KINDS[plain["kind"]] is arm.kind


def test_options_of_older_profiles_stand_in_the_command():
    command = "laurel profile m --variant pa --lags all --normalize=softmax --vector-weights --per block"
    found = options_of({"command": command})
    assert found == {"lags": None, "normalize": "softmax", "vector_weights": True, "per": "block"}
    assert options_of({"command": "laurel profile 'unbalanced"}) == {}
    assert options_of({"command": command, "spec_options": {"lags": 2}}) == {"lags": 2}


def test_labels_tell_arms_of_one_name_apart():
    one, two = (described("pa", spec(pa=True, lags=lags)) for lags in (3, None))
    found = labels([one, two, named("baseline", {})])
    assert set(found.values()) == {"pa (lags 3)", "pa (lags all)", "baseline"}
