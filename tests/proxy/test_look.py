"""The look at the start: norms against those computed by hand, and a trial that nothing has disturbed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.proxy.augment import augment
from laurel_cli.proxy.batches import batch
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.look import look
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.start import seed_all, start
from laurel_cli.proxy.trial import train
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, text_task, weights

CPU = Cpu()


def begun(arm: str, recipe, task, seed: int = 3):
    one = parse_contenders(arm)[-1]
    return start(one, one.recipe(recipe), task, seed)


def norms(branch: Tensor, skip: Tensor) -> float:
    return float(branch.double().square().sum().sqrt() / skip.double().square().sum().sqrt())


def test_the_ratios_of_a_decoder_by_hand() -> None:
    recipe, task = decoder_recipe(), text_task()
    at = begun("", recipe, task)
    found = {entry["connection"]: entry["ratio"] for entry in look(at, recipe, task, 3, CPU)}
    tokens, _ = batch(task, 0, recipe.batch, 3)
    model, expected = at.model, {}
    with torch.no_grad():
        x = model.tokens(tokens) + model.positions(torch.arange(tokens.shape[1]))
        for number, layer in enumerate(model.layers):
            f = layer.attend(layer.attention_norm(x))
            expected[f"layers.{number}:0"] = norms(f, x)
            x = x + f
            f = layer.down(nn.functional.gelu(layer.up(layer.feed_forward_norm(x))))
            expected[f"layers.{number}:1"] = norms(f, x)
            x = x + f
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_ratios_of_a_resnet_are_those_of_training(accumulate: int) -> None:
    """Batch norms over the batch, part by part, as the first update has them; both operands caught by hooks."""
    recipe, task = cnn_recipe(accumulate=accumulate), image_task()
    at = begun("", recipe, task)
    found = {entry["connection"]: entry["ratio"] for entry in look(at, recipe, task, 3, CPU)}
    images, _ = batch(task, 0, recipe.batch, 3)
    model = begun("", recipe, task).model.train()
    block = model.layer1[1]  # without a projection: its input is the skip
    squares = {"f": 0.0, "x": 0.0}
    block.register_forward_pre_hook(
        lambda _, args: squares.update(x=squares["x"] + float(args[0].detach().double().square().sum()))
    )
    block.bn2.register_forward_hook(
        lambda *args: squares.update(f=squares["f"] + float(args[2].detach().double().square().sum()))
    )
    for part in augment(task, images, 3, 0, first=0, flip=None).split(recipe.batch // accumulate):
        at.call(model, part)
    assert found["layer1.1:0"] == pytest.approx((squares["f"] / squares["x"]) ** 0.5, rel=1e-5)
    assert len(found) == 5
    assert all(0.1 < ratio < 10 for ratio in found.values())


@pytest.mark.parametrize("kind", ["cnn", "decoder"])
def test_a_branch_that_starts_at_zero_reads_zero(kind: str) -> None:
    recipe, task = (cnn_recipe(), image_task()) if kind == "cnn" else (decoder_recipe(), text_task())
    ratios = [entry["ratio"] for entry in look(begun("baseline:init=zero", recipe, task), recipe, task, 3, CPU)]
    assert ratios
    assert set(ratios) == {0.0}
    if kind == "cnn":
        recipe = replace(recipe, model=replace(recipe.model, args=(("zero_init_last", True),)))
        assert [entry["ratio"] for entry in look(begun("", recipe, task), recipe, task, 3, CPU)] == ratios


class Shared(nn.Module):
    """One block that is called three times, its branch growing with the skip's square; two branches at one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.f, self.g = (nn.Linear(inputs, 6) for inputs in (192, 6, 6))
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(6, 4)

    def step(self, x: Tensor) -> Tensor:
        return x + self.f(x.square()) + self.dropout(self.g(x.relu()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        for _ in range(3):
            x = self.step(x)
        return self.head(x)


def test_shared_blocks_parallel_branches_and_dropout_are_those_of_the_first_update() -> None:
    recipe, task = cnn_recipe(channels_last=False), image_task()
    torch.manual_seed(0)
    at = replace(begun("", recipe, task), model=Shared(), call=lambda model, batch: model(batch))
    found = [entry["ratio"] for entry in look(at, recipe, task, 3, CPU)]
    images, _ = batch(task, 0, recipe.batch, 3)
    x = augment(task, images, 3, 0, first=0, flip=None)
    model, expected = at.model, []
    seed_all("step", 3, 0, 0)
    with torch.no_grad():
        x = model.embed(x.flatten(1))
        for _ in range(3):
            f = model.f(x.square()) + model.dropout(model.g(x.relu()))
            expected.append(norms(f, x))
            x = x + f
    assert len(set(expected)) == 3
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def one_thread():
    """As a trial has it: several add up in an order of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_trial_is_the_same_bit_for_bit_with_and_without_the_look() -> None:
    base, task = cnn_recipe(steps=4, channels_last=False), image_task()
    recipe = replace(base, model=replace(base.model, args=(("drop_rate", 0.2),)))
    ends = []
    for looking in (False, True):
        at = begun("", recipe, task)
        before = weights(at.model)
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        if looking:
            assert look(at, recipe, task, 3, CPU)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
        assert all(torch.equal(value, before[name]) for name, value in at.model.state_dict().items())
        state = train(at, recipe, task, 3, group=Group(CPU))
        ends.append((state.curve, state.evaluations, weights(at.model)))
    assert ends[0][:2] == ends[1][:2]
    assert all(torch.equal(value, ends[1][2][name]) for name, value in ends[0][2].items())


def test_what_cannot_be_told_is_none() -> None:
    recipe, task = cnn_recipe(), image_task()
    at = begun("", recipe, task)
    with torch.no_grad():
        at.model.layer1[1].conv1.weight.fill_(float("nan"))
    found = {entry["connection"]: entry["ratio"] for entry in look(at, recipe, task, 3, CPU)}
    assert found["layer1.0:0"] is not None
    assert found["layer1.1:0"] is None
    flat = replace(at, model=nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    assert look(flat, recipe, task, 3, CPU) == []
