"""`command`: laurel as a user runs it, and what of it is left behind; `mounted`: a disk that is soon full."""

import subprocess

import pytest

from tests.commands import left_in


@pytest.fixture
def command(_commands, tmp_path):
    """Run `laurel *words` in a folder of its own; a command that does not end is a failure, and so is an orphan."""

    def run(*words, limit=60, **env):
        done = _commands.run(words, tmp_path, limit, env)
        assert done.returncode is not None, f"{words} did not end: {done.stderr}"
        assert not left_in(tmp_path), f"{words} left processes behind"
        return done

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
