"""Trials whose parameters are parted among two processes, by gloo: beside one process, and beside whole models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import UsageError
from laurel_cli.proxy import sharded
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group, synchronised
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import start
from laurel_cli.settings.train import TrainSettings
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, planned, text_task

ALL = "Train it with the whole model in every process, `parallel='ddp'`."


def together(env: dict[str, str], what: str, folder: Path) -> list[dict[str, Any]]:
    """What both processes of `tests.proxy.parted` have seen."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "-m", "tests.proxy.parted", what, str(folder)],
        env=env,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_gradients_are_those_of_one_process(laurel_env: dict[str, str], tmp_path: Path) -> None:
    """Of the whole batch, though each process sees a half of it, in two parts; half a batch gives others by far.

    In float32 sums over examples in another order leave 1e-6 of a gradient's norm; of one that is next to nothing, as
    that of the biases of GPT-2's keys, which shift all of a softmax, they leave more.
    """
    pytest.importorskip("transformers")
    one, two = together(laurel_env, "gradients", tmp_path)
    assert one.pop("scales") == two.pop("scales") == [65536, 32768]  # an infinity in one process is one in all
    assert len(one) == 16
    for name, found in (*one.items(), *two.items()):
        assert found["distance"] < (2e-4 if "gpt2" in name else 1e-5), name
        assert found["half"] > 0.1, name
        assert 0.48 < found["held"] < 0.52, name  # a half of the parameters, rows that cannot be halved aside
    assert one["gpt2 rw+lr+pa@4 None"]["units"] == ["transformer.h.0", "transformer.h.1"]
    assert one["vit rw+lr+pa@4 None"]["units"] == ["blocks.0", "blocks.1"]
    assert one["ties rw+lr@4 None"]["units"] == ["layers.1"]  # the first and the last one share a map


@pytest.mark.slow
def test_a_trial_is_that_of_whole_models(laurel_env: dict[str, str], tmp_path: Path) -> None:
    """Six updates: what differs is the rounding of the gradient's norm."""
    pytest.importorskip("transformers")
    one, two = together(laurel_env, "trainings", tmp_path)
    refused = {name: one.pop(name) for name in ("numbers", "in place")}
    assert refused == {name: two.pop(name) for name in refused}
    assert len(one) == 10
    for name, found in (*one.items(), *two.items()):
        whole, parted = found["losses"]
        assert len(whole) == 6
        assert parted == pytest.approx(whole, rel=2e-6), name
        for key in ("loss", "accuracy"):
            (expected,), (seen,) = ([point[key] for point in points] for points in found["evaluations"])
            assert seen == pytest.approx(expected, rel=1e-5), name
        for expected, seen in zip(*found["coefficients"], strict=True):
            assert seen["connection"] == expected["connection"]
            for key in "abc":
                assert seen[key] == (None if expected[key] is None else pytest.approx(expected[key], abs=1e-6)), name
        assert found["apart"] < 1e-3, name  # of the way that the weights have gone
    assert refused["numbers"][0] == refused["in place"][0] == "ModelError"
    assert "scalar parameters" in refused["numbers"][2]
    assert "modified inplace" in refused["in place"][2]
    assert all(ALL in said[1] for said in refused.values())


@pytest.mark.slow
def test_a_checkpoint_is_whole_or_refused(laurel_env: dict[str, str], tmp_path: Path) -> None:
    """Gone on with it ends the same bit for bit; one that was interfered with is refused by both processes."""
    one, two = together(laurel_env, "checkpoints", tmp_path)
    same = dict.fromkeys(("curve", "evaluations", "coefficients", "weights"), True)
    assert one["same"] == two["same"] == {"parted": same, "whole": same}
    assert one["left"] == ["rw-0.pt", "rw-0.shards-1-51"]
    assert one["step"] == 51
    for name, why in (
        ("changed", "the checksum of"),
        ("cut", "the checksum of"),
        ("lost", "other files lie there"),
        ("more", "other files lie there"),
        ("none", "no such file or directory"),
    ):
        assert one[name] == two[name], name
        assert one[name][0] == "RecordError", name
        assert why in one[name][2], name
    assert "another trial" in one["other"][1]
    assert one["no room"][0] == two["no room"][0] == "ResourceError"
    assert one["beside"] == ["rw-0.shards-1-51", "rw-0.shards-1-77"]  # killed before the second one had its name
    assert one["old"] == two["old"] == 51
    assert one["removed"] == []


def test_what_fixes_a_trial_says_so_only_where_parameters_are_parted() -> None:
    whole, parted = decoder_recipe(world=2), decoder_recipe(world=2, parallel="fsdp")
    assert "parallel" not in whole.plain()
    assert parted.plain() == whole.plain() | {"parallel": "fsdp"}
    assert Recipe.of(parted.plain()) == parted
    assert Recipe.of(whole.plain()) == whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "needs several processes"),
        ({"world": 2, "optimizer": "muon"}, "muon"),
        ({"world": 2, "compile": True}, "compile"),
    ],
)
def test_what_parted_parameters_cannot_have(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        decoder_recipe(parallel="fsdp", **changes)


def test_a_way_that_is_none() -> None:
    with pytest.raises(UsageError, match="unknown"):
        decoder_recipe(world=2, parallel="zero")


def test_images_are_contiguous_where_kernels_are_parted(tmp_path: Path) -> None:
    asked = {"task": "scenes", "device": "cpu", "study": tmp_path, "world": 2}
    plans = [planned(TrainSettings(parallel=way, **asked)) for way in ("ddp", "fsdp")]
    assert [plan.recipe.channels_last for plan in plans] == [True, False]


def test_batch_norms_are_refused() -> None:
    with pytest.raises(UsageError, match="batch norms"):
        synchronised(nn.Sequential(nn.BatchNorm1d(3)), Group(Cpu(), 0, 2, True))


def test_blocks_that_naive_scaling_adds_are_units_too() -> None:
    recipe = decoder_recipe(world=2, parallel="fsdp")
    begun = start(parse_contenders("naive+2")[-1], recipe, text_task(), 0)
    assert begun.blocks == ("layers.0", "layers.1")
    assert sharded.units(begun.model, begun.blocks) == [f"layers.{n}" for n in range(4)]


def test_units_within_others_come_first_and_lists_are_none() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model = nn.ModuleDict({"stages": nn.ModuleList([nn.ModuleDict({"blocks": inner}), nn.Linear(2, 2), nn.ReLU()])})
    found = sharded.units(model, ["stages.0.blocks.0", "stages.1", "stages.0.blocks", "gone", ""])
    assert found == ["stages.0.blocks.0", "stages.0.blocks.1", "stages.0.blocks", "stages.1"]


def test_a_model_that_is_not_parted_keeps_its_blocks_to_itself() -> None:
    assert start(parse_contenders("rw")[-1], cnn_recipe(), image_task(), 0).blocks == ()
