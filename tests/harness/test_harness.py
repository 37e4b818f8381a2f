"""lm-evaluation-harness on models with LAuReL: figures that are known beforehand, and what cannot be scored."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import laurel_cli
from laurel_cli.errors import ModelError, RecordError, ResourceError, UsageError
from laurel_cli.harness import evaluate, tokenizer_of
from laurel_cli.schemas import DOCUMENTS
from laurel_cli.schemas.check import WHOLE, fault
from laurel_cli.tasks.reading.tokenizers import of_bytes
from tests.harness import made

if importlib.util.find_spec("lm_eval") is None:
    pytest.skip("lm-evaluation-harness is not installed: pip install 'laurel-cli[eval]'", allow_module_level=True)
transformers = pytest.importorskip("transformers")

NAMES = ["swag_like", "mmlu_like", "math_like"]


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Nothing is asked of the network, and what datasets keeps is kept here."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with a model whose LAuReL has learned something, its tokenizer and tasks; the model."""
    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=len(made.VOCABULARY), n_positions=128)
    config.bos_token_id = config.eos_token_id = made.VOCABULARY.index("<eos>")
    plain = transformers.GPT2LMHeadModel(config).eval()
    plain.save_pretrained(folder / "plain")
    made.tokenizer().save_pretrained(folder / "plain")
    model = laurel_cli.load(f"hf:{folder / 'plain'}").build()
    model.load_state_dict(plain.state_dict())
    vars(model)["laurel_built"] = {"reference": f"hf:{folder / 'plain'}", "options": {}}
    laurel_cli.apply(model, "rw+lr@4", {"input_ids": torch.arange(12)[None]})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 4)
    laurel_cli.save(model, folder / "learned")
    made.write(folder / "tasks", model)
    return folder, model


def test_scores_are_those_that_the_tasks_were_made_for(home: tuple[Path, Any]) -> None:
    folder, model = home
    found = evaluate(model, made.tokenizer(), NAMES, folder=folder / "tasks", batch=4)
    rows = {row["task"]: row for row in found["rows"]}
    expected = {"swag_like": (9, 12, "1.0", 0), "mmlu_like_law": (6, 8, "2.0", 2), "mmlu_like_art": (6, 12, "2.0", 2)}
    expected["math_like"] = (3, 8, "3.0", 0)
    for name, (right, of, version, shots) in expected.items():
        row, metric = rows[name], rows[name]["metrics"][0]
        assert (row["samples"], row["of"], row["version"], row["shots"]) == (of, of, version, shots)
        assert metric["metric"] == ("exact_match" if name == "math_like" else "acc")
        assert math.isclose(metric["value"], right / of)
        share = right / of
        assert math.isclose(metric["stderr"], math.sqrt(share * (1 - share) / (of - 1)))
        assert metric["higher_is_better"] is True
        assert len(row["hash"]) == 64
    group = rows["mmlu_like"]
    assert (group["is_group"], group["samples"], group["hash"]) == (True, None, None)
    assert math.isclose(group["metrics"][0]["value"], 12 / 20)  # by size, not the mean of two shares
    assert found["warnings"] == []
    # By characters, as HellaSwag counts: from the likelihoods, without the harness.
    docs = [json.loads(line) for line in (folder / "tasks" / "swag.jsonl").read_text().splitlines()]
    chosen = [made.best([made.likelihood(model, d["ctx"], e) / len(e) for e in d["endings"]]) for d in docs]
    right = sum(choice == doc["label"] for choice, doc in zip(chosen, docs, strict=True))
    assert [m["value"] for m in rows["swag_like"]["metrics"] if m["metric"] == "acc_norm"] == [right / 12]


def test_another_model_another_score_and_the_same_hash(home: tuple[Path, Any]) -> None:
    folder, model = home
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder / "plain")
    rows = [evaluate(one, made.tokenizer(), NAMES, folder=folder / "tasks")["rows"] for one in (plain, model, model)]
    assert rows[1] == rows[2]
    assert rows[0] != rows[1]
    assert [row["hash"] for row in rows[0]] == [row["hash"] for row in rows[1]]  # of the tasks alone


