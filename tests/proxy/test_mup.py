"""muP: roles against tables written by hand, sizes and rates against the formulas, and the coordinate check."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laurel_cli.errors import ModelError, UsageError
from laurel_cli.models.inputs import Inputs
from laurel_cli.proxy import mup
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.mup import Carried, Factors, carried
from laurel_cli.proxy.optimizers import optimizers
from laurel_cli.proxy.parallel import Group
from laurel_cli.proxy.recipe import Distillation, ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import Start, start
from laurel_cli.proxy.trial import train
from tests.proxy.coordinates import LOGITS, VIT, recipe_of, slopes, task_of

FLAT, GROWS = 0.3, 0.8  # powers of the width
NARROW, WIDTHS = 32, (32, 64, 128)
SAME, HIDDEN, READOUT = Factors(), Factors(1 / 2, 2**-0.5), Factors(1 / 2, 1 / 2)


def begun(reference: str, arm: str, width: int, *, base: int | None = NARROW, seed: int = 0, **model: Any) -> Start:
    recipe = recipe_of(reference, width, base, **model)
    contender = parse_contenders(arm, rank=4)[-1]
    return start(contender, contender.recipe(recipe), task_of(reference), seed)


def found(monkeypatch: pytest.MonkeyPatch, reference: str, arm: str, **model: Any) -> tuple[Carried, Start]:
    """The rules of a model twice as wide, and its start."""
    kept: list[Carried] = []
    usual = mup.carried
    monkeypatch.setattr(mup, "carried", lambda *a, **k: kept.append(usual(*a, **k)) or kept[-1])
    made = begun(reference, arm, 2 * NARROW, **model)
    return kept[-1], made


TABLES = {
    "paper-c4": (
        "baseline",
        {"tokens": SAME, "positions": SAME, "norm": SAME, "layers.0.attention_norm": SAME}
        | {"layers.0.qkv": HIDDEN, "layers.1.out": HIDDEN},
        1 / 2,  # the embedding gives the logits
    ),
    "gpt2": (  # its maps are stored (in, out)
        "baseline",
        {"transformer.wte": SAME, "transformer.wpe": SAME, "transformer.h.0.ln_1": SAME}
        | {f"transformer.h.1.{name}": HIDDEN for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
        1 / 2,
    ),
    "pythia-70m": (  # its logits have a map of their own
        "baseline",
        {"gpt_neox.embed_in": SAME, "lm_head": READOUT}
        | {f"gpt_neox.layers.0.{name}": HIDDEN for name in ("attention.query_key_value", "mlp.dense_h_to_4h")},
        1.0,
    ),
    "timm:vit_tiny_patch16_224": (
        "rw+lr",
        {"patch_embed.proj": SAME, "blocks.0.mlp.fc1": HIDDEN, "head": READOUT, "norm": SAME}
        | {"blocks.0.laurel0.A.0": READOUT, "blocks.0.laurel0.B": SAME},
        1.0,
    ),
    "timm:resnet18": (
        "baseline",
        {"conv1.0": SAME, "layer1.0.conv1": HIDDEN, "layer1.0.bn1": SAME, "fc": READOUT},
        1.0,
    ),
}
MODELS = {"timm:vit_tiny_patch16_224": VIT, "timm:resnet18": {"layers": (1,), "stem": 1}}


@pytest.mark.parametrize("reference", TABLES)
def test_roles(monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    if reference in ("gpt2", "pythia-70m"):
        pytest.importorskip("transformers")
    arm, table, logits = TABLES[reference]
    rules, made = found(monkeypatch, reference, arm, **MODELS.get(reference, {}))
    assert rules.logits == logits
    for name, rule in table.items():
        assert rules.rules[f"{name}.weight"] == rule, name
    grown = {name for name, p in made.model.named_parameters() if 2 * NARROW in p.shape}
    assert grown <= set(rules.rules)
    # Whatever has one dimension is an embedding's kin: biases, norms, gains.
    assert all(rules.rules[name] == SAME for name in grown if made.model.get_parameter(name).dim() == 1)


ARMS: dict[str, dict[str, Factors]] = {
    "rw": {},
    "rw+lr+pa": {f"A.{lag}.weight": READOUT for lag in range(3)} | {"B.weight": SAME},
    "layerscale": {"l": SAME},
    "gemma3n": {"linear_left": READOUT, "linear_right": SAME, "norm": SAME},
    "attnres": {"w": READOUT},  # a scalar product with the channels
    "gate": {"w": SAME},  # a vector of the same shape that multiplies them one by one
    "mhc": {"pre": READOUT, "post": READOUT, "mix": READOUT},
}


@pytest.mark.parametrize("arm", ARMS)
def test_roles_of_what_arms_add(monkeypatch: pytest.MonkeyPatch, arm: str) -> None:
    rules, made = found(monkeypatch, "paper-c4", arm)
    seen = {n.partition(".laurel")[2].partition(".")[2]: rule for n, rule in rules.rules.items() if ".laurel" in n}
    assert seen == ARMS[arm]
    scalars = [name for name, p in made.model.named_parameters() if ".laurel" in name and p.numel() <= 2]
    assert not set(scalars) & set(rules.rules)  # they do not grow


def test_the_start_is_as_large_as_the_formulas_say() -> None:
    """Against the standard deviations of the narrow model: sigma, sigma / sqrt(m), sigma / m."""
    narrow, wide = (dict(begun("paper-c4", "lr", width).model.named_parameters()) for width in (32, 128))

    def sigma(parameters: dict[str, nn.Parameter], name: str) -> float:
        return float(parameters[name].detach().double().square().mean().sqrt())

    for name, power in (
        ("tokens.weight", 0.0),
        ("positions.weight", 0.0),
        ("layers.0.qkv.weight", -0.5),
        ("layers.1.out.weight", -0.5),
        ("layers.0.laurel0.A.0.weight", -1.0),
    ):
        assert sigma(wide, name) == pytest.approx(sigma(narrow, name) * 4**power, rel=1e-5), name
    assert not wide["layers.0.laurel0.B.weight"].any()
    assert (wide["norm.weight"] == 1).all()


def test_arms_of_a_block_share_their_start() -> None:
    kept = [begun("paper-c4", arm, 64) for arm in ("baseline", "rw+lr", "naive+1", "hc")]
    names = set(kept[0].shared)
    weights = [dict(one.model.named_parameters()) for one in kept]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in names)
    assert {one.sha256 for one in kept[1:2]} == {kept[0].sha256}
    again = begun("paper-c4", "baseline", 64)
    assert again.sha256 == kept[0].sha256


def test_at_the_base_width_nothing_is_changed() -> None:
    own, based = (begun("paper-c4", "rw+lr", NARROW, base=base) for base in (None, NARROW))
    assert not based.rates
    assert own.sha256 == based.sha256
    # Said to be a base of itself, it comes out as it went in.
    choice = replace(recipe_of("paper-c4", NARROW, None).model, mup_base=NARROW)
    recipe = replace(recipe_of("paper-c4", NARROW, None), model=choice)
    itself = start(parse_contenders("rw+lr", rank=4)[-1], recipe, task_of("paper-c4"), 0)
    assert (itself.sha256, itself.rates) == (own.sha256, {})
    assert torch.equal(itself.call(itself.model, _ids()), own.call(own.model, _ids()))


def _ids() -> Tensor:
    return torch.arange(16)[None] % 11


def test_heads_are_as_wide_as_at_the_base_width() -> None:
    for width, heads in ((32, 2), (64, 4), (128, 8)):
        assert begun("paper-c4", "baseline", width).model.layers[0].heads == heads
    with pytest.raises(UsageError, match="16 wide"):
        begun("paper-c4", "baseline", 72)


def test_rates_and_decay_of_each_group() -> None:
    """A step's decay is rate times decay: it stays, where the rate alone is scaled."""
    made = begun("paper-c4", "rw+lr", 128)
    recipe = replace(recipe_of("paper-c4", 128, NARROW), weight_decay=0.1, laurel_lr=0.5)
    (updater,) = optimizers(made.model, recipe, made.rates)
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    groups = {names[id(p)]: group for group in updater.param_groups for p in group["params"]}
    assert len(groups) == len(names)
    assert groups["layers.0.qkv.weight"]["factor"] == pytest.approx(1 / 4)
    assert groups["layers.0.up.weight"]["factor"] == pytest.approx(math.sqrt(1 / 4 * 88 / 344))  # widths are rounded
    assert groups["tokens.weight"]["factor"] == 1
    assert groups["layers.0.laurel0.A.0.weight"]["factor"] == pytest.approx(0.5 / 4)
    assert groups["layers.0.laurel0.weights"]["factor"] == 0.5
    for name, group in groups.items():
        decays = name.startswith("layers") and "norm" not in name and "laurel" not in name
        assert group["weight_decay"] * group["factor"] == pytest.approx(0.1 if decays else 0.0), name


