"""A study that is killed or edited: what is missing is made, what has changed is refused, nothing is lost."""

import copy
import json
import os
import random
import signal

import pytest
import torch

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import LaurelError, RecordError
from laurel_cli.proxy import checkpoint
from laurel_cli.proxy.contenders import Contender, parse_contenders
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.proxy.trial import Stopped, train
from laurel_cli.study import compare
from laurel_cli.study import counted as counting
from laurel_cli.study import folder as study
from laurel_cli.study.compare import prepare
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.worker import run_trial
from tests.proxy.small import decoder_recipe, text_task

HELPER = """
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(16, 16)

    def forward(self, x):
        return x + self.map(x).relu()
"""
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.embed, self.head = nn.Linear(3072, 16), nn.Linear(16, 10)
        self.layers = nn.Sequential(make(), make())

    def forward(self, x):
        return self.head(self.layers(self.embed(x.flatten(1))))

def build():
    from {helper} import Layer
    return Net(Layer)

def example_inputs():
    return torch.randn(2, 3, 32, 32)
"""


@pytest.fixture
def plan(tmp_path, cache, monkeypatch):
    """A study of a user's model, which takes its layers from a second file."""
    monkeypatch.chdir(tmp_path)
    helper = f"helper_{os.getpid()}_{abs(hash(str(tmp_path)))}"  # this process remembers modules by their names
    (tmp_path / f"{helper}.py").write_text(HELPER)
    (tmp_path / "models.py").write_text(MODEL.replace("{helper}", helper))
    values = {"steps": 4, "batch": 8, "evaluations": 1, "evaluation_batch": 32, "channels_last": False}
    task = TaskChoice("scenes", train_limit=64, evaluation_limit=32)
    recipe = Recipe(ModelChoice("models.py:build"), task, **values)
    return StudyPlan(
        recipe, "baseline,rw", seeds=1, folder=tmp_path / "study", resume=True, controls=False, processes=1
    )


def counted(folder):
    return list((folder / "records").glob("analyze-*.json"))


