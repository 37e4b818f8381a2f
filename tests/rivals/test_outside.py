"""A rival of another package, as CONTRIBUTING.md shows it, is an arm of every command; a broken one stops none."""

import hashlib
import json
from pathlib import Path

import pytest

import laurel_cli
from laurel_cli.errors import UsageError
from tests.rivals.shown import shown

MODEL = ("paper-c4", "--model-arg", "layers=2", "--model-arg", "width=16", "--model-arg", "heads=2", "--seq-len", "8")


def install(folder: Path, source: str, entry: str = "halved = halved_arm:Halved") -> dict[str, str]:
    """A distribution in a folder that Python looks into: the environment that makes it do so."""
    (folder / "halved_arm.py").write_text(source)
    about = folder / "halved-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: halved\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[laurel_cli.arms]\n{entry}\n")
    return {"PYTHONPATH": f"{folder}:{Path(laurel_cli.__file__).parents[1]}"}


def test_what_contributing_shows_is_an_arm(laurel, tmp_path):
    env = install(tmp_path, shown())
    listed = json.loads(laurel("arms", "--format", "json", env=env).stdout)["arms"]
    assert next(arm for arm in listed if arm["name"] == "halved")["starts"] == "exact"
    counted = laurel("analyze", *MODEL, "--arms", "halved,rezero", "--no-check", "--format", "json", env=env)
    assert counted.returncode == 0, counted.stdout
    added = {arm["name"]: arm["added_parameters"] for arm in json.loads(counted.stdout)["arms"]}
    assert added == {"baseline": 0, "halved": 4, "rezero": 4}


def test_a_wrong_closed_form_is_seen(laurel, tmp_path):
    env = install(tmp_path, shown().replace("return elements\n", "return 2 * elements\n"))
    counted = laurel("analyze", *MODEL, "--arms", "halved", "--no-check", env=env)
    assert counted.returncode == 1
    assert "the equations of halved and the count disagree" in " ".join(counted.stderr.split())


@pytest.mark.parametrize(
    ("source", "entry", "reason"),
    [
        ("import nothing_of_that_name", "halved = halved_arm:Halved", "cannot be loaded"),
        ("Halved = dict", "halved = halved_arm:Halved", "no subclass"),
        ("from laurel_cli.rivals.rezero import ReZero as Halved", "halved = halved_arm:Halved", "not its own name"),
        ("from laurel_cli.rivals.rezero import ReZero as Halved", "rezero = halved_arm:Halved", "is taken"),
    ],
)
def test_a_broken_one_is_named_and_stops_nothing_else(laurel, tmp_path, source, entry, reason):
    env = install(tmp_path, source, entry)
    listed = laurel("arms", env=env)
    assert listed.returncode == 0
    assert reason in " ".join(listed.stderr.split())
    assert laurel("analyze", "paper-c4", "--arms", "halved", env=env).returncode == 2


@pytest.mark.slow
def test_a_file_is_an_arm_of_every_command_and_process(laurel, tmp_path):
    (tmp_path / "my_arm.py").write_text(shown() + "\nprint('run')\n")
    arms = ("--arms", "halved", "--arm-file", "my_arm.py", "--format", "json")
    listed = laurel("arms", "--arm-file", "my_arm.py", "--format", "json")
    assert "halved" in {arm["name"] for arm in json.loads(listed.stdout)["arms"]}
    counted = laurel("analyze", *MODEL, *arms, "--no-check", "--save", "--records", "reports")
    assert json.loads(counted.stdout)["arms"][1]["added_parameters"] == 4
    timed = laurel("profile", *MODEL, *arms, "--max-time", "1", "--processes", "1", "--threads", "1", "--device", "cpu")
    assert "halved" in {arm["name"] for arm in json.loads(timed.stdout)["arms"]}
    digest = hashlib.sha256((tmp_path / "my_arm.py").read_bytes()).hexdigest()
    kept = [json.loads(path.read_text())["content"] for path in (tmp_path / "reports").rglob("*.json")]
    assert [content["hashes"]["arm halved"] for content in kept] == [digest, digest]


READS = """
import json
from pathlib import Path

EACH = json.loads(Path(__file__).with_suffix(".json").read_text())["each"]
"""


@pytest.mark.slow
def test_what_its_file_reads_is_asked_anew(laurel, tmp_path):
    """The path is put together, so that no text names it."""
    (tmp_path / "my_arm.py").write_text(shown() + READS)
    for each in (1, 2):
        (tmp_path / "my_arm.json").write_text(json.dumps({"each": each}))
        done = laurel("analyze", *MODEL, "--arms", "halved", "--arm-file", "my_arm.py", "--no-check", "--debug")
        assert done.returncode == 0, done.stderr
        assert f"it follows from {tmp_path / 'my_arm.json'} too" in " ".join(done.stderr.split()), done.stderr


@pytest.mark.slow
def test_a_study_notices_that_the_file_was_changed(laurel, tmp_path):
    (tmp_path / "my_arm.py").write_text(shown())
    few = ("--task", "stdlib", "--train-limit", "4096", "--evaluation-limit", "512", "--layers", "1", "--width", "16")
    study = (*few, "--steps", "2", "--seeds", "1", "--no-controls", "--study", "study", "--device", "cpu")
    own = ("--arm-file", "my_arm.py", "--format", "json")
    assert laurel("train-proxy", *study, "--arms", "rw").returncode == 0
    trained = laurel("train-proxy", *study, "--arms", "rw,halved", *own)  # it may come later
    assert {arm["name"] for arm in json.loads(trained.stdout)["arms"]} == {"baseline", "rw", "halved"}
    assert laurel("train-proxy", *study, "--arms", "rw", *own).returncode == 0
    assert laurel("train-proxy", *study, "--arms", "rw").returncode == 2  # it cannot be read without its file
    (tmp_path / "my_arm.py").write_text(shown() + "# changed\n")
    changed = laurel("train-proxy", *study, "--arms", "rw,halved", *own)
    assert changed.returncode == 4
    assert "code.arm halved" in changed.stdout


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "no file"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "holds no arm"),
        (shown().replace('"halved"', '"rw"'), "cannot be called 'rw'"),
        (shown().replace('"halved"', '"rezero"'), "cannot be called 'rezero'"),
        (shown().replace('"halved"', '"Half@2"'), "cannot be called 'Half@2'"),
    ],
)
def test_a_file_that_is_none(tmp_path, source, reason):
    file = tmp_path / "my_arm.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(UsageError, match=reason):
        laurel_cli.add_arms(file)


def test_a_file_brought_twice_is_one_arm(tmp_path, own_arms):
    (tmp_path / "my_arm.py").write_text(shown())
    assert laurel_cli.add_arms(tmp_path / "my_arm.py") == laurel_cli.add_arms(tmp_path / "my_arm.py") == ("halved",)
    (tmp_path / "other.py").write_text(shown())
    with pytest.raises(UsageError, match="halved"):
        laurel_cli.add_arms(tmp_path / "other.py")
