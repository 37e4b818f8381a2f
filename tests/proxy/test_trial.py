"""The training loop against one written out by hand, and against itself when it is stopped and goes on."""

from pathlib import Path

import pytest
import torch
from torch import nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.proxy import batches
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Recipe
from laurel_cli.proxy.start import seed_all, start
from laurel_cli.proxy.trial import State, Stopped, coefficients, train
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, text_task, weights

CPU = Group(Cpu())


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(arm: str, recipe: Recipe, task, seed: int = 0, **options) -> tuple[State, nn.Module]:
    contender = parse_contenders(arm)[-1]
    begun = start(contender, recipe, task, seed)
    return train(begun, recipe, task, seed, group=CPU, **options), begun.model


def test_the_loop_is_the_plain_one() -> None:
    """A decoder, AdamW, warm-up, clipping: written out with nothing of ours but the batches."""
    recipe, task = decoder_recipe(lr=0.01, weight_decay=0.1, clip=0.5, warmup=0.25), text_task()
    state, ours = trained("baseline", recipe, task)
    model = start(parse_contenders("")[0], recipe, task, 0).model
    tables = {"tokens.weight", "positions.weight"}
    decayed = [p for n, p in model.named_parameters() if p.dim() == 2 and n not in tables]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or n in tables]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    losses = []
    for step in range(12):
        for group in adam.param_groups:
            group["lr"] = 0.01 * ((step + 1) / 3 if step < 3 else (12 - step) / 9)
        x, y = batches.batch(task, step, 8, 0)
        loss = nn.functional.cross_entropy(model(x).transpose(1, 2), y)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adam.step()
        losses.append(loss.item())
    assert [point["loss"] for point in state.curve] == pytest.approx(losses, rel=1e-4)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        total = right = count = 0.0
        for x, y in batches.evaluation(task, 30):
            logits = model(x)
            total += float(nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))
            right, count = right + float((logits.argmax(-1) == y).sum()), count + y.numel()
    assert state.evaluations[-1]["loss"] == pytest.approx(total / count, rel=1e-3)
    assert state.evaluations[-1]["accuracy"] == pytest.approx(right / count, abs=2 / count)
    assert [evaluation["step"] for evaluation in state.evaluations] == [6, 12]


def test_it_learns() -> None:
    task = image_task()
    state, _ = trained("baseline", cnn_recipe(steps=60, lr=0.01), task)
    assert state.evaluations[-1]["loss"] < 0.5 * task.chance_loss
    assert state.evaluations[-1]["accuracy"] > 0.8
    text = text_task()
    state, _ = trained("rw+lr@2", decoder_recipe(steps=80, lr=0.01), text)
    assert state.evaluations[-1]["loss"] < 0.7 * text.chance_loss


CASES = [
    ("baseline", cnn_recipe(), image_task()),
    ("rw+lr+pa@2", cnn_recipe(optimizer="sgd", lr=0.05), image_task()),
    ("naive+1", decoder_recipe(accumulate=2), text_task()),
    ("rw+lr+pa@2", decoder_recipe(optimizer="muon"), text_task()),
    ("pa", decoder_recipe(dtype="bfloat16"), text_task()),
]


@pytest.mark.parametrize(("arm", "recipe", "task"), CASES)
def test_stopped_and_resumed_it_ends_bit_equal(arm: str, recipe: Recipe, task, tmp_path: Path) -> None:
    whole, model = trained(arm, recipe, task)
    path, stops = tmp_path / "trial.pt", [0]

    def stop() -> bool:
        stops[0] += 1
        return stops[0] % 5 == 0  # after the 5th step, and again at each 5th that follows

    pieces = 0
    while True:
        torch.manual_seed(pieces)  # whatever the generators hold when it goes on
        try:
            state, again = trained(arm, recipe, task, path=path, stop=stop)
            break
        except Stopped:
            pieces += 1
            assert path.exists()
    assert pieces == 2
    assert (state.curve, state.evaluations) == (whole.curve, whole.evaluations)
    expected = weights(model)
    assert all(torch.equal(value, expected[name]) for name, value in weights(again).items())


def test_dropout_is_that_of_the_step(tmp_path: Path) -> None:
    """A model that draws: the same however often it is stopped, and the same in all arms of a seed."""
    from dataclasses import replace

    from laurel_cli.proxy.recipe import ModelChoice, TaskChoice

    recipe = Recipe(
        ModelChoice("gpt2", layers=(1,), width=16), TaskChoice("counting"), steps=6, batch=4, evaluations=1, lr=0.01
    )
    assert recipe.model == replace(recipe.model)
    task = text_task()
    whole, _ = trained("baseline", recipe, task)
    asked = iter([False, True])
    with pytest.raises(Stopped):
        trained("baseline", recipe, task, path=tmp_path / "a.pt", stop=lambda: next(asked))
    state, _ = trained("baseline", recipe, task, path=tmp_path / "a.pt")
    assert state.curve == whole.curve
    arm, _ = trained("rw", recipe, task)
    assert arm.curve[0]["loss"] == whole.curve[0]["loss"]  # the same start, batch and dropout


def test_arms_of_a_seed_see_the_same_batches() -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    recipe, task = cnn_recipe(steps=4, evaluations=1), image_task()
    for arm in ("baseline", "rw+lr@2", "naive+1"):
        begun = start(parse_contenders(arm)[-1], recipe, task, 1)
        images = seen.setdefault(arm, [])
        begun.model.register_forward_pre_hook(lambda module, args, images=images: images.append(args[0].clone()))
        train(begun, recipe, task, 1, group=CPU)
    assert len(seen["baseline"]) > 4
    for arm, images in seen.items():
        assert all(torch.equal(a, b) for a, b in zip(images, seen["baseline"], strict=True)), arm
    assert not torch.equal(seen["baseline"][0], seen["baseline"][1])


def test_parts_of_a_batch_make_the_whole() -> None:
    task = text_task()
    whole, _ = trained("baseline", decoder_recipe(), task)
    parts, _ = trained("baseline", decoder_recipe(accumulate=4), task)
    assert [p["loss"] for p in parts.curve] == pytest.approx([p["loss"] for p in whole.curve], rel=1e-4)


def test_divergence_ends_it() -> None:
    state, _ = trained("baseline", decoder_recipe(optimizer="sgd", lr=1e30, clip=0.0), text_task())
    assert state.diverged is not None
    assert state.step == state.diverged < 12


def test_coefficients_are_those_of_the_layers() -> None:
    recipe, task = decoder_recipe(steps=8, lr=0.05), text_task()
    _, model = trained("rw+pa", recipe, task)
    found = coefficients(model)
    assert [entry["connection"] for entry in found] == [
        name for name, module in model.named_modules() if type(module).__name__ == "LaurelLayer"
    ]
    layer = model.get_submodule(found[1]["connection"])
    a, b = (2 * torch.softmax(layer.weights.detach(), 0)).tolist()
    assert (found[1]["a"], found[1]["b"]) == pytest.approx((a, b))
    assert found[1]["c"] == pytest.approx(layer.c.detach().tolist())
    assert a != pytest.approx(1.0, abs=1e-4)


def test_seeding_depends_on_every_number() -> None:
    drawn = set()
    for numbers in ((0, 1), (1, 0), (0, 11), ("a", 0)):
        seed_all(*numbers)
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 4
