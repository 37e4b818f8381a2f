"""What happens to a study in the tests of engines and on their page: who is killed when, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel_cli.study import folder as studies
from laurel_cli.study import progress
from tests.engines import clusters

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: commands inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 1200.0  # seconds for one stretch of a scene
DIFFERENT = ("command", "seconds", "place")  # what a record may say otherwise, by where its trial ran
LOCAL = ("--processes", "1")
SLURM = ("--executor", "slurm", "--slurm-partition", "low", "--slurm-array-parallelism", "2")
RAY = ("--executor", "ray")
Trials = dict[tuple[str, int], dict[str, Any]]


@dataclass
class Scene:
    """A folder in which studies lie, and what was done to one of them, in sentences."""

    place: Path
    env: Mapping[str, str]
    steps: int = 2000
    done: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """The study."""
        return self.place / "study"

    def words(self, *more: str) -> list[str]:
        """The command: two arms and two seeds of a small decoder."""
        small = ["paper-c4", "--layers", "1", "--width", "32", "--task", "stdlib", "--seq-len", "32", "--batch", "16"]
        small += ["--train-limit", "50000", "--evaluation-limit", "2000", "--lr", "0.01", "--device", "cpu"]
        small += ["--arms", "rw", "--no-controls", "--seeds", "2", "--steps", str(self.steps)]
        return ["train-proxy", *small, "--study", str(self.folder), *more]

    def start(self, *more: str, ray: clusters.Ray | None = None, env: Mapping[str, str] | None = None) -> Driver:
        """The command in a process of its own."""
        by = ["-m", "laurel_cli"] if ray is None else ["-c", clusters.DRIVER, ray.address]
        answer = self.place / "answer.json"  # Ray writes to a driver's stdout before it is ours
        answer.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, *by, *self.words(*more), "--format", "json", "--output", str(answer), "--force"],
            env={**self.env, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.place,
        )
        return Driver(process, answer)

    def note(self, text: str) -> None:
        """Something was done, at a second of the scene."""
        self.done.append(f"{time.monotonic() - self.began:.0f} s: {text}")

    def under_way(self, least: int = 1) -> list[dict[str, Any]]:
        """Wait until so many trials are between their first and their last step at once: what they say."""
        return until(lambda: found if len(found := self.running()) >= least else [])

    def running(self) -> list[dict[str, Any]]:
        """What trials between their first and their last step say."""
        return [one for one in progress.of_folder(self.folder / "checkpoints") if 0 < one["step"] < one["steps"]]

    def trials(self) -> Trials:
        """Records by arm and seed; each once."""
        found = studies.trials(self.folder)
        by_key = {(trial["arm"]["name"], trial["seed"]): trial for trial in found}
        assert len(by_key) == len(found), "a trial was recorded twice"
        return by_key

    def attempts(self) -> str:
        """How often each was begun."""
        return ", ".join(f"{arm}:{seed} {trial['place']['attempt']}" for (arm, seed), trial in self.trials().items())


@dataclass
class Driver:
    """A command that follows a study."""

    process: subprocess.Popen[str]
    answer: Path

    def kill(self) -> None:
        """Without a chance to say anything."""
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> int:
        """As Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def ended(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, document and what it said, once it has ended."""
        out, said = self.process.communicate(timeout=PATIENCE)
        text = self.answer.read_text() if self.answer.exists() else out
        return self.process.returncode, json.loads(text) if text.lstrip().startswith("{") else {}, out + said

    def must(self, code: int = 0) -> dict[str, Any]:
        """Its document, where it ends with that code."""
        found, document, said = self.ended()
        assert found == code, f"exit code {found}\n{said}\n{document}"
        return document


def same(one: Trials, other: Trials) -> list[str]:
    """Fields in which two studies' records differ, "rw:0 curve", but for those that may."""
    assert one.keys() == other.keys()
    return [
        f"{arm}:{seed} {name}"
        for arm, seed in one
        for name in sorted(one[arm, seed].keys() | other[arm, seed].keys())
        if name not in DIFFERENT and one[arm, seed].get(name) != other[arm, seed].get(name)
    ]


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait for something that is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.3)
    return found


