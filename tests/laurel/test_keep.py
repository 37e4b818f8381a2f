"""What people do with a model that has LAuReL: keep it, send it to other processes, take LAuReL away again."""

from __future__ import annotations

import json
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laurel_cli
from laurel_cli import apply_laurel
from laurel_cli.errors import ModelError, RecordError
from laurel_cli.laurel.apply import laurel_layers

SOURCE = '''
"""A model of somebody's own."""

import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.narrow(torch.relu(self.wide(self.norm(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.encoder(x))
'''
IDS = torch.arange(10).view(2, 5)
SPECS = ("rw", "rw+lr+pa@2")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that holds the model, as a file that another process can import too."""
    import importlib

    (tmp_path / "theirs.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("theirs")
    del sys.modules["theirs"]


def learned(theirs: ModuleType, spec: str = "rw+lr+pa@2", **options: Any) -> nn.Module:
    """A model with LAuReL off its start."""
    torch.manual_seed(0)
    model = apply_laurel(theirs.Net().eval(), laurel_cli.Spec.parse(spec, **options), IDS)
    with torch.no_grad():
        for parameter in laurel_cli.parameters(model):
            parameter.add_(torch.randn_like(parameter))
    return model


@pytest.fixture
def elsewhere(tmp_path: Path, python: Callable[..., Any]) -> Callable[[str], Tensor]:
    """Runs lines in a new process, which leaves its answer in `out`; they know `torch`, `laurel_cli` and `theirs`."""

    def run(lines: str) -> Tensor:
        script = "import torch, laurel_cli, theirs\nif __name__ == '__main__':\n    ids = torch.arange(10).view(2, 5)\n"
        script += textwrap.indent(textwrap.dedent(lines), "    ") + "\n    torch.save(out, 'out.pt')\n"
        python(script)
        return torch.load(tmp_path / "out.pt")

    return run


# ---------------------------------------------------------------- whole models


@pytest.mark.parametrize("spec", SPECS)
def test_torch_save_in_another_process(
    theirs: ModuleType, spec: str, tmp_path: Path, elsewhere: Callable[[str], Tensor]
) -> None:
    model = learned(theirs, spec)
    torch.save(model, tmp_path / "model.pt")
    out = elsewhere(
        """
        model = torch.load("model.pt", weights_only=False)
        out = model(ids).detach()
        """
    )
    torch.testing.assert_close(out, model(IDS))  # another process may use other threads


def test_a_spawned_process_is_sent_the_model(theirs: ModuleType, elsewhere: Callable[[str], Tensor]) -> None:
    out = elsewhere(
        """
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        model = theirs.Net().eval()
        laurel_cli.apply_laurel(model, "rw+pa", ids)
        for parameter in model.parameters():
            parameter.requires_grad_(False).add_(0.1)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            there = pool.submit(model.forward, ids).result()
        out = (there - model(ids)).abs().max()
        """
    )
    assert out == 0


def test_pickle_and_back_is_a_model_of_its_own(theirs: ModuleType) -> None:
    model = learned(theirs)
    expected = model(IDS)
    again = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(again(IDS), expected)
    assert isinstance(again.layers[0], theirs.Layer)
    again(IDS).sum().backward()
    assert all(parameter.grad is not None for parameter in laurel_cli.parameters(again))


# ---------------------------------------------------------------- a folder


@pytest.mark.parametrize("spec", SPECS)
def test_saved_and_restored_in_another_process(
    theirs: ModuleType, spec: str, tmp_path: Path, elsewhere: Callable[[str], Tensor]
) -> None:
    model = learned(theirs, spec)
    laurel_cli.save(model, tmp_path / "folder")
    out = elsewhere(
        """
        model = laurel_cli.restore(theirs.Net().eval(), "folder")
        assert model.head.weight is model.embed.weight
        out = model(ids).detach()
        """
    )
    torch.testing.assert_close(out, model(IDS))  # another process may use other threads


@pytest.mark.parametrize(
    "options",
    [{"per": "block"}, {"vector_weights": True}, {"lags": None}, {"history": "shared"}, {"init": "orthogonal"}],
)
def test_every_option_of_the_spec_comes_back(theirs: ModuleType, options: dict[str, Any], tmp_path: Path) -> None:
    model = learned(theirs, **options)
    laurel_cli.save(model, tmp_path)
    again = laurel_cli.restore(theirs.Net().eval(), tmp_path)
    assert torch.equal(again(IDS), model(IDS))
    assert list(again.state_dict()) == list(model.state_dict())
    assert {layer.spec for layer in laurel_layers(again).values()} == {
        layer.spec for layer in laurel_layers(model).values()
    }


def test_the_weights_are_those_that_safetensors_reads(theirs: ModuleType, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = learned(theirs)
    laurel_cli.save(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items() if name in weights)
    assert {name for name, _ in model.named_parameters()} >= set(weights)
    assert json.loads((tmp_path / "laurel.json").read_text())["schema"] == "laurel.model/1"


def test_a_model_without_memory_gets_the_saved_weights(theirs: ModuleType, tmp_path: Path) -> None:
    model = learned(theirs)
    laurel_cli.save(model, tmp_path)
    with torch.device("meta"):
        empty = theirs.Net().eval()
    assert torch.equal(laurel_cli.restore(empty, tmp_path)(IDS), model(IDS))


def test_another_model_is_refused_and_left_as_it_was(theirs: ModuleType, tmp_path: Path) -> None:
    laurel_cli.save(learned(theirs), tmp_path)
    other = theirs.Net()
    del other.layers[2]
    names, classes = list(other.state_dict()), [type(module) for module in other.modules()]
    with pytest.raises((RecordError, ModelError)):
        laurel_cli.restore(other, tmp_path)
    wider = theirs.Net()
    wider.layers[0].wide = nn.Linear(8, 32)
    with pytest.raises(RecordError, match="another model"):
        laurel_cli.restore(wider, tmp_path)
    for module in (other, wider):
        assert not laurel_layers(module)
    assert (list(other.state_dict()), [type(module) for module in other.modules()]) == (names, classes)


def test_a_folder_that_holds_nothing_says_so(theirs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"laurel\.json"):
        laurel_cli.restore(theirs.Net(), tmp_path / "nowhere")
    laurel_cli.save(learned(theirs), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RecordError, match="cannot be read"):
        laurel_cli.restore(theirs.Net(), tmp_path)
    (tmp_path / "laurel.json").write_text("{}")
    with pytest.raises(RecordError, match="does not say"):
        laurel_cli.restore(theirs.Net(), tmp_path)


def test_where_the_source_changed_the_places_are_looked_for_again(
    theirs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    model = learned(theirs)
    laurel_cli.save(model, tmp_path)
    newer = SOURCE.replace("return x + self", "y = x\n        return y + self").replace("class Layer", "class Layer ")
    (tmp_path / "newer.py").write_text(newer)
    other = importlib.import_module("newer").Net().eval()
    with pytest.raises(ModelError, match="example_inputs"):
        laurel_cli.restore(other, tmp_path)
    assert not laurel_layers(other)
    assert torch.equal(laurel_cli.restore(other, tmp_path, IDS)(IDS), model(IDS))


# ---------------------------------------------------------------- taking it away, parameters


@pytest.mark.parametrize("spec", ["rw", "pa", "rw+lr+pa@2"])
def test_what_is_taken_away_leaves_nothing(theirs: ModuleType, spec: str) -> None:
    torch.manual_seed(0)
    plain = theirs.Net().eval()
    model = learned(theirs, spec)
    assert laurel_cli.remove(model) is model
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(IDS), plain(IDS))
    for ours, its in zip(model.modules(), plain.modules(), strict=True):
        assert type(ours) is type(its)
        assert vars(ours).keys() == vars(its).keys()
        assert not ours._forward_pre_hooks
    apply_laurel(model, "lr@2", IDS)
    torch.testing.assert_close(model(IDS), plain(IDS))


def test_what_a_restored_or_pickled_model_has_can_be_taken_away_too(theirs: ModuleType, tmp_path: Path) -> None:
    model = learned(theirs)
    plain = laurel_cli.remove(pickle.loads(pickle.dumps(model)))
    laurel_cli.save(model, tmp_path)
    also = laurel_cli.remove(laurel_cli.restore(theirs.Net().eval(), tmp_path))
    assert torch.equal(plain(IDS), also(IDS))
    assert not torch.equal(plain(IDS), model(IDS))
    assert type(also.layers[0]) is theirs.Layer


def test_parameters_are_the_new_ones_and_make_a_group(theirs: ModuleType) -> None:
    torch.manual_seed(0)
    names = set(dict(theirs.Net().named_parameters()))
    model = learned(theirs)
    new = [parameter for name, parameter in model.named_parameters() if name not in names]
    ours = laurel_cli.parameters(model)
    assert {id(parameter) for parameter in ours} == {id(parameter) for parameter in new}
    assert len(ours) == len(new)
    others = [parameter for name, parameter in model.named_parameters() if name in names]
    optimizer = torch.optim.AdamW([{"params": others}, {"params": ours, "lr": 0.1, "weight_decay": 0.0}])
    model(IDS).sum().backward()
    optimizer.step()


def test_a_model_without_laurel_is_told_so(theirs: ModuleType, tmp_path: Path) -> None:
    model = theirs.Net()
    for ask in (laurel_cli.parameters, laurel_cli.remove, lambda model: laurel_cli.save(model, tmp_path)):
        with pytest.raises(ModelError, match="has no LAuReL"):
            ask(model)
    laurel_cli.save(learned(theirs), tmp_path)
    with pytest.raises(ModelError, match="has LAuReL already"):
        laurel_cli.restore(learned(theirs), tmp_path)


def test_another_type_afterwards(theirs: ModuleType) -> None:
    model = learned(theirs)
    expected = model(IDS)
    model.to(torch.bfloat16)
    assert all(parameter.dtype == torch.bfloat16 for parameter in laurel_cli.parameters(model))
    out = model(IDS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_what_was_brought_to_another_type_is_of_that_type_again(theirs: ModuleType, tmp_path: Path) -> None:
    model = learned(theirs).to(torch.bfloat16)
    laurel_cli.save(model, tmp_path)
    again = laurel_cli.restore(theirs.Net().to(torch.bfloat16), tmp_path).eval()
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    assert torch.equal(again(IDS), model.eval()(IDS))


# ---------------------------------------------------------------- transformers


def gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=16)
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def test_transformers_write_and_read_it_with_their_own_functions(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = gpt2()
    apply_laurel(model, "rw+lr+pa@2", {"input_ids": IDS})
    with torch.no_grad():
        for parameter in laurel_cli.parameters(model):
            parameter.add_(torch.randn_like(parameter))
    expected = model(IDS).logits
    model.save_pretrained(tmp_path / "theirs")
    laurel_cli.save(model, tmp_path / "ours")
    for folder in (tmp_path / "theirs", tmp_path / "ours"):
        again = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert torch.equal(again(IDS).logits, expected)
        again = laurel_cli.restore(gpt2(), folder)
        assert torch.equal(again(IDS).logits, expected)
        assert type(again).__name__ == "GPT2LMHeadModel"
    plain = laurel_cli.remove(again)
    assert torch.equal(plain(IDS).logits, gpt2()(IDS).logits)


def test_transformers_sharded_weights(tmp_path: Path) -> None:
    model = gpt2()
    apply_laurel(model, "rw+lr@2", {"input_ids": IDS})
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(laurel_cli.restore(gpt2(), tmp_path)(IDS).logits, model(IDS).logits)
