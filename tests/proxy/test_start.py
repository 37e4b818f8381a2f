"""Where trials begin: what arms share is bit-equal, what they add starts as a no-op or as the library starts it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from tests.proxy.small import MODELS, cnn_recipe, decoder_recipe, image_task, text_task, weights

ARMS = "baseline,naive+1,rw,lr@2,pa,rw+lr@2,rw+lr+pa@2"


@pytest.mark.parametrize(("recipe", "task"), [(cnn_recipe(), image_task()), (decoder_recipe(), text_task())])
def test_arms_share_their_start_bit_for_bit(recipe: Recipe, task) -> None:
    begun = {one.name: start(one, recipe, task, 3) for one in parse_contenders(ARMS)}
    baseline = dict(begun["baseline"].model.named_parameters())
    examples = torch.randn(2, 3, 8, 8) if task.kind == "image" else torch.randint(0, 11, (2, 16))
    expected = begun["baseline"].call(begun["baseline"].model.eval(), examples)
    for name, arm in begun.items():
        own = dict(arm.model.named_parameters())
        assert set(baseline) <= set(own), name
        assert set(arm.shared) == set(baseline)
        assert all(torch.equal(own[key], value) for key, value in baseline.items())
        assert arm.sha256 == begun["baseline"].sha256
        if name != "naive+1":
            assert torch.equal(arm.call(arm.model.eval(), examples), expected), name


def test_a_seed_is_a_start() -> None:
    (baseline, copy) = parse_contenders("copy")
    recipe, task = cnn_recipe(), image_task()
    first, again, other = (weights(start(baseline, recipe, task, seed).model) for seed in (0, 0, 1))
    copied = weights(start(copy, recipe, task, 0).model)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layer1.0.conv1.weight"], other["layer1.0.conv1.weight"])
    assert not torch.equal(first["layer1.0.conv1.weight"], copied["layer1.0.conv1.weight"])


def test_an_added_block_starts_as_the_library_starts_blocks() -> None:
    """Asked to, timm starts a ResNet's last norm of each branch at zero: a new block begins as the identity."""
    base, task = cnn_recipe(), image_task()
    recipe = replace(base, model=replace(base.model, args=(("zero_init_last", True),)))
    (baseline, naive) = parse_contenders("naive+1")
    old, new = (start(one, recipe, task, 0).model for one in (baseline, naive))
    assert len(new.layer1) == len(old.layer1) + 1
    assert torch.count_nonzero(new.layer1[-1].bn2.weight) == 0
    drawn = [old.layer1[1].conv1.weight, old.layer1[0].conv1.weight]
    assert not any(torch.equal(new.layer1[-1].conv1.weight, weight) for weight in drawn)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(new.eval()(x), old.eval()(x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "seresnet50", "regnety_002", "skresnet18", "regnetz_005"])
def test_timms_branches_start_as_torchvisions_do(name: str) -> None:
    """Left alone, timm starts the last norm of every branch of the first four at zero; regnetz takes no such word."""
    task, (baseline,) = image_task(8, 32), parse_contenders("")
    model = start(baseline, Recipe(ModelChoice(f"timm:{name}"), TaskChoice("bright")), task, 0).model
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 10
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)
    if name == "resnet50":
        theirs = start(baseline, Recipe(ModelChoice(f"torchvision:{name}"), TaskChoice("bright")), task, 0).model
        ours = {key: value for key, value in model.named_parameters() if "bn" in key}
        assert ours.keys() == {key for key, _ in theirs.named_parameters() if "bn" in key}
        assert all(torch.equal(value, theirs.get_parameter(key)) for key, value in ours.items())


def test_a_start_that_is_asked_for_stays() -> None:
    choice = ModelChoice("timm:resnet18", args=(("zero_init_last", True),))
    model = start(parse_contenders("")[0], Recipe(choice, TaskChoice("bright")), image_task(8, 32), 0).model
    assert all(torch.count_nonzero(block.bn2.weight) == 0 for stage in (model.layer1, model.layer4) for block in stage)


