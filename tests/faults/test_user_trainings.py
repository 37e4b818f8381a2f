"""Whatever a user's model does while it is timed or trained, the command ends with one answer or one error."""

import json
import signal
import subprocess
import sys
import time

import pytest

from laurel_cli.records.folder import gather
from laurel_cli.study.claim import take
from tests.faults.hostile import MODELS, error_of

TIMED = ("--input", "float32:2x8", "--arms", "baseline", "--processes", "1", "--max-time", "1", "--format", "json")
SMALL = ("--task", "scenes", "--train-limit", "64", "--evaluation-limit", "32", "--batch", "8", "--steps", "4")
TRAINED = (*SMALL, "--no-controls", "--seeds", "1", "--device", "cpu", "--format", "json", "--study", "s")


@pytest.fixture(autouse=True)
def models(tmp_path, cache):
    (tmp_path / "models.py").write_text(MODELS)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exits", "exits Python (code 0). See models.py, line"),
        *(
            pytest.param(name, told, marks=pytest.mark.slow)
            for name, told in [
                ("odd", "raises Odd: as it is. See models.py, line"),
                ("ours", "raises UsageError: wrong words of ours. See models.py, line"),
                ("mute", "Mute"),
                ("leaves", "exit status 0"),
                ("crashes", "SIGSEGV"),
                ("garbles", "writes to files that are not its own"),
                ("shuts", "closes files"),
                ("factory_leaves", "exit status 3"),
                ("Copies", "exits Python"),
            ]
        ),
    ],
)
def test_a_profile_of_such_a_model_is_3_and_names_what_it_did(command, name, told):
    done = command("profile", f"models.py:{name}", *TIMED, limit=300)
    error = error_of(done)
    assert done.returncode == 3
    assert told in f"{error['what']} {error['why']}"


@pytest.mark.slow
def test_a_forward_that_sleeps_ends_a_profile(command):
    error = error_of(command("profile", "models.py:sleeps", *TIMED, limit=300, LAUREL_MODEL_TIMEOUT="20"))
    assert error["code"] == 3
    assert "did not return within 20 s" in f"{error['what']} {error['why']}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forks", "forks_a_sleeper", "forks_in_forward", "leaves_a_thread", "leaves_a_hook"])
def test_what_a_model_leaves_behind_does_not_hold_a_profile(command, name):
    done = command("profile", f"models.py:{name}", *TIMED, limit=300)
    assert done.returncode == 0, done.stderr
    assert [arm["name"] for arm in json.loads(done.stdout)["arms"]] == ["baseline", "copy"]


@pytest.mark.parametrize(
    ("name", "told"), [("factory_leaves", "exit status 3"), ("exits", "exits Python"), ("factory_crashes", "SIGSEGV")]
)
def test_a_study_of_a_model_that_cannot_be_built_is_3(command, cache, tmp_path, name, told):
    done = command("train-proxy", f"models.py:{name}", *TRAINED, limit=300, LAUREL_CACHE=str(cache))
    assert done.returncode == 3
    assert told in error_of(done)["what"]
    assert not (tmp_path / "s" / "study.json").exists()


@pytest.mark.slow
def test_trials_that_end_python_are_failed_and_the_others_go_on(command, cache, tmp_path):
    told = {
        "exits": "The model exits Python (code 0). See models.py, line",
        "leaves": "exit status 0",
        "crashes": "SIGSEGV",
        "garbles": "writes to files that are not its own",
        "sleeps": "did not return within 30 s",
    }
    against = [word for name in told for word in ("--against", f"models.py:trains_and_{name}")]
    env = {"LAUREL_CACHE": str(cache), "LAUREL_MODEL_TIMEOUT": "30"}
    words = ("train-proxy", "models.py:trains", "--arms", "rw", *against, *TRAINED)
    done = command(*words, limit=500, **env)
    assert done.returncode == 6, done.stderr
    arms = {arm["name"]: arm for arm in json.loads(done.stdout)["arms"]}
    assert {name for name, arm in arms.items() if arm["failed"]} == {f"against:models.py:trains_and_{n}" for n in told}
    contents = [json.loads(path.read_text())["content"] for path in (tmp_path / "s" / "records").glob("trial-*.json")]
    reasons = {content["arm"]["name"].rpartition("_")[2]: content["reason"] for content in contents}
    assert {name: sentence in reasons[name] for name, sentence in told.items()} == dict.fromkeys(told, True)
    assert len(contents) == 2 + len(told)

    alone = command("train-proxy", "--trial", "against:models.py:trains_and_exits:0", "--study", "s", **env)
    assert alone.returncode == 3
    assert "exits Python" in alone.stderr
    alone = command("train-proxy", "--trial", "against:models.py:trains_and_leaves:0", "--study", "s", **env)
    assert alone.returncode == 3
    assert "exit status 0" in alone.stderr


@pytest.mark.slow
def test_copies_of_a_trial_that_a_model_forks_leave_no_record(command, cache, tmp_path):
    words = ("train-proxy", "models.py:trains_and_forks", "--arms", "baseline", *TRAINED)
    done = command(*words, limit=300, LAUREL_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "s" / "records").glob("trial-*.json"))) == 1


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_is_5_and_says_so(command, cache, mounted):
    folder = mounted("size=200k") / "s"  # weights and what AdamW remembers of them take 300 kB
    words = ("train-proxy", "models.py:trains", "--arms", "baseline", *TRAINED, "--steps", "1000000", "--study", folder)
    done = command(*words, limit=300, LAUREL_CACHE=str(cache))
    error = error_of(done)
    assert done.returncode == 5
    assert "checkpoints" in error["what"]
    assert "disk is full" in error["why"]
    # Its claim, and how far it came, which a report shows.
    assert {path.suffix for path in (folder / "checkpoints").iterdir()} == {".claim-1", ".progress"}
    assert not list((folder / "records").glob("trial-*"))
    assert not gather([folder]).problems
    assert take(folder / "checkpoints" / "baseline-0.pt").number == 2  # nobody holds the trial that failed


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_while_a_user_s_model_runs(laurel_env, tmp_path, number, code):
    words = ["analyze", "models.py:sleeps", "--input", "float32:2x8", "--arms", "rw", "--format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "laurel_cli", *words],
        env=laurel_env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not children(process.pid) and time.monotonic() < until:
        time.sleep(0.2)
    (child,) = children(process.pid)
    time.sleep(1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert out == ""
        while is_there(child) and time.monotonic() < until:
            time.sleep(0.1)
    else:
        assert json.loads(out)["error"]["code"] == code
    assert not is_there(child)


def is_there(pid):
    """Whether a process works still, and is not only waited for."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]
