"""From what is asked of `profile` to its plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from laurel_cli.latency.document import Profile
from laurel_cli.latency.job import Job
from laurel_cli.latency.plan import ProfilePlan
from laurel_cli.records.provenance import versions
from laurel_cli.records.store import Status, write
from laurel_cli.settings.profile import ProfileSettings
from laurel_cli.settings.shared import arm_names


def plan_of(asked: ProfileSettings, folder: Path | None = None) -> ProfilePlan:
    """The plan of a profile; everything that can be wrong with the settings is known when it returns.

    Args:
        asked: the settings.
        folder: an empty one, where a module, or inputs that are no text, are left for the workers.

    Raises:
        UsageError: an arm, a mode, a dtype, an allocator or a device that means nothing.
        ResourceError: the device is absent.
        ModelError: a module that a worker process cannot rebuild.
    """
    asked.bring()
    names, spec = arm_names(asked, asked, asked.of_spec)  # at once, without torch
    from laurel_cli.arms import parse_arms
    from laurel_cli.devices import resolve
    from laurel_cli.latency import allocator
    from laurel_cli.latency.workload import Workload

    parse_arms(names, **spec)
    texts, held = _texts(asked.inputs)
    options = asked.sizes | {"inputs": texts, "model_args": dict(asked.model_args or {})}
    job = Job(
        task="time",
        model=asked.model if isinstance(asked.model, str) else type(asked.model).__name__,
        options=options,
        arms=",".join(dict.fromkeys(["baseline", "copy", *(name.strip() for name in names.split(","))])),
        spec_options=spec,
        against=list(dict.fromkeys(asked.against)),
        work=vars(Workload.checked(asked.mode, asked.dtype, asked.compile, asked.channels_last)),
        device=resolve(asked.device, asked.on_note),
        threads=asked.threads,
        seed=asked.seed,
        allocator=allocator.checked(asked.allocator),
        folded=asked.folded,
    )
    if not isinstance(asked.model, str) or held is not None:
        from laurel_cli.latency.given import hold

        assert folder is not None
        hold(None if isinstance(asked.model, str) else asked.model, held, options, folder)
        job = replace(job, given=str(folder))
    return ProfilePlan(job, asked.precision / 100, asked.max_time, asked.processes or 0)


def keep(measured: Profile, folder: Path) -> Path:
    """Leave the record of a profile, with every sample, in `folder`; its path.

    Raises:
        ResourceError: it cannot be written.
    """
    from laurel_cli.arms import foreign, parse_arms

    status: Status = "partial" if measured.interrupted else "complete"
    job = measured.plan.job
    content = measured.record() | {"versions": versions()}
    theirs = foreign(parse_arms(job.arms, **job.spec_options))
    return write(folder, "profile", status, content | ({"hashes": theirs} if theirs else {}))


def _texts(inputs: Any) -> tuple[tuple[str, ...], Any]:
    """Inputs in words, and those that are held."""
    if inputs is None:
        return (), None
    if isinstance(inputs, str):
        return (inputs,), None
    if isinstance(inputs, list | tuple) and all(isinstance(item, str) for item in inputs):
        return tuple(inputs), None
    return (), inputs