@pytest.mark.parametrize(("stem", "side"), [(1, 32), (2, 16), (4, 8)])
@pytest.mark.parametrize("reference", ["timm:resnet18", "torchvision:resnet18"])
def test_the_stem_fits_small_images(reference: str, stem: int, side: int) -> None:
    choice = ModelChoice(reference, stem=stem, width=16 if reference.startswith("timm") else None)
    model = start(parse_contenders("")[0], Recipe(choice, TaskChoice("bright")), image_task(8, 32), 0).model
    seen: list[torch.Size] = []
    model.layer1.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    model(torch.randn(2, 3, 32, 32))
    assert seen[0][2:] == (side, side)


def parameters_of_gpt2(width: int, layers: int, vocabulary: int, positions: int) -> int:
    layer = 12 * width**2 + 13 * width
    return (vocabulary + positions) * width + layers * layer + 2 * width


def test_sizes_of_families() -> None:
    baseline = parse_contenders("")[0]
    task = text_task()
    gpt = start(baseline, Recipe(ModelChoice("gpt2", layers=(3,), width=64), TaskChoice("counting")), task, 0).model
    assert sum(p.numel() for p in gpt.parameters()) == parameters_of_gpt2(64, 3, 11, 16)
    assert gpt.config.n_head == 2
    llama = start(baseline, Recipe(ModelChoice("llama-3-8b", layers=(2,), width=64), TaskChoice("x")), task, 0).model
    config = llama.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (64, 2, 224)
    assert config.num_attention_heads % config.num_key_value_heads == 0
    vit = ModelChoice("timm:vit_tiny_patch16_224", layers=(2,), width=64, args=(("patch_size", 4),))
    model = start(baseline, Recipe(vit, TaskChoice("bright")), image_task(), 0).model
    assert (len(model.blocks), model.embed_dim, model.patch_embed.num_patches) == (2, 64, 4)


def test_what_a_configuration_says_of_each_layer_is_sized_too(tmp_path: Path) -> None:
    """Gemma 3n's says how wide the feed-forward part of each layer is, and how each attends."""
    pytest.importorskip("transformers", reason="transformers is not installed: the extra `llm`")
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config = {"model_type": "gemma3n_text", "hidden_size": 64, "head_dim": 32, "intermediate_size": [128, 256, 128]}
    config |= {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "num_kv_shared_layers": 0}
    config |= {"layer_types": kinds, "activation_sparsity_pattern": [0.0] * 3, "hidden_size_per_layer_input": 8}
    (tmp_path / "gemma.json").write_text(json.dumps(config | {"vocab_size_per_layer_input": 16}))
    for layers, inner, attends in ((2, [64, 128], kinds[:2]), (4, [64, 128, 64, 64], [*kinds, kinds[0]])):
        choice = ModelChoice(f"hf:{tmp_path / 'gemma.json'}", layers=(layers,), width=32)
        model = start(parse_contenders("")[0], Recipe(choice, TaskChoice("counting")), text_task(), 0).model
        assert [layer.mlp.gate_proj.weight.shape for layer in model.model.layers] == [(wide, 32) for wide in inner]
        assert model.config.layer_types == attends


@pytest.mark.parametrize(
    ("reference", "width", "wide", "heads"), [("gpt2", 64, 68, 2), ("llama-3-8b", 64, 72, 2), ("paper-c4", 128, 136, 2)]
)
def test_a_wider_transformer_keeps_its_heads(reference: str, width: int, wide: int, heads: int) -> None:
    """At 128 a 64 wide transformer of its own would have heads of another size."""
    recipe = Recipe(ModelChoice(reference, layers=(1,), width=width), TaskChoice("counting"))
    for factor, expected in ((1, width), (wide / width, wide), (2, 2 * width)):
        one = parse_contenders(f"baseline:width={factor}")[-1]
        model = start(one, one.recipe(recipe), text_task(), 0).model
        if reference == "paper-c4":
            found = (model.tokens.weight.shape[1], model.layers[0].heads)
        else:
            found = (model.config.hidden_size, model.config.num_attention_heads)
        assert found == (expected, heads)


