"""What a user may type, and what each mistake is told."""

import pytest

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models import load
from laurel_cli.models.reference import parse


@pytest.mark.parametrize(
    ("text", "kind", "target", "factory"),
    [
        ("resnet50", "name", "resnet50", ""),
        ("timm:vit_base_patch16_224.augreg_in1k", "timm", "vit_base_patch16_224.augreg_in1k", ""),
        ("hf:org/name", "hf", "org/name", ""),
        ("hf:some/dir/config.json", "hf", "some/dir/config.json", ""),
        ("shape:gpt2", "shape", "gpt2", ""),
        ("model.py:build", "file", "model.py", "build"),
        ("a:b/model.py:build", "file", "a:b/model.py", "build"),
        ("package.module:build", "module", "package.module", "build"),
    ],
)
def test_every_form(text: str, kind: str, target: str, factory: str) -> None:
    reference = parse(text)
    assert (reference.kind, reference.target, reference.factory) == (kind, target, factory)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "resnet50"),
        ("model.py", "model.py:FACTORY"),
        ("model.py:", "FACTORY"),
        ("config.json", "hf:config.json"),
        ("org/name", "hf:org/name"),
        ("org/name", "org/name.py:FACTORY"),
        ("torchvison:resnet50", "torchvision:resnet50"),
        ("timm:", "timm:NAME"),
        ("https://example.com/model", "FILE.py:FACTORY"),
    ],
)
def test_wrong_usage_says_what_to_type(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "name", ["[red]x", "a|b", "<script>", "\\input{x}", "=cmd()", "\x1b[31mred", "a\nb", "x" * 5000]
)
def test_hostile_names_are_unknown_and_control_codes_never_come_back(name: str) -> None:
    with pytest.raises((ModelError, UsageError)) as caught:
        load(name)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "pth", "pkl", "bin", "ckpt"])
@pytest.mark.parametrize("form", ["{}", "hf:{}", "{}:build"])
def test_a_pickle_is_never_opened(tmp_path, suffix: str, form: str) -> None:
    import pickle

    trap = tmp_path / "trap"

    class Payload:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    file = tmp_path / f"model.{suffix}"
    file.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="pickle") as caught:
        load(form.format(file))
    assert caught.value.exit_code == 3
    assert not trap.exists()