def test_fewer_samples_and_other_prompts_are_said(home: tuple[Path, Any]) -> None:
    folder, model = home
    options = {"folder": folder / "tasks", "limit": 4, "shots": 1}
    row = evaluate(model, made.tokenizer(), ["mmlu_like_law"], **options)["rows"][0]
    assert (row["samples"], row["of"], row["shots"]) == (4, 8, 1)


@pytest.mark.parametrize(("positions", "cut"), [(7, "12 of 12 samples of swag_like"), (8, "")])
def test_prompts_that_are_cut_are_said(positions: int, cut: str, home: tuple[Path, Any]) -> None:
    """The longest ending makes nine tokens, of which the last is only predicted."""
    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=1, n_positions=positions)
    config.vocab_size = len(made.VOCABULARY)
    model = transformers.GPT2LMHeadModel(config).eval()
    said = evaluate(model, made.tokenizer(), ["swag_like"], folder=home[0] / "tasks")["warnings"]
    assert [cut in one for one in said] == ([True] if cut else [])


def test_how_much_is_written_is_read_by_each_of_its_names(home: tuple[Path, Any], tmp_path: Path) -> None:
    """Four tokens, not the harness's 256, which no prompt would leave room for."""
    folder, model = home
    (tmp_path / "own.py").write_text(made.OWN)
    task = made.MATH.replace("HOME", str(folder / "tasks")).replace("max_gen_toks", "max_new_tokens")
    (tmp_path / "math.yaml").write_text(task)
    found = evaluate(model, made.tokenizer(), ["math_like"], folder=tmp_path)
    assert found["rows"][0]["metrics"][0]["value"] == 3 / 8
    assert found["warnings"] == []


ROLLING = """
task: text_like
dataset_path: json
dataset_kwargs: {data_files: {test: "HOME/text.jsonl"}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
metadata: {version: 1.0}
"""
WRITTEN = """
task: written_like
dataset_path: json
dataset_kwargs: {data_files: {test: "HOME/text.jsonl"}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [], max_gen_toks: 4, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def test_a_tokenizer_that_train_proxy_keeps_has_no_end_of_text(tmp_path: Path) -> None:
    """Bits a byte and what is written, from the logits; one of the first bytes is what the model calls its end."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=256, n_positions=64)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 4)
    (tmp_path / "tokenizer.json").write_text(of_bytes())
    texts = ["x = 1\n", "def f(y):", "# \u0100 caf\u00e9, and more\n\n"]
    docs, bits = [], 0.0
    with torch.no_grad():
        for text in texts:
            ids, said = list(text.encode()), list(text.encode())
            logs = model(torch.tensor([[ord("\n"), *ids]])).logits[0].log_softmax(-1)
            bits -= sum(float(logs[place, token]) for place, token in enumerate(ids)) / math.log(2)
            for _ in range(4):
                said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
            docs.append({"text": text, "answer": bytes(said[len(ids) :]).decode(errors="replace")})
            model.generation_config.eos_token_id = said[len(ids)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, docs)))
    for name, task in (("rolling", ROLLING), ("written", WRITTEN)):
        (tmp_path / f"{name}.yaml").write_text(task.replace("HOME", str(tmp_path)))
    ends = model.generation_config.eos_token_id
    tokenizer = tokenizer_of(tmp_path)
    found = evaluate(model, tokenizer, ["text_like", "written_like"], folder=tmp_path, batch=3)
    values = {row["task"]: row["metrics"][0]["value"] for row in found["rows"]}
    assert values["text_like"] == pytest.approx(bits / sum(len(text.encode()) for text in texts), rel=1e-5)
    assert values["written_like"] == 1.0
    assert ["no token that ends a text" in one for one in found["warnings"]] == [True]
    assert model.generation_config.eos_token_id == ends


def test_an_end_of_text_that_the_configuration_names_is_taken_from_a_file_alone(home: tuple[Path, Any]) -> None:
    folder, model = home
    alone = tokenizer_of(folder / "plain" / "tokenizer.json")
    assert alone.eos_token_id is None
    found = [evaluate(model, one, NAMES, folder=folder / "tasks") for one in (alone, made.tokenizer())]
    assert found[0] == found[1]