@pytest.mark.parametrize("reference", ["timm:resnet18", "timm:resnet50", "timm:seresnet50", "timm:resnext50_32x4d"])
def test_a_resnet_of_any_even_width_trains(reference: str) -> None:
    recipe, task = Recipe(ModelChoice(reference, width=18), TaskChoice("bright"), batch=8), image_task(40, 32)
    begun = start(parse_contenders("")[0], recipe, task, 0)
    x = torch.randn(8, 3, 32, 32)
    before = weights(begun.model)
    optimizer = torch.optim.SGD(begun.model.parameters(), lr=0.01)
    begun.call(begun.model.train(), x).square().sum().backward()
    optimizer.step()
    moved = [name for name, value in begun.model.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) == len(list(begun.model.parameters()))
    assert begun.model.layer1[0].conv1.weight.shape[0] in (18, 32)  # of 32 groups at least one channel each


@pytest.mark.parametrize(
    ("choice", "task", "message"),
    [
        (ModelChoice("torchvision:resnet18", width=8), image_task(), "timm:resnet18"),
        (ModelChoice("gpt2", layers=(2, 2)), text_task(), "one stack"),
        (ModelChoice("gpt2", width=30), text_task(), "heads"),
        (ModelChoice("gpt2", width=74, unwidened=64), text_task(), "2 attention heads"),
        (ModelChoice("timm:resnet18", width=9), image_task(), "even"),
        (ModelChoice("timm:resnet18", layers=(2, 2)), image_task(), "stages"),
        (ModelChoice("gpt2"), image_task(), "images"),
        (ModelChoice("timm:resnet18"), text_task(), "tokens|seq"),
        (ModelChoice("timm:resnet18", stem=3), image_task(), "stem"),
        (
            ModelChoice("timm:vit_tiny_patch16_224", layers=(1,), width=32, stem=2),
            image_task(8, 32),
            "no stem of a ResNet",
        ),
    ],
)
def test_what_does_not_fit_is_said(choice: ModelChoice, task, message: str) -> None:
    with pytest.raises((UsageError, ModelError), match=message):
        start(parse_contenders("")[0], Recipe(choice, TaskChoice("x")), task, 0)


def test_a_users_model_needs_the_tasks_classes(tmp_path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    recipe = Recipe(ModelChoice(f"{tmp_path}/models.py:build"), TaskChoice("bright"))
    with pytest.raises(ModelError, match="logits of shape"):
        start(parse_contenders("")[0], recipe, image_task(8, 32), 0)
    fitting = Recipe(ModelChoice(f"{tmp_path}/models.py:build", args=(("classes", 4),)), TaskChoice("bright"))
    begun = start(parse_contenders("")[0], fitting, image_task(8, 32), 0)
    assert isinstance(begun.model, nn.Module)


@pytest.mark.parametrize("arm", ["baseline", "naive+1", "rw+lr+pa@2"])
def test_channels_last_is_the_same_start_in_another_order(arm: str) -> None:
    """Logits and gradients agree with the contiguous model's to rounding; every kernel lies channels last."""
    recipe, task = cnn_recipe(), image_task()
    recipe = replace(recipe, model=replace(recipe.model, width=16))
    one = parse_contenders(arm)[-1]
    last, plain = (start(one, replace(recipe, channels_last=asked), task, 0) for asked in (True, False))
    assert last.sha256 == plain.sha256
    x, found = torch.randn(4, 3, 8, 8), []
    for begun in (last, plain):
        logits = begun.call(begun.model.train().double(), x.double())
        logits.square().sum().backward()
        found.append([logits, *(parameter.grad for parameter in begun.model.parameters())])
    torch.testing.assert_close(found[0], found[1])
    kernels = [parameter for parameter in last.model.parameters() if parameter.ndim == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_a_model_that_needs_contiguous_images_is_told_how(tmp_path, monkeypatch) -> None:
    """`view` cannot merge dimensions that do not lie beside each other."""
    (tmp_path / "views.py").write_text(MODELS.replace("x.flatten(1)", "x.view(len(x), -1)"))
    monkeypatch.chdir(tmp_path)
    choice = ModelChoice("views.py:build", args=(("classes", 4), ("pixels", 192)))
    recipe, task = Recipe(choice, TaskChoice("bright")), image_task()
    (baseline,) = parse_contenders("")
    with pytest.raises(ModelError, match="`channels_last=False`"):
        start(baseline, recipe, task, 0)
    assert start(baseline, replace(recipe, channels_last=False), task, 0).shared
