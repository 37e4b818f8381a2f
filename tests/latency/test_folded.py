"""Folded arms are compared with the folded baseline, in a family of their own, and nowhere else."""

from __future__ import annotations

import json
import math

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.latency.samples import Samples
from laurel_cli.render import render
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.settings.profile import TimingSettings

NET = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.bn(self.conv(x))

def build():
    return nn.Sequential(*(Block() for _ in range(3)))
"""


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


def test_folded_is_for_inference():
    with pytest.raises(UsageError, match="folded"):
        TimingSettings(folded=True, mode="train")
    assert TimingSettings(folded=True).folded


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