def test_a_trial_trains_by_the_rules() -> None:
    """One step of Adam moves every entry by its rate: the rule is seen in the weights themselves."""
    recipe = replace(recipe_of("paper-c4", 128, NARROW), steps=1, warmup=0.0, weight_decay=0.0, evaluations=1)
    made = begun("paper-c4", "rw+lr", 128)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    from laurel_cli.devices.cpu import Cpu

    train(made, recipe, task_of("paper-c4"), 0, group=Group(Cpu()))
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in made.model.named_parameters()}
    assert moved["layers.0.qkv.weight"] == pytest.approx(recipe.lr / 4, rel=1e-2)
    assert moved["layers.0.attention_norm.weight"] == pytest.approx(recipe.lr, rel=1e-2)
    assert moved["layers.0.laurel0.B.weight"] == pytest.approx(recipe.lr, rel=1e-2)


def test_the_plain_form_says_it_only_where_it_is() -> None:
    own, based = recipe_of("paper-c4", 64, None), recipe_of("paper-c4", 64, NARROW)
    assert "mup_base" not in own.plain()["model"]
    assert based.plain()["model"]["mup_base"] == NARROW
    assert own.sha256 != based.sha256
    assert Recipe.of(based.plain()) == based
    assert Recipe.of(own.plain()) == own
    taught = replace(own, distillation=Distillation(ModelChoice("paper-c4", weights="w", weights_sha256="0")))
    assert "mup_base" not in taught.plain()["distillation"]["teacher"]


