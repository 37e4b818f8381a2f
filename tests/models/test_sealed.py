"""Names and configurations are data: what they cannot reach, and how much they may ask for."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("transformers")

from laurel_cli.errors import ModelError, ResourceError, UsageError
from laurel_cli.models import build, load
from laurel_cli.models.sealed import sealed

GPT2 = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}
NAMES_ANOTHER = {
    "a backbone of the hub": {"model_type": "upernet", "backbone": "org/name", "use_pretrained_backbone": True},
    "the same without weights": {"model_type": "upernet", "backbone": "org/name"},
    "deeper": {"model_type": "oneformer", "backbone": "org/name"},
    "timm's own hub": {"model_type": "timm_backbone", "backbone": "hf-hub:org/name"},
    "timm's name": {"model_type": "timm_wrapper", "architecture": "hf-hub:org/name"},
}


class Hub(http.server.ThreadingHTTPServer):
    """A server that answers as the hub does for one file, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        found = self.path.endswith("/org/name/resolve/main/config.json")
        body = json.dumps(GPT2).encode()
        self.send_response(200 if found else 404)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(body) if found else 0))
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(body)

    do_GET = do_HEAD  # noqa: N815 - the name that the server looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def laurel(endpoint: str, home, *args: str) -> subprocess.CompletedProcess[str]:
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    env = unset | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "laurel_cli", "analyze", *args, "--format", "json"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_one_file_is_fetched_and_it_is_the_one_that_was_named(hub, tmp_path):
    done = laurel(f"http://127.0.0.1:{hub.server_port}", tmp_path, "hf:org/name", "--no-check")
    assert done.returncode == 0, done.stderr
    asked = {path.partition("?")[0] for path in hub.asked}
    # Beside it the hub's client may ask for lists of its own (/api/agent-harnesses since 2.4): no repository's files.
    assert {path for path in asked if "/resolve/" in path or "org/name" in path} == {
        "/org/name/resolve/main/config.json"
    }


@pytest.mark.slow
def test_a_configuration_that_names_another_model_fetches_nothing(hub, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NAMES_ANOTHER["a backbone of the hub"]))
    done = laurel(f"http://127.0.0.1:{hub.server_port}", tmp_path, f"hf:{tmp_path}")
    assert done.returncode == 2, done.stderr
    assert "asks for something on the network" in json.loads(done.stdout)["error"]["what"]
    assert not hub.asked


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    from laurel_cli.models import hf_config

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        done = laurel(f"http://127.0.0.1:{port}", tmp_path, "hf:org/name")
        took = time.monotonic() - started
    assert done.returncode == 3
    assert "cannot be fetched" in json.loads(done.stdout)["error"]["what"]
    assert took < 60, f"{took:.0f} s; without the limit it is some minutes"
    assert hf_config.HUB_WAIT < 10


@pytest.mark.parametrize("values", NAMES_ANOTHER.values(), ids=NAMES_ANOTHER)
def test_no_field_of_a_configuration_reaches_the_network(values, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="on the network"):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize("reference", ["timm:hf-hub:org/name", "timm:hf_hub:org/name"])
def test_no_name_of_timm_does(reference):
    with pytest.raises((UsageError, ModelError)) as caught:
        load(reference)
    assert "network" in caught.value.what or "is not in timm" in caught.value.what


@pytest.mark.parametrize("args", [{"pretrained": True}, {"weights": "IMAGENET1K_V1"}, {"weights": "DEFAULT"}])
def test_weights_are_never_fetched(args, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for reference in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises((UsageError, ModelError)):
            load(reference, model_args=args)


def test_outside_and_in_other_threads_the_network_is_as_it_was():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        reached: list[bool] = []

        def connect() -> None:
            socket.create_connection(address, timeout=5).close()
            reached.append(True)

        with sealed("here"):
            thread = threading.Thread(target=connect)
            thread.start()
            thread.join()
        connect()
        with pytest.raises(UsageError, match=r"on the network \(127.0.0.1\)"), sealed("here"):
            connect()
        connect()
    assert len(reached) == 3


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no local sockets here")
def test_a_socket_of_this_machine_is_no_network(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client, sealed("here"):
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


ENDLESS = {
    "layers": {"n_layer": 10**12},
    "layers, of 400 digits": {"n_layer": 10**400},
    "labels": {"num_labels": 10**12},
    "an inner field": {"task_specific_params": {"x": [{"num_hidden_layers": 10**9}]}},
}


@pytest.mark.parametrize("values", ENDLESS.values(), ids=ENDLESS)
def test_endless_numbers_of_layers_are_refused_at_once(values, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GPT2 | values))
    (name,) = values if "task_specific_params" not in values else ("num_hidden_layers",)
    with pytest.raises(ModelError, match=f"has {name} = "):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("reference", "name"),
    [("gpt2", "n_layer"), ("hf:GPT2Config", "n_layer"), ("vit_tiny_patch16_224", "depth"), ("resnet18", "num_classes")],
)
def test_by_an_argument_too(reference, name):
    with pytest.raises(ModelError, match=f"`model_args` has {name}"):
        load(reference, model_args={name: 10**9})


@pytest.mark.parametrize("values", [{"n_embd": 10**12}, {"vocab_size": 10**19}, {"n_embd": 10**400}])
def test_sizes_that_no_tensor_has_are_not_tried_in_memory(values, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_for_real", lambda construct: pytest.fail("tried for real"))
    (tmp_path / "config.json").write_text(json.dumps(GPT2 | values))
    with pytest.raises(ModelError):
        load(f"hf:{tmp_path}")


def test_modules_are_counted_while_they_are_made(monkeypatch):
    monkeypatch.setattr(build, "MODULES", 30)
    with pytest.raises(ModelError, match="more than 30 modules"):
        load("resnet18")


def test_memory_that_cannot_be_had_is_a_lack_of_memory():
    import torch

    with pytest.raises(ResourceError, match="does not fit"):
        build.build_for_real(lambda: torch.nn.Linear(1 << 26, 1 << 30))


def test_a_model_that_is_built_to_be_looked_at_alone_reaches_no_network_either():
    def construct():
        socket.create_connection(("127.0.0.1", 9), timeout=5)

    for how in (build.build_on_meta, build.build_for_real):
        with pytest.raises(UsageError, match="on the network"):
            how(construct)
