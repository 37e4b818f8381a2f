"""Runs `laurel` in copies of a process that has imported torch already: a command costs what it does, not its imports.

`python commands.py [MODULE]...` reads a JSON line for each command and answers with its exit code. A copy runs the
command as `python -m laurel_cli` does, or a script as `python FILE` does, in a session of its own.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import namedtuple
from importlib import import_module
from pathlib import Path

Done = namedtuple("Done", "returncode stdout stderr")
CALLERS = ("COLUMNS", "LAUREL_DEBUG", "NO_COLOR")  # settings of whoever runs the tests
LAUREL = ("analysis", "models.user", "models.timm", "models.torchvision", "study.compare", "proxy.start", "cli.main")
LAUREL += ("cli.analyze", "cli.profile", "cli.train_proxy", "cli.convert", "reports.document")  # `cli.app` reads TERM


class Commands:
    """The process that runs commands, from the side of those who ask it to.

    Args:
        modules: imported beforehand too.
        laurel: whether laurel is; without it only scripts can be run.
        env: of the process and of every command.
    """

    def __init__(self, *modules, laurel=True, **env):
        import laurel_cli

        kept = {name: value for name, value in os.environ.items() if name not in CALLERS}
        kept |= {"PYTHONPATH": os.pathsep.join([str(Path(laurel_cli.__file__).parents[1]), *kept_paths()])}
        command = [sys.executable, __file__, *(f"laurel_cli.{name}" for name in LAUREL if laurel), *modules]
        self.written = tempfile.TemporaryDirectory()  # apart: no command finds files in its folder that are not its own
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept | env
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.written.cleanup()

    def run(self, words, folder, limit, env=None, constants=None, whole=True, anew=False, script=""):
        """`laurel *words` in `folder`. Its code is None where it had to be killed after `limit` seconds.

        Args:
            env: variables of this command, beside those of all commands; with `anew` its whole environment.
            constants: numbers to put in the place of those of a module: {"laurel_cli.proxy.trial": {"NAME": 0.1}}.
            script: a file of Python that is run with `words`, in the place of `laurel`.
            whole: whether the interpreter is taken down at the end, which costs seconds: it touches all of its memory.
        """
        out, err = (Path(self.written.name, name) for name in ("stdout", "stderr"))
        for path in (out, err):
            path.write_text("")
        asked = {
            "words": [str(word) for word in words],
            "cwd": str(folder),
            "limit": limit,
            "env": env or {},
            "anew": anew,
            "whole": whole,
        }
        asked |= {"stdout": str(out), "stderr": str(err), "constants": constants or {}, "script": str(script)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        return Done(code, out.read_text(errors="replace"), err.read_text(errors="replace"))


def kept_paths():
    """Where this process finds packages that are not installed."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def left_in(folder):
    """Processes that work in `folder`."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if place.readlink() == folder:
                found.append(int(place.parent.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def serve(modules):
    for name in modules:
        import_module(name)
    gc.collect()
    gc.freeze()  # copies share what a collection does not touch
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.chdir(asked["cwd"])
            streams = ((os.devnull, os.O_RDONLY), (asked["stdout"], os.O_WRONLY), (asked["stderr"], os.O_WRONLY))
            for number, (path, mode) in enumerate(streams):
                opened = os.open(path, mode | os.O_CREAT, 0o600)
                os.dup2(opened, number)
                os.close(opened)
            if asked["anew"]:
                os.environ.clear()
            os.environ.update(asked["env"])
            for module, values in asked["constants"].items():
                vars(import_module(module)).update(values)
            if asked["script"]:
                run_script(asked["script"], asked["words"])
            run_laurel(asked["words"], asked["whole"])
        answer = {"code": ended(pid, asked["limit"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def run_laurel(words, whole):
    from laurel_cli.cli.main import run

    sys.argv = ["laurel", *words]
    try:
        run(words)
    except SystemExit as end:
        if whole:
            raise
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(end.code)


def run_script(path, words):
    found = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one and one not in sys.path]
    sys.argv, sys.path[:1], code = [path, *words], [str(Path.cwd()), *found], 0
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended(pid, limit):
    """Its exit code; None where it had to be killed."""
    until = time.monotonic() + limit
    while (left := until - time.monotonic()) > 0:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.02, left))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)  # it may lead no group yet
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    serve(sys.argv[1:])