def undisturbed(scene: Scene) -> Trials:
    """On this machine, one trial after the other: what the others are held against."""
    scene.start(*LOCAL).must()
    return scene.trials()


def preempted(scene: Scene, cluster: clusters.Slurm) -> Trials:
    """On Slurm: the command is killed, all jobs are pushed out in mid-trial, and the command comes back."""
    first = scene.start(*SLURM, env=cluster.env)
    steps = scene.under_way(2)
    first.kill()
    scene.note(f"the command was killed (signal 9), trials at steps {_steps(steps)} of {scene.steps}")
    cluster.push_out(5)
    scene.note("a job of higher priority took both nodes")
    until(lambda: [job for job, (state, restarts) in cluster.jobs().items() if state == "PENDING" and restarts])
    again = [job for job, (_, restarts) in cluster.jobs().items() if restarts]
    scene.note(f"Slurm had queued {len(again)} jobs again")
    document = scene.start(*SLURM, env=cluster.env).must()
    assert [arm["failed"] for arm in document["arms"]] == [0, 0]
    scene.note("the same command came back, and the study was complete")
    jobs = {path.name.rpartition("_0_log")[0] for path in (scene.folder / "jobs").glob("*_0_log.out")}
    assert len(jobs) == 4, f"a trial was submitted twice: {sorted(jobs)}"
    return scene.trials()


def node_killed(scene: Scene, cluster: clusters.Ray) -> Trials:
    """On Ray: a node dies in mid-trial, the command is killed, another node joins, and the command comes back."""
    first = scene.start(*RAY, ray=cluster)
    steps = scene.under_way(2)
    cluster.kill_node()
    scene.note(f"a node was killed (signal 9), trials at steps {_steps(steps)} of {scene.steps}")
    first.kill()
    scene.note("the command was killed (signal 9)")
    assert cluster.say("add") == "added"
    document = scene.start(*RAY, ray=cluster).must()
    assert [arm["failed"] for arm in document["arms"]] == [0, 0]
    scene.note("the same command came back, and the study was complete")
    return scene.trials()


def moved(scene: Scene, cluster: clusters.Slurm) -> Trials:
    """Begun on this machine, gone on with on Slurm, ended on this machine."""
    first = scene.start(*LOCAL)
    steps = scene.under_way()
    assert first.interrupt() == 130
    scene.note(f"begun on this machine and interrupted (Ctrl-C) at step {_steps(steps)} of {scene.steps}")
    before = {(one["arm"], one["seed"]): one["attempt"] for one in steps}
    scene.start(*SLURM, "--detach", "--resume", env=cluster.env).must()
    scene.note("handed over to Slurm with --detach")
    on = until(lambda: [one for one in scene.running() if one["attempt"] > before.get((one["arm"], one["seed"]), 0)])
    cluster.command("scancel", "--user", "root")
    until(lambda: not cluster.jobs())
    scene.note(f"all jobs were cancelled (scancel), trials at steps {_steps(on)}")
    scene.start(*LOCAL).must()
    scene.note("ended on this machine")
    return scene.trials()


def overhead(scene: Scene, more: Sequence[str], **options: Any) -> float:
    """Seconds a trial, for a study of short trials, one after the other."""
    began = time.monotonic()
    scene.start(*more, **options).must()
    return (time.monotonic() - began) / len(scene.trials())


def _steps(said: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(one["step"]) for one in said)


def environment(place: Path) -> dict[str, str]:
    """For processes that find the same code as this one, and prepared data in a folder of their own."""
    import laurel_cli

    env = {name: value for name, value in os.environ.items() if not name.startswith(("LAUREL_", "RAY_", "SLURM_"))}
    paths = os.pathsep.join(filter(None, [str(Path(laurel_cli.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    return env | {"PYTHONPATH": paths, "LAUREL_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
