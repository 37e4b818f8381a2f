"""Saved activations against a sum worked by hand, and against real tensors on the CPU."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
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
    """Bytes of distinct memory that autograd saves on real tensors, aside from what the model held before."""
    model = copy.deepcopy(model)
    plain = tree_leaves([vars(module) for module in model.modules()])
    owned = [*model.parameters(), *model.buffers(), *(leaf for leaf in plain if isinstance(leaf, torch.Tensor))]
    constants = {tensor.untyped_storage().data_ptr() for tensor in owned}
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


class Remembers(nn.Module):
    """Replaces attributes as it runs, a buffer among them, and keeps a list of them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.register_buffer("mean", torch.zeros(4, 8))
        self.last = torch.zeros(4, 8)
        self.window = [torch.ones(4, 8), torch.zeros(4, 8)]

    def forward(self, x):
        for layer in self.layers:
            self.mean = 0.9 * self.mean + 0.1 * x.detach()
            self.last = x.detach() * 2
            self.window = [self.window[1], x.detach() + 1]
            x = layer(x).tanh() * (self.last + self.mean) + x.sigmoid() * self.window[0] * self.window[1]
        return x


def recurrent() -> tuple[nn.Module, Inputs]:
    class Last(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    return Last(20, 33, 2, bidirectional=True), Inputs((torch.randn(37, 3, 20),))


def gated() -> tuple[nn.Module, Inputs]:
    class Last(nn.GRU):
        def forward(self, x):
            return super().forward(x)[0]

    return Last(6, 5), Inputs((torch.randn(7, 3, 6),))


def normed() -> tuple[nn.Module, Inputs]:
    return nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), Inputs((torch.randn(3, 16),))


def remembering() -> tuple[nn.Module, Inputs]:
    return Remembers(), Inputs((torch.randn(4, 8),))


@pytest.mark.parametrize("build", [recurrent, gated, normed, remembering])
def test_fake_and_real_passes_keep_as_much(build) -> None:
    model, inputs = build()
    figures = [count(model.eval(), inputs, real=real).saved_activation_bytes for real in (False, True, False, True)]
    assert figures == [really_saved(model, inputs)] * 4


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("offsets", [None, [0, 5], [0, 5, 12]])
def test_an_embedding_bag_keeps_indices_and_no_table(mode: str, offsets: list[int] | None) -> None:
    """The real kernel allocates one index more than it uses, and where the last offset is the end, one size more."""
    model = nn.EmbeddingBag(1000, 16, mode=mode, include_last_offset=offsets is not None and len(offsets) == 3)
    indices = torch.randint(0, 1000, (3, 4))
    inputs = Inputs((indices,) if offsets is None else (indices.flatten(), torch.tensor(offsets)))
    figures = [count(model, inputs, real=real).saved_activation_bytes for real in (False, True)]
    assert figures == [really_saved(model, inputs)] * 2


@pytest.mark.parametrize("steps", [3, 32, 33, 200, 1000])
def test_a_long_lstm_keeps_as_much_as_it_really_does(steps: int) -> None:
    class Last(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    model, inputs = Last(5, 12, 2), Inputs((torch.randn(steps, 6, 5),))
    cost = count(model, inputs)
    assert cost.saved_activation_bytes == really_saved(model, inputs)
    assert cost.notes == ()


def test_every_count_of_a_model_that_replaces_attributes_is_the_same() -> None:
    model, inputs = remembering()
    junk, figures = [], set()
    for turn in range(20):
        figures.add(count(model, inputs).saved_activation_bytes)
        junk.append([torch.empty(4, 8) for _ in range(turn)])  # other addresses the next time
    assert len(figures) == 1


@pytest.mark.parametrize("collects", [False, True])
def test_a_graph_let_go_in_a_cycle_does_not_count(collects: bool) -> None:
    """Where the model collects garbage while it holds it, it is older than all that is young when it is let go."""

    class Cycles(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            ring = [self.linear(x).exp()]
            ring.append(ring)
            if collects:
                gc.collect()
            return self.linear(x)

    assert count(Cycles(), Inputs((torch.randn(2, 4),))).saved_activation_bytes == 4 * 2 * 4


def test_what_the_caller_has_frozen_stays_so_and_what_is_collected_is_the_caller_s_choice() -> None:
    gc.freeze()
    before, collecting = gc.get_freeze_count(), gc.isenabled()
    for on in (False, True):
        (gc.enable if on else gc.disable)()
        try:
            count(nn.Linear(4, 4), Inputs((torch.randn(2, 4),)))
            assert gc.isenabled() is on
        finally:
            (gc.enable if collecting else gc.disable)()
    assert gc.get_freeze_count() > 0.9 * before  # what has been let go since is counted no longer
