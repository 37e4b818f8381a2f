"""Exit codes, streams and signals of real processes."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.cells import cell_len


def error_of(done):
    document = json.loads(done.stdout)
    assert document["schema"] == "laurel.error/1"
    assert list(document["error"]) == ["code", "what", "why", "hint"]
    assert document["error"]["code"] == done.returncode
    return document["error"]


def test_version(laurel):
    done = laurel("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "laurel 0.1.0\n", "")


def test_no_command_shows_the_help_and_is_wrong_usage(laurel):
    done = laurel()
    assert done.returncode == 2
    assert "analyze" in done.stdout


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["analyse", "resnet50"], "analyze"),
        (["analyze", "resnet50", "--rnak", "16"], "--rank"),
        (["analyze", "resnet50", "--variant", "rw+rl"], "rw+lr"),
        (["analyze", "resnet50", "--format", "jsn"], "json"),
        (["env", "--format", "tabel"], "table"),
        (["analyze"], "laurel analyze --help"),
        (["frobnicate"], "laurel --help"),
        (["analyze", "resnet50", "--batch", "many"], "--batch 8"),
        (["analyze", "resnet50", "--rank", "0"], "--rank 16"),
        (["analyze", "resnet50", "--rank", "-4"], "--rank 16"),
        (["analyze", "resnet50", "--rank", "many"], "--rank 16"),
        (["analyze", "resnet50", "--lags", "some"], "--lags 3"),
        (["analyze", "resnet50", "--input-shape", "3xbig"], "1x3x224x224"),
        (["analyze", "resnet50", "--model-arg", "classes"], "num_classes=10"),
        (["analyze", "resnet50", "--arms", "rw", "--rank", "4,8"], "rw+lr@8"),
    ],
)
def test_wrong_usage_is_2_with_a_hint(laurel, words, nearest):
    done = laurel(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert nearest in done.stderr.split("hint: ")[1]
    assert "Traceback" not in done.stderr
    if "--format" not in words:
        assert nearest in error_of(laurel(*words, "--format", "json"))["hint"]


def test_an_error_in_the_options_is_json_where_json_was_asked(laurel):
    assert error_of(laurel("analyze", "--format=json"))["what"] == "Missing argument 'MODEL'."
    assert laurel("models", "--format=json", "--format", "csv", "zzzz").stdout == ""


def test_no_model_matches_is_3_with_the_nearest_names(laurel):
    done = laurel("models", "resnt50")
    assert done.returncode == 3
    assert "resnet50" in done.stderr


def test_a_command_that_ends_without_an_answer_is_no_success(laurel_env):
    script = (
        "from laurel_cli.cli import main, destination\n"
        "destination.Destination.write = lambda *given, **options: None\n"
        "main.run(['arms', '--format', 'json'])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=laurel_env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "without an answer" in error_of(done)["why"]


def test_models_lists_and_filters(laurel):
    names = json.loads(laurel("models", "resnet5*", "--format", "json").stdout)
    assert {"reference": "resnet50", "source": names["models"][0]["source"]} in names["models"]
    assert all("resnet5" in item["reference"] for item in names["models"])


def test_env_names_versions_and_says_why_a_device_is_missing(laurel):
    document = json.loads(laurel("env", "--format", "json").stdout)
    assert document["schema"] == "laurel.env/1"
    assert document["versions"]["laurel"] == "0.1.0"
    assert document["versions"]["torch"]
    assert [device["name"] for device in document["devices"]] == ["cpu", "cuda", "mps", "tpu", "xla"]
    assert document["devices"][0]["available"]
    assert all(device["detail"] for device in document["devices"])


@pytest.mark.parametrize(
    "env",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"LC_ALL": "C"}, {"HOME": None}, {"COLUMNS": "20"}, {"COLUMNS": "40"}],
    ids=str,
)
def test_a_poor_environment_changes_the_look_alone(laurel, env):
    for words in (["models", "resnet50"], ["--help"], ["analyze", "--help"]):
        done = laurel(*words, env=env)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
    assert "resnet50" in laurel("models", "resnet50", env=env).stdout


def test_the_c_locale_gets_ascii(laurel):
    assert laurel("models", "resnet50", env={"LC_ALL": "C"}).stdout.isascii()
    assert laurel("models", "resnet50", env={"PYTHONIOENCODING": "ascii"}).stdout.isascii()
    assert not laurel("models", "resnet50").stdout.isascii()


def test_a_reader_that_stops_early_is_no_failure(laurel_env):
    for words in ("models", "models --format json", "--help", "analyze --help"):
        command = f"set -o pipefail; {sys.executable} -m laurel_cli {words} | head -1 >/dev/null"
        done = subprocess.run(["bash", "-c", command], env=laurel_env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("words", ["models", "--help", "models --format json"])
def test_a_full_disk_is_5(laurel_env, words):
    command = f"{sys.executable} -m laurel_cli {words} > /dev/full"
    done = subprocess.run(["bash", "-c", command], env=laurel_env, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_do_not_crash(laurel_env):
    for redirect, code in ((">&-", 5), ("2>&-", 0), ("<&-", 0)):
        command = f"{sys.executable} -m laurel_cli models resnet50 {redirect}"
        done = subprocess.run(["bash", "-c", command], env=laurel_env, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def planted(body):
    """A script that runs `laurel env` with `body` in place of the search for devices."""
    body = "\n".join("    " + line for line in body.splitlines())
    return f"""
