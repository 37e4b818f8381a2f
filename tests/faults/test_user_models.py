"""Whatever a user's file does, the command ends with one answer or one error, and leaves nobody behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.hostile import MODELS, error_of

GIVEN = ("--input", "float32:2x8", "--arms", "rw", "--no-check")
LINE = re.compile(r"See models\.py, line \d+\.")


@pytest.fixture
def analyze(command, tmp_path):
    (tmp_path / "models.py").write_text(MODELS)

    def run(name, *options, given=GIVEN, **more):
        return command("analyze", f"models.py:{name}", *given, "--format", "json", *options, **more)

    return run


@pytest.mark.parametrize(
    ("name", "told", "line"),
    [
        ("exits", "models.py:exits exits Python (code 0).", True),
        ("odd", "raises Odd: as it is.", True),
        ("closes", "raises GeneratorExit.", True),
        ("interrupts", "raises KeyboardInterrupt.", True),
        ("ours", "UsageError: wrong words of ours", True),
        ("mute", "Mute", True),
        ("leaves", "exit status 0", False),
        ("crashes", "SIGSEGV", True),
        ("aborts", "SIGABRT", True),
        ("is_killed", "SIGKILL", False),
        ("garbles", "disturbs", False),
        ("factory_leaves", "exit status 3", False),
        ("factory_crashes", "SIGSEGV", True),
        ("hooked", "exits Python", True),
        ("Parameters", "AttributeError", False),
        ("Names", "exits Python", True),
        ("Attributes", "Odd: no such layers", True),
        ("Copies", "exits Python", True),
    ],
)
def test_what_a_model_does_to_python_is_3_and_named(analyze, name, told, line):
    done = analyze(name)
    error = error_of(done)
    text = f"{error['what']} {error['why']}"
    assert done.returncode == 3
    assert told in text
    assert error["what"].count(". ") == 0
    assert bool(LINE.search(text)) == line
    assert error["hint"]


NAPS = """
def naps():
    open("begun", "w").close()
    for _ in range(20):
        time.sleep(0.1)
    return Net()
"""


def test_an_exit_while_inputs_are_tried_is_the_same(analyze):
    assert "exits Python" in error_of(analyze("exits", given=("--input-shape", "2x8", "--arms", "rw")))["what"]


@pytest.mark.parametrize("name", ["sleeps", "sleeps_deaf"])
def test_a_forward_that_sleeps_is_ended(analyze, name):
    error = error_of(analyze(name, LAUREL_MODEL_TIMEOUT="0.5"))
    assert error["code"] == 3
    assert "did not return within 0.5 s" in error["what"]
    assert "LAUREL_MODEL_TIMEOUT" in error["hint"]


def test_a_process_that_closes_what_is_not_its_own_is_3(analyze):
    assert error_of(analyze("shuts"))["code"] == 3


@pytest.fixture(scope="module")
def plain(_commands, tmp_path_factory):
    """What is answered of a model that leaves nothing behind."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "models.py").write_text(MODELS)
    done = _commands.run(("analyze", "models.py:Net", *GIVEN, "--format", "json"), folder, 60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name", ["forks", "forks_a_sleeper", "forks_in_forward", "leaves_a_thread", "leaves_a_hook", "prints", "Says"]
)
def test_what_a_model_leaves_behind_changes_no_answer(analyze, plain, name):
    done = analyze(name)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["arms"] == plain["arms"]
    assert answer["connections"] == plain["connections"]


def test_prints_go_to_stderr_those_at_the_end_too(analyze):
    said = analyze("prints").stderr
    assert all(word in said for word in ("printed", "raw", "child", "late"))


def test_no_record_of_a_failure(analyze, tmp_path):
    analyze("exits", "--save", "--records", "kept")
    assert not (tmp_path / "kept").exists()
    analyze("forks", "--save", "--records", "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_the_traceback_is_that_of_the_models_own_process(analyze):
    assert 'models.py", line' in analyze("odd", "--debug").stderr


@pytest.mark.slow
def test_time_in_which_it_was_stopped_is_not_the_models(laurel_env, tmp_path):
    """Ctrl-Z, and later `fg`: the model has done nothing wrong."""
    (tmp_path / "models.py").write_text(MODELS + NAPS)
    command = [sys.executable, "-m", "laurel_cli", "analyze", "models.py:naps", *GIVEN, "--format", "json"]
    env = laurel_env | {"LAUREL_MODEL_TIMEOUT": "4"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, start_new_session=True) as running:
        until = time.monotonic() + 100
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGSTOP)
        time.sleep(9)
        os.killpg(running.pid, signal.SIGCONT)
        out, _ = running.communicate(timeout=200)
    assert running.returncode == 0, out
