"""LoRA of trained weights, beside LAuReL or alone: what is trained, where it starts, what is kept, what is refused."""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import laurel_cli
from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import ModelError, ResourceError, UsageError
from laurel_cli.laurel.build import learned_parameters
from laurel_cli.proxy import lora
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.optimizers import optimizers
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.proxy.trial import Stopped, train
from laurel_cli.residual.survey import survey
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import worker
from laurel_cli.study.compare import prepare
from laurel_cli.study.worker import run_trial
from laurel_cli.tasks import Task, open_task
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, planned, small_study, text_task, weights
from tests.proxy.test_weights import trained
from tests.study.test_kept import loss_of

GPT2 = Recipe(ModelChoice("gpt2", layers=(2,), width=32), TaskChoice("counting"), steps=6, batch=8, evaluations=1)
BASELINE = parse_contenders("")[0]


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft")


def by_hand(weight: Tensor, a: Tensor, b: Tensor, *, turned: bool) -> Tensor:
    """W + B A, of a kernel over its channels; `turned` where W is of shape (in, out)."""
    product = torch.einsum("or,ri->oi", b.flatten(1), a.flatten(1))
    return weight + (product.T if turned else product.reshape(weight.shape))


@pytest.mark.parametrize(
    ("recipe", "task", "arm"),
    [
        (cnn_recipe(), image_task(), "baseline"),
        (decoder_recipe(), text_task(), "baseline"),
        (decoder_recipe(), text_task(), "rw+lr+pa@2"),
        (GPT2, text_task(), "rw@2"),
    ],
)
def test_a_trial_starts_as_the_trained_model_and_trains_two_maps_beside_each_of_its_own(
    peft: Any, tmp_path: Path, recipe: Recipe, task: Task, arm: str
) -> None:
    if recipe is GPT2:
        pytest.importorskip("transformers")
    recipe, given = trained(tmp_path, recipe, task)
    examples = torch.randn(2, 3, 8, 8) if task.kind == "image" else torch.randint(0, 11, (2, 16))
    plain = start(BASELINE, recipe, task, 0)
    one = parse_contenders(f"{arm}:train=lora@2")[-1]
    begun = start(one, recipe, task, 0)
    assert begun.warnings == ()
    assert begun.sha256 == plain.sha256
    expected = plain.call(plain.model.eval(), examples)
    torch.testing.assert_close(begun.call(begun.model.eval(), examples), expected, rtol=0, atol=0)
    # Every map in a block, and no other, by the shapes of the baseline.
    blocks = tuple(f"{block}." for block in survey(plain.model, plain.inputs).whole.blocks)
    maps = {
        name.removesuffix(".weight"): value
        for name, value in given.items()
        if name.startswith(blocks) and name.endswith(".weight") and value.dim() > 1
    }
    assert len(maps) >= 4
    own = dict(begun.model.named_parameters())
    a = {name.split(".lora_A")[0]: value for name, value in own.items() if ".lora_A." in name}
    b = {name.split(".lora_B")[0]: value for name, value in own.items() if ".lora_B." in name}
    assert set(a) == set(b) == set(maps)
    turned = recipe.model.reference == "gpt2"  # Conv1D has its weights the other way round
    for name, weight in maps.items():
        inside, outside = (weight.shape[0], weight[0].numel())[:: 1 if turned else -1]
        assert (a[name].numel(), b[name].numel()) == (2 * inside, 2 * outside), name
        assert not b[name].any()
        assert a[name].std() > 0
    learned = learned_parameters(begun.model)
    assert bool(learned) is (arm != "baseline")
    of_laurel = set(map(id, learned))
    chosen = {name for name, value in own.items() if value.requires_grad and id(value) not in of_laurel}
    assert chosen == {name for name in own if ".lora_" in name}
    assert all(value.requires_grad for value in learned)
    # What is kept has B A in the maps' own weights, and the names of the baseline.
    with torch.no_grad():
        for value in b.values():
            value.normal_()
    wanted = {name: by_hand(maps[name], a[name], b[name], turned=turned) for name in maps}
    apart = begun.call(begun.model.eval(), examples)
    assert float((apart - expected).detach().abs().max()) > 0.01
    whole = lora.merged(begun.model)
    found = {name: value for name, value in whole.state_dict().items() if name in given}
    assert found.keys() == given.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[f"{name}.weight"], weight, rtol=1e-5, atol=1e-5)
    others = given.keys() - {f"{name}.weight" for name in maps}
    assert all(torch.equal(found[name], given[name]) for name in others)
    torch.testing.assert_close(begun.call(whole.eval(), examples), apart, rtol=1e-4, atol=1e-4)


