"""A block stays on one kind of GPU, as far as its processes can tell; drivers are stood in for by what they say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laurel_cli.devices.cpu import Cpu
from laurel_cli.errors import RecordError
from laurel_cli.study import block
from laurel_cli.study.worker import run_trial
from tests.proxy.small import one_layer


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    return one_layer(tmp_path / "study", steps=2, evaluations=1)


def test_a_trial_on_another_kind_of_gpu_than_its_block_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"gpu": "H100"}
    monkeypatch.setattr(Cpu, "facts", lambda self: said)
    assert run_trial(folder, "baseline", 0, command="")["device"]["gpu"] == "H100"
    said["gpu"] = "A100"
    with pytest.raises(RecordError, match=r"Seed 0 was begun on H100, and this is A100\.") as found:
        run_trial(folder, "rw", 0, command="")
    assert "allow_mixed_devices" in found.value.hint
    assert run_trial(folder, "rw", 0, command="", allowed=[block.MIXED])["device"]["gpu"] == "A100"


def test_the_first_trial_of_a_block_decides_even_before_it_has_a_record(tmp_path: Path) -> None:
    block.check(tmp_path, 3, "H100")
    block.check(tmp_path, 3, "H100")
    block.check(tmp_path, 4, "A100")  # another block
    block.check(tmp_path, 3, None)
    with pytest.raises(RecordError):
        block.check(tmp_path, 3, "A100")


def test_of_many_that_begin_at_once_one_kind_wins(tmp_path: Path) -> None:
    def begin(number: int) -> str | None:
        kind = f"kind {number % 4}"
        try:
            block.check(tmp_path, 0, kind)
        except RecordError:
            return None
        return kind

    with ThreadPoolExecutor(16) as pool:
        began = list(pool.map(begin, range(64)))
    assert len(set(began) - {None}) == 1
    assert began.count(None) == 48
