"""Progressive growth: what runs in a step against models written out by hand, the budget against formulas."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import ModelError, RecordError, UsageError
from laurel_cli.laurel.build import laurel_layers
from laurel_cli.models.inputs import Inputs
from laurel_cli.proxy import checkpoint
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.grow import bypassed, parts_of
from laurel_cli.proxy.optimizers import begin_momentum, rate
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import ModelChoice, Recipe
from laurel_cli.proxy.start import Start, examples, start
from laurel_cli.proxy.trial import State, Stopped, train
from laurel_cli.records.store import read
from laurel_cli.residual import find_connections
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import fault
from laurel_cli.study import status
from laurel_cli.study.compare import prepare
from laurel_cli.study.growth import grown
from laurel_cli.study.worker import run_trial
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, planned, small_study, text_task, weights

CPU = Group(Cpu())
DEEP = ModelChoice("paper-c4", layers=(4,), width=16)


pytestmark = pytest.mark.usefixtures("one_thread")


def deep(**changes) -> Recipe:
    """The paper's decoder with four layers of width 16."""
    return replace(decoder_recipe(**changes), model=DEEP)


def begun(arm: str, recipe: Recipe, task) -> tuple[Start, Recipe]:
    """An arm that grows at its start, and its recipe with the steps that it has."""
    one = parse_contenders(arm)[-1]
    found, own = grown(start(one, recipe, task, 0), one, recipe)
    assert found.growth is not None
    return found, own


def trained(arm: str, recipe: Recipe, task, **options) -> tuple[State, Start, Recipe]:
    found, own = begun(arm, recipe, task)
    return train(found, own, task, 0, group=CPU, **options), found, own


def logits(model: nn.Module, layers: list[int], ids: Tensor) -> Tensor:
    """The paper's decoder with these of its layers, written out."""
    x = model.tokens(ids) + model.positions(torch.arange(ids.shape[1]))
    for layer in layers:
        x = model.layers[layer](x)
    return nn.functional.linear(model.norm(x), model.tokens.weight)


def numbers(paths) -> set[int]:
    return {int(path.rpartition(".")[2]) for path in paths}


@pytest.mark.parametrize("arm", ["baseline", "rw+lr@2"])
def test_where_it_is_stacked_its_last_blocks_stand_twice(arm: str) -> None:
    """1, 2 and 4 layers: 1 is a copy of 0 when it comes, then 2 and 3 of 0 and 1, LAuReL's parameters among them."""
    task, recipe = text_task(), deep(steps=40, lr=0.01)
    found, own = begun(f"{arm}:grow=stack", recipe, task)
    growth, model = found.growth, found.model
    assert [stage.blocks for stage in growth.stages] == [(1,), (2,), (4,)]
    first, second = growth.stages[0].steps, growth.stages[0].steps + growth.stages[1].steps
    at_start = weights(model)
    seen: list[dict[str, Tensor]] = []  # the weights before each step

    def look(module: nn.Module, args: object) -> None:
        if module.training:
            seen.append(weights(module))

    hook = model.register_forward_pre_hook(look)
    train(found, own, task, 0, group=CPU)
    hook.remove()

    def layer(when: int, number: int) -> dict[str, Tensor]:
        own_names = f"layers.{number}."
        return {name.removeprefix(own_names): v for name, v in seen[when].items() if name.startswith(own_names)}

    def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    assert len(seen) == own.steps
    assert all(
        torch.equal(v, at_start[n]) for n, v in seen[first - 1].items() if n.startswith(("layers.1", "layers.3"))
    )
    assert not equal(layer(first - 1, 0), layer(first - 1, 1))
    assert equal(layer(first, 1), layer(first, 0))  # before the first step of the second stage
    assert not equal(layer(second - 1, 1), layer(second - 1, 0))  # each learns by itself
    assert equal(layer(second, 2), layer(second, 0))
    assert equal(layer(second, 3), layer(second, 1))
    names = {name.split(".")[-1] for name in layer(second, 2)}
    assert ("weights" in names) == (arm != "baseline")