@pytest.fixture
def settings(peft: Any, tmp_path: Path, cache: Path) -> TrainSettings:
    asked = small_study(tmp_path / "study", arms="baseline:train=lora@2,rw:train=lora@2", steps=12, seeds=2)
    recipe = planned(asked).recipe
    given = weights(start(BASELINE, recipe, open_task(**vars(recipe.task)), 77).model)
    save_file(given, tmp_path / "trained.safetensors")
    return replace(asked, weights=tmp_path / "trained.safetensors")


@pytest.mark.parametrize("arm", ["baseline:train=lora@2", "rw:train=lora@2"])
def test_what_is_kept_is_what_was_evaluated(settings: TrainSettings, arm: str) -> None:
    begun = prepare(planned(settings))
    content = run_trial(begun.folder, arm, 0, command="", keep=True)
    assert content["arm"]["train"] == "lora@2"
    assert content["arm"]["kind"] == ("laurel" if arm.startswith("rw") else "against")
    assert content["versions"]["arm :train=lora, peft"] == importlib.metadata.version("peft")
    place = begun.folder / content["weights"]["folder"]
    before, after = load_file(settings.weights), load_file(next(place.glob("*.safetensors")))
    assert before.keys() <= after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".weight" in name and before[name].dim() == 2 for name in changed)  # no norm, no bias, no embedding
    assert changed < {name for name in before if name.startswith("layers.")}
    assert not any("lora" in name for name in after)
    model = laurel_cli.load(str(place)).module
    assert loss_of(model, begun.study) == pytest.approx(content["final"]["loss"], rel=1e-5)


def test_a_trial_that_was_stopped_goes_on_as_if_it_had_not(settings: TrainSettings, tmp_path: Path) -> None:
    found = []
    for name, stops in (("whole", []), ("stopped", [False] * 5 + [True])):
        begun = prepare(planned(replace(settings, study=tmp_path / name)))
        asked = iter(stops)
        run = partial(run_trial, begun.folder, "rw:train=lora@2", 0, command="")
        if stops:
            with pytest.raises(Stopped):
                run(stop=lambda asked=asked: next(asked, True))
        found.append(run())
    assert found[0]["curve"] == found[1]["curve"]
    assert found[0]["evaluations"] == found[1]["evaluations"]
    assert found[0]["coefficients"] == found[1]["coefficients"]


class Block(nn.Module):
    """A block that reads the weights of its second map: by a call, beside it, or beside a call."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second = way, nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        if self.way == "beside":
            return x + F.linear(y, self.second.weight)
        y = self.second(y)
        return x + (y if self.way == "call" else y @ self.second.weight)


@pytest.mark.parametrize("way", ["call", "beside", "both"])
def test_a_map_that_is_read_beside_its_call_is_refused_and_one_that_is_not_called_left(peft: Any, way: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8), Block(way), Block(way)), torch.randn(2, 3, 8)
    paths = lora.maps(model, ["1", "2"])
    assert paths == ["1.first", "1.second", "2.first", "2.second"]
    if way == "both":
        with pytest.raises(ModelError, match="would not train what it adapts"):
            lora.place(model, paths, 2, lambda one: one(x), "baseline:train=lora@2")
        return
    count = sum(p.numel() for p in lora.place(model, paths, 2, lambda one: one(x), "baseline:train=lora@2"))
    assert count == (4 if way == "call" else 2) * 2 * (8 + 8)


def test_a_path_that_ends_as_another_one_is_another_map(peft: Any) -> None:
    model, x = nn.Sequential(Block("call"), nn.Sequential(Block("call"))), torch.randn(2, 3, 8)
    lora.place(model, lora.maps(model, ["0"]), 2, lambda one: one(x), "baseline:train=lora@2")
    adapted = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted == {"0.first", "0.second"}


def test_a_path_of_its_own_in_evaluation_is_refused(peft: Any) -> None:
    """torch's encoder layer hands its maps' weights to one kernel there, and the adapters would be left out."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model, x = nn.TransformerEncoder(layer, 2), torch.randn(2, 3, 8)
    with pytest.raises(ModelError, match="would not train what it adapts"):
        lora.place(model, lora.maps(model, ["layers.0", "layers.1"]), 2, lambda one: one(x), "baseline:train=lora@2")


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(self.up(x).relu())


