"""Models by name: found where they are said to be, sized as published, built without memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models import find_names, load
from laurel_cli.models.names import listed

# Published parameter counts: torchvision's model table, the papers' and the checkpoints' own.
COUNTS = {
    "resnet50": 25_557_032,
    "vit_b_16": 86_567_656,
    "inception_v3": 27_161_264,
    "timm:vit_base_patch16_224": 86_567_656,
    "regnet_y_400mf": 4_344_144,
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("reference", "parameters"), COUNTS.items())
def test_parameter_counts_are_the_published_ones(reference: str, parameters: int) -> None:
    assert count(load(reference).module) == parameters


def test_torchvision_comes_before_timm_and_both_can_be_named() -> None:
    assert load("resnet50").source.startswith("torchvision ")
    assert load("timm:resnet50").source.startswith("timm ")
    assert load("seresnet50").source.startswith("timm ")


def test_built_without_memory_in_eval_mode_and_again_for_real() -> None:
    loaded = load("resnet18")
    assert loaded.on_meta
    assert not loaded.notes
    assert not loaded.module.training
    assert all(parameter.is_meta for parameter in loaded.module.parameters())
    real = loaded.build()
    assert not real.training
    assert loaded.inputs.call(real).shape == (1, 1000)


def test_a_model_that_reads_its_own_weights_is_built_for_real_and_says_so() -> None:
    loaded = load("regnet_y_400mf")
    assert not loaded.on_meta
    assert "Built for real" in loaded.notes[0]


def test_a_size_that_the_model_fixes_is_set_where_it_is_built() -> None:
    for reference in ("vit_b_16", "timm:vit_tiny_patch16_224"):
        loaded = load(reference, image_size=64, batch=2)
        assert loaded.inputs.args[0].shape == (2, 3, 64, 64)
        assert loaded.inputs.call(loaded.build()).shape == (2, 1000)


@pytest.mark.parametrize(
    ("reference", "shape"),
    [
        ("inception_v3", (1, 3, 299, 299)),
        ("efficientnet_b3", (1, 3, 300, 300)),
        ("r3d_18", (1, 3, 16, 112, 112)),
        ("timm:mixer_b16_224", (1, 3, 224, 224)),
        ("timm:tf_efficientnet_b1", (1, 3, 240, 240)),
    ],
)
def test_the_image_size_is_the_models_own(reference: str, shape: tuple[int, ...]) -> None:
    assert load(reference).inputs.args[0].shape == shape


def test_input_shape_is_without_the_batch_or_with_it() -> None:
    assert load("resnet18", input_shape=(3, 64, 96), batch=2).inputs.args[0].shape == (2, 3, 64, 96)
    assert load("resnet18", input_shape=(4, 3, 64, 96)).inputs.args[0].shape == (4, 3, 64, 96)


def test_example_inputs_are_the_same_twice_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first = load("resnet18").inputs.args[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, load("resnet18").inputs.args[0])


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ModelError, match="resnet50") as caught:
        load("resnet5O")
    assert caught.value.exit_code == 3
    with pytest.raises(ModelError, match="timm:resnet50"):
        load("timm:resnet50.no_such_tag")
    with pytest.raises(ModelError, match="gpt2-large"):
        load("shape:gpt2-larg")


def test_options_that_do_not_apply_are_refused() -> None:
    with pytest.raises(UsageError, match="`seq_len"):
        load("resnet18", seq_len=8)
    with pytest.raises(UsageError, match="`image_size"):
        load("paper-c4", image_size=64)
    with pytest.raises(UsageError, match="positive"):
        load("resnet18", batch=0)
    with pytest.raises(UsageError, match="stands alone"):
        load("resnet18", batch=2, inputs=["1x3x64x64"])


def test_a_constructor_that_refuses_its_arguments_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="no_such_argument") as caught:
        load("resnet18", model_args={"no_such_argument": 1})
    assert caught.value.exit_code == 3
    assert load("resnet18", model_args={"num_classes": 7}).module.fc.out_features == 7


def test_names_are_read_without_importing_a_package_and_agree_with_the_packages() -> None:
    code = (
        "import sys; from laurel_cli.models import find_names; assert find_names('resnet50');"
        "assert not {'torch', 'torchvision', 'timm', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    import timm
    import torchvision

    assert set(listed("torchvision")) == set(torchvision.models.list_models())
    assert set(listed("timm")) == set(timm.list_models())


def test_find_names_by_part_and_by_glob() -> None:
    found = {name.reference: name.source for name in find_names("resnet50")}
    assert found["resnet50"].startswith("torchvision ")
    assert found["timm:resnet50"].startswith("timm ")
    assert {name.reference for name in find_names("gpt2*")} == {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}
    assert {"vit_base_patch16_224"} <= {name.reference for name in find_names("timm:vit_base*")}
    assert find_names("no such model") == []


def test_torchvision_models_need_neither_timm_nor_transformers(python) -> None:
    code = (
        "import sys; from laurel_cli.models import load; load('resnet18');"
        "assert not {'timm', 'transformers'} & set(sys.modules)"
    )
    python(code)


def test_a_folder_of_a_model_with_laurel_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "resnet18"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "laurel.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for reference in ("mine", "./mine", str(tmp_path / "mine")):
        with pytest.raises(ModelError, match="has LAuReL already"):
            load(reference)
    assert load("resnet18").source.startswith("torchvision ")
