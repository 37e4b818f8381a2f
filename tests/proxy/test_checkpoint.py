"""Checkpoints are whole, or say that they are not; reading one runs no code."""

import pickle
from pathlib import Path

import pytest
import torch

from laurel_cli.errors import RecordError
from laurel_cli.proxy.checkpoint import restore, save

OWNER = {"study": "a study", "seed": 1}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    assert restore(path, OWNER) is None
    state = {"step": 3, "weights": torch.randn(4), "curve": [{"step": 1, "loss": 0.1}]}
    save(path, state, OWNER)
    found = restore(path, OWNER)
    assert found["step"] == 3
    assert torch.equal(found["weights"], state["weights"])
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "other"])
def test_damaged_ones_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pt"
    save(path, {"step": 3, "weights": torch.randn(1000)}, OWNER)
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "garbage": b"x" * 500, "other": data}[damage])
    if damage == "other":
        torch.save({"weights": torch.randn(2)}, path)
    with pytest.raises(RecordError, match=r"a\.pt"):
        restore(path, OWNER)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "attacked",))

    (tmp_path / "a.pt").write_bytes(pickle.dumps({"step": Attack()}))
    with pytest.raises(RecordError):
        restore(tmp_path / "a.pt", OWNER)
    assert not (tmp_path / "attacked").exists()


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from laurel_cli.errors import ResourceError

    path = tmp_path / "a.pt"
    save(path, {"step": 1}, OWNER)

    def full(state, file) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ResourceError, match="No space"):
        save(path, {"step": 2}, OWNER)
    assert restore(path, OWNER) == {"step": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]