def test_matrices_that_no_map_is_called_with_are_named(peft: Any) -> None:
    """torch's attention hands its own to one function: LoRA stands beside the feed-forward maps alone."""
    model, x = nn.Sequential(Attends(), Attends()), torch.randn(2, 3, 8)
    count = sum(p.numel() for p in lora.place(model, lora.maps(model, ["0", "1"]), 2, lambda one: one(x), "a"))
    assert count == 2 * 2 * 2 * (8 + 12)
    (said,) = lora.remarks(model, ["0", "1"])
    assert "0.attention.in_proj_weight, 0.attention.out_proj.weight, 1.attention.in_proj_weight and 1 more" in said


def test_convolutions_by_groups_are_left(peft: Any) -> None:
    wide, apart = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=3)
    model, x = nn.Sequential(nn.Sequential(wide, apart), nn.Sequential(apart)), torch.randn(1, 6, 4, 4)
    assert lora.maps(model, ["0", "1"]) == ["0.0"]
    count = sum(p.numel() for p in lora.place(model, ["0.0"], 2, lambda one: one(x), "a"))
    assert count == 2 * 6 * 9 + 6 * 2
    with pytest.raises(ModelError, match="finds no map"):
        lora.place(model, lora.maps(model, ["1"]), 2, lambda one: one(x), "baseline:train=lora@2")


@pytest.mark.parametrize(
    "arms",
    ["naive+1:train=lora@2", "rw:train=lora", "rw:train=lora@0", "rw:train=lora@2:grow=stack", "rw:train=lora@x"],
)
def test_names_that_mean_nothing(arms: str) -> None:
    with pytest.raises(UsageError):
        parse_contenders(arms)


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "muon"}, {"world": 2, "parallel": "fsdp"}, {"model": ModelChoice("m", width=64, mup_base=32)}],
)
def test_what_no_test_says_is_refused(changes: dict[str, Any]) -> None:
    recipe = replace(decoder_recipe(), **changes)
    with pytest.raises(UsageError, match="LoRA"):
        parse_contenders("baseline:train=lora@2")[-1].recipe(recipe)


def test_it_is_said_before_anything_trains_that_peft_is_missing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    asked = small_study(tmp_path / "study", arms="baseline:train=lora@2", steps=6, seeds=2)
    monkeypatch.setattr(worker, "run_trial", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ResourceError, match="needs peft"):
        prepare(planned(asked))
    assert not (tmp_path / "study").exists()


def test_the_adapters_learn(peft: Any, tmp_path: Path) -> None:
    """On counting tokens, from weights that are nobody's: less loss, by adapters alone."""
    recipe, _ = trained(tmp_path, decoder_recipe(steps=60, lr=0.02), text_task())
    begun = start(parse_contenders("baseline:train=lora@4")[-1], recipe, text_task(), 0)
    state = train(begun, recipe, text_task(), 0, group=Group(Cpu()))
    assert state.curve[-1]["loss"] < state.curve[0]["loss"] - 0.2
    assert math.isfinite(state.evaluations[-1]["loss"])


def test_its_maps_decay_as_little_as_laurel_s(peft: Any, tmp_path: Path) -> None:
    """Nothing that an arm adds is drawn to zero, so that arms with LoRA and LAuReL's have one recipe."""
    recipe, _ = trained(tmp_path, replace(decoder_recipe(), weight_decay=0.05), text_task())
    for arm in ("baseline:train=lora@2", "rw+lr@2:train=lora@2", "rw+lr@2:train=added"):
        begun = start(parse_contenders(arm)[-1], recipe, text_task(), 0)
        groups = [group for one in optimizers(begun.model, recipe) for group in one.param_groups]
        assert {group["weight_decay"] for group in groups if group["params"]} == {0.0}


@pytest.mark.slow
def test_seeds_that_share_a_compiled_model_keep_their_weights(peft: Any, settings: TrainSettings) -> None:
    begun = prepare(planned(replace(settings, compile=True)))
    arm, compiled = "baseline:train=lora@2", {}
    for seed in (0, 1):
        content = run_trial(begun.folder, arm, seed, command="", keep=True, compiled=compiled)
        assert content["status"] == "complete"
        kept = load_file(next((begun.folder / content["weights"]["folder"]).glob("*.safetensors")))
        assert not any("lora" in name for name in kept)


def test_an_arm_that_is_wider_is_laid_out_without_what_it_adds(cache: Path, tmp_path: Path) -> None:
    """Whether its convolutions can be trained channels last is asked of its plain model, that trains whole."""
    asked = TrainSettings(
        model="timm:resnet18", width=16, layers=(1, 1, 1, 1), task="scenes", arms="rw:width=2:train=added",
        controls=False, device="cpu", study=tmp_path / "s", seeds=1, steps=2, batch=8,
    )  # fmt: skip
    assert "rw:width=2:train=added" in prepare(planned(asked)).study.arms
