"""Where trials run: what each executor is asked, who refuses what, and what a command makes of what engines do."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.devices import cpu, kind_of
from laurel_cli.errors import HeldError, LaurelError, RecordError, ResourceError, UsageError
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.settings.executors import arguments
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import claim, executors, progress
from laurel_cli.study import folder as studies
from laurel_cli.study.asked import plan_of
from laurel_cli.study.compare import compare, prepare
from laurel_cli.study.executors import jobs, local, ray, slurm, watch
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.run import Happening, Key, Resources
from laurel_cli.study.status import rehearsed, status
from laurel_cli.study.worker import run_trial
from tests.proxy.small import MODELS, one_layer

KEYS = [("baseline", 0), ("rw", 0)]


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    return one_layer(tmp_path / "study", steps=60, evaluations=2)


class Engine:
    """An engine that does with each trial what its list says, one thing a job: "run", "die", "hold", "refuse"."""

    def __init__(self, folder: Path, does: dict[Key, list[str]]) -> None:
        self.folder, self.does, self.submitted = folder, does, list[Key]()

    def alive(self) -> set[Key]:
        return set()

    def submit(self, keys: Any) -> None:
        for key in keys:
            self.submitted.append(key)
            match self.does[key].pop(0):
                case "run":
                    run_trial(self.folder, *key, command="there")
                case "refuse":
                    jobs.refuse(self.folder, [key], RecordError("It is another study.", "Changed."))
                case "hold":
                    jobs.refuse(self.folder, [key], HeldError("Another process runs it."))

    def ended(self, key: Key) -> LaurelError | str:
        return "its job ended"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL", 0.01)
    monkeypatch.setattr(watch, "SETTLES", 0.05)


def followed(folder: Path, engine: Engine, **resources: Any) -> list[Happening]:
    seen: list[Happening] = []
    watch.follow(folder, KEYS, Resources(command="here", **resources), seen.append, engine)
    return seen


def kinds(seen: list[Happening], key: Key) -> list[str]:
    return [one.kind for one in seen if (one.arm, one.seed) == key]


def test_a_record_is_believed_and_told_whole(folder: Path, quick: None) -> None:
    engine = Engine(folder, {key: ["run"] for key in KEYS})
    seen = followed(folder, engine)
    assert engine.submitted == KEYS
    (trial,) = [trial for trial in studies.trials(folder) if trial["arm"]["name"] == "rw"]
    points = [one.message["loss"] for one in seen if one.kind == "point" and one.arm == "rw"]
    assert points == [point["loss"] for point in trial["curve"]]
    assert kinds(seen, ("rw", 0))[-3:] == ["evaluation", "evaluation", "done"]


def test_a_job_that_ends_without_a_record_is_a_failure_once_its_retries_are_used(folder: Path, quick: None) -> None:
    engine = Engine(folder, {("baseline", 0): ["die", "run"], ("rw", 0): ["die", "die"]})
    seen = followed(folder, engine, max_retries=1)
    assert sorted(engine.submitted) == [*[KEYS[0]] * 2, *[KEYS[1]] * 2]
    found = {trial["arm"]["name"]: (trial["status"], trial["reason"]) for trial in studies.trials(folder)}
    assert found == {"baseline": ("complete", None), "rw": ("failed", "its job ended")}
    assert kinds(seen, ("rw", 0)) == ["failed"]


def test_what_is_none_of_the_trials_own_is_no_failure_of_theirs(folder: Path, quick: None) -> None:
    engine = Engine(folder, {("baseline", 0): ["hold", "hold", "run"], ("rw", 0): ["refuse"]})
    with pytest.raises(RecordError, match=r"another study \(rw:0\)"):
        followed(folder, engine)
    assert [(trial["arm"]["name"], trial["status"]) for trial in studies.trials(folder)] == [("baseline", "complete")]


def test_a_trial_that_somebody_else_holds_is_waited_for(
    folder: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(folder, {("baseline", 0): ["run"], ("rw", 0): ["die", "run"]})
    held = claim.take(studies.checkpoint_path(folder, "rw", 0))
    looks = []
    asked = watch._is_held

    def look(*where: Any) -> bool:
        looks.append(asked(*where))
        if len(looks) == 3:
            held.give_back()
        return looks[-1]

    monkeypatch.setattr(watch, "_is_held", look)
    followed(folder, engine, max_retries=1)
    assert looks[:3] == [True, True, True]
    assert {trial["status"] for trial in studies.trials(folder)} == {"complete"}


def test_a_job_that_is_started_again_elsewhere_follows_itself_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rw-0.pt"
    monkeypatch.setenv(claim.JOB, "slurm 7")
    first = claim.take(path)
    first.path.write_text(json.dumps(json.loads(first.path.read_text()) | {"machine": "another one"}))
    monkeypatch.setenv(claim.JOB, "slurm 8")
    with pytest.raises(HeldError):
        claim.take(path)
    assert claim.holder(path) == 1
    monkeypatch.setenv(claim.JOB, "slurm 7")
    assert claim.take(path).number == 2


def test_how_far_a_trial_is_stands_beside_its_claim_until_it_has_a_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    file, seen = folder / "checkpoints" / "rw-0.progress", []

    def look(event: Any) -> None:
        if event["kind"] == "point":
            seen.append((event, json.loads(file.read_text()), status(folder)["trials"]))

    run_trial(folder, "rw", 0, command="", on_event=look)
    for event, said, trials in seen:
        assert {name: said[name] for name in ("step", "loss")} == {name: event[name] for name in ("step", "loss")}
        assert (said["arm"], said["seed"], said["steps"], said["attempt"]) == ("rw", 0, 60, 1)
        assert [trial["state"] for trial in trials] == ["waiting", "running"]
        assert trials[1]["step"] == event["step"]
    assert len(seen) >= 50
    assert not list((folder / "checkpoints").iterdir())
    assert [trial["state"] for trial in status(folder)["trials"]] == ["waiting", "complete"]


def test_where_a_trial_stands_that_nobody_runs(folder: Path) -> None:
    def kill(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(folder, "rw", 0, command="", on_event=kill)
    local.leave_failure(folder, ("baseline", 0), "it fell", "")
    found = {trial["arm"]: (trial["state"], trial["reason"]) for trial in status(folder)["trials"]}
    assert found == {"baseline": ("failed", "it fell"), "rw": ("stopped", None)}
    jobs.note(folder, "slurm", {"1_0": [("rw", 0)], "1_1": [("baseline", 0)]})
    assert {trial["state"] for trial in status(folder)["trials"]} == {"submitted"}
    jobs.forget(folder, "slurm", ["1_1"])
    assert jobs.submitted(folder) == {"1_0": [("rw", 0)], "1_1": [("baseline", 0)]}
    jobs.forget(folder, "slurm", [])
    assert not jobs.submitted(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slurm_partition": "gpu"}, "`slurm_partition` is an option of `executor='slurm'`"),
        ({"ray_address": "here:1", "executor": "slurm"}, "`ray_address` is an option of `executor='ray'`"),
        ({"processes": 2, "executor": "ray"}, "`processes` is an option of `executor='local'`"),
        ({"trials_per_job": 2}, "`trials_per_job` is an option"),
        ({"executor": "slrum"}, "Did you mean slurm"),
        ({"gpus_per_trial": 1.0, "device": "cpu"}, "needs a study on GPUs"),
        ({"gpus_per_trial": 1.5, "device": "cpu"}, "neither a share"),
        ({"executor": "slurm", "device": "cuda:1"}, "contradict each other"),
    ],
)
def test_an_option_of_another_executor_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        plan_of(TrainSettings(**options), command="", versions={})
    assert said in str(error.value)


class Gpus(cpu.Cpu):
    """Four of them."""

    shown_by = "SHOWN"

    @classmethod
    def shown(cls) -> list[str]:
        return ["4", "5", "6", "7"]

    @classmethod
    def trials_at_once(cls) -> int:
        return 1


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"gpus": 1}, ["4", "5", "6", "7"]),
        ({"gpus": 0.5}, ["4", "5", "6", "7"] * 2),
        ({"gpus": 0.5, "processes": 5}, ["4", "5", "6", "7", "4"]),
        ({"gpus": 2}, ["4,5", "6,7"]),
        ({"gpus": 3}, ["4,5,6"]),
        ({"processes": 6}, ["4", "5", "6", "7", "4", "5"]),
        ({}, [None]),
        ({"processes": 2, "device": "cuda:1"}, [None, None]),
    ],
)
def test_every_slot_has_its_own_gpu(
    resources: dict[str, Any], expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "kind_of", lambda name: Gpus)
    monkeypatch.setattr(local, "is_host", lambda name: False)
    assert [slot.get("SHOWN") for slot in local.slots(Resources(kind="cuda", **resources))] == expected


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "kind_of", lambda name: Gpus)
    for resources in ({"gpus": 1, "processes": 5}, {"gpus": 5}):
        with pytest.raises(ResourceError, match="do not fit"):
            local.slots(Resources(kind="cuda", **resources))


def test_cores_of_a_trial_say_how_many_there_are_at_once() -> None:
    cores = kind_of("cpu").trials_at_once()
    assert len(local.slots(Resources())) == cores
    assert len(local.slots(Resources(cpus=cores))) == len(local.slots(Resources(cpus=cores + 1))) == 1
    assert len(local.slots(Resources(cpus=cores, processes=3))) == 3


def test_a_gpu_s_variable_keeps_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = kind_of("cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda.shown() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8932f937")
    assert cuda.shown() == ["3", "GPU-8932f937"]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 2), ("4:00:00", 240), ("0:20:30", 21), ("2-0", 2880), ("1-12", 2160), ("1-12:30", 2190)],
)
def test_times_as_sbatch_has_them(text: str, minutes: int) -> None:
    assert slurm._minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "1:2:3:4", "4h"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        slurm._minutes(text)


def test_what_sbatch_is_given() -> None:
    said = {
        "slurm_partition": "gpu",
        "slurm_setup": ["module load x"],
        "slurm_arg": {"mail-type": "END", "exclusive": ""},
    }
    found = slurm._parameters(Resources(kind="cuda", threads=None, cpus=3, options=said), "laurel-1", 7)
    assert found == {
        "job_name": "laurel-1",
        "time": 60,
        "cpus_per_task": 3,
        "array_parallelism": 7,
        "gpus_per_node": 1,
        "partition": "gpu",
        "additional_parameters": {"mail_type": "END", "exclusive": True},
        "setup": ["module load x"],
    }
    sharing = Resources(kind="cuda", gpus=0.25, cpus=2, options={})
    assert slurm._parameters(sharing, "", 1)["cpus_per_task"] == 8
    assert slurm.jobs_of([("rw", seed) for seed in range(6)], sharing) == 2
    assert "gpus_per_node" not in slurm._parameters(Resources(kind="cuda", options={"slurm_gres": "gpu:a100:1"}), "", 1)
    for name in ("array", "time", "cpus_per_task"):
        with pytest.raises(UsageError, match="slurm_arg"):
            slurm._parameters(Resources(options={"slurm_arg": {name: "1"}}), "", 1)


def test_arguments_of_sbatch_as_they_are_typed() -> None:
    assert arguments("--slurm-arg", ["mem=8G", "mail-user=a@b=c", "exclusive"]) == {
        "mem": "8G",
        "mail-user": "a@b=c",
        "exclusive": "",
    }
    for wrong in (["=3"], ["--mem=8G"], ["mem=1", "mem=2"]):
        with pytest.raises(UsageError):
            arguments("--slurm-arg", wrong)


def test_what_ray_is_given(tmp_path: Path) -> None:
    assert ray._needs(Resources(threads=2)) == {"num_cpus": 2}
    assert ray._needs(Resources(kind="cuda", threads=None)) == {"num_cpus": 1, "num_gpus": 1}
    assert ray._needs(Resources(kind="cuda", gpus=0.5, cpus=4)) == {"num_cpus": 4, "num_gpus": 0.5}
    wanted = {"env_vars": {"A": "b"}}
    (tmp_path / "env.json").write_text(json.dumps(wanted))
    for text in (json.dumps(wanted), str(tmp_path / "env.json")):
        assert ray._runtime_env(Resources(options={"ray_runtime_env": text})) == wanted
    for text in ("{", "[]", "nowhere.json"):
        with pytest.raises(UsageError, match="ray_runtime_env"):
            ray._runtime_env(Resources(options={"ray_runtime_env": text}))


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("slurm", slurm), ("ray", ray)):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
        with pytest.raises(UsageError) as error:
            executors.executor_of(name).ready(Resources())
        assert f"pip install 'laurel-cli[{name}]'" in error.value.hint


FLAKY = """
import os
from pathlib import Path

