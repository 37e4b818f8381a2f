"""Folded arms are compared with the folded baseline, in a family of their own, and nowhere else."""

from __future__ import annotations

import copy
import inspect
import json
import math

import pytest
import torch
from torch import nn

import laurel_cli as laurel
from laurel_cli.errors import ModelError, UsageError
from laurel_cli.latency.document import Profile
from laurel_cli.latency.folded import folded
from laurel_cli.latency.samples import Samples
from laurel_cli.models.inputs import Inputs
from laurel_cli.render import render
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.settings.profile import TimingSettings
from tests.laurel.test_fold import given
from tests.laurel.test_fold_training import OrderedNet


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.bn(self.conv(x))


def build() -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(3)))


NET = "from torch import nn\n\n" + inspect.getsource(Block) + "\n" + inspect.getsource(build)


def test_each_ratio_is_to_the_baseline_of_its_kind():
    truth = {"baseline": 1.0, "copy": 1.0, "rw": 1.2, "baseline folded": 0.5, "rw folded": 0.55}
    samples = Samples()
    samples.take({"kind": "ready", "arms": list(truth)}, 0)
    for process in range(5):
        for arm in truth:
            samples.take({"kind": "warm", "arm": arm, "first": 1.0}, process)
        for number in range(6):
            wobble = 1 + 0.001 * math.sin(7 * process + number)
            seconds = {arm: value * (wobble if "rw" in arm else 1) for arm, value in truth.items()}
            samples.take({"kind": "sample", "order": list(truth), "placement": 0, "seconds": seconds}, process)
    assert (samples.arms, samples.judged) == (["baseline", "copy", "rw"], ["rw"])
    assert samples.folded_arms == ["baseline folded", "rw folded"]
    assert set(samples.to_baseline()) == {"rw", "copy"}
    found = samples.to_folded_baseline()
    assert set(found) == {"rw folded"}
    assert found["rw folded"].median == pytest.approx(1.1, rel=0.01)
    assert found["rw folded"].verdict == "slower"


def test_a_model_that_is_called_folded_is_an_arm_as_any_other():
    """`--against "./my folded"`, a folder of that name."""
    samples = Samples()
    samples.take({"kind": "ready", "arms": ["baseline", "copy", "./my folded"]}, 0)
    for arm in samples.ready["arms"]:
        samples.take({"kind": "warm", "arm": arm, "first": 1.0}, 0)
    seconds = dict(zip(samples.ready["arms"], (1.0, 1.0, 2.0), strict=True))
    for _ in range(6):
        samples.take({"kind": "sample", "order": list(seconds), "placement": 0, "seconds": seconds}, 0)
    assert samples.judged == ["./my folded"]
    assert samples.to_baseline()["./my folded"].median == pytest.approx(2)
    assert samples.to_folded_baseline() == {}


def test_folded_goes_without_a_cache():
    with pytest.raises(UsageError, match="folded"):
        TimingSettings(folded=True, mode="decode")
    assert TimingSettings(folded=True).folded
    assert TimingSettings(folded=True, mode="train").folded


def test_to_train_a_lies_in_the_norms_and_learns_what_it_did():
    x = torch.randn(2, 4, 8, 8)
    inputs = Inputs((x,), {})
    model, _ = folded(laurel.apply(build(), "rw", x), inputs, "rw", trains=True)
    grown, became = folded(laurel.apply(build(), "rw", x), inputs, "rw", trains=True)
    assert (became.norms, became.merged, became.sums) == (3, 0, {"a f + b x, a in f": 3})
    plain = laurel.unfold_training(copy.deepcopy(grown))
    for one in (grown, plain):
        one.train()(x).square().sum().backward()
    for (name, one), (_, other) in zip(grown.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}


def test_to_train_what_has_no_a_has_no_folded_arm_and_the_baseline_is_itself():
    x = torch.randn(2, 4, 8, 8)
    with pytest.raises(ModelError, match=r"Nothing of pa is folded.*has no a"):
        folded(laurel.apply(build(), "pa", x), Inputs((x,), {}), "pa", trains=True)
    model, became = folded(build(), Inputs((x,), {}), trains=True)
    assert (became.merged, became.sums, became.difference) == (0, {}, 0)
    assert isinstance(model[0].bn, nn.BatchNorm2d)


