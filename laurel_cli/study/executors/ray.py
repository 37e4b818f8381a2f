"""Trials on a Ray cluster: a task each, by Ray Core (`pip install 'laurel-cli[ray]'`).

Ray ends what a process has started when that process ends. So an actor of Ray's that nobody owns starts the tasks, and
the command that has begun the study only looks: it may leave, be killed and come back. Ray starts a task again whose
machine is lost, as often as that happens.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from laurel_cli.devices import kind_of
from laurel_cli.errors import HeldError, LaurelError, ResourceError, UsageError
from laurel_cli.records.files import read_whole
from laurel_cli.study.executors import jobs, watch
from laurel_cli.study.run import Event, Key, Resources
from laurel_cli.text import first_line

OPTIONS = ("ray_address", "ray_runtime_env", "trials_per_job")
ELSEWHERE = True
NAMESPACE = "laurel"
ANSWER = 30.0  # seconds in which the actor answers


def ready(resources: Resources) -> None:
    """Look for Ray; as `Executor` says."""
    _runtime_env(resources)
    if find_spec("ray") is None:
        raise UsageError("`executor='ray'` needs Ray.", "It is not installed.", "Type pip install 'laurel-cli[ray]'.")
    if resources.detach and not (resources.options.get("ray_address") or os.environ.get("RAY_ADDRESS")):
        what = "`detach=True` needs a Ray cluster that stays."
        raise UsageError(what, "One that this command starts ends with it.", "Name one by `ray_address`.")


def jobs_of(keys: Sequence[Key], resources: Resources) -> int:
    """Tasks; as `Executor` says."""
    return len(jobs.batches(keys, resources))


def hours_of(resources: Resources) -> float | None:
    """A task may take any; as `Executor` says."""
    return None


def shown(count: int, resources: Resources) -> list[tuple[str, str]]:
    """What each task would ask of Ray; as `Executor` says."""
    rows = [("address", resources.options.get("ray_address") or os.environ.get("RAY_ADDRESS") or "found, or started")]
    return [*rows, ("tasks", str(count)), *((name, f"{value:g}") for name, value in _needs(resources).items())]


def run(folder: Path, keys: Sequence[Key], resources: Resources, on_event: Event) -> None:
    """Hand over what no task of the study's runs, and follow it; as `Executor` says.

    Raises:
        KeyboardInterrupt: at once; on a cluster that stays the tasks go on, and the same command finds them.
    """
    if not keys:
        return
    ray = _connected(resources)
    tasks = _Tasks(ray, folder.resolve(), resources)
    watch.follow(folder, keys, resources, on_event, tasks)
    if not resources.detach:
        tasks.end()


class Starter:
    """The actor that owns a study's tasks. It is started again where its machine is lost, and starts them again.

    Args:
        folder: of the study; `name` the actor's own.
        work: what every task is told besides its trials, as `jobs.work` takes it.
        several: the trials of each task.
        needs: what each asks of Ray.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        work: Mapping[str, Any],
        several: Sequence[Sequence[Key]],
        needs: Mapping[str, float],
    ) -> None:
        self.folder, self.name, self.work, self.needs = folder, name, work, needs
        self.tasks: dict[Any, list[Key]] = {}
        self.add(several)

    def add(self, several: Sequence[Sequence[Key]]) -> None:
        """Start tasks."""
        import ray

        remote = ray.remote(max_retries=-1, **self.needs)(jobs.work)
        for keys in several:
            task = remote.remote(self.folder, keys, job=f"ray {self.name}", **self.work)
            self.tasks[task] = list(keys)

    def alive(self) -> list[Key]:
        """Trials whose tasks wait or run; of those that failed a note says why."""
        import ray

        ended = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)[0] if self.tasks else []
        for task in ended:
            keys = self.tasks.pop(task)
            try:
                ray.get(task)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is told where somebody looks
                why = getattr(error, "cause", None) or error
                ours = why if isinstance(why, LaurelError) else ResourceError("A task of Ray's ended.", _said(why))
                jobs.refuse(self.folder, keys, ours)
        return [key for keys in self.tasks.values() for key in keys]


