"""Every document that laurel writes or prints is what its schema says, as `jsonschema` reads that schema."""

from __future__ import annotations

import json
import math
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import laurel_cli
from laurel_cli.arms import parse_arms
from laurel_cli.errors import LaurelError, RecordError
from laurel_cli.records.folder import gather
from laurel_cli.render.json import document_text, error_text
from laurel_cli.reports.document import report
from laurel_cli.reports.recommend import recommend
from laurel_cli.rivals import RIVALS
from laurel_cli.schemas import DOCUMENTS, KINDS, named
from laurel_cli.schemas.check import READING, WHOLE, fault
from laurel_cli.schemas.common import RivalSpec
from laurel_cli.schemas.json_schema import json_schema
from laurel_cli.study.folder import trials
from laurel_cli.verdict.document import document as judgement
from tests.proxy.small import MODELS
from tests.report import made
from tests.schemas.mutated import mutated

REPORTS = Path(__file__).parents[2] / "reports"
NO_DOCUMENTS = {
    "laurel.checkpoint/1": "a file of tensors",
    "laurel.arrays/1": "the header of a binary file in the cache",
    "laurel.answer/2": "the first line of an answer that is kept in the cache",
    "laurel.task/1": "a part of what a task's checksum is of",
}


@cache
def validator(name: str, *, closed: bool = True) -> jsonschema.Draft202012Validator:
    schema = json_schema(name, DOCUMENTS[name], closed=closed)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def holds(document: Any, name: str | None = None) -> None:
    """The document is plain JSON, and holds what its schema says and nothing else."""
    plain = json.loads(json.dumps(document, allow_nan=False))
    name = name or plain["schema"]
    error = jsonschema.exceptions.best_match(validator(name).iter_errors(plain))
    assert error is None, f"{error.json_path}: {error.message[-300:]}"
    assert fault(plain, DOCUMENTS[name], WHOLE) == ""


def plain(document: Any) -> Any:
    """As --format json prints it."""
    return json.loads(document_text(document))


@cache
def committed() -> Any:
    return gather([REPORTS])


def test_every_schema_name_in_the_code_is_a_document() -> None:
    sources = "".join(path.read_text() for path in Path(laurel_cli.__file__).parent.rglob("*.py"))
    found = set(re.findall(r"\"(laurel\.[a-z-]+/\d+)\"", sources))
    assert found - set(NO_DOCUMENTS) == set(DOCUMENTS)
    for name, document in DOCUMENTS.items():
        schemas = [validator(name).schema["$defs"][key]["properties"].get("schema") for key in roots(name)]
        assert schemas == [{"const": name}] * len(schemas), document


def roots(name: str) -> list[str]:
    """The objects that the whole document may be."""
    schema = validator(name).schema
    return [one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema])]


def test_every_object_says_what_it_is() -> None:
    for name in DOCUMENTS:
        for key, one in validator(name).schema["$defs"].items():
            assert one["description"], (name, key)


def test_names_that_people_use() -> None:
    assert named("study") == named("laurel.study") == named("Study/2") == "laurel.study/2"
    assert named("study/1") == "laurel.study/1"
    assert named("studies") is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_committed_record_is_what_its_schema_says(kind: str) -> None:
    records = [record for record in committed().records if record.kind == kind]
    assert records
    for record in records:
        holds(json.loads(record.path.read_text()), "laurel.record/1") if kind != "trial" else None
        holds(record.content)


def test_every_committed_study_and_its_judgement_are_what_their_schemas_say() -> None:
    paths = sorted(REPORTS.glob("studies/*/study.json"))
    assert {json.loads(path.read_text())["schema"] for path in paths} == {"laurel.study/1", "laurel.study/2"}
    for path in paths:
        definition = json.loads(path.read_text())
        holds(definition)
        holds(plain(judgement(definition, trials(path.parent), command="laurel train-proxy")))


def test_the_report_of_what_is_committed_and_its_advice() -> None:
    whole = plain(report(committed(), command="laurel report"))
    holds(whole)
    for body in whole["comparisons"]:
        holds(plain(recommend([body], {"latency": 5.0}, "laurel recommend")))


@pytest.mark.parametrize(
    "make", [made.everything, made.paper, made.analysis, made.study], ids=lambda make: make.__name__
)
def test_reports_of_made_records(tmp_path: Path, make: Any) -> None:
    """With controls, without; the paper's table; costs alone."""
    make(tmp_path)
    document = plain(made.document(tmp_path))
    holds(document)
    holds(plain(recommend(document["comparisons"], {})))


