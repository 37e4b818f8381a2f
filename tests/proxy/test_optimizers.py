"""Parameter groups and the schedule, against the rules written out."""

import pytest
import torch
from torch import nn

from laurel_cli import apply_laurel
from laurel_cli.proxy.optimizers import optimizers, rate, set_rate
from tests.proxy.small import cnn_recipe


def test_the_rate_goes_up_and_down_in_straight_lines() -> None:
    recipe = cnn_recipe(steps=10, warmup=0.2)
    assert [rate(recipe, step) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )
    flat = cnn_recipe(steps=4, warmup=0.0)
    assert [rate(flat, step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 8)
        self.body = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for layer in self.body:
            x = x + layer(x)
        return self.head(self.norm(x))


@pytest.fixture
def model() -> nn.Module:
    model = Model()
    apply_laurel(model, "rw+lr@2", torch.zeros(1, 3, dtype=torch.long))
    return model


def names_by_group(model: nn.Module, found: list[torch.optim.Optimizer]) -> list[tuple[set[str], float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group for optimizer in found for group in optimizer.param_groups]
    return [({names[id(p)] for p in group["params"]}, group["weight_decay"], group["factor"]) for group in groups]


def test_who_decays_and_at_which_rate(model: nn.Module) -> None:
    recipe = cnn_recipe(weight_decay=0.1, laurel_lr=0.01, lr=0.5, warmup=0.0)
    found = optimizers(model, recipe)
    groups = names_by_group(model, found)
    matrices = {"body.0.weight", "body.1.weight", "head.weight"}
    ours = {name for name, _ in model.named_parameters() if "laurel" in name}
    assert len(ours) == 6
    assert groups == [
        (matrices, 0.1, 1.0),
        ({name for name, _ in model.named_parameters()} - matrices - ours, 0.0, 1.0),
        (ours, 0.0, 0.01),
    ]
    assert set_rate(found, recipe, 0) == 0.5
    assert [group["lr"] for group in found[0].param_groups] == [0.5, 0.5, 0.005]


def test_muon_takes_the_matrices_inside(model: nn.Module) -> None:
    adam, muon = optimizers(model, cnn_recipe(optimizer="muon", weight_decay=0.1))
    assert isinstance(muon, torch.optim.Muon)
    inside = {"body.0.weight", "body.1.weight"}
    assert names_by_group(model, [muon]) == [(inside, 0.1, 1.0)]
    others = set().union(*(names for names, _, _ in names_by_group(model, [adam])))
    assert others == {name for name, _ in model.named_parameters()} - inside
