"""`command`: laurel as a user runs it, and what of it is left behind; `mounted`: a disk that is soon full."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

Done = namedtuple("Done", "returncode stdout stderr")


@pytest.fixture(scope="module")
def server():
    import laurel_cli

    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LAUREL_DEBUG", "NO_COLOR")}
    env |= {"PYTHONPATH": str(Path(laurel_cli.__file__).parents[1])}
    script = str(Path(__file__).with_name("commands.py"))
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        yield process
        process.stdin.close()


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


@pytest.fixture
def command(server, tmp_path):
    """Run `laurel *words` in a folder of its own; a command that does not end is a failure, and so is an orphan."""

    def run(*words, limit=60, **env):
        out, err = tmp_path / ".stdout", tmp_path / ".stderr"
        for path in (out, err):
            path.write_text("")
        asked = {"words": [str(word) for word in words], "cwd": str(tmp_path), "limit": limit}
        asked |= {"stdout": str(out), "stderr": str(err), "env": env}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())["code"]
        assert code is not None, f"{words} did not end: {err.read_text()}"
        assert not left_in(tmp_path), f"{words} left processes behind"
        return Done(code, out.read_text(), err.read_text())

    return run


@pytest.fixture
def mounted(tmp_path):
    """Mount a small file system; only root may."""
    places = []

    def mount(options):
        place = tmp_path / "mounted"
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip("file systems cannot be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)
