"""Every arm on a CUDA device: against the processor in float64, in bfloat16, compiled by Inductor, counted, folded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import laurel_cli as laurel
from laurel_cli.laurel import worth
from laurel_cli.rivals import RIVALS

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

D = 16
LAUREL = ("rw", "lr@4", "pa", "rw+lr@4", "rw+lr+pa@4")
ARMS = (*LAUREL, *RIVALS)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(D), nn.Linear(D, 2 * D), nn.Linear(2 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.nn.functional.gelu(self.one(self.norm(x))))


def with_arm(arm: str, device: str, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """A chain with an arm, its weights moved from their start: the same on every device."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block() for _ in range(4))).double()
    inputs = torch.randn(3, 5, D, dtype=torch.float64)
    laurel.apply(model, arm, inputs)
    with torch.no_grad():
        for parameter in laurel.parameters(model):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(device, dtype), inputs.to(device, dtype)


def results(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output and every gradient, on the processor in float64."""
    x = x.detach().clone().requires_grad_()
    output = model(x)
    output.square().mean().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()} | {"x": x.grad, "output": output}
    model.zero_grad()
    return {name.replace("_orig_mod.", ""): value.detach().cpu().double() for name, value in found.items()}


def close(ours: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    """To a part of each one's norm; of a vanishing gradient, of the largest one's."""
    assert ours.keys() == expected.keys()
    least = rtol * 1e-3 * max(value.norm() for value in expected.values())
    for name, value in expected.items():
        error = (ours[name] - value).norm()
        assert error <= rtol * value.norm() + least, f"{name}: {error / value.norm():.2g}"


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_it_computes_what_the_processor_does(arm: str, dtype: torch.dtype, rtol: float) -> None:
    close(results(*with_arm(arm, "cuda", dtype)), results(*with_arm(arm, "cpu", torch.float64)), rtol)


@pytest.mark.parametrize("arm", ARMS)
def test_compiled_by_inductor_it_is_one_graph_and_the_same(arm: str) -> None:
    model, x = with_arm(arm, "cuda", torch.float32)
    expected = results(model, x)
    torch._dynamo.reset()
    close(results(torch.compile(model, fullgraph=True), x), expected, 1e-3)


@pytest.mark.parametrize("arm", ARMS)
def test_under_autocast_it_trains(arm: str) -> None:
    model, x = with_arm(arm, "cuda", torch.float32)
    exact = results(model, x)
    with torch.autocast("cuda", torch.bfloat16):
        output = model(x)
    output.float().square().mean().backward()
    error = (output.detach().cpu().double() - exact["output"]).norm() / exact["output"].norm()
    assert error < 0.03
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("arm", ARMS)
def test_put_into_a_model_that_is_there_already(arm: str) -> None:
    """What is added lies where the model lies, in its type; the graph of CUDA replays it."""
    torch.manual_seed(0)
    model, x = nn.Sequential(*(Block() for _ in range(4))).to("cuda", torch.bfloat16), torch.randn(3, 5, D)
    x = x.to("cuda", torch.bfloat16)
    laurel.apply(model, arm, x)
    added = list(laurel.parameters(model))
    assert {parameter.device.type for parameter in added} <= {"cuda"}
    with torch.inference_mode():
        for _ in range(2):
            expected = model(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(x)
        graph.replay()
        torch.cuda.synchronize()
    assert torch.equal(output, expected)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("layout", ["rows", "turned"])
def test_without_gradients_it_computes_what_the_processor_does(arm: str, layout: str) -> None:
    """There sums are made in place and by other products, at any size here."""
    model, x = with_arm(arm, "cuda", torch.float64)
    other, y = with_arm(arm, "cpu", torch.float64)
    if layout == "turned":  # its channels do not lie side by side
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setitem(worth.INFERENCE, "cuda", dict.fromkeys(worth.INFERENCE["cuda"], 0))
        ours, expected = model(x).cpu(), other(y)
    assert (ours - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("arm", LAUREL)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_as_one_node_in_training_it_computes_what_the_processor_does(
    arm: str, dtype: torch.dtype, rtol: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any size, where by default large sums alone are made so."""
    expected = results(*with_arm(arm, "cpu", torch.float64))
    monkeypatch.setitem(worth.TRAINING, "cuda", dict.fromkeys(worth.TRAINING["cuda"], 0))
    model, x = with_arm(arm, "cuda", dtype)
    assert any("_Sum" in type(node).__name__ for node in nodes(model(x)))
    close(results(model, x), expected, rtol)


def nodes(output: Tensor) -> list[object]:
    """Of the graph behind a tensor."""
    found: list[object] = []
    left = [output.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.append(node)
            left += [earlier for earlier, _ in node.next_functions]
    return found


@pytest.mark.parametrize("arm", LAUREL)
def test_folded_it_is_the_same(arm: str) -> None:
    model, x = with_arm(arm, "cuda", torch.float32)
    model.eval()
    folded = laurel.fold(copy.deepcopy(model), x)
    with torch.inference_mode():
        expected, ours = model(x), folded(x)
    assert (ours - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("arm", ["rw+lr@4", "mhc"])
def test_counts_do_not_depend_on_where_the_model_lies(arm: str) -> None:
    state = torch.cuda.get_rng_state()
    counted = [laurel.count(*with_arm(arm, name, torch.float32)).to_dict() for name in ("cpu", "cuda")]
    assert counted[0] == counted[1]
    torch.manual_seed(0)
    assert state.numel() == torch.cuda.get_rng_state().numel()


def test_weights_travel_between_the_devices(tmp_path) -> None:
    model, x = with_arm("rw+lr+pa@4", "cuda", torch.float64)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other, y = with_arm("rw+lr+pa@4", "cpu", torch.float64)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", map_location="cpu"))
    torch.testing.assert_close(other(y), model(x).cpu())
