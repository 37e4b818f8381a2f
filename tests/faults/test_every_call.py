"""Whichever system call of a writer fails, the file is whole or as it was, and the error says what happened."""

import json
import os
import subprocess
import sys

import pytest

from tests.bench.reliability.shim import FAULTS, built
from tests.faults.every_call import WRITERS

pytestmark = pytest.mark.slow
KINDS = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What every failure came to."""
    place = tmp_path_factory.mktemp("calls")
    library = built(place)
    if library is None:
        pytest.skip("there is no C compiler here")
    words = [sys.executable, "-m", "tests.faults.every_call", str(place / "plan"), str(place / "folder")]
    env = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_writer_met_every_fault(told):
    assert {(one["writer"], one["fault"]) for one in told} == {(name, fault) for name in WRITERS for fault in KINDS}
    assert all(one["failed"] for one in told)


def test_files_are_whole_or_as_they_were_and_the_next_writer_completes_them(told):
    for one in told:
        assert not one["torn"], one
        assert not one["lost"], one
        assert (one["again"], one["ends"]) == (0, True), one
        assert one["swept"] or (one["call"] == "unlink" and one["complete"]), one
        assert not one["left"] or one["call"] == "unlink", one


def test_an_error_is_5_and_says_what_happened(told):
    for one in told:
        fault = KINDS[one["fault"]]
        if one["code"]:
            assert one["code"] == 5, one
            assert not fault.harmless, one
            assert fault.words in one["text"], one
        else:
            assert one["complete"], one


def test_what_the_disk_did_not_take_is_no_success(told):
    for one in told:
        if one["call"] in ("write", "fsync", "rename", "close") and not KINDS[one["fault"]].harmless:
            assert one["code"] == 5, one
