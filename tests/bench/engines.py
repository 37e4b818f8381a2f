"""The page of engine runs: one study on this machine, on a real Slurm and on a real Ray, disturbed, and held equal.

python -m tests.bench.engines --output reports/engines.md

Needs root, Debian's Slurm (`apt-get install slurm-wlm slurmd slurmctld munge`), and laurel with its extras `slurm` and
`ray`. What cannot be started is named on the page. About half an hour of two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.engines import clusters, scenes
from tests.engines.scenes import LOCAL, RAY, SLURM, Scene, Trials

SHORT = 20  # steps of the trials by which overhead is told
ONE = ("--slurm-array-parallelism", "1")


@dataclass(frozen=True)
class Told:
    """A scene that was played: what was done, and fields in which its records differ from this machine's own."""

    title: str
    done: list[str]
    attempts: str
    different: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Scene.steps, help="of each trial")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        text = page(Path(place), options.steps)
    options.output.write_text(text)


def page(place: Path, steps: int) -> str:
    """Play every scene that can be played here."""
    env = scenes.environment(place)

    def scene(name: str, steps: int = steps) -> Scene:
        (place / name).mkdir()
        return Scene(place / name, env, steps)

    alone = scenes.undisturbed(scene("alone"))
    scenes.overhead(scene("warm", SHORT), LOCAL)  # the cache of data is made
    seconds = {"this machine": scenes.overhead(scene("short-local", SHORT), LOCAL)}
    told: list[Told] = []
    skipped = {"Slurm": clusters.no_slurm(), "Ray": clusters.no_ray()}

    def play(title: str, name: str, act: Callable[[Scene], Trials]) -> None:
        one = scene(name)
        found = act(one)
        told.append(Told(title, one.done, one.attempts(), scenes.same(found, alone)))

    if not skipped["Slurm"]:
        with clusters.slurm(place / "slurm") as slurm:
            play("Slurm: preemption, and the command killed", "preempted", lambda one: scenes.preempted(one, slurm))
            play("This machine, then Slurm, then this machine", "moved", lambda one: scenes.moved(one, slurm))
            by = [*SLURM[:-2], *ONE]
            seconds["Slurm, a job a trial"] = scenes.overhead(scene("short-slurm", SHORT), by, env=slurm.env)
            by += ["--trials-per-job", "4"]
            seconds["Slurm, 4 trials a job"] = scenes.overhead(scene("short-slurm-4", SHORT), by, env=slurm.env)
    if not skipped["Ray"]:
        with clusters.ray(env) as ray:
            seconds["Ray, a task a trial"] = scenes.overhead(scene("short-ray", SHORT), RAY, ray=ray)
            by = [*RAY, "--trials-per-job", "4"]
            seconds["Ray, 4 trials a task"] = scenes.overhead(scene("short-ray-4", SHORT), by, ray=ray)
            play("Ray: a node and the command killed", "killed", lambda one: scenes.node_killed(one, ray))
    return written(alone, steps, told, seconds, skipped)


def written(alone: Trials, steps: int, told: list[Told], seconds: dict[str, float], skipped: dict[str, str]) -> str:
    """The page, as Markdown."""
    fields = sorted({name for trial in alone.values() for name in trial} - set(scenes.DIFFERENT))
    lines = [
        "# One study on three engines",
        "",
        f"{len(alone)} trials (baseline and rw, two seeds) of {steps} steps of a small decoder, undisturbed on this",
        "machine, one after the other, and again under each engine while something was killed. Both clusters are real",
        "and live on one machine of two cores: a Slurm of two nodes, a Ray of a head and two nodes. Made by",
        f"`python -m tests.bench.engines --output reports/engines.md` on {datetime.now(UTC):%Y-%m-%d}; {_versions()}.",
        "",
        "## What was killed when, and what was equal",
        "",
    ]
    for one in told:
        lines += [f"### {one.title}", "", *(f"- {said}" for said in one.done)]
        lines += [f"- attempts: {one.attempts}"]
        equal = f"every field of every record but {', '.join(scenes.DIFFERENT)} is equal to the undisturbed run's"
        lines += [f"- {equal}" if not one.different else f"- **different**: {', '.join(one.different)}", ""]
    lines += [f"Not played: {name}, {why}." for name, why in skipped.items() if why]
    lines += [
        f"Compared are {', '.join(fields)}: the training curve, evaluations and learned coefficients bit by bit.",
        "",
        "## Overhead",
        "",
        f"A study of {len(alone)} trials of {SHORT} steps, from the command to its answer, divided by the trials; one",
        "run each, so that differences of a second mean nothing. The command's own start, about the same everywhere,",
        "is in it.",
        "",
        "| where | seconds a trial | beyond this machine |",
        "|---|---|---|",
    ]
    base = seconds["this machine"]
    lines += [
        f"| {name} | {found:.1f} | {'-' if name == 'this machine' else f'{found - base:+.1f}'} |"
        for name, found in seconds.items()
    ]
    lines += [
        "",
        "Two trials of Ray's run at once here, one each of the others. What else the machine did is in these figures",
        "too.",
        "",
    ]
    return "\n".join(lines)


def _versions() -> str:
    found = []
    for name in ("torch", "submitit", "ray"):
        try:
            found.append(f"{name} {version(name)}")
        except ModuleNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    main()
