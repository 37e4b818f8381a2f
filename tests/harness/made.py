"""Tasks on local files, of the shapes of HellaSwag, MMLU and MATH, whose scores follow from how they are made.

What a model prefers is computed here from its logits alone. The right answers are then set so that it is right on a
known share of the samples: what the harness finds must be that share.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

WORDS = [f"w{number}" for number in range(20)]
VOCABULARY = [*WORDS, *"ABCD", "A.", "B.", "C.", "D.", "Answer:", "Problem:", "Solution:", "[UNK]", "<eos>"]

HELLASWAG = """
task: swag_like
dataset_path: json
dataset_kwargs: {data_files: {validation: "HOME/swag.jsonl"}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{ctx}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{endings}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
MMLU = """
task: mmlu_like_SUBJECT
dataset_path: json
dataset_kwargs: {data_files: {test: "HOME/SUBJECT.jsonl", dev: "HOME/dev.jsonl"}}
test_split: test
fewshot_split: dev
fewshot_config: {sampler: first_n}
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "{{question.strip()}}CHOICES\\nAnswer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""
MMLU = MMLU.replace("CHOICES", "".join(f"\\n{letter}. {{{{choices[{place}]}}}}" for place, letter in enumerate("ABCD")))
MMLU_GROUP = """
group: mmlu_like
task: [mmlu_like_law, mmlu_like_art]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
metadata: {version: 2}
"""
MATH = """
task: math_like
dataset_path: json
dataset_kwargs: {data_files: {test: "HOME/math.jsonl"}}
test_split: test
output_type: generate_until
doc_to_text: "Problem: {{problem}}\\nSolution:"
doc_to_target: "{{answer}}"
process_results: !function own.process_results
generation_kwargs: {until: ["Problem:"], max_gen_toks: 4, do_sample: false, temperature: 0}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 3.0}
"""
OWN = """
def process_results(doc, results):
    words = results[0].split()
    return {"exact_match": int(bool(words) and words[-1] == doc["answer"])}
"""


def tokenizer() -> Any:
    """A tokenizer of transformers: a token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", unk_token="[UNK]", pad_token="<eos>")


def ids(text: str) -> list[int]:
    return [VOCABULARY.index(word) for word in text.split()]


@torch.no_grad()
def likelihood(model: Any, before: str, after: str) -> float:
    """log p(after | before), from the logits."""
    context, rest = ids(before), ids(after)
    logs = model(torch.tensor([context + rest])).logits[0].log_softmax(-1)
    return sum(float(logs[len(context) - 1 + place, token]) for place, token in enumerate(rest))


@torch.no_grad()
def written(model: Any, prompt: str) -> list[str]:
    """Four words at most, each the likeliest; none after <eos> or "Problem:"."""
    context, words = ids(prompt), []
    for _ in range(4):
        token = int(model(torch.tensor([context])).logits[0, -1].argmax())
        if VOCABULARY[token] in ("<eos>", "Problem:"):
            break
        words.append(VOCABULARY[token])
        context.append(token)
    return words


def best(scores: list[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def write(folder: Path, model: Any) -> None:
    """The files of all tasks. `model` is right on 9 of 12 samples of swag_like (by acc), on 6 of 8 of mmlu_like_law, on
    6 of 12 of mmlu_like_art, and on 3 of 8 of math_like."""
    folder.mkdir(parents=True)
    rng = random.Random(1)

    def words(count: int) -> str:
        return " ".join(rng.choices(WORDS, k=count))

    def right(preferred: int, number: int, of: int) -> int:
        return preferred if number < of else (preferred + 1) % 4

    swag = []
    for number in range(12):
        context, endings = words(5), [words(length) for length in (2, 3, 3, 4)]
        scores = [likelihood(model, context, ending) for ending in endings]
        swag.append({"ctx": context, "endings": endings, "label": right(best(scores), number, 9)})
    dev = [{"question": words(4), "choices": [words(1) for _ in range(4)], "answer": number} for number in range(3)]
    shots = " ".join(f"{asked(doc)} {'ABCD'[doc['answer']]}" for doc in dev[:2])
    subjects = {}
    for subject, count, of in (("law", 8, 6), ("art", 12, 6)):
        subjects[subject] = []
        for number in range(count):
            doc = {"question": words(4), "choices": [words(1) for _ in range(4)]}
            scores = [likelihood(model, f"{shots} {asked(doc)}", letter) for letter in "ABCD"]
            subjects[subject].append(doc | {"answer": right(best(scores), number, of)})
    maths = []
    for number in range(8):
        problem = words(5)
        (*_, last) = ["none", *written(model, f"Problem: {problem} Solution:")]
        maths.append({"problem": problem, "answer": last if number < 3 and last != "none" else "never"})
    for name, docs in {"swag": swag, "dev": dev, "math": maths, **subjects}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, docs)))
    files = {"swag.yaml": HELLASWAG, "group.yaml": MMLU_GROUP, "math.yaml": MATH, "own.py": OWN}
    files |= {f"{subject}.yaml": MMLU.replace("SUBJECT", subject) for subject in subjects}
    for name, text in files.items():
        (folder / name).write_text(text.replace("HOME", str(folder)))


def asked(doc: dict[str, Any]) -> str:
    return " ".join(
        [doc["question"], *(f"{'ABCD'[n]}. {choice}" for n, choice in enumerate(doc["choices"])), "Answer:"]
    )