@pytest.mark.parametrize("trains", [True, False])
def test_a_model_that_refuses_changed_inputs_is_checked_on_its_own(trains):
    x = given().sort(-1).values
    model = laurel.apply(OrderedNet(1).double().eval(), "rw", x)
    _, became = folded(model, Inputs((x,), {}), "rw", trains=trains)
    assert sum(became.sums.values()) == 1


@pytest.mark.slow
def test_the_command_shows_folded_arms_apart(laurel, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    words = ["profile", "net.py:build", "--input", "float32:1x4x8x8", "--arms", "naive+1,rw,ihc@2", "--folded"]
    done = laurel(*words, "--processes", "2", "--max-time", "1", "--threads", "1", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert not fault(document, DOCUMENTS[document["schema"]])
    assert not any("folded" in arm["name"] for arm in document["arms"])
    folded = document["folded"]
    assert folded["baseline"] == "baseline folded"
    arms = {arm["name"]: arm for arm in folded["arms"]}
    assert arms["baseline folded"]["ratio"] is None
    assert set(folded["family"]) == {name for name in arms if name != "baseline folded"}
    assert {name: (arm["norms"], arm["merged"]) for name, arm in arms.items() if "ihc" not in name} == {
        "baseline folded": (3, 3),
        "naive+1 folded": (4, 4),
        "rw folded": (3, 3),
    }
    assert sum(arms["rw folded"]["sums"].values()) == 3
    assert all(arm["difference"] <= arm["allowed"] for arm in arms.values())
    table = render(document, "table")
    assert "Time of a call against the baseline folded, as a ratio" in table
    assert "3 of 3" in table
    assert "rw folded" in render(document, "csv")


@pytest.mark.slow
def test_the_command_trains_folded_arms_and_they_keep_less(laurel, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    words = ["profile", "net.py:build", "--input", "float32:8x4x64x64", "--arms", "rw,pa", "--folded"]
    done = laurel(
        *words, "--mode", "train", "--processes", "2", "--max-time", "1", "--threads", "1", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert not fault(document, DOCUMENTS[document["schema"]])
    assert "pa folded is left out: Nothing of pa is folded" in " ".join(document["warnings"])
    arms = {arm["name"]: arm for arm in document["arms"]}
    folded_arms = {arm["name"]: arm for arm in document["folded"]["arms"]}
    assert set(folded_arms) == {"baseline folded", "rw folded"}
    assert document["folded"]["family"] == ["rw folded"]
    # Three branches of 8 x 4 x 64 x 64 numbers are kept for the gradient of a, and are not where it lies in the norm.
    predicted = [arm["predicted_bytes"] for arm in (arms["rw"], folded_arms["rw folded"])]
    assert predicted[0] - predicted[1] == pytest.approx(3 * 4 * 8 * 4 * 64 * 64, rel=0.02)
    assert any("has nothing to fold" in note for note in document["notes"])
    assert "Memory, folded" in render(document, "table")


def _told_of_norms(base: tuple[int, int], **others: tuple[int, int]) -> list[str]:
    """What is said of arms of whose (norms, merged) a profile hears."""
    samples = Samples()
    became = {"baseline folded": base} | {f"{name} folded": norms for name, norms in others.items()}
    samples.take({"kind": "ready", "arms": [*(name.removesuffix(" folded") for name in became), *became]}, 0)
    for arm, (norms, merged) in became.items():
        told = {"norms": norms, "merged": merged, "sums": {}, "difference": 0.0, "allowed": 1.0}
        samples.take({"kind": "folded", "arm": arm, "became": told}, 0)
        samples.take({"kind": "warm", "arm": arm, "first": 1.0}, 0)
    return Profile(None, samples, 1, False, "", ())._folded_otherwise()


def test_an_arm_whose_norms_are_not_merged_as_the_baselines_is_named():
    (said,) = _told_of_norms((53, 53), **{"naive+1": (56, 56)}, rw=(53, 0))
    assert said.startswith("rw folded: 0 of its 53 batch norms are merged, of the baseline's 53 of 53")
    # More than the baseline's make an arm look faster than it is.
    (said,) = _told_of_norms((53, 0), **{"naive+1": (56, 0)}, rw=(53, 53))
    assert said.startswith("rw folded: 53 of its 53 batch norms are merged, of the baseline's 0 of 53")
    # One block more: as many are left as of the baseline, or as large a share.
    assert _told_of_norms((53, 52), **{"naive+1": (56, 55)}) == _told_of_norms((32, 16), **{"naive+1": (34, 17)}) == []
