"""`laurel records` and `analyze --save`."""

import json
from pathlib import Path

import pytest

from laurel_cli.records.folder import gather
from laurel_cli.records.store import read, write

NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x
"""


SAVE = ["analyze", "net.py:Net", "--input", "float32:4x8", "--no-check", "--rank", "2", "--save"]


def test_analyze_saves_what_it_answers_and_where_every_parameter_stands(laurel, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    done = laurel(*SAVE, "--format", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (record,) = gather([tmp_path / "reports"]).records
    assert f"record: reports/records/{record.name}" in done.stderr
    assert {key: record.content[key] for key in answer} == answer
    assert len(record.content["model"]["architecture"]) == 64
    assert record.content["hashes"]["model"] == record.content["model"]["architecture"]
    assert record.content["versions"]["torch"]
    assert record.content["spec_options"]["lags"] == 3
    assert str(tmp_path) not in record.path.read_text()

    where = record.content["where"]
    assert [item["parameters"] for item in where["rw"]] == [2, 2, 2]
    assert [item["parameters"] for item in where["lr@2"]] == [2 * 2 * 8] * 3
    # Eq. 6: one map for each lag that there is, k = 1, 2, 3; k weights; a and b
    assert [item["parameters"] for item in where["rw+lr+pa@2"]] == [2 * 2 * 8 * k + k + 2 for k in (1, 2, 3)]
    for arm in record.content["arms"]:
        assert arm["name"] not in where or sum(i["parameters"] for i in where[arm["name"]]) == arm["added_parameters"]


@pytest.mark.slow
def test_the_same_model_has_one_architecture_whatever_the_command(laurel, tmp_path):
    (tmp_path / "net.py").write_text(NET)

    def architecture(*words):
        done = laurel(*words, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["model"]["architecture"]

    counted = architecture("analyze", "net.py:Net", "--input", "float32:4x8", "--no-check", "--arms", "rw")
    timing = ["--arms", "rw", "--processes", "1", "--max-time", "1"]
    assert architecture("profile", "net.py:Net", "--input", "float32:2x8", *timing) == counted
    deeper = ["analyze", "net.py:Net", "--model-arg", "depth=4", "--input", "float32:4x8", "--no-check", "--arms", "rw"]
    assert architecture(*deeper) != counted


def test_listing_and_verifying(laurel, tmp_path):
    path = write(
        tmp_path / "reports/records",
        "analyze",
        "complete",
        {"model": {"reference": "net.py:Net"}} | {"arms": [], "x": 6},
    )
    assert "net.py:Net" in laurel("records").stdout
    assert laurel("records", "--verify").returncode == 0
    path.write_text(path.read_text().replace('"x": 6', '"x": 5'))
    listed, verified = laurel("records", "--format", "json"), laurel("records", "--verify", "--format", "json")
    assert listed.returncode == 0
    assert path.name in listed.stderr
    assert verified.returncode == 4
    document = json.loads(verified.stdout)
    assert (document["records"], len(document["problems"])) == ([], 1)
    assert "changed" in document["problems"][0]["what"]


@pytest.mark.parametrize("format_name", ["table", "markdown", "csv", "json"])
def test_merging_machines(laurel, tmp_path, hostile, format_name):
    for machine, seeds in (("a", (0, 1)), ("b", (1, 2))):
        for seed in seeds:
            content = {"model": {"reference": hostile}, "study": {"name": hostile}, "seed": seed, "status": "failed"}
            content |= {"arm": {"name": "rw", "kind": "laurel"}}
            write(tmp_path / machine, "trial", "complete", content)
    done = laurel("records", "a", "b", "--into", "reports/records", "--format", format_name)
    assert done.returncode == 0, done.stderr
    assert len(gather([tmp_path / "reports"]).records) == 3
    assert all(char.isprintable() or char == "\n" for char in done.stdout)
    assert done.stdout.count("seed") == 3
    again = json.loads(laurel("records", "a", "b", "--into", "reports/records", "--format", "json").stdout)
    assert (again["merged"]["new"], again["copies"]) == (0, 1)


def test_a_record_of_strange_content_is_named_and_so_is_its_field(laurel, tmp_path):
    path = write(tmp_path / "reports", "profile", "complete", {"model": "none", "arms": 3})
    done = laurel("records", "--format", "json")
    assert done.returncode == 0
    (problem,) = json.loads(done.stdout)["problems"]
    assert path.name in problem["file"]
    assert 'Its model is "none", where an object belongs' in " ".join(problem["what"].split())


def test_no_folder_is_4(laurel):
    done = laurel("records", "nowhere")
    assert (done.returncode, done.stdout) == (4, "")


def test_the_committed_records_are_whole():
    found = gather([Path(__file__).parents[2] / "reports"])
    assert found.problems == ()
    assert all(read(record.path)["sha256"] == record.sha256 for record in found.records)
