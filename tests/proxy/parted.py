"""What the processes of torchrun do for `test_sharded`: each writes what it has seen into a folder.

torchrun --standalone --nproc-per-node 2 -m tests.proxy.parted {gradients,trainings,checkpoints} FOLDER
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from laurel_cli.errors import LaurelError
from laurel_cli.laurel import worth
from laurel_cli.laurel.build import learned_parameters
from laurel_cli.proxy import batches, checkpoint, sharded
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.optimizers import optimizers
from laurel_cli.proxy.parallel import Group, joined, own_device
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import Start, start
from laurel_cli.proxy.trial import State, Stopped, _given, coefficients, train
from laurel_cli.tasks import Task
from tests.proxy.small import decoder_recipe, image_task, text_task, weights
from tests.proxy.test_distil import taught

GPT2 = Recipe(ModelChoice("gpt2", layers=(2,), width=32), TaskChoice("counting"), steps=6, batch=8, evaluations=1)
VIT = Recipe(
    ModelChoice("timm:vit_tiny_patch16_224", layers=(2,), width=64, args=(("patch_size", 4),)),
    TaskChoice("bright"),
    steps=6,
    batch=8,
    evaluations=1,
    channels_last=False,
)
DECODER = decoder_recipe(steps=6, evaluations=1)
USERS = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, tied=None):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(16), tied or nn.Linear(16, 16)
        self.register_buffer("seen", torch.zeros(16))

    def forward(self, x):
        if self.training:
            self.seen += 0.1 * (x.detach().mean((0, 1)) - self.seen)
        return x + self.linear(self.norm(x)) + 0.1 * self.seen

class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        x += self.linear(x.clone())
        return x

class Net(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.embed, self.layers, self.head = nn.Embedding(11, 16), nn.ModuleList(layers), nn.Linear(16, 11)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)

def remembers():
    return Net([Layer(), Layer()])

def ties():
    first = Layer()
    return Net([first, Layer(), Layer(first.linear)])

def in_place():
    return Net([InPlace(), InPlace()])
"""


def begin(recipe: Recipe, task: Task, arm: str, *, parted: bool) -> tuple[Start, Recipe]:
    """A start, as it is in every process."""
    recipe = replace(recipe, world=2, parallel="fsdp" if parted else "ddp")
    contender = parse_contenders(arm)[-1]
    return start(contender, contender.recipe(recipe), task, 0), recipe


def wholly(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest, of tensors of one name, as a share of the second one's norm."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).norm() / (other[name].norm() + 1e-12)) for name in one)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The norm of the difference, over all tensors."""
    assert one.keys() == other.keys()
    return float(torch.stack([(one[name].double() - other[name].double()).norm() for name in one]).norm())


def laid_out(folder: Path, group: Group) -> tuple[Path, Task, Task]:
    """The file of models of a user's, once it is there for all processes; a task of text and one of images."""
    users = folder / "users.py"
    if group.rank == 0:
        users.write_text(USERS)
    group.agree()
    return users, text_task(), image_task(size=16)


def gradients(folder: Path, group: Group) -> dict[str, Any]:
    """Of one batch: of parted models, in two accumulated parts, beside those of the whole model on the whole batch."""
    users, text, images = laid_out(folder, group)
    ties = replace(DECODER, model=ModelChoice(f"{users}:ties"))
    found = {}
    for least in (None, 0):
        if least == 0:  # one node of the graph for every sum, which else takes larger ones
            worth.TRAINING["cpu"] = dict.fromkeys(worth.TRAINING["cpu"], 0)
        for name, recipe, task, arm in (
            ("decoder", DECODER, text, "baseline"),
            ("decoder", DECODER, text, "rw+lr@4"),
            ("decoder", DECODER, text, "rw+lr+pa@4"),
            ("decoder", DECODER, text, "pa"),
            ("decoder", DECODER, text, "layerscale"),
            ("gpt2", GPT2, text, "rw+lr+pa@4"),
            ("vit", VIT, images, "rw+lr+pa@4"),
            ("ties", ties, text, "rw+lr@4"),
        ):
            found[f"{name} {arm} {least}"] = _gradients(recipe, task, arm, group)
    return found | {"scales": _scales(group)}


def _scales(group: Group) -> list[float]:
    """Of float16's scaler, after a step in which the second process alone has an infinite gradient."""
    begun, recipe = begin(DECODER, text_task(), "rw+lr@4", parted=True)
    model, scaler = group.wrapped(begun.model, begun), torch.amp.GradScaler("cpu")
    (updater,) = optimizers(model, recipe)
    before = scaler.get_scale()
    scaler.scale(begun.call(model, torch.ones(2, 16, dtype=torch.long)).mean()).backward()
    if group.rank == 1:
        next(p for p in model.parameters() if p.to_local().numel()).grad.to_local().fill_(math.inf)
    scaler.step(updater)
    scaler.update()
    return [before, scaler.get_scale()]


def _gradients(recipe: Recipe, task: Task, arm: str, group: Group) -> dict[str, Any]:
    begun, recipe = begin(recipe, task, arm, parted=True)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(1)
        for parameter in learned_parameters(begun.model):  # they leave their start, where many gradients vanish
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))

    def backward(model: nn.Module, inputs: Tensor, targets: Tensor, *, share: float) -> None:
        inputs = inputs if task.kind == "text" else inputs.permute(0, 3, 1, 2).float() / 255
        (share * F.cross_entropy(begun.call(model, inputs).flatten(0, -2), targets.flatten().long())).backward()

    def of(model: nn.Module) -> dict[str, Tensor]:
        return {name: wholly(p.grad) for name, p in model.named_parameters() if p.grad is not None}

    alone, half = copy.deepcopy(begun.model).eval(), copy.deepcopy(begun.model).eval()
    backward(alone, *batches.batch(task, 0, recipe.batch, 0), share=1.0)
    mine = batches.batch(task, 0, recipe.batch, 0, rank=group.rank, world=2)
    backward(half, *mine, share=1.0)
    before = sum(p.numel() for p in begun.model.parameters())
    model = group.wrapped(begun.model, begun).eval()
    parts = list(zip(*(tensor.chunk(2) for tensor in mine), strict=True))
    for number, part in enumerate(parts, start=1):
        with group.gathering(model, last=number == len(parts)):
            backward(model, *part, share=0.5)
    return {
        "distance": distance(of(model), of(alone)),
        "half": distance(of(half), of(alone)),
        "units": sharded.units(begun.model, begun.blocks),
        "held": sum(p.to_local().numel() for p in model.parameters()) / before,
    }