def test_what_failed_and_diverged(tmp_path: Path) -> None:
    made.study(tmp_path, seeds=3)
    made.put(tmp_path, made.trial("lr@16", status="diverged", final=None, reason="the loss was no longer finite"))
    lacking = ("model", "task", "parameters", "coefficients", "seconds", "seeds", "hashes", "chance_loss", "device")
    failed = {key: value for key, value in made.trial("pa").items() if key not in lacking}
    made.put(tmp_path, failed | {"status": "failed", "final": None, "curve": [], "evaluations": []})
    gathered = gather([tmp_path])
    assert gathered.problems == ()
    holds(plain(report(gathered)))


def test_an_error() -> None:
    holds(json.loads(error_text(LaurelError("What.", "Why."), 3)))


EXAMPLES = ("analyze/1", "error/1", "profile/1", "record/1", "study/1", "study/2", "trial/1")


@cache
def examples() -> dict[str, Any]:
    """A document of each kind that is read, and of one that is not; lists are cut to three."""
    found = {record.content["schema"]: record.content for record in committed().records}
    for path in REPORTS.glob("studies/*/study.json"):
        definition = json.loads(path.read_text())
        found[definition["schema"]] = definition
    found["laurel.record/1"] = json.loads(committed().records[0].path.read_text())
    found["laurel.error/1"] = json.loads(error_text(LaurelError("What.", "Why."), 3))
    return {name: cut(document) for name, document in found.items()}


def cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: cut(item) for key, item in value.items()}
    return [cut(item) for item in value[:3]] if isinstance(value, list) else value


def test_there_is_an_example_of_every_document_that_is_read() -> None:
    assert sorted(examples()) == [f"laurel.{name}" for name in EXAMPLES]


@pytest.mark.parametrize("name", [f"laurel.{name}" for name in EXAMPLES])
def test_both_checkers_agree_on_documents_with_something_wrong(name: str) -> None:
    """Ours and jsonschema's, on 300 of them. NaN is no JSON, and jsonschema takes it for a number: it gets another."""
    rng = random.Random(name)
    document, said = examples()[name], []
    for _ in range(300):
        other = mutated(document, rng, nan=True)
        wrong = fault(other, DOCUMENTS[name], WHOLE)
        theirs = validator(name, closed=False).is_valid(without_nan(other))
        assert theirs == (wrong == ""), (wrong, other)
        said.append(theirs)
        # Whoever reads asks less, but for whole numbers written as 3.0 and numbers beyond any measurement.
        if theirs and not has_odd_numbers(other):
            assert fault(other, DOCUMENTS[name], READING) == ""
    assert 5 < said.count(True) < 295


def without_nan(value: Any) -> Any:
    """With what is of no type of JSON in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(without_nan, value))
    return object() if isinstance(value, float) and not math.isfinite(value) else value


def has_odd_numbers(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(has_odd_numbers, value.values() if isinstance(value, dict) else value))
    return type(value) in (int, float) and (abs(value) > 1e59 or (isinstance(value, float) and value.is_integer()))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "its study is missing"),
        ({"seed": True}, "its seed is true, where a whole number belongs"),
        ({"seed": 1e300}, "its seed is 1e+300, where a whole number belongs"),
        ({"final": {"step": 3, "loss": "low"}}, 'its final.loss is "low", where a number or null belongs'),
        ({"final": None}, "its final is null, where an object belongs"),
        (
            {"evaluations": [{"step": 1}, {"step": -1}]},
            "its evaluations[1].step is -1, where a whole number of at least 0",
        ),
        ({"status": "done"}, 'its status is "done", where "complete" belongs'),
        ({"study": {"name": ""}}, 'its study.name is "", where text that is not empty belongs'),
        ({"parameters": {"total": 10**70, "added": 1}}, "its parameters.total is 1000"),
    ],
)
def test_what_is_wrong_is_said_by_its_place(document: Any, said: str) -> None:
    whole = made.trial() | document if document else {}
    assert fault(whole, KINDS["trial"]).startswith(said)


def test_what_is_deeper_than_python_goes_is_only_wrong() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert fault(made.trial() | {"seed": deep}, KINDS["trial"]) == (
        "its seed is deeply nested, where a whole number belongs"
    )


def test_the_schema_of_every_document_is_printed(laurel: Any) -> None:
    done = laurel("records", "--schema", "trial")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json_schema("laurel.trial/1", DOCUMENTS["laurel.trial/1"])
    done = laurel("records", "--schema", "trail", "--format", "json")
    error = json.loads(done.stdout)
    holds(error)
    assert (done.returncode, error["error"]["hint"]) == (2, "Did you mean trial/1?")
    assert laurel("records", "--schema", "trial", "--format", "csv").returncode == 2


def test_what_quick_commands_print(laurel: Any, tmp_path: Path) -> None:
    made.everything(tmp_path / "reports")
    for words in (
        ["arms"],
        ["reproduce", "--list"],
        ["models", "resnet1*"],
        ["records"],
        ["report"],
        ["recommend", "resnet20"],
        ["records", "x"],
    ):
        done = laurel(*words, "--format", "json")
        assert done.returncode == (4 if words[-1] == "x" else 0), done.stderr
        holds(json.loads(done.stdout))


NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x
"""