def test_the_hash_of_a_study_of_before_is_what_it_was() -> None:
    recipe = Recipe(ModelChoice("paper-c4", layers=(2,), width=16), TaskChoice("counting"), steps=12, batch=8)
    assert recipe.sha256 == "b0a914da64ae709d51fa1c96cb637d658ed0097f90ff1111b6e5bf9c46d079fc"


class Twice(nn.Module):
    """Two matrices are multiplied before they meet the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width)
        self.a, self.b = (nn.Parameter(torch.randn(width, width)) for _ in range(2))
        self.head = nn.Linear(width, 11)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids) @ (self.a @ self.b))


class Biased(nn.Module):
    """The embedding gives the logits, and a bias is added to them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width)
        self.bias = nn.Parameter(torch.zeros(11))

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids) @ self.table.weight.t() + self.bias


class Uneven(nn.Module):
    """Its inner width grows as the square."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(11, width), nn.Linear(width, width * width // 16)
        self.head = nn.Linear(width * width // 16, 11)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(self.table(ids)))


class Heads(nn.Module):
    """Its attention has one head, as wide as the model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, width), nn.Linear(width, 11)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)[:, None]
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x)[:, 0])


class Grown(nn.Module):
    """It has more layers where it is wider."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, width), nn.Linear(width, 11)
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(width // 16)))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layers(self.table(ids)))


class Scaled(nn.Module):
    """Its embedding is multiplied by the root of the width, as Gemma's is."""

    def __init__(self, width: int, *, kept: bool = False) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, width), nn.Linear(width, 11)
        self.scale = width**0.5
        if kept:
            del self.scale
            self.register_buffer("scale", torch.tensor(width**0.5))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids) * self.scale)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Twice, "multiplied with another parameter"),
        (Biased, "neither a map's work nor an embedding's"),
        (Uneven, "inner.weight is 16 x 16 at the smaller width and 64 x 32 at the larger one"),
        (Heads, "attention heads are wider"),
        (Scaled, "a number that depends on the width"),
        (partial(Scaled, kept=True), "a number that depends on the width"),
        (Grown, "layers.1.weight has no counterpart"),
    ],
)
def test_what_has_no_rule_is_refused(build: Any, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        carried(build(32), build(16), Inputs((_ids(),)), 2.0)
    assert said in str(caught.value)
    assert "search" in str(caught.value)


def test_activations_do_not_grow_with_the_width() -> None:
    changed = slopes("paper-c4", "baseline", WIDTHS)
    assert set(changed) == {"layers.0", "layers.1", LOGITS}
    assert all(abs(power) < FLAT for power in changed.values()), changed


@pytest.mark.parametrize(
    ("spoilt", "grown"),
    [
        (lambda found: Carried({}), "layers.1"),
        (lambda found: replace(found, rules={n: replace(r, rate=1.0) for n, r in found.rules.items()}), "layers.1"),
        (lambda found: replace(found, logits=1.0), LOGITS),
    ],
    ids=["no rules", "no rates", "no output multiplier"],
)
def test_without_the_rules_they_grow(monkeypatch: pytest.MonkeyPatch, spoilt: Any, grown: str) -> None:
    usual = mup.carried
    monkeypatch.setattr(mup, "carried", lambda *a, **k: spoilt(usual(*a, **k)))
    assert slopes("paper-c4", "baseline", WIDTHS)[grown] > (FLAT if grown == LOGITS else GROWS)


OF_ARMS = {
    "rw+lr": (r".*0\.laurel0\.A\.0", lambda module, inputs: inputs[0] @ module.weight.t()),
    "gemma3n": (r".*0\.laurel0", lambda module, inputs: inputs[module.skip] @ module.linear_left.t()),
}


@pytest.mark.slow
@pytest.mark.parametrize("arm", OF_ARMS)
def test_what_arms_add_does_not_grow_either(monkeypatch: pytest.MonkeyPatch, arm: str) -> None:
    """Their maps from the width to the rank, which are readouts inside the model."""
    changed = slopes("paper-c4", arm, WIDTHS, inside=OF_ARMS[arm])
    own = next(name for name in changed if "laurel" in name)
    assert changed.pop(own) < FLAT
    assert all(abs(power) < FLAT for power in changed.values()), changed
    usual = mup.carried

    def without(*a: Any, **k: Any) -> Carried:
        rules = usual(*a, **k)
        return replace(rules, rules={n: SAME if "laurel" in n else r for n, r in rules.rules.items()})

    monkeypatch.setattr(mup, "carried", without)
    assert slopes("paper-c4", arm, WIDTHS, inside=OF_ARMS[arm])[own] > GROWS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "arm"),
    [
        ("paper-c4", "rw+lr"),
        ("paper-c4", "hc"),
        ("gpt2", "baseline"),
        ("gpt2", "rw+lr"),
        ("pythia-70m", "baseline"),
        ("timm:vit_tiny_patch16_224", "rw+lr"),
    ],
)
def test_the_coordinate_check_over_eight_times_the_width(
    monkeypatch: pytest.MonkeyPatch, reference: str, arm: str
) -> None:
    if reference in ("gpt2", "pythia-70m"):
        pytest.importorskip("transformers")
    widths, model = (32, 64, 128, 256), MODELS.get(reference, {})
    changed = slopes(reference, arm, widths, **model)
    assert all(abs(power) < FLAT for power in changed.values()), changed
    monkeypatch.setattr(mup, "carried", lambda *a, **k: Carried({}))
    assert max(slopes(reference, arm, widths, **model).values()) > GROWS
