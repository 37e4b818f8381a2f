"""Runs `laurel` in copies of a process that has imported torch already: a command costs what it does, not its imports.

`python commands.py` reads a JSON line for each command and answers with its exit code. A copy runs the command as
`python -m laurel_cli` does, up to the end of the interpreter, in a session of its own.
"""

import json
import os
import signal
import sys
import time


def serve():
    import laurel_cli.analysis
    import laurel_cli.models.user
    import laurel_cli.study.compare  # noqa: F401
    from laurel_cli.cli.main import run

    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.chdir(asked["cwd"])
            os.environ.update(asked["env"])
            streams = ((os.devnull, os.O_RDONLY), (asked["stdout"], os.O_WRONLY), (asked["stderr"], os.O_WRONLY))
            for number, (path, mode) in enumerate(streams):
                opened = os.open(path, mode | os.O_CREAT, 0o600)
                os.dup2(opened, number)
                os.close(opened)
            sys.argv = ["laurel", *asked["words"]]
            run(asked["words"])
        answer = {"code": ended(pid, asked["limit"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def ended(pid, limit):
    """Its exit code; None where it had to be killed."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    serve()
