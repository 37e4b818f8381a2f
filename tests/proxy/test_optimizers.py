"""Parameter groups and the schedule, against the rules written out."""

import pytest
import torch
from torch import nn

from laurel_cli import apply_laurel
from laurel_cli.errors import UsageError
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.maps import hidden
from laurel_cli.proxy.optimizers import optimizers, rate, set_rate
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from tests.proxy.small import cnn_recipe, decoder_recipe, image_task, text_task


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
    maps = hidden(model, lambda whole, ids: whole(ids), torch.zeros(1, 3, dtype=torch.long))
    inside = {"body.0.weight", "body.1.weight"}
    assert maps >= inside
    adam, muon = optimizers(model, cnn_recipe(optimizer="muon", weight_decay=0.1), maps=inside)
    assert isinstance(muon, torch.optim.Muon)
    assert names_by_group(model, [muon]) == [(inside, 0.1, 1.0)]
    others = set().union(*(names for names, _, _ in names_by_group(model, [adam])))
    assert others == {name for name, _ in model.named_parameters()} - inside


LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11}
LLAMA |= {"num_key_value_heads": 2, "tie_word_embeddings": False}
GPT2 = tuple(f"h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))
ROTARY = (*(f"self_attn.{one}_proj" for one in "qkvo"), *(f"mlp.{one}_proj" for one in ("gate", "up", "down")))
VIT = tuple(f"blocks.0.{name}.weight" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"))
BY_MUON = {
    "paper-c4": (ModelChoice("paper-c4", layers=(2,), width=16), ("qkv", "out", "up", "down"), "layers.0.{}.weight"),
    "gpt2": (ModelChoice("gpt2", layers=(2,), width=16), GPT2, "transformer.{}"),  # Conv1D, the logits tied
    "llama": (ModelChoice("hf:LlamaConfig", tuple(LLAMA.items())), ROTARY, "model.layers.0.{}.weight"),
    "vit": (
        ModelChoice("timm:vit_tiny_patch16_224", (("img_size", 8), ("patch_size", 4)), layers=(2,), width=32),
        VIT,
        "{}",
    ),
}


@pytest.mark.parametrize("name", BY_MUON)
@pytest.mark.parametrize("arm", ["baseline", "rw+lr+pa@2", "naive+1"])
def test_muon_takes_maps_whatever_module_holds_them(name: str, arm: str) -> None:
    if name in ("gpt2", "llama"):
        pytest.importorskip("transformers")
    choice, names, form = BY_MUON[name]
    task = image_task() if name == "vit" else text_task()
    recipe = Recipe(choice, TaskChoice(task.name), optimizer="muon", channels_last=False)
    begun = start(parse_contenders(arm)[-1], recipe, task, 0)
    layers = range(3 if arm == "naive+1" else 2)
    wanted = {form.format(one).replace(".0.", f".{layer}.", 1) for one in names for layer in layers}
    (*_, muon) = optimizers(begun.model, recipe, maps=begun.maps)
    assert isinstance(muon, torch.optim.Muon)
    assert names_by_group(begun.model, [muon])[0][0] == wanted


def test_a_recurrent_layer_and_a_free_matrix_are_maps_and_a_table_is_none() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.free = nn.LSTM(8, 8, batch_first=True), nn.Parameter(torch.randn(8, 8))
            self.positions, self.head = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(8, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, _ = self.lstm(x + self.positions)
            x = x + torch.einsum("btd,de->bte", x, self.free)
            return (x @ self.head).tanh() * 30  # capped, as Gemma's are

    found = hidden(Net(), lambda model, x: model(x), torch.randn(2, 3, 8))
    assert found == {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "free"}


def test_a_map_kept_the_other_way_round_gets_the_same_update() -> None:
    """GPT-2 keeps its maps as (in, out)."""
    torch.manual_seed(0)
    weight, gradient = torch.randn(12, 5), torch.randn(12, 5)
    moved = []
    for turned in (False, True):
        model = nn.Linear(1, 1, bias=False)
        model.weight = nn.Parameter((weight.T if turned else weight).clone())
        (muon,) = optimizers(model, cnn_recipe(optimizer="muon", lr=0.1), maps={"weight"})
        model.weight.grad = (gradient.T if turned else gradient).clone()
        muon.step()
        moved.append(model.weight.detach().T if turned else model.weight.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-4)
    assert float((moved[0] - weight).abs().max()) > 1e-3


@pytest.mark.parametrize("arm", ["baseline", "rw+lr@2"])
def test_muon_without_a_matrix_is_refused(arm: str) -> None:
    """A ResNet has kernels and the map to its logits, and what an arm adds is AdamW's."""
    with pytest.raises(UsageError, match="finds no matrix to train"):
        start(parse_contenders(arm)[-1], cnn_recipe(optimizer="muon"), image_task(), 0)
    alone = parse_contenders("rw+lr@2:train=added")[-1]
    with pytest.raises(UsageError, match="finds no matrix to train"):
        start(alone, decoder_recipe(optimizer="muon"), text_task(), 0)