def trainings(folder: Path, group: Group) -> dict[str, Any]:
    """Trials with the whole model in every process beside those with parted ones; what is refused."""
    users, text, images = laid_out(folder, group)
    begun, _ = begin(DECODER, text, "baseline", parted=False)
    worth.INFERENCE["cpu"] = dict.fromkeys(worth.INFERENCE["cpu"], 0)  # evaluations take the ways of large sums
    teacher = taught(folder / str(group.rank), DECODER, {**begun.model.state_dict()})
    found = {}
    for name, recipe, task, arm in (
        ("decoder", replace(DECODER, accumulate=2), text, "rw+lr+pa@4"),
        ("sgd", replace(DECODER, optimizer="sgd", lr=0.1), text, "rw+lr@4"),
        ("bf16", replace(DECODER, dtype="bfloat16"), text, "rw+lr@4"),
        ("fp16", replace(DECODER, dtype="float16"), text, "rw+lr@4"),
        ("added", DECODER, text, "rw+lr@4:train=added"),
        ("naive", DECODER, text, "naive+1"),
        ("teacher", teacher, text, "rw+lr@4"),
        ("gpt2", GPT2, text, "rw+lr@4"),
        ("vit", VIT, images, "rw+pa"),
        ("remembers", replace(DECODER, model=ModelChoice(f"{users}:remembers")), text, "rw+lr@4"),
    ):
        one, other = (_trained(recipe, task, arm, group, parted) for parted in (False, True))
        found[name] = {
            "losses": [[p["loss"] for p in run["state"].curve] for run in (one, other)],
            "evaluations": [run["state"].evaluations for run in (one, other)],
            "coefficients": [run["coefficients"] for run in (one, other)],
            "apart": apart(other["weights"], one["weights"]) / apart(one["weights"], one["before"]),
        }
    for name, recipe, arm in (
        ("numbers", DECODER, "rezero"),
        ("in place", replace(DECODER, model=ModelChoice(f"{users}:in_place")), "baseline"),
    ):
        found[name] = _refusal(partial(_trained, recipe, text, arm, group, True))
    return found


def _trained(recipe: Recipe, task: Task, arm: str, group: Group, parted: bool, **options: Any) -> dict[str, Any]:
    begun, recipe = begin(recipe, task, arm, parted=parted)
    before, group = weights(begun.model), replace(group, parted=parted)
    state = train(begun, recipe, task, 0, group=group, **options)
    return {
        "state": state,
        "before": before,
        "weights": {name: wholly(tensor) for name, tensor in begun.model.state_dict().items()},
        "coefficients": coefficients(begun.model, group),
    }


