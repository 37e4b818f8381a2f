"""Trials on a cluster that Slurm runs: an array of jobs, submitted at once by submitit (the extra `slurm`).

A job asks Slurm to be queued again where it was told to stop and has written its checkpoints: before its wall time is
over, or because others need its place. Slurm itself queues those again whose machine is lost. The command that has
begun the study looks at the study's folder and, seldom, at the queue; it may leave at any time.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from laurel_cli.devices import kind_of
from laurel_cli.errors import HeldError, LaurelError, ResourceError, UsageError
from laurel_cli.study import folder as studies
from laurel_cli.study.executors import jobs, watch
from laurel_cli.study.run import Event, Key, Resources
from laurel_cli.text import shortened

OPTIONS = (
    *("slurm_partition", "slurm_account", "slurm_qos", "slurm_time", "slurm_gres", "slurm_constraint"),
    *("slurm_array_parallelism", "slurm_setup", "slurm_arg", "trials_per_job"),
)
ELSEWHERE = True
PASSED = ("partition", "account", "qos", "gres", "constraint")  # to sbatch as they are
OWN = (
    "array",
    "job-name",
    "nodes",
    "ntasks",
    "open-mode",
    "output",
    "error",
    "requeue",
    "no-requeue",
    "signal",
    "wrap",
)
TYPED = ("time", "cpus-per-task", "gpus", *PASSED)  # that have an option
MINUTES = 60  # of a job, where nothing else is asked for: it is queued again as often as its trials need
AT_ONCE = 1000  # jobs of an array, where Slurm does not say how many it takes
ASK = 30.0  # seconds between two questions to the queue, which many people share
PATIENCE = 60.0  # seconds for a command of Slurm's
TIMES = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class SlurmJob:
    """What submitit carries to another machine and calls there."""

    folder: Path
    keys: list[Key]
    resources: Resources
    here: str
    variables: Mapping[str, str]

    def __call__(self) -> None:
        """Run the trials; where it is told to stop, let them write their checkpoints and be queued again."""
        name = f"slurm {os.environ.get('SLURM_CLUSTER_NAME', '')} {os.environ['SLURM_JOB_ID']}"
        before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGUSR2)}
        try:
            jobs.work(self.folder, self.keys, self.resources, job=name, here=self.here, variables=self.variables)
        except KeyboardInterrupt:
            self._again(before[signal.SIGUSR2])

    def checkpoint(self) -> Any:
        """What submitit runs when the job starts again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _again(self, submitit: Any) -> None:
        """Be queued again, by submitit's answer to its own signal; not where somebody has cancelled the job.

        A job that was told to stop and ends is over for Slurm, whether it was to be queued again or not.
        """
        state = _state_of(os.environ["SLURM_JOB_ID"])
        if state != "RUNNING":
            why = f"Slurm says {state}."
            jobs.refuse(self.folder, self.keys, ResourceError("Its job was ended.", why, AGAIN))
            return
        signal.signal(signal.SIGUSR2, submitit)
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
        except (subprocess.SubprocessError, OSError) as error:
            jobs.refuse(self.folder, self.keys, HeldError("Its job could not be queued again.", f"{error}."))


AGAIN = "Give the same command again: they go on from their checkpoints."


def ready(resources: Resources) -> None:
    """Look for submitit and for Slurm; as `Executor` says."""
    _parameters(resources, "", 1)
    if find_spec("submitit") is None:
        what = "`executor='slurm'` needs submitit."
        raise UsageError(what, "It is not installed.", "Type pip install 'laurel-cli[slurm]'.")
    if shutil.which("sbatch") is None:
        what = "There is no Slurm here."
        raise ResourceError(what, "sbatch is not found.", "Give the command on a machine that submits to it.")


def jobs_of(keys: Sequence[Key], resources: Resources) -> int:
    """Jobs of the array; as `Executor` says."""
    return len(jobs.batches(keys, _shared(resources)))


