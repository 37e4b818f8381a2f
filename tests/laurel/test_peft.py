"""PEFT beside LAuReL: before it and after it, LAuReL frozen or trained, saved in the adapter where asked."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from laurel_cli import apply_laurel, fold_training, parameters, restore, save
from laurel_cli.laurel.apply import laurel_layers

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

IDS = torch.arange(10).view(2, 5)
SPEC = "rw+lr+pa@2"


def plain() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return transformers.GPT2LMHeadModel(config)


def with_laurel(stirred: bool = True) -> Any:
    model = apply_laurel(plain(), SPEC, {"input_ids": IDS})
    if stirred:
        with torch.no_grad():
            for parameter in parameters(model):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def lora(modules: Any = ("c_attn",), **options: Any) -> Any:
    return peft.LoraConfig(target_modules=[*modules], fan_in_fan_out=True, r=2, init_lora_weights=False, **options)


def adapted(model: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, lora(**options))


def train(model: Any) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()


def test_an_adapter_on_a_model_with_laurel_freezes_it() -> None:
    model = with_laurel()
    before = [parameter.clone() for parameter in parameters(model)]
    train(adapted(model))
    assert not any(parameter.requires_grad for parameter in parameters(model))
    assert all(torch.equal(a, b) for a, b in zip(parameters(model), before, strict=True))


def test_what_an_adapter_adds_to_a_folded_map_is_multiplied_with_a() -> None:
    """The last maps of both branches are adapted, after `fold_training`; merged, they are folded again."""
    model = with_laurel()
    folded = copy.deepcopy(model)
    assert all(one.branch for one in fold_training(folded, {"input_ids": IDS}).connections)
    both = []
    for one in (model, folded):
        torch.manual_seed(1)
        both.append(adapted(one, modules=["c_proj"]))
    for _ in range(2):
        torch.testing.assert_close(both[1](IDS).logits, both[0](IDS).logits)
        for one in both:
            train(one)
    plain, ours = (one.merge_and_unload() for one in both)
    torch.testing.assert_close(ours(IDS).logits, plain(IDS).logits)
    assert all(layer.a_is_within for layer in laurel_layers(ours).values())


def test_laurel_is_trained_and_saved_in_the_adapter_where_asked(tmp_path: Path) -> None:
    model = with_laurel()
    save(model, tmp_path / "base")
    ours = adapted(model, modules_to_save=["laurel0", "laurel1"])
    before = ours(IDS).logits
    train(ours)
    expected = ours.eval()(IDS).logits
    assert not torch.equal(before, expected)
    trained = {name: p for name, p in ours.named_parameters() if p.requires_grad and "laurel" in name}
    assert len(trained) == len(parameters(model)) // 2  # beside each that is trained stands the one that was there
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    ours.save_pretrained(tmp_path / "adapter")
    from safetensors.torch import load_file

    assert any("laurel0" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    again = peft.PeftModel.from_pretrained(restore(plain(), tmp_path / "base"), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(IDS).logits, expected)


def test_laurel_on_a_model_with_an_adapter() -> None:
    ours = adapted(plain()).eval()
    before = ours(IDS).logits
    apply_laurel(ours, SPEC, {"input_ids": IDS})
    assert len(laurel_layers(ours)) == 4
    torch.testing.assert_close(ours(IDS).logits, before)
    train(ours)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in parameters(ours))
    assert not torch.equal(ours(IDS).logits, before)


@pytest.mark.parametrize("excluded", [False, True], ids=["adapted", "left out"])
def test_an_adapter_on_all_linear_maps_takes_laurel_s_too_unless_they_are_excluded(excluded: bool) -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=32, **size)).eval()
    apply_laurel(model, "rw+lr@4", {"input_ids": IDS})
    with torch.no_grad():
        for parameter in parameters(model):
            parameter.add_(0.1 * torch.randn_like(parameter))
    before, kept = model(IDS).logits, [parameter.detach().clone() for parameter in parameters(model)]
    names = {"exclude_modules": r".*\.laurel\d+\..*"} if excluded else {}
    ours = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", r=2, **names)).eval()
    torch.testing.assert_close(ours(IDS).logits, before)  # LoRA starts at zero
    adapters = [name for name, p in ours.named_parameters() if "lora_" in name and p.requires_grad]
    assert any(".laurel" in name for name in adapters) != excluded
    train(ours)
    assert not torch.equal(ours(IDS).logits, before)
    own = [p for name, p in ours.named_parameters() if ".laurel" in name and "lora_" not in name]
    assert len(own) == len(kept)
    assert all(torch.equal(a, b) for a, b in zip(own, kept, strict=True))  # the maps themselves stay


def test_an_adapter_is_merged_and_laurel_stays() -> None:
    ours = adapted(with_laurel()).eval()
    expected = ours(IDS).logits
    merged = ours.merge_and_unload()
    assert len(laurel_layers(merged)) == 4
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-5)


def test_a_folded_into_the_branches_is_a_factor_once_where_the_adapter_has_laurel_of_its_own() -> None:
    model = with_laurel().eval()
    other = copy.deepcopy(model)
    assert any(one.branch for one in fold_training(other, {"input_ids": IDS}).connections)
    theirs, ours = (adapted(one, modules_to_save=["laurel0", "laurel1"]) for one in (model, other))
    ours.load_state_dict(theirs.state_dict())
    for _ in range(2):
        torch.testing.assert_close(ours.eval()(IDS).logits, theirs.eval()(IDS).logits)
        with ours.disable_adapter(), theirs.disable_adapter():
            torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits)
        train(ours)
        train(theirs)
    for (name, one), other_one in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other_one, rtol=1e-4, atol=1e-5, msg=name)
