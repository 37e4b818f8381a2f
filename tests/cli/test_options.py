"""Text from the command line becomes values, or an error that says what to type."""

import pytest

from laurel_cli.cli import main
from laurel_cli.errors import UsageError
from laurel_cli.laurel import spec
from laurel_cli.settings import read
from laurel_cli.settings.shared import ArmSettings, FormulaSettings, VariantSettings, arm_names


def test_lists_may_be_repeated_or_joined():
    assert read.items("--variant", ["rw, lr", "rw+lr"]) == ["rw", "lr", "rw+lr"]
    assert read.items("--variant", None) == []


def test_model_arguments_are_python_literals_or_text():
    given = ["depth=12", "drop=0.1", "flag=True", "name=none", "shape=(1, 2)", "path=a=b", "empty="]
    assert read.keywords("--model-arg", given) == {
        "depth": 12,
        "drop": 0.1,
        "flag": True,
        "name": "none",
        "shape": (1, 2),
        "path": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("given", [["depth"], ["=3"], ["a b=3"], ["a=1", "a=2"]])
def test_model_arguments_that_cannot_be(given):
    with pytest.raises(UsageError):
        read.keywords("--model-arg", given)


def test_a_model_argument_runs_no_code(tmp_path):
    target = tmp_path / "made"
    text = f"__import__('pathlib').Path({str(target)!r}).touch()"
    assert read.keywords("--model-arg", [f"x={text}"]) == {"x": text}
    assert not target.exists()


def test_what_only_looks_like_a_number_is_text_and_python_says_nothing_of_it(recwarn):
    assert read.keywords("--model-arg", ["x=1or", "y=[1if 2else 3]"]) == {"x": "1or", "y": "[1if 2else 3]"}
    assert not list(recwarn)


def test_dimensions():
    assert read.dimensions("--input-shape", "1x3x224x224") == (1, 3, 224, 224)
    assert read.dimensions("--input-shape", "3, 32,32") == (3, 32, 32)
    for text in ("", "3x", "0x3", "-1x3", "axb"):
        with pytest.raises(UsageError):
            read.dimensions("--input-shape", text)


def test_the_defaults_of_the_options_are_those_of_a_formula():
    plain = spec.Spec()
    fields = FormulaSettings().of_spec
    assert fields == {name: getattr(plain, name) for name in fields}


@pytest.mark.parametrize(
    ("variants", "ranks", "more", "expected"),
    [
        ([], [], {}, "baseline,naive+1,rw,lr@16,pa,rw+lr@16,rw+lr+pa@16"),
        (["rw+lr"], ["16"], {}, "baseline,naive+1,rw+lr@16"),
        (["rw", "lr"], ["4", "8"], {}, "baseline,naive+1,rw,lr@4,lr@8"),
        (["pa"], ["4", "8"], {"history": "shared"}, "baseline,naive+1,pa@4,pa@8"),
        (["LR+RW", "rw+lr"], [], {}, "baseline,naive+1,rw+lr@16"),
        (["lr@2"], ["4", "8"], {}, "baseline,naive+1,lr@2"),
    ],
)
def test_ranks_multiply_the_variants_that_have_one(variants, ranks, more, expected):
    chosen = VariantSettings(variant=variants, rank=[int(rank) for rank in ranks])
    assert arm_names(ArmSettings(), chosen, more) == (expected, more)


def test_arms_are_taken_as_they_are_with_one_rank_for_those_that_name_none():
    named = ArmSettings("baseline,rw+lr")
    assert arm_names(named, VariantSettings(rank=8), {}) == ("baseline,rw+lr", {"rank": 8})
    with pytest.raises(UsageError, match="one `rank`"):
        arm_names(named, VariantSettings(rank=(4, 8)), {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("analyze resnet18 --batch ²", "--batch '²' is not a whole number."),
        ("analyze resnet18 --batch=1.5", "--batch '1.5' is not a whole number."),
        (f"analyze resnet18 --seq-len {'x' * 5000}", f"--seq-len '{'x' * 60}...' is not a whole number."),
        (f"analyze resnet18 --rank {'1' * 5000}", "is not a whole number."),
        ("train-proxy --clip much", "--clip 'much' is not a number."),
        ("train-proxy --seeds 0", "--seeds 0 is below 1, the least."),
        ("profile resnet18 --max-time -1", "--max-time -1 is below 0, the least."),
    ],
)
def test_what_is_no_number_is_shown(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main.run(words.split())
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
