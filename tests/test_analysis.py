"""Whole analyses of models that are hard to build, to run or to shorten."""

import pytest
import torch
from torch import nn

from laurel_cli import analysis
from laurel_cli.analysis import analyze
from laurel_cli.arms import parse_arms
from laurel_cli.models import load
from laurel_cli.residual.depth import Stack, shortened_map
from laurel_cli.residual.survey import Survey, survey

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


@pytest.fixture
def write(tmp_path):
    def write(body: str) -> str:
        file = tmp_path / "model.py"
        file.write_text(HEAD + body)
        return f"{file}:build"

    return write


def analysed(reference: str, arms: str = "baseline,rw,lr@2", **options):
    check = options.pop("check", False)
    return analyze(load(reference, **options), parse_arms(arms), check=check)


def test_a_model_that_needs_its_data_is_built_for_real(write) -> None:
    found = analysed(
        write(
            "class Routed(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.experts = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(2))\n"
            "    def forward(self, x):\n        for n, expert in enumerate(self.experts):\n"
            "            rows = torch.where((x[:, 0] > 0) == bool(n))[0]\n"
            "            x = x + torch.zeros_like(x).index_add(0, rows, expert(x[rows]))\n        return x\n"
            "def build(): return Routed()\n"
        ),
        input_shape=(6, 8),
    )
    assert len(found.residual.connections) == 2
    assert found.baseline.reduction_flops > 0
    assert any("follows from data" in note for note in found.document()["model"]["notes"])


def test_sparse_buffers(write) -> None:
    found = analysed(
        write(
            "class Graph(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.f = nn.Linear(8, 8, bias=False)\n"
            "        self.register_buffer('edges', torch.eye(5).to_sparse())\n"
            "    def forward(self, x):\n        return x + torch.sparse.mm(self.edges, self.f(x))\n"
            "def build(): return Graph(), torch.ones(5, 8)\n"
        )
    )
    assert found.baseline.macs == 5 * 64 + 5 * 8


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "inner",
    [
        "torch.nn.utils.weight_norm(nn.Linear(8, 8, bias=False))",
        "torch.nn.utils.prune.l1_unstructured(nn.Linear(8, 8, bias=False), 'weight', 0.5)",
        "nn.LazyLinear(8, bias=False)",
    ],
)
def test_weights_that_are_computed_or_have_no_shape_yet(write, inner: str) -> None:
    found = analysed(
        write(
            "import torch.nn.utils.prune\n"
            f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.f = {inner}\n"
            "    def forward(self, x):\n        return x + self.f(x)\ndef build(): return Net()\n"
        ),
        input_shape=(3, 8),
        check=True,
    )
    assert found.baseline.macs == 3 * 64
    added = [one.cost.parameters - found.baseline.parameters for one in found.arms]
    assert added == [0, 2, 2 * 2 * 8]


def test_a_weight_held_as_an_integer_buffer_is_a_weight(write) -> None:
    found = analysed(
        write(
            "class Packed(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.register_buffer('weight', torch.ones(8, 8, dtype=torch.int8))\n"
            "    def forward(self, x):\n        return x + F.linear(x, self.weight.to(x.dtype)).relu()\n"
            "def build(): return Packed()\n"
        ),
        input_shape=(3, 8),
    )
    assert (len(found.residual.connections), found.baseline.macs, found.baseline.parameters) == (1, 3 * 64, 0)


def test_naive_scaling_that_cannot_be_is_left_out_with_a_warning(write) -> None:
    found = analysed(
        write(
            "class One(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.f = nn.Linear(8, 8)\n"
            "    def forward(self, x):\n        return x + self.f(x)\ndef build(): return One()\n"
        ),
        "baseline,naive+1,rw",
        input_shape=(3, 8),
    )
    assert [one.cost is None for one in found.arms] == [False, True, False]
    assert any(warning.startswith("naive+1 is left out: ") for warning in found.warnings)


class Layer(nn.Module):
    def __init__(self, times: int):
        super().__init__()
        self.f, self.times = nn.Linear(8, 8), times

    def forward(self, x):
        y = x
        for _ in range(self.times):
            y = self.f(y)
        return x + y


class Uneven(nn.Module):
    """Layers with equal parameters, the last of which work twice as much."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer(1 if number < 9 else 2) for number in range(12))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_every_layer_is_counted_before_another_counter_is_said_to_differ(monkeypatch) -> None:
    loaded = load(f"{__file__}:Uneven", inputs=["3x8"])

    def mistaken(model, inputs, *, kept=None) -> Survey:
        found = survey(model, inputs, kept=None)
        stack = Stack("layers", 0, 1, 12, 4)
        return Survey(found.whole, shortened_map(found.whole, [stack]), (stack,), real=False)

    monkeypatch.setattr(analysis, "survey", mistaken)
    arms = parse_arms("baseline,rw")
    trusting = analyze(loaded, arms, check=False)
    checked = analyze(loaded, arms, check=True)
    assert trusting.baseline.macs == 12 * 3 * 64  # what a stand-in that was not proven would say
    assert checked.baseline.macs == checked.arms[0].cost.macs == 15 * 3 * 64
    assert any("counted layer by layer" in warning for warning in checked.warnings)
    fvcore = next(one for one in checked.arms[0].checks if one.counter == "fvcore")
    assert fvcore.agrees


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.f(x).tanh()


class OneOfTwo(nn.Module):
    """Two modules of one class; the second one's method is called as its class has it, so that it cannot change."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Plain(), Plain()

    def forward(self, x):
        return Plain.forward(self.second, self.first(x))


@pytest.mark.parametrize("depth", [1, 12])
def test_a_place_that_stays_ordinary_leaves_others_of_its_class_counted(depth: int) -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(*(OneOfTwo() for _ in range(depth)))).eval()
    found = analyze(model, "baseline,rw", torch.randn(2, 8), check=False)
    rw = found.arms[1].cost
    assert len(found.residual.connections) == 2 * depth
    assert rw.parameters - found.baseline.parameters == 2 * depth
    assert any("second:0" in warning and "ordinary" in warning for warning in found.warnings)


def test_what_the_paper_prints_stands_beside_its_own_sizes_and_formulas_alone() -> None:
    """Table 5 is of 157.20 million parameters, Table 1 of ResNet-50 with two scalars at each connection."""

    def printed(found):
        return {arm["name"]: arm["paper"] and arm["paper"]["added_percent"] for arm in found.document()["arms"]}

    whole = printed(analysed("paper-c4", "baseline,rw,lr@32", seq_len=8))
    assert whole == {"baseline": None, "rw": 0.0, "lr@32": pytest.approx(100 * 1.20 / 157.20, abs=1e-3)}
    small = {"layers": 2, "width": 32, "feed_forward": 64, "heads": 2, "vocabulary": 64}
    assert set(printed(analysed("paper-c4", "rw,lr@32,pa", seq_len=8, model_args=small)).values()) == {None}
    for options, expected in (({}, 0.003), ({"per": "block"}, 0.003), ({"vector_weights": True}, None)):
        found = analyze(load("resnet50", image_size=32), parse_arms("rw", **options), check=False)
        assert printed(found)["rw"] == expected