def hours_of(resources: Resources) -> float | None:
    """As sbatch is given it; as `Executor` says."""
    minutes: int = _parameters(resources, "", 1)["time"]
    return minutes / 60


def shown(count: int, resources: Resources) -> list[tuple[str, str]]:
    """What sbatch would be given; as `Executor` says."""
    asked = _parameters(resources, "laurel-STUDY", count)
    more = asked.pop("additional_parameters", {})
    setup = asked.pop("setup", [])
    rows = [(f"--{name.replace('_', '-')}", str(value)) for name, value in {**asked, **more}.items()]
    parallel = asked["array_parallelism"]
    rows = [
        ("--array", f"0-{count - 1}%{parallel}") if name == "--array-parallelism" else (name, v) for name, v in rows
    ]
    return [*rows, *(("before each job", line) for line in setup)]


def run(folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event) -> None:
    """Submit what no job of the study's runs, and follow it; as `Executor` says.

    Raises:
        KeyboardInterrupt: at once; the jobs go on, and the same command finds them.
    """
    if keys:
        watch.follow(folder, keys, resources, on_event, _Queue(folder.resolve(), resources))
        if not resources.detach:
            jobs.forget(folder, "slurm", ())


class _Queue:
    """The jobs of one study, as `watch.Engine` says."""

    def __init__(self, folder: Path, resources: Resources) -> None:
        self.folder, self.resources = folder, resources
        self.name = f"laurel-{studies.load(folder).sha256[:8]}"
        self.jobs = jobs.submitted(folder, "slurm")
        self.asked = -ASK
        self.waiting: set[str] | None = None

    def alive(self) -> set[Key] | None:
        if time.monotonic() - self.asked >= ASK:
            self.asked = time.monotonic()
            self.waiting = _queued(self.name)
            if self.waiting is not None:
                self.waiting &= self.jobs.keys()
        if self.waiting is None:
            return None
        return {key for name in self.waiting for key in self.jobs[name]}

    def submit(self, keys: Sequence[Key]) -> None:
        if not keys:
            return
        if self.waiting is not None:
            jobs.forget(self.folder, "slurm", self.waiting)
        several = jobs.batches(keys, _shared(self.resources))
        most = _largest_array() if len(several) > 1 else 1
        for first in range(0, len(several), most):
            sent = self._sent(several[first : first + most])
            jobs.note(self.folder, "slurm", sent)
            self.jobs |= sent
        self.asked = -ASK

    def ended(self, key: Key) -> LaurelError | str:
        name = next((name for name, keys in reversed(self.jobs.items()) if key in keys), "")
        state = _state_of(name)
        if state in ("CANCELLED", "DEADLINE"):
            return ResourceError("Jobs were ended before their trials.", f"Slurm says {state}.", AGAIN)
        return f"job {name} ended without a result{f', {state}' if state else ''}{_last_line(self.folder, name)}"

    def _sent(self, several: list[list[Key]]) -> jobs.Jobs:
        """An array of jobs: trials by the number of the job."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        within, here, variables = _within(self.resources), str(Path.cwd()), jobs.surroundings()
        array = submitit.SlurmExecutor(folder=jobs.place(self.folder), max_num_timeout=10**6)
        array.update_parameters(**_parameters(self.resources, self.name, len(several)))
        try:
            with array.batch():
                sent = [array.submit(SlurmJob(self.folder, keys, within, here, variables)) for keys in several]
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = next((line for line in lines if "error" in line), (lines or ["It does not say why."])[-1])
            raise UsageError("Slurm refuses the jobs.", f"{shortened(said, 200).rstrip('.')}.") from error
        return {job.job_id: keys for job, keys in zip(sent, several, strict=True)}


def _parameters(resources: Resources, name: str, count: int) -> dict[str, Any]:
    """What submitit is given for `count` jobs.

    Raises:
        UsageError: a time that is none, or an argument that is not sbatch's own.
    """
    said = {key.removeprefix("slurm_"): value for key, value in resources.options.items()}
    gpus = resources.gpus
    if gpus is None and kind_of(resources.kind).shown_by and "gres" not in said:
        gpus = 1
    found = {
        "job_name": name,
        "time": _minutes(said["time"]) if "time" in said else MINUTES,
        "cpus_per_task": resources.cores * _at_once(resources),
        "array_parallelism": said.get("array_parallelism", max(1, count)),
        **({"gpus_per_node": max(1, int(gpus))} if gpus and "gres" not in said else {}),
        **{key: said[key] for key in PASSED if key in said},
    }
    if said.get("arg"):
        found["additional_parameters"] = {
            key.replace("-", "_"): _checked(key, value) for key, value in said["arg"].items()
        }
    if said.get("setup"):
        found["setup"] = list(said["setup"])
    return found


def _within(resources: Resources) -> Resources:
    """Resources of the trials of a job, on its machine."""
    return replace(resources, processes=_at_once(resources), options={})


def _shared(resources: Resources) -> Resources:
    """A job holds as many trials as share its GPU, where nothing else is asked for."""
    share = resources.gpus or 1
    return replace(resources, trials_per_job=resources.trials_per_job or (int(1 / share) if share < 1 else 1))


def _at_once(resources: Resources) -> int:
    """Trials at once in a job: those that share its GPU."""
    share = resources.gpus or 1
    return min(_shared(resources).trials_per_job or 1, int(1 / share)) if share < 1 else 1


def _checked(name: str, value: str) -> Any:
    """The value of an argument of sbatch's that laurel does not set itself; True for one without a value."""
    plain = name.replace("_", "-")
    if plain in OWN:
        raise UsageError(f"`slurm_arg` cannot set {plain}.", "laurel sets it.", "Leave it out.")
    if plain in TYPED:
        option = {"cpus-per-task": "cpus_per_trial", "gpus": "gpus_per_trial"}.get(plain, f"slurm_{plain}")
        raise UsageError(f"`slurm_arg` cannot set {plain}.", "It has an option.", f"Use `{option}`.")
    return True if value in ("", "True", "true") else value