@pytest.mark.slow
def test_what_slow_commands_print_and_write(laurel: Any, tmp_path: Path) -> None:
    """Of a model counted, timed and listed; with a rival, which describes itself in other fields."""
    (tmp_path / "net.py").write_text(NET)
    arms = ["--arms", "naive+1,rw+lr+pa@2,rezero"]
    timing = ["--processes", "1", "--max-time", "1", "--device", "cpu"]
    for words in (
        ["analyze", "net.py:Net", "--input", "float32:4x8", *arms, "--save"],
        ["profile", "net.py:Net", "--input", "float32:4x8", *arms, *timing],
        ["env"],
        ["report"],
    ):
        done = laurel(*words, "--format", "json")
        assert done.returncode == 0, done.stderr
        holds(json.loads(done.stdout))
    gathered = gather([tmp_path / "reports"])
    assert {record.kind for record in gathered.records} == {"analyze", "profile"}
    for record in gathered.records:
        holds(record.content)


@pytest.mark.slow
def test_what_a_study_prints_and_writes(laurel: Any, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    words = ["train-proxy", "models.py:build", "--arms", "naive+1,rw,rezero", "--seeds", "2", "--steps", "10"]
    words += ["--train-limit", "256", "--evaluation-limit", "100", "--batch", "32", "--device", "cpu"]
    done = laurel(*words, "--no-controls", "--format", "json", env={"LAUREL_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    holds(json.loads(done.stdout))
    (definition,) = tmp_path.glob("reports/studies/*/study.json")
    holds(json.loads(definition.read_text()))
    for record in gather([tmp_path / "reports"]).records:
        holds(record.content)


def test_how_every_rival_describes_itself() -> None:
    """As an arm, and at each connection of a model that has blocks, where some rivals say more."""
    import torch

    layers = torch.nn.ModuleList(
        torch.nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True, dropout=0.0) for _ in range(3)
    )
    model = torch.nn.Sequential(*layers)
    connections = laurel_cli.residual_map(model, torch.zeros(2, 3, 8)).connections
    specs = [arm.spec for arm in parse_arms(",".join(RIVALS)) if arm.spec is not None]
    assert {getattr(spec, "title", None) for spec in specs} == set(RIVALS)
    placed = [here for spec in specs for here in spec.places(connections).values() if not isinstance(here, str)]
    assert len(placed) > 3 * len(specs)
    schema = jsonschema.Draft202012Validator(json_schema("laurel.rival/1", RivalSpec, closed=True))
    for spec in [*specs, *placed]:
        schema.validate(spec.described)


@pytest.mark.parametrize("variant", ["rw+lr+pa@2", "rezero", "x0", "hc"])
def test_what_a_saved_model_says_of_itself(tmp_path: Path, variant: str) -> None:
    import torch

    layers = (torch.nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True) for _ in range(2))
    model = torch.nn.Sequential(*layers)
    inputs = torch.zeros(2, 3, 8)
    laurel_cli.save(laurel_cli.apply_laurel(model, variant, inputs), tmp_path)
    holds(json.loads((tmp_path / "laurel.json").read_text()))
    document = json.loads((tmp_path / "laurel.json").read_text())
    document["layouts"][""]["slots"][0]["owner"] = 3
    (tmp_path / "laurel.json").write_text(json.dumps(document))
    layers = (torch.nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True) for _ in range(2))
    plain_model = torch.nn.Sequential(*layers)
    with pytest.raises(RecordError, match=r'its layouts\."".slots\[0\].owner is 3, where text belongs'):
        laurel_cli.restore(plain_model, tmp_path)


def test_what_python_answers() -> None:
    import torch
    import torchvision

    import laurel_cli as laurel

    model, inputs = torchvision.models.resnet18(), torch.randn(1, 3, 64, 64)
    cost = laurel.count(model, inputs)
    for answer in (cost, cost.by_module(), laurel.residual_map(model, inputs)):
        holds(answer.to_dict())