import os, signal, sys, time, warnings
import laurel_cli.devices
from laurel_cli.cli import main
def devices():
{body}
laurel_cli.devices.listed = devices
main.run(sys.argv[1:])
"""


@pytest.fixture
def run_planted(python):
    return lambda body, *words, env=None: python(planted(body), "env", *words, env=env, check=False)


def test_a_bug_is_1_without_a_traceback(run_planted):
    done = run_planted("raise RuntimeError('oops\\nmore')")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "bug in laurel. RuntimeError: oops." in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr
    assert error_of(run_planted("raise RuntimeError", "--format", "json"))["code"] == 1


def test_debug_shows_the_traceback(run_planted):
    assert "Traceback" in run_planted("raise RuntimeError('oops')", "--debug").stderr
    assert "Traceback" in run_planted("raise RuntimeError", env={"LAUREL_DEBUG": "1"}).stderr
    assert "Traceback" not in run_planted("raise RuntimeError", env={"LAUREL_DEBUG": "0"}).stderr


def test_no_memory_is_5(run_planted):
    assert run_planted("raise MemoryError").returncode == 5


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no /proc here")  # noqa: PTH110
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.pread(os.open('/proc/self/mem', os.O_RDONLY), 1, 0)", "Input/output error"),
        ("open('/proc/sys/kernel/ostype', 'w')", "ermission denied"),
    ],
)
def test_a_file_that_fails_or_is_not_ours_is_5_and_no_bug(run_planted, body, said):
    done = run_planted(body)
    assert done.returncode == 5
    assert said in done.stderr
    assert "bug" not in done.stderr


def test_what_others_print_never_reaches_stdout(run_planted):
    noise = (
        "print('python noise')\nos.write(1, b'descriptor noise\\n')\nos.system('echo child noise')\n"
        "warnings.warn('a warning')\nimport atexit; atexit.register(print, 'late noise')\nreturn []"
    )
    done = run_planted(noise, "--format", "json")
    assert json.loads(done.stdout)["devices"] == []
    assert all(word in done.stderr for word in ("python noise", "descriptor noise", "child noise", "late noise"))
    assert "a warning" not in done.stderr
    assert "a warning" in run_planted(noise, "--debug").stderr


@pytest.mark.parametrize(("processes", "code"), [("1", -signal.SIGABRT), ("2", 0)])
def test_a_process_of_several_ends_before_threads_of_its_group_can_abort_it(laurel_env, tmp_path, processes, code):
    """As was seen of one in eight: gloo's thread let go of a Python object while Python ended."""
    abort = "import ctypes; libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.abort, None, None)"
    (tmp_path / "sitecustomize.py").write_text(abort)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [laurel_env.get("PYTHONPATH")])])
    env = laurel_env | {"PYTHONPATH": paths, "WORLD_SIZE": processes}
    command = [sys.executable, "-m", "laurel_cli", "--version"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "laurel 0.1.0\n")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_its_code_and_no_traceback(laurel_env, sent, code):
    for words in ((), ("--format", "json")):
        process = subprocess.Popen(
            [sys.executable, "-c", planted("print('ready')\ntime.sleep(60)"), "env", *words],
            env=laurel_env | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in stderr
        assert (json.loads(stdout)["error"]["code"] == code) if words else (stdout == "" and "error: " in stderr)


def on_a_terminal(words, env, columns=80, stderr=None):
    """The output and exit code of `laurel` on a pseudo-terminal, which `stderr` may be something else than."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "laurel_cli", *words],
        env=env,
        stdin=follower,
        stdout=follower,
        stderr=follower if stderr is None else stderr,
    )
    os.close(follower)
    chunks = []
    try:
        while chunk := os.read(leader, 65536):
            chunks.append(chunk)
    except OSError:  # Linux says EIO where the other end has closed
        pass
    os.close(leader)
    return b"".join(chunks).decode(), process.wait(timeout=60)


def test_a_terminal_gets_colour_unless_told_otherwise(laurel_env):
    text, code = on_a_terminal(["models", "resnet50"], laurel_env)
    assert code == 0
    assert "\x1b[36m" in text
    assert "\x1b[3" not in on_a_terminal(["models", "resnet50"], laurel_env | {"NO_COLOR": "1"})[0]
    assert "\x1b" not in on_a_terminal(["models", "resnet50"], laurel_env | {"TERM": "dumb"})[0]


@pytest.mark.parametrize("columns", [120, 160])
def test_the_width_is_that_of_the_answers_terminal_where_stderr_is_a_file(laurel_env, columns):
    text, _ = on_a_terminal(["arms"], laurel_env, columns, subprocess.DEVNULL)
    lines = [cell_len(line) for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()]
    assert columns - 15 < max(lines) <= columns


def test_progress_is_erased_from_a_terminal_and_absent_from_a_pipe(laurel, laurel_env):
    text, _ = on_a_terminal(["env"], laurel_env)
    assert "looking for devices\r\x1b[2K" in text
    assert laurel("env").stderr == ""


def test_completion_offers_commands_options_and_models(laurel_env):
    for words, expected in (("laurel ana", "analyze"), ("laurel env --format js", "json")):
        asked = {"_LAUREL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-m", "laurel_cli"], env=laurel_env | asked, capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == [expected]
    asked = {"_LAUREL_COMPLETE": "complete_bash", "COMP_WORDS": "laurel analyze resnet15", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "laurel_cli"], env=laurel_env | asked, capture_output=True, text=True, check=False
    )
    assert "resnet152" in done.stdout.split()
