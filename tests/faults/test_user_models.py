"""Whatever a user's file does, the command ends with one answer or one error, and leaves nobody behind."""

import json
import re

import pytest

MODELS = """
import atexit, ctypes, os, signal, sys, threading, time
import torch
from torch import nn
from laurel_cli.errors import UsageError

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.map(x).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Layer(), Layer())

    def forward(self, x):
        return self.layers(x)

class Odd(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        sys.exit(0)

def fails(fault):
    def forward(self, x):
        fault()
        return self.layers(x)
    return type("Faulty", (Net,), {"forward": forward})

def throw(error):
    raise error

def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(1000)

exits = fails(lambda: sys.exit(0))
odd = fails(lambda: throw(Odd("as it is")))
closes = fails(lambda: throw(GeneratorExit()))
interrupts = fails(lambda: throw(KeyboardInterrupt()))
ours = fails(lambda: throw(UsageError("wrong", "words", "of ours")))
mute = fails(lambda: throw(Mute()))
sleeps = fails(lambda: time.sleep(1000))
sleeps_deaf = fails(deaf)
leaves = fails(lambda: os._exit(0))
crashes = fails(lambda: ctypes.string_at(0))
aborts = fails(os.abort)
is_killed = fails(lambda: os.kill(os.getpid(), signal.SIGKILL))
garbles = fails(lambda: [os.write(fd, b"noise\\n") for fd in range(3, 40) if writable(fd)])
shuts = fails(lambda: os.closerange(3, 100))

def writable(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe") and os.write(fd, b"") == 0
    except OSError:
        return False

def forks_in_forward():
    return fails(os.fork)()

def forks():
    os.fork()
    return Net()

def forks_a_sleeper():
    if os.fork() == 0:
        time.sleep(1000)
    return Net()

def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return Net()

def leaves_a_hook():
    atexit.register(time.sleep, 1000)
    return Net()

def prints():
    print("printed"); os.write(1, b"raw\\n"); os.system("echo child")
    atexit.register(print, "late")
    return Net()

def factory_leaves():
    os._exit(3)

def factory_crashes():
    ctypes.string_at(0)

def hooked():
    net = Net()
    net.register_forward_hook(lambda *_: sys.exit(0))
    return net

class Parameters(Net):
    def parameters(self, recurse=True):
        return [1, 2]

class Names(Net):
    def named_modules(self, *args, **kwargs):
        sys.exit(0)

class Attributes(Net):
    def __getattr__(self, name):
        if name == "layers":
            throw(Odd("no such layers"))
        return super().__getattr__(name)

class Copies(Net):
    def __deepcopy__(self, memo):
        sys.exit(0)

class Says(Net):
    def __repr__(self):
        sys.exit(0)
"""
GIVEN = ("--input", "float32:2x8", "--arms", "rw", "--no-check")
LINE = re.compile(r"See models\.py, line \d+\.")


@pytest.fixture
def analyze(command, tmp_path):
    (tmp_path / "models.py").write_text(MODELS)

    def run(name, *options, given=GIVEN, **more):
        return command("analyze", f"models.py:{name}", *given, "--format", "json", *options, **more)

    return run


def error_of(done):
    """The one document on stdout, an error whose code is that of the process."""
    document = json.loads(done.stdout)
    assert document["schema"] == "laurel.error/1"
    assert document["error"]["code"] == done.returncode
    assert "Traceback" not in done.stderr
    return document["error"]


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


@pytest.mark.parametrize(
    "name", ["forks", "forks_a_sleeper", "forks_in_forward", "leaves_a_thread", "leaves_a_hook", "prints", "Says"]
)
def test_what_a_model_leaves_behind_changes_no_answer(analyze, name):
    plain, done = analyze("Net"), analyze(name)
    assert (plain.returncode, done.returncode) == (0, 0), done.stderr
    answers = [json.loads(run.stdout) for run in (plain, done)]
    assert answers[0]["arms"] == answers[1]["arms"]
    assert answers[0]["connections"] == answers[1]["connections"]


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
