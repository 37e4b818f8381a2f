"""What every test may use: `laurel` as a user runs it."""

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import laurel_cli
from tests.commands import Commands, Done

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; two processes with two threads each wait for each other
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: the processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

Laurel = Callable[..., "subprocess.CompletedProcess[str] | Done"]
READ_AS_IT_RUNS = re.compile(r"LAUREL_\w+|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|TERM|CUDA_VISIBLE_DEVICES|WORLD_SIZE")
MAIN = Path(laurel_cli.__file__).with_name("__main__.py")


def pytest_sessionstart() -> None:
    """What the modules of all tests import is never garbage: nothing looks for any while they are collected."""
    gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Nor does a collection of garbage in a test look at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def laurel_env(tmp_path: Path) -> dict[str, str]:
    """An environment in which a new process finds the same code as these tests, and no setting of the caller's.

    It is another for each test, so that none is given what `laurel analyze` answered in another one.
    """
    ours = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LAUREL_DEBUG", "GITHUB_ACTIONS", "LC_ALL", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    own = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LAUREL_TEST": str(tmp_path)}
    return env | {"PYTHONPATH": str(Path(laurel_cli.__file__).parents[1])} | own


@pytest.fixture(scope="session")
def _commands() -> Iterator[Commands]:
    with Commands() as commands:
        yield commands


@pytest.fixture
def laurel(_commands: Commands, request: pytest.FixtureRequest, laurel_env: dict[str, str], tmp_path: Path) -> Laurel:
    """Run `laurel *arguments` in an empty folder; `env` adds variables, one that is None is taken away.

    It is run in a copy of a process that has imported laurel already (`tests/commands.py`), which saves seconds of each
    command; of one that has imported torch alone where `env` has PYTHONPATH; in a process from nothing where it has
    what Python reads at its start, where other `options` of `subprocess.run` are asked for, or `fresh`.
    """

    def run(*arguments: object, env: dict[str, str | None] | None = None, fresh: bool = False, **options: object):
        merged = {name: value for name, value in (laurel_env | (env or {})).items() if value is not None}
        first = [name for name in env or {} if not READ_AS_IT_RUNS.fullmatch(name)]
        if not fresh and not options and first in ([], ["PYTHONPATH"]):
            server, script = (request.getfixturevalue("_torch"), MAIN) if first else (_commands, "")
            done = server.run(arguments, tmp_path, 300, env=merged, whole=False, anew=True, script=script)
            assert done.returncode is not None, f"{arguments} did not end: {done.stderr}"
            return done
        command = [sys.executable, "-m", "laurel_cli", *map(str, arguments)]
        settings = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 300, "cwd": tmp_path}
        return subprocess.run(command, env=merged, check=False, **(settings | options))

    return run


@pytest.fixture(scope="session")
def _torch() -> Iterator[Commands]:
    with Commands("torch", laurel=False) as commands:
        yield commands


@pytest.fixture
def python(_torch: Commands, laurel_env: dict[str, str], tmp_path: Path) -> Callable[..., Done]:
    """Run lines of Python in an empty folder, in a process that has imported torch and nothing else beforehand.

    `env` adds variables; `check` is for what is to succeed.
    """

    def run(lines: str, *words: object, env: dict[str, str] | None = None, check: bool = True) -> Done:
        script = tmp_path / "script.py"
        script.write_text(lines)
        done = _torch.run(words, tmp_path, 300, env=laurel_env | (env or {}), anew=True, script=script)
        assert done.returncode == 0 or (not check and done.returncode), done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the processes of pytest-xdist together: what is prepared once is there for all."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session", autouse=True)
def _own_cache(_cache: Path) -> None:
    """Nothing is left in the cache of whoever runs the tests."""
    os.environ["LAUREL_CACHE"] = str(_cache)


@pytest.fixture
def cache(_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for prepared data, for this process and those that it starts: one for all tests of a session."""
    monkeypatch.setenv("LAUREL_CACHE", str(_cache))
    return _cache


@pytest.fixture
def own_arms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arms that a test brings from a file are gone after it."""
    from laurel_cli.rivals import RIVALS

    before = dict(RIVALS)
    monkeypatch.setenv("LAUREL_ARM_FILES", "")
    yield
    RIVALS.clear()
    RIVALS.update(before)