def test_a_tokenizer_of_another_model(home: tuple[Path, Any]) -> None:
    folder, model = home
    other = made.tokenizer()
    other.add_tokens(["one more"])
    with pytest.raises(RecordError, match="another model's"):
        evaluate(model, other, NAMES, folder=folder / "tasks")
    with pytest.raises(RecordError, match="There is no tokenizer"):
        tokenizer_of(folder / "tasks")
    assert len(tokenizer_of(folder / "plain" / "tokenizer.json")) == len(made.VOCABULARY)


def test_an_answer_longer_than_the_model_is_said(home: tuple[Path, Any]) -> None:
    config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=1, n_positions=3, vocab_size=len(made.VOCABULARY))
    model = transformers.GPT2LMHeadModel(config).eval()
    with pytest.raises(ModelError, match="more than the model takes"):
        evaluate(model, made.tokenizer(), ["swag_like"], folder=home[0] / "tasks")


def test_what_cannot_be_scored(home: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = home
    with pytest.raises(ModelError, match="no causal language model"):
        evaluate(torch.nn.Linear(2, 2), made.tokenizer(), NAMES)
    with pytest.raises(UsageError, match="No task is named"):
        evaluate(model, made.tokenizer(), [], folder=folder / "tasks")
    with pytest.raises(UsageError, match="is no folder"):
        evaluate(model, made.tokenizer(), NAMES, folder=tmp_path / "none")
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "swag.yaml").write_text(made.HELLASWAG.replace("HOME", str(lost)))
    with pytest.raises(RecordError, match="data of a task is missing"):
        evaluate(model, made.tokenizer(), ["swag_like"], folder=lost)
    hub = made.HELLASWAG.replace("dataset_path: json", "dataset_path: nobody/nothing")
    (lost / "swag.yaml").write_text("\n".join(line for line in hub.splitlines() if "data_files" not in line))
    with pytest.raises(ResourceError, match="cannot be fetched"):
        evaluate(model, made.tokenizer(), ["swag_like"], folder=lost)


def in_harness() -> dict[str, str]:
    """An environment in which another process finds the harness where this one does."""
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    places = [str(Path(laurel_cli.__file__).parents[1]), str(Path(spec.origin).parents[1])]
    return {"PYTHONPATH": ":".join(places), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
def test_the_command(home: tuple[Path, Any], laurel: Any, tmp_path: Path) -> None:
    folder, model = home
    env = in_harness() | {"HF_HOME": str(tmp_path / "hf"), "COLUMNS": "40"}
    tasks = ["--tasks", "swag_like,math_like", "--task-dir", folder / "tasks"]
    words = ["evaluate", folder / "learned", "--tokenizer", folder / "plain", *tasks]
    done = laurel(*words, "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert fault(said, DOCUMENTS["laurel.evaluate/1"], WHOLE) == ""
    assert (said["arm"], said["parameters"]) == ("rw+lr@4", sum(p.numel() for p in model.parameters()))
    assert [row["metrics"][0]["value"] for row in said["rows"]] == [9 / 12, 3 / 8]
    assert said["versions"]["lm_eval"]
    shown = laurel(*words, "--limit", "4", env=env)
    assert shown.returncode == 0, shown.stderr
    assert "first samples" in " ".join(shown.stdout.split())
    plain = laurel(
        "evaluate", f"hf:{folder / 'plain'}", "--weights", folder / "plain", *tasks, "--format", "csv", env=env
    )
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.splitlines()[0].startswith("task,")


@pytest.mark.slow
def test_no_such_task_and_no_network(home: tuple[Path, Any], laurel: Any) -> None:
    folder, _ = home
    words = ["evaluate", folder / "learned", "--tokenizer", folder / "plain", "--device", "cpu"]
    typo = laurel(*words, "--tasks", "helaswag", env=in_harness())
    assert (typo.returncode, "Did you mean hellaswag" in typo.stderr) == (2, True), typo.stderr
    away = laurel(*words, "--tasks", "hellaswag", env=in_harness())
    assert (away.returncode, "cannot be fetched" in away.stderr) == (5, True), away.stderr