def _refusal(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except LaurelError as error:
        return [type(error).__name__, str(error), error.why or ""]
    return []


def checkpoints(folder: Path, group: Group) -> dict[str, Any]:
    """A trial that is stopped and goes on; checkpoints that are torn, changed, somebody else's."""
    recipe, task = decoder_recipe(steps=104, evaluations=2), text_task()
    path, owner = folder / "rw-0.pt", {"study": "a", "token": 1}
    found: dict[str, Any] = {"same": {}}
    for parted in (True, False):
        run = partial(_trained, recipe, task, "rw+lr+pa@4", group, parted)
        whole = run()
        # After an odd step, between two points of the curve, and by a sign to the second process.
        asked = iter([False] * 50)
        try:
            run(path=path, owner=owner, stop=partial(next, asked, group.rank == 1))
        except Stopped:
            left = sorted(file.name for file in folder.iterdir() if file.name.startswith("rw-0"))
            steps = checkpoint.restore(path, owner)["step"] if group.rank == 0 else None
        group.agree()
        if parted:
            found |= {"left": left, "step": steps} | _torn(folder, path, owner, replace(group, parted=True))
        again = run(path=path, owner={**owner, "token": 2})
        found["same"]["parted" if parted else "whole"] = {
            "curve": again["state"].curve == whole["state"].curve,
            "evaluations": again["state"].evaluations == whole["state"].evaluations,
            "coefficients": again["coefficients"] == whole["coefficients"],
            "weights": all(torch.equal(again["weights"][name], own) for name, own in whole["weights"].items()),
        }
        group.agree()
        if group.rank == 0:
            checkpoint.remove(path)
            found["removed"] = [file.name for file in folder.iterdir() if file.name.startswith("rw-0")]
        group.agree()
    return found


def _torn(folder: Path, path: Path, owner: dict[str, Any], group: Group) -> dict[str, Any]:
    """What becomes of a checkpoint that is interfered with; at the end it is as it was."""
    found: dict[str, Any] = {}
    (shards,) = folder.glob("rw-0.shards-*")
    kept = folder / "kept"

    def change(name: str, what: Callable[[], object]) -> None:
        if group.rank == 0:
            shutil.copytree(shards, kept)
            what()
        group.agree()
        found[name] = _refusal(lambda: group.restored(path, owner))
        group.agree()
        if group.rank == 0:
            shutil.rmtree(shards, ignore_errors=True)
            kept.rename(shards)
        group.agree()

    last = sorted(shards.iterdir())[-1]
    change("changed", lambda: last.write_bytes(last.read_bytes()[:-1] + b"\x07"))
    change("cut", lambda: last.write_bytes(last.read_bytes()[:-9]))
    change("lost", last.unlink)
    change("none", lambda: shutil.rmtree(shards))
    change("more", lambda: shutil.copy(last, shards / "more.safetensors"))
    group.agree()
    if group.rank == 0:  # who reads is rank 0, and what it says ends the others
        found["other"] = _refusal(lambda: checkpoint.restore(path, {"study": "b"}))
    # No room for the parts of another one, as a file has their folder's name. Then one is killed after the tensors are
    # written, and before the file that names them.
    begun, recipe = begin(decoder_recipe(steps=104), text_task(), "rw+lr+pa@4", parted=True)
    model = group.wrapped(begun.model, begun)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    given = _given(State(step=77), begun, optimizers(model, recipe), scaler, group)

    (folder / "rw-0.shards-1-78").touch()
    found["no room"] = _refusal(lambda: group.save(path, {**given, "step": 78}, owner))
    group.agree()
    if group.rank == 0:
        (folder / "rw-0.shards-1-78").unlink()

    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    save, checkpoint.save = checkpoint.save, kill
    try:
        sharded.save(path, given, owner, group)
    except Killed:
        pass
    finally:
        checkpoint.save = save
    group.agree()
    found["beside"] = sorted(file.name for file in folder.glob("rw-0.shards-*"))
    found["old"] = group.restored(path, owner)["step"]
    group.agree()
    return found


def main(what: str, folder: Path) -> None:
    device = own_device("cpu", 1)
    with joined(device, 8, 1, "fsdp") as group:
        (folder / str(group.rank)).mkdir()
        found = {"gradients": gradients, "trainings": trainings, "checkpoints": checkpoints}[what](folder, group)
        (folder / f"{group.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
