"""What a study writes that is given trained weights, a teacher, or grows: documents that most studies do not write."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import pytest
from safetensors.torch import save_file

from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import Distillation, ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.records.folder import gather
from laurel_cli.reports.document import report
from laurel_cli.schemas.common import Options
from laurel_cli.schemas.json_schema import json_schema
from laurel_cli.schemas.study import RecipePlain
from laurel_cli.study.compare import compare, prepare
from laurel_cli.tasks import open_task
from tests.proxy.small import planned, small_study
from tests.schemas.test_documents import holds, plain


def test_a_recipe_that_asks_for_everything() -> None:
    """`Recipe.plain` leaves out what goes without saying; here nothing does."""
    model = ModelChoice("paper-c4", (("heads", 2),), (2,), 64, 2, 32, "trained", "ab" * 32, 16)
    assert all(getattr(model, item.name) for item in fields(ModelChoice))
    recipe = Recipe(model, TaskChoice("books"), world=2, parallel="fsdp", distillation=Distillation(model))
    document = recipe.plain()
    assert set(document) == {item.name for item in fields(Recipe)}
    assert Recipe.of(document) == recipe
    for schema, part in ((RecipePlain, document), (Options, document["model"])):
        whole = json_schema("laurel.part/1", schema, closed=True)
        jsonschema.Draft202012Validator(whole).validate(part)


@pytest.mark.parametrize("asked", ["weights", "teacher", "growth"])
def test_all_that_such_a_study_writes(tmp_path: Path, cache: Path, asked: str) -> None:
    folder = tmp_path / "reports" / "study"
    settings = small_study(folder, arms="rw", steps=6, seeds=1, controls=False, layers=4)
    recipe, trained = planned(settings).recipe, tmp_path / "trained.safetensors"
    given = start(parse_contenders("")[0], recipe, open_task(**vars(recipe.task)), 7).model.state_dict()
    save_file(given, trained)
    if asked == "weights":
        settings = replace(settings, weights=trained, arms="rw:train=added", keep_weights=True)
    elif asked == "teacher":
        args = {"layers": 4, "width": 16, "heads": 1, "feed_forward": given["layers.0.down.weight"].shape[1]}
        settings = replace(settings, teacher="paper-c4", teacher_weights=trained, teacher_args=args)
    else:
        settings = replace(settings, arms="rw:grow=stack,baseline:grow=subnets")
    plan = planned(settings)
    holds(plain(compare(plan, prepare(plan))))
    holds(json.loads((folder / "study.json").read_text()))
    gathered = gather([folder])
    assert gathered.problems == ()
    assert {record.kind for record in gathered.records} == {"analyze", "trial"}
    for record in gathered.records:
        holds(record.content)
    holds(plain(report(gathered, command="laurel report")))