def _minutes(text: str) -> int:
    """A time as sbatch takes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes.

    Raises:
        UsageError: it is none.
    """
    match = TIMES.fullmatch(text.strip())
    days, *rest = match.groups() if match else (None, None)
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, minutes, seconds = {1: [0, *parts, 0], 2: [0, *parts]}.get(len(parts), [*parts, 0, 0, 0][:3])
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) + -(-seconds // 60)
    if match is None or not total:
        what = f"`slurm_time={text!r}` is no time."
        raise UsageError(what, "It is MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS.", "Try `slurm_time='4:00:00'`.")
    return total


def _stop(number: int, frame: FrameType | None) -> None:
    """The first signal stops the trials; others come while they write their checkpoints."""
    for one in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def _queued(name: str) -> set[str] | None:
    """Jobs of that name that wait or run; None where Slurm does not answer."""
    said = _said(["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--name", name, "--format", "%i"])
    return None if said is None else set(said.split())


def _state_of(job: str) -> str:
    """As Slurm calls it, "RUNNING"; "" where it has forgotten the job or does not answer."""
    found = re.search(r"\bJobState=(\w+)", _said(["scontrol", "--oneliner", "show", "job", job]) or "") if job else None
    return found[1] if found else ""


def _largest_array() -> int:
    """Jobs that an array may have: Slurm's MaxArraySize is one more than the highest number of one."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _said(["scontrol", "show", "config"]) or "")
    return max(1, int(found[1]) - 1) if found else AT_ONCE


def _said(command: Sequence[str]) -> str | None:
    """What a command of Slurm's writes; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout


def _last_line(folder: Path, job: str) -> str:
    """The last line that a job has written, where it has written any."""
    text = ""
    for path in jobs.place(folder).glob(f"{job}_*_log.err"):
        text += path.read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {shortened(lines[-1], 200)}" if lines else ""
