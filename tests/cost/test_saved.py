"""Saved activations against a sum worked by hand, and against real tensors on the CPU."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from laurel_cli.cost.count import count
from laurel_cli.models.inputs import Inputs


def test_a_small_mlp_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    # The first layer keeps its input; ReLU its result, which is the second layer's input.
    assert count(model, Inputs((torch.randn(2, 4),))).saved_activation_bytes == 4 * (2 * 4 + 2 * 8)


def test_dropout_and_train_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)).eval()
    # Dropout keeps its mask: it is on in this pass, whatever mode the model is in.
    assert count(model, Inputs((torch.randn(2, 4),))).saved_activation_bytes > 4 * 2 * 4


def test_what_is_let_go_again_does_not_count() -> None:
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            self.linear(x).exp()
            return self.linear(x)

    assert count(Drops(), Inputs((torch.randn(2, 4),))).saved_activation_bytes == 4 * 2 * 4


def test_activation_checkpointing_keeps_less() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, on: bool):
            super().__init__()
            self.on = on
            self.body = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(4)))

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=False) if self.on else self.body(x)

    inputs = Inputs((torch.randn(2, 8),))
    plain, checked = (count(Checkpointed(on), inputs).saved_activation_bytes for on in (False, True))
    assert plain == 4 * (2 * 8 + 4 * 2 * 8 + 3 * 2 * 8)
    assert checked <= 4 * 2 * 8


def test_no_gradient_keeps_nothing() -> None:
    model = nn.Linear(4, 4).requires_grad_(False)
    assert count(model, Inputs((torch.randn(2, 4),))).saved_activation_bytes == 0


def test_train_mode_that_fails_falls_back_and_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    cost = count(model.eval(), Inputs((torch.randn(1, 3, 1, 1),)))
    assert cost.saved_activation_bytes is not None
    assert "eval mode" in cost.notes[0]
    assert not model.training


def test_not_asked_for() -> None:
    assert count(nn.Linear(4, 4), Inputs((torch.randn(2, 4),)), saved=False).saved_activation_bytes is None


def really_saved(model: nn.Module, inputs: Inputs) -> int:
    """Bytes of distinct memory that autograd saves on real tensors, parameters and buffers aside."""
    constants = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in constants:
            found[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        inputs.call(model.train())
    return sum(storage.nbytes() for storage in found.values())


def resnet() -> tuple[nn.Module, Inputs]:
    from torchvision.models import resnet18

    return resnet18(), Inputs((torch.randn(2, 3, 64, 64),))


def llama() -> tuple[nn.Module, Inputs]:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    return transformers.LlamaForCausalLM(config), Inputs((torch.randint(0, 64, (2, 16)),), {"use_cache": False})


def vit() -> tuple[nn.Module, Inputs]:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64)
    return model, Inputs((torch.randn(2, 3, 32, 32),))


@pytest.mark.parametrize("build", [resnet, vit])
def test_fake_tensors_say_what_real_ones_do(build) -> None:
    model, inputs = build()
    assert count(model.eval(), inputs).saved_activation_bytes == really_saved(model, inputs)


def test_transformers_makes_a_mask_where_it_sees_fake_tensors() -> None:
    model, inputs = llama()
    real, fake = (count(model.eval(), inputs, real=real) for real in (True, False))
    assert real.saved_activation_bytes == really_saved(model, inputs)
    # It cannot look at the positions of fake tokens, so it hands every layer a mask instead of `is_causal`.
    mask = 4 * 2 * 16 * 16
    assert fake.saved_activation_bytes == real.saved_activation_bytes + 2 * mask
    assert (fake.flops, fake.parameters) == (real.flops, real.parameters)
