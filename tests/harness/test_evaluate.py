"""`laurel evaluate`: what it refuses before the harness is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import laurel_cli


@pytest.mark.slow
def test_without_the_extra_it_is_said_how_to_get_it(laurel: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.harness import made

    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=len(made.VOCABULARY), n_positions=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    made.tokenizer().save_pretrained(tmp_path / "gpt2")
    (tmp_path / "absent" / "lm_eval").mkdir(parents=True)
    (tmp_path / "absent" / "lm_eval" / "__init__.py").write_text("raise ImportError('it is not here')")
    path = f"{tmp_path / 'absent'}:{Path(laurel_cli.__file__).parents[1]}"
    words = ["evaluate", "hf:gpt2", "--weights", "gpt2", "--tasks", "hellaswag", "--format", "json"]
    done = laurel(*words, env={"PYTHONPATH": path})
    said = json.loads(done.stdout)["error"]
    assert (done.returncode, said["what"]) == (5, "lm-evaluation-harness is missing."), done.stderr
    assert "laurel-cli[eval]" in said["hint"]


def test_weights_and_tokenizers_that_are_not_there(laurel: Any, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "some.safetensors")
    (tmp_path / "laurel.json").write_text("{}")
    cases = {
        ("hf:GPT2Config",): (2, "has no weights"),
        ("hf:GPT2Config", "--weights", "gpt2.bin"): (2, "no file of safetensors"),
        ("net.py:build", "--weights", "some.safetensors"): (2, "is code of yours"),
        (".", "--weights", "some.safetensors"): (2, "has weights of its own"),
        ("hf:GPT2Config", "--weights", "some.safetensors"): (4, "no tokenizer"),
        ("hf:GPT2Config", "--weights", "some.safetensors", "--device", "abacus"): (2, "unknown"),
    }
    for words, (code, said) in cases.items():
        done = laurel("evaluate", *words, "--tasks", "hellaswag")
        assert (done.returncode, said in " ".join(done.stderr.split())) == (code, True), done.stderr