@pytest.mark.parametrize("arm", ["baseline", "rw+lr@2"])
@pytest.mark.parametrize("method", ["stack", "subnets"])
def test_a_step_computes_the_model_without_the_blocks_that_do_not_run(arm: str, method: str) -> None:
    found, _ = begun(f"{arm}:grow={method}", deep(steps=40), text_task())
    growth, model = found.growth, found.model
    torch.manual_seed(0)
    for layer in laurel_layers(model).values():
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(11, (2, 16))
    for step in (0, growth.stages[0].steps, growth.steps - 1):
        kept = [number for number in range(4) if number not in numbers(growth.left_out(step, 5))]
        with bypassed(model, growth.left_out(step, 5)):
            answer = found.call(model, ids)
        assert len(kept) == growth.stages[growth.stage(step)].blocks[0]
        assert torch.equal(answer, logits(model, kept, ids))
    assert torch.equal(found.call(model, ids), logits(model, [0, 1, 2, 3], ids))  # nothing is left of it


def test_the_whole_trial_is_a_loop_written_out(tmp_path: Path) -> None:
    """Subnetworks, AdamW: only what runs is updated, by a rate that spans all steps."""
    from laurel_cli.proxy import batches

    task, recipe = text_task(), deep(steps=16, lr=0.01, clip=0.0, weight_decay=0.1)
    state, found, own = trained("baseline:grow=subnets", recipe, task)
    model = start(parse_contenders("")[0], recipe, task, 0).model
    tables = {"tokens.weight", "positions.weight"}
    decayed = [p for n, p in model.named_parameters() if p.dim() == 2 and n not in tables]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or n in tables]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    assert own.steps > 16
    for step in range(own.steps):
        for group in adam.param_groups:
            group["lr"] = 0.01 * rate(own, step)
        x, y = batches.batch(task, step, 8, 0)
        kept = [number for number in range(4) if number not in numbers(found.growth.left_out(step, 0))]
        adam.zero_grad()
        nn.functional.cross_entropy(logits(model, kept, x).transpose(1, 2), y).backward()
        adam.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    assert state.evaluations[-1]["step"] == own.steps
    assert state.curve[-1]["learning_rate"] == pytest.approx(0.01 / (own.steps - round(0.1 * own.steps)))


@pytest.mark.parametrize("arm", ["baseline", "rw+lr@2"])
@pytest.mark.parametrize("method", ["stack", "subnets"])
def test_it_costs_what_the_arm_does_by_the_formulas_of_its_maps(arm: str, method: str) -> None:
    """D = 16, T = 16, r = 2, 11 tokens known, batches of 8; attention over all positions, a step thrice a pass."""
    recipe = deep(steps=97)
    growth = begun(f"{arm}:grow={method}", recipe, text_task())[0].growth
    inner = start(parse_contenders("")[0], recipe, text_task(), 0).model.layers[0].up.out_features
    maps = 4 * 16 * 16 + 2 * 16 * inner + (2 * 2 * 16 * 2 if arm != "baseline" else 0)  # two connections
    layer = 2 * 16 * maps + 2 * 2 * 16 * 16 * 16
    head = 2 * 16 * 16 * 11
    step = {blocks: 3 * 8 * (blocks * layer + head) for blocks in (1, 2, 3, 4)}
    spent = sum(stage.steps * step[stage.blocks[0]] for stage in growth.stages)
    assert growth.flops == spent
    assert growth.budget == 97 * step[4]
    assert growth.budget - step[4] < spent <= growth.budget
    shares = [stage.steps / growth.steps for stage in growth.stages]
    wanted = [1 / 8, 7 / 40, 7 / 10] if method == "stack" else [1 / 4] * 4
    assert shares == pytest.approx(wanted, abs=0.02)


