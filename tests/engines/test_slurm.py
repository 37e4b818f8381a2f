"""A study on a real Slurm of two nodes: preempted, left, come back to, moved; each record as this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from laurel_cli.study import folder as studies
from tests.engines import clusters, scenes
from tests.proxy.small import MODELS

WHY_NOT = clusters.no_slurm()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no Slurm can be started here: {WHY_NOT}"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[clusters.Slurm]:
    with clusters.slurm(place / "slurm") as found:
        yield found


@pytest.fixture(scope="module")
def alone(place: Path) -> scenes.Trials:
    return scenes.undisturbed(made(place, "alone"))


def made(place: Path, name: str) -> scenes.Scene:
    (place / name).mkdir()
    return scenes.Scene(place / name, scenes.environment(place))


def test_preempted_and_requeued_with_its_command_killed(
    place: Path, cluster: clusters.Slurm, alone: scenes.Trials
) -> None:
    scene = made(place, "preempted")
    found = scenes.preempted(scene, cluster)
    assert not scenes.same(found, alone)
    assert max(trial["place"]["attempt"] for trial in found.values()) >= 2  # at least one was taken away in mid-trial
    assert not list((scene.folder / "checkpoints").iterdir())


def test_begun_here_gone_on_with_there_and_ended_here(
    place: Path, cluster: clusters.Slurm, alone: scenes.Trials
) -> None:
    found = scenes.moved(made(place, "moved"), cluster)
    assert not scenes.same(found, alone)
    assert max(trial["place"]["attempt"] for trial in found.values()) >= 3


def test_what_fails_there_fails_as_here_and_a_job_that_cannot_begin_is_told(
    place: Path, cluster: clusters.Slurm
) -> None:
    (place / "models.py").write_text(MODELS)
    words = [f"{place}/models.py:build", "--against", f"{place}/models.py:killed", "--task", "scenes"]
    words += ["--arms", "baseline", "--no-controls", "--seeds", "1", "--steps", "4", "--batch", "8", "--device", "cpu"]
    words += ["--train-limit", "64", "--evaluation-limit", "32", "--executor", "slurm", "--slurm-partition", "low"]

    class Failing(scenes.Scene):
        def words(self, *more: str) -> list[str]:
            return ["train-proxy", *words, "--study", str(self.folder), *more]

    scene = Failing(place, scenes.environment(place))
    scene.start("--max-retries", "1", "--trials-per-job", "2", env=cluster.env).must(6)
    trials = studies.trials(scene.folder)
    found = sorted((trial["status"], trial["place"]["attempt"]) for trial in trials)
    assert found == [("complete", 1), ("failed", 1), ("failed", 2)]
    assert all("killed" in trial["reason"] for trial in trials if trial["status"] == "failed")

    never = Failing(place / "never", scene.env)
    never.place.mkdir()
    never.start("--slurm-setup", "exit 3", env=cluster.env).must(6)
    reasons = {trial["reason"] for trial in studies.trials(never.folder)}
    assert len(reasons) == 2
    assert all("ended without a result, FAILED" in reason for reason in reasons)


def test_what_slurm_refuses_is_wrong_usage(place: Path, cluster: clusters.Slurm) -> None:
    scene = made(place, "refused")
    code, document, said = scene.start("--executor", "slurm", "--slurm-partition", "nowhere", env=cluster.env).ended()
    assert code == 2, said
    assert document["schema"] == "laurel.error/1"
    assert "partition" in document["error"]["why"] + document["error"]["what"]
