"""Small tasks and models for the tests of training: seconds on one core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.records.provenance import versions
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study.asked import plan_of
from laurel_cli.study.compare import prepare
from laurel_cli.study.plan import StudyPlan
from laurel_cli.tasks import Task
from laurel_cli.tasks.examples import Images, Tokens

WIDTH, CLASSES = 16, 4

MODELS = """
import os, signal, time
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.mlp(self.norm(x))

class Net(nn.Module):
    def __init__(self, width=16, layers=2, classes=10, pixels=3072):
        super().__init__()
        self.embed = nn.Linear(pixels, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.embed(x.flatten(1))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)

def build(width=16, layers=2, classes=10, pixels=3072):
    return Net(width, layers, classes, pixels)

def example_inputs():
    return torch.randn(2, 3, 32, 32)

class Bad(Net):
    def forward(self, x):
        if self.training:
            raise RuntimeError("a bug in the user's model")
        return super().forward(x)

class Killed(Net):
    def forward(self, x):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

class Exploding(Net):
    def forward(self, x):
        x = super().forward(x)
        return x * float("nan") if self.training else x

def bad():
    return Bad()

def killed():
    return Killed()

def exploding():
    return Exploding()
"""


NARROW = """
from torch import nn

class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.skip = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 1, 2)
        self.branch = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((self.skip(x) + self.branch(x)).relu().mean((2, 3)))

def narrow():
    return Narrow()
"""  # its skip has too few channels: trained channels last on the CPU it writes outside its memory


def image_task(count: int = 200, size: int = 8) -> Task:
    """Images whose mean brightness tells their class, under noise."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLASSES, count + 80).astype(np.uint16)
    noise = draw.integers(-30, 30, (count + 80, size, size, 3))
    pixels = (40 + 50 * labels[:, None, None, None].astype(int) + noise).clip(0, 255).astype(np.uint8)
    return Task(
        name="bright",
        kind="image",
        classes=CLASSES,
        train=Images(pixels[:count], labels[:count]),
        evaluation=Images(pixels[count:], labels[count:]),
        sha256="bright",
        provenance={},
        chance_loss=float(np.log(CLASSES)),
        mean=(0.45, 0.45, 0.45),
        sd=(0.25, 0.25, 0.25),
    )


def text_task(seq_len: int = 16) -> Task:
    """Tokens that count upwards, modulo 11, with a jump now and then."""
    draw = np.random.default_rng(1)
    ids = np.cumsum(draw.choice([1, 1, 1, 5], 3000)) % 11
    return Task(
        name="counting",
        kind="text",
        classes=11,
        train=Tokens(ids[:2500].astype(np.uint8), seq_len, np.zeros(0, np.int64)),
        evaluation=Tokens(ids[2500:].astype(np.uint8), seq_len, np.arange(0, 480, seq_len)),
        sha256="counting",
        provenance={},
        chance_loss=float(np.log(11)),
    )


def cnn_recipe(**changes) -> Recipe:
    """A ResNet of timm, four channels wide: too few to be trained channels last on the CPU."""
    model = ModelChoice("timm:resnet18", layers=(2, 1, 1, 1), width=4, stem=1)
    values = {"steps": 12, "batch": 16, "evaluations": 2, "evaluation_batch": 40, "channels_last": False}
    values |= changes
    return Recipe(model, TaskChoice("bright"), **values)


def decoder_recipe(**changes) -> Recipe:
    """The paper's decoder with two layers of width 16."""
    model = ModelChoice("paper-c4", layers=(2,), width=16)
    values = {"steps": 12, "batch": 8, "evaluations": 2, "evaluation_batch": 8} | changes
    return Recipe(model, TaskChoice("counting"), **values)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of everything that is trained or remembered."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def one_layer(folder: Path, steps: int, evaluations: int) -> Path:
    """A study of the baseline and rw, one seed, that is written down and not run."""
    recipe = Recipe(
        ModelChoice("paper-c4", layers=(1,), width=16),
        TaskChoice("stdlib", seq_len=8, train_limit=2048, evaluation_limit=64),
        steps=steps,
        batch=2,
        evaluations=evaluations,
    )
    return prepare(StudyPlan(recipe, "rw", seeds=1, folder=folder, controls=False)).folder


def small_study(folder: Path, **settings: Any) -> TrainSettings:
    """A study as a user asks for it: a decoder of one layer on a little text, on the CPU; `settings` come on top."""
    data = {"task": "stdlib", "seq_len": 32, "train_limit": 20_000, "evaluation_limit": 2_000}
    data |= {"model": "paper-c4", "layers": 1, "width": 16, "batch": 8, "processes": 1}
    return TrainSettings(device="cpu", study=folder, **(data | settings))


def planned(asked: TrainSettings) -> StudyPlan:
    """The study that is asked for."""
    return plan_of(asked, command="", versions=versions())
