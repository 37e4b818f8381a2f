"""Prepared data is whole or absent, checked when it is opened, and built once by several processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from laurel_cli.errors import RecordError, ResourceError
from laurel_cli.tasks.reading.cache import SUFFIX, Arrays, Writer, obtain, open_arrays
from laurel_cli.tasks.reading.places import cache_folder

WHAT = {"kind": "test", "path": "\udce4", "numbers": [1, 2]}
PIXELS = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([1, 65535, 0], np.uint16)


def build(writer: Writer) -> dict[str, object]:
    writer.begin("pixels", "u1", (2, 3))
    writer.append(PIXELS[:2])
    writer.append(PIXELS[2:])
    writer.put("labels", LABELS)
    writer.put("none", np.zeros((0, 4), np.uint32))
    return {"classes": ["a", "b\n[red]"]}


@pytest.fixture
def cached(tmp_path: Path) -> Arrays:
    return obtain(tmp_path, "test", WHAT, build)


def test_round_trip(cached: Arrays, tmp_path: Path) -> None:
    np.testing.assert_array_equal(cached.arrays["pixels"], PIXELS)
    np.testing.assert_array_equal(cached.arrays["labels"], LABELS)
    assert cached.arrays["none"].shape == (0, 4)
    assert cached.facts == {"classes": ["a", "b\n[red]"]}
    assert cached.sha256["pixels"] == hashlib.sha256(PIXELS.tobytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [cached.path.name]
    with pytest.raises(ValueError, match="read-only"):
        cached.arrays["labels"][0] = 3


def test_it_is_built_once(cached: Arrays, tmp_path: Path) -> None:
    again = obtain(tmp_path, "test", WHAT, lambda writer: pytest.fail("built again"))
    assert again.sha256 == cached.sha256
    other = obtain(tmp_path, "test", WHAT | {"numbers": [2, 1]}, build)
    assert other.path != cached.path


DAMAGES = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "its last byte missing": lambda data: data[:-1],
    "one more byte": lambda data: data + b" ",
    "a pixel": lambda data: data[:70] + bytes([data[70] ^ 1]) + data[71:],
    "the header": lambda data: data.replace(b'"classes"', b'"Classes"'),
    "the schema": lambda data: data.replace(b"laurel.arrays/1", b"laurel.arrays/2"),
    "the preamble": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "another file": lambda data: b"\x89PNG" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damage_is_noticed_and_repaired(cached: Arrays, tmp_path: Path, damage) -> None:
    whole = cached.path.read_bytes()
    cached.path.write_bytes(damage(whole))
    with pytest.raises(RecordError, match=cached.path.name):
        open_arrays(cached.path)
    with pytest.raises(RecordError, match=cached.path.name):
        obtain(tmp_path, "test", WHAT, build, rebuild=False)
    said: list[str] = []
    again = obtain(tmp_path, "test", WHAT, build, said.append)
    assert again.sha256 == cached.sha256
    assert again.path.read_bytes() == whole
    assert any("anew" in step for step in said)


def test_a_large_file_is_hashed_where_asked(cached: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(cached.path.read_bytes())
    data[70] ^= 1
    cached.path.write_bytes(data)
    monkeypatch.setattr("laurel_cli.tasks.reading.cache.VERIFY_BELOW", 100)
    assert open_arrays(cached.path).arrays["pixels"].shape == PIXELS.shape
    with pytest.raises(RecordError, match="checksum"):
        open_arrays(cached.path, verify=True)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(writer: Writer) -> dict[str, object]:
        build(writer)
        raise RecordError("The image is broken.")

    with pytest.raises(RecordError, match="image is broken"):
        obtain(tmp_path, "test", WHAT, broken)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    def full(writer: Writer) -> dict[str, object]:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")
        return {}

    with pytest.raises(ResourceError, match="cannot be written") as caught:
        obtain(tmp_path, "test", WHAT, full)
    assert caught.value.exit_code == 5
    assert list(tmp_path.glob("*" + SUFFIX)) == []


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from laurel_cli.tasks.reading.cache import obtain
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
def build(writer):
    (folder / f"started-{time.time_ns()}").touch()
    writer.begin("a", "u1", (1 << 16,))
    for i in range(20):
        writer.append(np.full((8, 1 << 16), i, np.uint8))
        writer.file.flush()
        time.sleep(pause)
    return {}
print(obtain(folder, "slow", {"kind": "slow"}, build).sha256["a"])
"""
EXPECTED = hashlib.sha256(b"".join(bytes([i]) * (8 << 16) for i in range(20))).hexdigest()


def start(folder: Path, pause: float, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def bytes_being_written(folder: Path) -> int:
    """Bytes in temporary files; the builder may sweep a killed one's between its being listed and being read."""
    total = 0
    for path in folder.glob(".slow*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_kill_leaves_no_broken_cache(tmp_path: Path, laurel_env: dict[str, str]) -> None:
    for written in (1, 3_000_000, 9_000_000):
        process = start(tmp_path, 0.02, laurel_env)
        deadline = time.monotonic() + 60
        while bytes_being_written(tmp_path) < written:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert list(tmp_path.glob("*" + SUFFIX)) == []
    assert list(tmp_path.glob(".slow*.tmp"))  # what the kills left is there, so that its going is seen below
    out, err = start(tmp_path, 0, laurel_env).communicate(timeout=60)
    assert out.strip() == EXPECTED, err
    assert list(tmp_path.glob(".slow*.tmp")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of files here")
def test_several_processes_build_once(tmp_path: Path, laurel_env: dict[str, str]) -> None:
    processes = [start(tmp_path, 0.02, laurel_env) for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.strip() == EXPECTED, err
    assert len(list(tmp_path.glob("started-*"))) == 1
    assert len(list(tmp_path.glob("*" + SUFFIX))) == 1


def test_which_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("LAUREL_CACHE", raising=False)
    assert cache_folder() == (tmp_path / "home/.cache/laurel", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == (tmp_path / "xdg/laurel", "")
    monkeypatch.setenv("LAUREL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == (tmp_path / "own", "")
    assert cache_folder(tmp_path / "named") == (tmp_path / "named", "")


def test_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("LAUREL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, warning = cache_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    assert str(folder) in warning
    assert "LAUREL_CACHE" in warning
    assert cache_folder()[0] == folder


def test_a_named_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAUREL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="cannot be used"):
        cache_folder()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no owners of files here")
def test_a_temporary_folder_that_another_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"laurel-cache-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    for name in ("LAUREL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, _ = cache_folder()
    assert not folder.is_symlink()
    assert folder.name != f"laurel-cache-{os.getuid()}"