def test_a_kill_before_the_cost_record_loses_it_for_no_longer_than_to_the_next_run(plan, monkeypatch):
    pid = os.fork()
    if not pid:
        try:
            monkeypatch.setattr(counting, "count", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
            prepare(plan)
        finally:  # whatever happens: this copy never goes on with the tests
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (plan.folder / "study.json").exists()
    assert not counted(plan.folder)
    prepare(plan)
    (path,) = counted(plan.folder)
    assert {arm["name"] for arm in json.loads(path.read_text())["content"]["arms"]} == {"baseline", "rw"}
    prepare(plan)
    assert counted(plan.folder) == [path]


@pytest.mark.parametrize("changed", ["models.py", "helper"])
def test_code_that_changes_while_a_study_runs_or_before_it_goes_on_is_4(plan, tmp_path, changed):
    prepare(plan)
    (path,) = tmp_path.glob(f"{changed}*")
    assert path.name in study.load(plan.folder).code
    before = path.read_text()
    path.write_text(before + "\n# another\n")
    for run in (lambda: run_trial(plan.folder, "rw", 0, command=""), lambda: prepare(plan)):
        with pytest.raises(RecordError, match=f"{path.name} was [0-9a-f]{{12}}, is [0-9a-f]{{12}}") as caught:
            run()
        assert caught.value.exit_code == 4
    assert not study.trials(plan.folder)
    path.write_text(before)
    assert run_trial(plan.folder, "rw", 0, command="")["status"] == "complete"
    path.unlink()
    with pytest.raises(LaurelError):
        prepare(plan)


@pytest.mark.slow
def test_a_trial_that_meets_changed_code_ends_the_study_with_4(plan, tmp_path):
    prepared = prepare(plan)
    (path,) = tmp_path.glob("helper*.py")
    path.write_text(HELPER + "\n# another\n")
    with pytest.raises(RecordError, match=rf"{path.name} was"):
        compare.compare(plan, prepared)
    assert not study.trials(plan.folder)


def test_files_of_a_further_arm_are_added_and_held_to(plan, tmp_path):
    prepare(plan)
    (tmp_path / "other.py").write_text((tmp_path / "models.py").read_text())
    with_other = compare.replace(plan, against=("other.py:build",))
    prepare(with_other)
    assert "other.py" in study.load(plan.folder).code
    (tmp_path / "other.py").write_text("")
    with pytest.raises(RecordError, match=r"other\.py was"):
        prepare(with_other)


OWNER = {"study": "a" * 64, "arm": "rw", "seed": 3, "recipe": "b" * 64}


def trained(path=None, owner=OWNER, until=None):
    """A trial of the smallest decoder: stopped by a step, or to its end."""
    recipe, task = decoder_recipe(), text_task()
    contender: Contender = parse_contenders("rw")[-1]
    begun = start(contender, recipe, task, 1)
    steps = iter(range(1, 100))
    stop = (lambda: next(steps) >= until) if until else (lambda: False)
    group = Group(Cpu())
    return train(begun, recipe, task, 1, group=group, path=path, owner=owner, stop=stop)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "a.pt"
    with pytest.raises(Stopped):
        trained(path, until=5)
    return path


def test_a_checkpoint_is_gone_on_from_by_its_own_trial_alone(saved):
    whole = trained()
    assert trained(saved).evaluations == whole.evaluations
    for key, other in {"study": "c" * 64, "arm": "lr@2", "seed": 4, "recipe": "d" * 64}.items():
        with pytest.raises(RecordError, match=rf"of another trial.*Its {key} is") as caught:
            trained(saved, OWNER | {key: other})
        assert caught.value.exit_code == 4


def rewritten(path, whole):
    """As somebody would who knows how a checkpoint is made: the checksum is right."""
    torch.save(whole | {"sha256": checkpoint.sha256_of(whole)}, path)


@pytest.mark.parametrize("step", [-5, 0, 12, 10**9, 2.5, True, "5", None, float("nan")])
def test_a_step_that_cannot_be_is_4(saved, tmp_path, step):
    whole = torch.load(saved, weights_only=True)
    del whole["sha256"]
    whole["state"]["step"] = step
    rewritten(tmp_path / "a.pt", whole)
    with pytest.raises(RecordError, match="does not fit"):
        trained(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["maximize", "amsgrad", "weight_decay", "betas"])
def test_a_setting_of_another_type_is_4(saved, tmp_path, key):
    """0 is equal to False, and no kernel takes it in its place."""
    whole = torch.load(saved, weights_only=True)
    del whole["sha256"]
    for group in whole["state"]["optimizers"][0]["param_groups"]:
        value = group[key]
        group[key] = int(value) if isinstance(value, bool) else str(value) if key == "weight_decay" else list(value)
    rewritten(tmp_path / "a.pt", whole)
    with pytest.raises(RecordError, match="settings of its optimizer"):
        trained(tmp_path / "a.pt")


EDITS = 100
VALUES = (None, -1, 0, 10**30, 1.5, float("nan"), "", "x", (), [], {}, [1], {"a": 1}, torch.zeros(0), torch.ones(3))


def places(value, path=()):
    """Every place within it."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def edited(whole, draw):
    made = copy.deepcopy(whole)
    *above, last = draw.choice(list(places(made)))
    parent = made
    for key in above:
        parent = parent[key]
    if draw.random() < 0.3:
        del parent[last]
    else:
        parent[last] = draw.choice(VALUES)
    return made


@pytest.mark.parametrize("edits", [EDITS, pytest.param(20 * EDITS, marks=pytest.mark.slow)])
def test_edited_checkpoints_are_4_and_never_a_bug(saved, tmp_path, monkeypatch, edits):
    """Fields are changed, taken away, made another type; half of the time under a right checksum."""
    from laurel_cli.proxy import trial

    draw, path = random.Random(0), tmp_path / "a.pt"
    whole = torch.load(saved, weights_only=True)
    said = whole.pop("sha256")
    recipe, task = decoder_recipe(), text_task()
    begun = start(parse_contenders("rw")[-1], recipe, task, 1)
    group = Group(Cpu())
    monkeypatch.setattr(trial, "_update", lambda *given: torch.tensor(1.0))  # only the reading is looked at
    monkeypatch.setattr(trial, "_evaluate", lambda *given: None)
    refused = 0
    for number in range(edits):
        made = edited(whole, draw)
        if number % 2:
            rewritten(path, made)
        else:
            torch.save(made | {"sha256": said}, path)
        try:
            trial.train(begun, recipe, task, 1, group=group, path=path, owner=OWNER)
        except RecordError:
            refused += 1
        else:
            assert number % 2 or checkpoint.sha256_of(made) == said, "a wrong checksum was taken"
    assert refused > edits // 2


@pytest.mark.parametrize("times", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_bytes_are_4_or_change_nothing(saved, tmp_path, times):
    draw, data, path = random.Random(1), saved.read_bytes(), tmp_path / "a.pt"
    whole = checkpoint.sha256_of(checkpoint.restore(saved, OWNER))
    for _ in range(times):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 1, 8))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged[: draw.choice((None, draw.randrange(len(damaged))))])
        try:
            found = checkpoint.restore(path, OWNER)
        except RecordError:
            continue
        assert checkpoint.sha256_of(found) == whole


def test_a_pipe_in_a_checkpoint_s_place_is_4(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(RecordError, match="no regular file"):
        checkpoint.restore(tmp_path / "a.pt", OWNER)


def test_another_trial_s_checkpoint_in_its_place_is_4(plan, saved):
    prepare(plan)
    path = study.checkpoint_path(plan.folder, "rw", 0)
    path.write_bytes(saved.read_bytes())
    with pytest.raises(RecordError, match=r"of another trial.*Its study is") as caught:
        run_trial(plan.folder, "rw", 0, command="")
    assert caught.value.exit_code == 4
    assert path.read_bytes() == saved.read_bytes()
    assert not study.trials(plan.folder)