class Flaky(Net):
    def forward(self, x):
        mark = Path(os.environ["FLAKY"])
        if self.training and mark.exists():
            mark.unlink()
            os._exit(3)
        return super().forward(x)

class Slow(Net):
    def forward(self, x):
        if self.training:
            time.sleep(0.05)
        return super().forward(x)

def flaky():
    return Flaky()

def slow():
    return Slow()
"""


def users(tmp_path: Path, name: str, steps: int, **more: Any) -> StudyPlan:
    (tmp_path / "models.py").write_text(MODELS + FLAKY)
    limits = {"train_limit": 64, "evaluation_limit": 32}
    model = ModelChoice(f"{tmp_path}/models.py:{name}")
    recipe = Recipe(model, TaskChoice("scenes", **limits), steps=steps, batch=8, evaluations=1, evaluation_batch=32)
    more = {"seeds": 1, "folder": tmp_path / "study", "controls": False, "processes": 1, "resume": True} | more
    return StudyPlan(recipe, "baseline", **more)


def test_a_trial_that_failed_is_tried_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("FLAKY", str(mark))
    plan = users(tmp_path, "flaky", 4, max_retries=1)
    prepared = prepare(plan)
    mark.touch()
    document = compare(plan, prepared)
    found = sorted((trial["status"], trial["place"]["attempt"]) for trial in studies.trials(plan.folder))
    assert found == [("complete", 2), ("failed", 1)]
    assert document["arms"][0]["failed"] == 0


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_alone_goes_on(tmp_path: Path, cache: Path) -> None:
    plan = users(tmp_path, "slow", 60)
    told: list[int] = []

    def stop(happening: Happening) -> None:
        if happening.kind == "point" and happening.message["step"] >= 5 and not told:
            (holder,) = (tmp_path / "study" / "checkpoints").glob("*.claim-1")
            told.append(json.loads(holder.read_text())["pid"])
            os.kill(told[0], signal.SIGTERM)

    compare(plan, prepare(plan), on_event=stop)
    (trial,) = studies.trials(tmp_path / "study")
    assert told
    assert (trial["status"], trial["place"]["attempt"]) == ("complete", 2)
    assert [point["step"] for point in trial["curve"]] == list(range(1, 61))


def test_a_rehearsal_leaves_nothing_and_says_what_would_run(folder: Path, tmp_path: Path, cache: Path) -> None:
    asked = studies.load(folder)
    options = {"slurm_time": "4:00:00", "slurm_partition": "gpu"}
    plan = StudyPlan(asked.recipe, "rw", seeds=3, folder=folder, controls=False, executor="slurm", options=options)
    run_trial(folder, "rw", 0, command="")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = rehearsed(replace(plan, trials_per_job=2), lambda step: None)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert (found["trials"], found["finished"], found["jobs"]) == (5, 1, 3)
    (trial,) = studies.trials(folder)
    assert found["hours"] == pytest.approx(5 * sum(trial["seconds"].values()) / 3600)
    assert found["most_hours"] == pytest.approx(12)
    assert {"what": "--partition", "value": "gpu"} in found["asked"]
    assert {"what": "--array", "value": "0-2%3"} in found["asked"]
    new = rehearsed(replace(plan, folder=tmp_path / "new"), lambda step: None)
    assert (new["trials"], new["hours"]) == (6, None)
    assert not (tmp_path / "new").exists()
    assert not any(one["what"] == "processes of a trial" for one in new["asked"])
    together = replace(plan, recipe=replace(asked.recipe, world=2), folder=tmp_path / "new")
    (said,) = [one for one in rehearsed(together, lambda step: None)["asked"] if "processes" in one["what"]]
    assert said["value"] == "2, each with the whole model (ddp)"


def test_a_job_says_that_it_cannot_see_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(claim.JOB, "")
    with pytest.raises(ResourceError, match="All machines need the folder"):
        jobs.work(tmp_path / "no", KEYS, Resources(), job="1", here=str(tmp_path), variables={})


def test_leaving_needs_somebody_who_stays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody to run trials"):
        prepare(users(tmp_path, "build", 2, detach=True))