class _Tasks:
    """The tasks of one study, as `watch.Engine` says."""

    def __init__(self, ray: Any, folder: Path, resources: Resources) -> None:
        self.ray, self.folder, self.resources = ray, folder, resources
        self.name = f"laurel-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        self.actor: Any = None

    def alive(self) -> set[Key] | None:
        try:
            actor = self.actor or self.ray.get_actor(self.name, namespace=NAMESPACE)
        except ValueError:  # there is none of that name
            return set()
        try:
            found = {(arm, seed) for arm, seed in self.ray.get(actor.alive.remote(), timeout=ANSWER)}
        except self.ray.exceptions.GetTimeoutError:
            return None
        except self.ray.exceptions.RayActorError as error:
            if "unavailable" in type(error).__name__.lower():  # it is being started again
                return None
            self.actor = None
            return set()
        self.actor = actor
        return found

    def submit(self, keys: Sequence[Key]) -> None:
        if not keys:
            return
        several = jobs.batches(keys, self.resources)
        if self.actor is not None:
            self.ray.get(self.actor.add.remote(several))
            return
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=True
        )
        what = {"resources": replace(self.resources, processes=1, gpus=None, options={}), "here": str(Path.cwd())}
        what |= {"variables": jobs.surroundings()}
        starter = self.ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Starter).options(
            name=self.name, namespace=NAMESPACE, lifetime="detached", scheduling_strategy=here
        )
        self.actor = starter.remote(self.folder, self.name, what, several, _needs(self.resources))
        jobs.note(self.folder, "ray", {self.name: list(keys)})

    def ended(self, key: Key) -> LaurelError | str:
        return HeldError("Its task has gone.") if self.actor is None else "its task ended without a result"

    def end(self) -> None:
        """All have their records."""
        if self.actor is not None:
            self.ray.kill(self.actor)
        jobs.forget(self.folder, "ray", ())


def _connected(resources: Resources) -> Any:
    """Ray, connected to the cluster that is asked for; to one that this process has connected to already.

    Raises:
        ResourceError: it does not answer.
        UsageError: a runtime environment that Ray does not take.
    """
    import ray

    if not ray.is_initialized():
        address = resources.options.get("ray_address")
        try:
            ray.init(
                address=address,
                namespace=NAMESPACE,
                runtime_env=_runtime_env(resources),
                log_to_driver=False,
                configure_logging=False,
                include_dashboard=None if address else False,
            )
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            raise ResourceError(
                "The Ray cluster does not answer.", f"{_said(error)}.", "Check `ray_address`."
            ) from error
        except ValueError as error:
            raise UsageError("Ray refuses what it is asked.", f"{_said(error)}.", "Check `ray_runtime_env`.") from error
    return ray


def _needs(resources: Resources) -> dict[str, float]:
    """What a task asks of Ray."""
    gpus = resources.gpus
    if gpus is None and kind_of(resources.kind).shown_by:
        gpus = 1
    return {"num_cpus": resources.cores, **({"num_gpus": gpus} if gpus else {})}


def _runtime_env(resources: Resources) -> dict[str, Any] | None:
    """Ray's runtime environment: JSON as it is typed, or a file of it.

    Raises:
        UsageError: it is neither.
    """
    text = resources.options.get("ray_runtime_env")
    if text is None:
        return None
    try:
        plain = json.loads(text if text.lstrip().startswith("{") else read_whole(Path(text)).decode())
    except (OSError, ValueError) as error:
        what = "`ray_runtime_env` is no JSON and no file of it."
        raise UsageError(what, f"{first_line(error)}.", """Try '{"env_vars": {"NAME": "value"}}'.""") from error
    if not isinstance(plain, dict):
        raise UsageError("`ray_runtime_env` is no JSON object.", hint="""Try '{"env_vars": {"NAME": "value"}}'.""")
    return plain


def _said(error: BaseException) -> str:
    return first_line(error).rstrip(".")
