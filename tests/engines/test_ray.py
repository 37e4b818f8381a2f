"""A study on a real Ray of three raylets, of which one dies in mid-trial; each record as this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import clusters, scenes

WHY_NOT = clusters.no_ray()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no Ray can be started here: {WHY_NOT}"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[clusters.Ray]:
    with clusters.ray(scenes.environment(place)) as found:
        yield found


def made(place: Path, name: str) -> scenes.Scene:
    (place / name).mkdir()
    return scenes.Scene(place / name, scenes.environment(place))


def test_a_node_dies_in_mid_trial_and_the_command_with_it(place: Path, cluster: clusters.Ray) -> None:
    alone = scenes.undisturbed(made(place, "alone"))
    scene = made(place, "killed")
    found = scenes.node_killed(scene, cluster)
    assert not scenes.same(found, alone)
    assert max(trial["place"]["attempt"] for trial in found.values()) >= 2
    assert not list((scene.folder / "checkpoints").iterdir())
