"""Workers keep the memory that is freed, where glibc is: page faults are gone, and the record says which it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.latency import allocator
from laurel_cli.latency.allocator import VARIABLES, Usage, facts, variables

GLIBC = allocator._libc().startswith("glibc")
# 40 MiB, above the largest threshold that glibc finds by itself: ten thousand pages, written twenty times.
TOUCH = """
import resource
def touch():
    for _ in range(20):
        b"x" * (40 << 20)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "LD_PRELOAD", allocator.TUNABLES):
        monkeypatch.delenv(name, raising=False)


def faults(name: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", TOUCH],
        env=os.environ | variables(name, "cpu"),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_memory_that_is_kept_faults_no_more() -> None:
    assert faults("default") > 20 * 10_000
    assert faults("keep") < 100


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_the_record_says_what_was_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = facts("keep", "cpu")
    assert (kept["name"], kept["variables"], kept["preloaded"]) == ("keep", VARIABLES, [])
    assert kept["libc"].startswith("glibc 2.")
    assert facts("default", "cpu")["name"] == "default"
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")  # the user's own stays
    assert variables("keep", "cpu")["MALLOC_TOP_PAD_"] == "4096"


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
@pytest.mark.parametrize(
    "own",
    [
        {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "0"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072:glibc.malloc.top_pad=0"},
    ],
)
def test_what_the_user_sets_is_not_called_kept_memory(own: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor, where it keeps memory, as it comes."""
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert faults("keep") > 20 * 5_000  # what is undone
    for name in ("keep", "default"):
        found = facts(name, "cpu")
        assert found["name"] == "own"
        assert found["variables"].items() >= own.items()
    assert facts("default", "cuda") == facts("keep", "cuda")
    assert facts("default", "cuda")["name"] == "default"
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(allocator.TUNABLES, raising=False)
    assert facts("default", "cpu")["name"] == "keep"


def test_nothing_is_set_where_it_would_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variables("default", "cpu") == variables("keep", "cuda") == {}
    monkeypatch.setattr(allocator, "_libc", lambda: "")
    assert facts("keep", "cpu") == {"name": "default", "variables": {}, "libc": "", "preloaded": []}


def test_another_allocator_is_not_called_glibcs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libfirst.so:/usr/lib/libjemalloc.so.2")
    assert facts("keep", "cpu")["name"] == "default"
    assert facts("keep", "cpu")["preloaded"] == ["libjemalloc.so.2"]
    for key, value in VARIABLES.items():  # which it does not read
        monkeypatch.setenv(key, value)
    assert facts("keep", "cpu")["name"] != "keep"


def test_unknown_names_are_wrong_usage() -> None:
    assert allocator.checked("default") == "default"
    with pytest.raises(UsageError, match="keep, default"):
        allocator.checked("jemalloc")


def test_usage_adds_up() -> None:
    assert sum([Usage(1, 0.5, 7, 0.1), Usage(2, 1.5, 3, 0.3)], Usage()) == Usage(3, 2.0, 10, 0.4)
    assert allocator.so_far()[0] > 0