def test_a_teacher_s_passes_are_paid_for(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from laurel_cli.proxy.recipe import Distillation
    from laurel_cli.proxy.weights import checksum

    task, recipe = text_task(), deep(steps=97)
    save_file(weights(start(parse_contenders("")[0], recipe, task, 5).model), tmp_path / "t.safetensors")
    place = str(tmp_path / "t.safetensors")
    teacher = replace(recipe.model, weights=place, weights_sha256=checksum(Path(place)))
    alone = begun("baseline:grow=stack", recipe, task)[0].growth
    taught = begun("baseline:grow=stack", replace(recipe, distillation=Distillation(teacher)), task)[0].growth
    forward = alone.stages[-1].flops // 3  # the teacher is the same model, whole
    assert [stage.flops for stage in taught.stages] == [stage.flops + forward for stage in alone.stages]
    assert taught.steps < alone.steps


def test_which_blocks_run_follows_from_seed_and_step() -> None:
    recipe = deep(steps=100)
    growth = begun("baseline:grow=subnets", recipe, text_task())[0].growth
    other = begun("rw+lr@2:grow=subnets", recipe, text_task())[0].growth
    assert growth.steps == other.steps
    chosen = [growth.left_out(step, 3) for step in range(growth.steps)]
    assert chosen == [other.left_out(step, 3) for step in range(other.steps)]
    assert chosen != [growth.left_out(step, 4) for step in range(growth.steps)]
    assert not any(numbers(paths) & {0, 3} for paths in chosen)  # the first and the last
    middle = Counter(min(numbers(paths)) for paths in chosen if len(paths) == 1)
    assert set(middle) == {1, 2}
    assert min(middle.values()) > 0.3 * sum(middle.values())


CASES = [
    pytest.param("baseline:grow=stack", deep(steps=20), marks=pytest.mark.slow),
    ("rw+lr@2:grow=stack", deep(steps=20, optimizer="muon")),
    ("rw+lr@2:grow=subnets", deep(steps=20, accumulate=2)),
    pytest.param("baseline:grow=subnets", deep(steps=20, optimizer="sgd", lr=0.05), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("arm", "recipe"), CASES)
def test_stopped_and_resumed_it_ends_bit_equal(arm: str, recipe: Recipe, tmp_path: Path) -> None:
    """Stopped where the first stage ends, and within the second."""
    task = text_task()
    whole, found, _ = trained(arm, recipe, task)
    path, asked, pieces = tmp_path / "trial.pt", [0], 0
    first = found.growth.stages[0].steps

    def stop() -> bool:
        asked[0] += 1
        return asked[0] in (first, first + 2)

    while True:
        torch.manual_seed(pieces)
        try:
            state, again, _ = trained(arm, recipe, task, path=path, stop=stop)
            break
        except Stopped:
            pieces += 1
    assert pieces == 2
    assert (state.curve, state.evaluations) == (whole.curve, whole.evaluations)
    expected = weights(found.model)
    assert all(torch.equal(value, expected[name]) for name, value in weights(again.model).items())


def test_momentum_that_begins_at_zero_changes_no_update() -> None:
    ends = []
    for begins in (False, True):
        weight = nn.Parameter(torch.ones(3))
        sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        if begins:
            begin_momentum([sgd])
        for step in range(3):
            weight.grad = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
            sgd.step()
        ends.append(weight.detach().clone())
    assert torch.equal(*ends)


def test_a_checkpoint_that_has_grown_otherwise_is_refused(tmp_path: Path) -> None:
    task, recipe, path = text_task(), deep(steps=20), tmp_path / "trial.pt"
    with pytest.raises(Stopped):
        trained("baseline:grow=stack", recipe, task, path=path, stop=lambda: True)
    saved = checkpoint.restore(path, {})
    assert saved is not None
    assert saved["growth"]["stage"] == 0
    saved["growth"] = saved["growth"] | {"stage": 1}
    checkpoint.save(path, saved, {})
    with pytest.raises(RecordError, match="does not fit"):
        trained("baseline:grow=stack", recipe, task, path=path)
    del saved["growth"]
    checkpoint.save(path, saved, {})
    with pytest.raises(RecordError, match="does not fit"):
        trained("baseline:grow=stack", recipe, task, path=path)


VIT = ModelChoice("timm:vit_tiny_patch16_224", layers=(4,), width=16, args=(("img_size", 8), ("patch_size", 4)))


@pytest.mark.parametrize("method", ["stack", "subnets"])
@pytest.mark.parametrize(
    ("model", "container"),
    [
        (ModelChoice("gpt2", layers=(4,), width=16), "transformer.h"),
        (VIT, "blocks"),
        (ModelChoice("timm:resnet18", layers=(4, 1, 1, 3), width=4, stem=1), "layer1"),
    ],
)
def test_models_of_others(model: ModelChoice, container: str, method: str) -> None:
    """A step equals one of the model from whose containers the blocks were taken; then it is trained with LAuReL."""
    images = container != "transformer.h"
    task = image_task() if images else text_task()
    recipe = replace(cnn_recipe(steps=16) if images else decoder_recipe(steps=16), model=model)
    found, own = begun(f"rw+lr@2:grow={method}", recipe, task)
    growth = found.growth
    (example,) = (*found.inputs.args, *found.inputs.kwargs.values())
    gone = growth.left_out(0, 0)
    assert gone
    if container == "layer1":  # runs of two stages
        assert len(growth.runs) == 2
    found.model.eval()
    with torch.no_grad(), bypassed(found.model, gone):
        answer = found.call(found.model, example)
    whole = {}
    for path in {path.rpartition(".")[0] for path in gone}:
        place, _, name = path.rpartition(".")
        whole[path] = container_of = found.model.get_submodule(path)
        kept = [block for name, block in container_of.named_children() if f"{path}.{name}" not in gone]
        setattr(found.model.get_submodule(place), name, type(container_of)(*kept) if images else nn.ModuleList(kept))
    with torch.no_grad():
        assert torch.equal(answer, found.call(found.model, example))
    for path, module in whole.items():
        place, _, name = path.rpartition(".")
        setattr(found.model.get_submodule(place), name, module)
    state = train(found, own, task, 0, group=CPU)
    assert state.step == own.steps > 16
    assert state.diverged is None


def test_naive_scaling_grows_with_its_own_block() -> None:
    growth = begun("naive+1:grow=stack", deep(steps=40), text_task())[0].growth
    assert [stage.blocks for stage in growth.stages] == [(2,), (3,), (5,)]
    assert len(growth.runs[0]) == 5


def test_arms_are_read() -> None:
    names = [one.name for one in parse_contenders("rw:grow=stack:lr=2,baseline:grow=subnets")]
    assert names == ["baseline", "rw:lr=2:grow=stack", "baseline:grow=subnets"]
    grown = parse_contenders("baseline:grow=subnets")[-1]
    assert (grown.grow, grown.kind.name) == ("subnets", "against")


@pytest.mark.parametrize(
    "arm", ["rw+lr+pa@2:grow=stack", "dense:grow=subnets", "rw:grow=all", "rw:train=added:grow=stack"]
)
def test_arms_that_cannot_grow(arm: str) -> None:
    with pytest.raises(UsageError):
        parse_contenders(arm)


@pytest.mark.parametrize("changes", [{"compile": True}, {"world": 2}])
def test_recipes_in_which_nothing_can_grow(changes) -> None:
    with pytest.raises(UsageError, match="cannot be compiled, nor trained by several"):
        parse_contenders("rw:grow=stack")[-1].recipe(deep(**changes))
    weighted = replace(deep(), model=replace(DEEP, weights="x.safetensors"))
    with pytest.raises(UsageError, match="cannot start from"):
        parse_contenders("rw:grow=stack")[-1].recipe(weighted)


def test_too_few_steps_or_blocks() -> None:
    with pytest.raises(UsageError, match="too few steps"):
        begun("rw:grow=stack", deep(steps=2), text_task())
    with pytest.raises(ModelError, match="too few blocks"):
        begun("rw:grow=subnets", decoder_recipe(), text_task())
    with pytest.raises(ModelError, match="no two equal blocks"):
        begun("rw:grow=stack", replace(decoder_recipe(), model=replace(DEEP, layers=(1,))), text_task())


def test_its_record_and_its_study(tmp_path: Path) -> None:
    asked = small_study(
        tmp_path / "study", arms="rw:grow=stack,baseline:grow=stack", steps=12, seeds=1, controls=False, evaluations=2
    )
    folder = prepare(planned(replace(asked, layers=2))).folder
    content = run_trial(folder, "rw:grow=stack", 0, command="")
    grown, arm = content["growth"], content["arm"]
    assert arm["grow"] == "stack"
    assert [stage["blocks"] for stage in grown["stages"]] == [[1], [1], [2]]
    steps = sum(stage["steps"] for stage in grown["stages"])
    assert content["final"]["step"] == content["evaluations"][-1]["step"] == steps > 12
    assert grown["flops"] == sum(stage["steps"] * stage["flops"] for stage in grown["stages"]) <= grown["budget"]
    (written,) = [read(path) for path in (folder / "records").glob("trial-*.json")]
    assert not fault(written["content"], DOCUMENTS["laurel.trial/1"])
    assert "arm :grow, counted by" in content["versions"]
    plain = run_trial(folder, "baseline", 0, command="")
    assert "growth" not in plain
    assert "grow" not in plain["arm"]
    told = {(one["arm"], one["state"]): one for one in status.status(folder)["trials"]}
    assert told["rw:grow=stack", "complete"]["steps"] == steps
    assert json.dumps(grown)


def test_arms_that_grow_come_to_a_study_later_and_are_counted_by_one_counter(tmp_path: Path, monkeypatch) -> None:
    asked = small_study(tmp_path / "study", arms="rw", steps=12, seeds=1, controls=False, evaluations=1)
    asked = replace(asked, layers=2)
    folder = prepare(planned(asked)).folder
    prepare(planned(replace(asked, arms="rw:grow=stack", resume=True)))
    assert json.loads((folder / "study.json").read_text())["arms"] == ["baseline", "rw", "rw:grow=stack"]
    monkeypatch.setattr("laurel_cli.study.measured.counted_by", lambda: "another")
    with pytest.raises(RecordError, match="not what the study began with") as caught:
        run_trial(folder, "rw:grow=stack", 0, command="")
    assert ":grow, counted by" in caught.value.why


class Otherwise(nn.Module):
    """A teacher whose forward calls its input by another name."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_a_teacher_s_passes_are_counted_as_its_own_forward_is_called() -> None:
    from laurel_cli.cost.count import count
    from laurel_cli.proxy.distil import Teacher
    from laurel_cli.proxy.recipe import Distillation

    task, recipe = text_task(), deep(steps=97)
    (contender,) = parse_contenders("baseline:grow=stack")[1:]
    own = contender.recipe(recipe)
    student = start(contender, own, task, 0)
    (example,) = examples(student.inputs)
    three = example.repeat(3, 1)
    body = start(parse_contenders("")[0], recipe, task, 5).model
    inputs = Inputs((), {"x": three})
    teacher = Teacher(Otherwise(body), lambda model, batch: model(batch), inputs, Distillation(recipe.model))
    alone = grown(student, contender, own)[0].growth
    taught = grown(replace(student, teacher=teacher), contender, own)[0].growth
    forward = count(Otherwise(body), inputs, saved=False).flops * len(example) // len(three)
    scale = recipe.batch // len(example)
    more = {after.flops - before.flops for before, after in zip(alone.stages, taught.stages, strict=True)}
    assert more == {forward * scale}


class Outside(nn.Module):
    """Its sums are its own, and its blocks give the branches alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh()) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_blocks_that_are_added_by_the_model_are_refused() -> None:
    """Left out, each would add its input to itself: twice the stream, and not the model without the block."""
    model, x = Outside(), torch.randn(2, 3, 8)
    with bypassed(model, ["layers.0", "layers.1", "layers.2", "layers.3"]):
        assert torch.equal(model(x), 16 * x)
    with pytest.raises(ModelError, match=r"layers.0 cannot be left out. Its sum is made outside of it"):
        parts_of(model, find_connections(model, x))
