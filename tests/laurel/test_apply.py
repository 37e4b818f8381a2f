"""LAuReL in place: nothing changes at the start, nothing is intercepted, and everything PyTorch does still works."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from laurel_cli.errors import ModelError
from laurel_cli.laurel.apply import apply_laurel, laurel_layers
from laurel_cli.laurel.spec import Spec

from ..residual.patterns import Attention, D, EncoderDecoder, SharedAcrossDepth, mlp  # noqa: TID252

VARIANTS = ("rw", "lr@4", "pa", "rw+lr@4", "rw+lr+pa@4")
every_variant = pytest.mark.parametrize("variant", VARIANTS)
with_pa = pytest.mark.parametrize("variant", ["pa", "rw+lr+pa@4"])


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn, self.mlp = Attention(), mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Three pre-norm layers; `checkpoints` None, False or True is how each is checkpointed."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = nn.LayerNorm(D)
        self.reentrant: bool | None = None
        self.each = 1

    def run(self, first: int, x: Tensor) -> Tensor:
        for layer in self.layers[first : first + self.each]:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for first in range(0, len(self.layers), self.each):
            if self.reentrant is None:
                x = self.run(first, x)
            else:
                x = checkpoint(self.run, first, x, use_reentrant=self.reentrant)
        return self.norm(x)


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.down = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
        if stride == 1 and inside == outside:
            self.down = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.down(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1), Block(8, 12, 2), Block(12, 12, 1))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def transformer(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Transformer().to(dtype), torch.randn(2, 5, D, dtype=dtype)


def resnet(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return ResNet().to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype)


both_models = pytest.mark.parametrize("make", [transformer, resnet])
Make = Callable[..., tuple[Any, Tensor]]


def stir(model: nn.Module, scale: float = 0.3) -> None:
    """Move LAuReL's parameters off their start, the same for equal models."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "laurel" in name:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.add_((scale * noise).to(parameter.dtype))


def gradients(model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
    model.zero_grad()
    output = model(*inputs)
    (output * torch.linspace(0.5, 1.5, output.numel()).view_as(output).to(output.dtype)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def equal_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=name)


# ---------------------------------------------------------------- the start


@both_models
@every_variant
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_and_gradients_are_the_baselines_at_the_start(make: Make, variant: str, training: bool) -> None:
    model, x = make()
    model.train(training)
    baseline = copy.deepcopy(model)
    assert apply_laurel(model, variant, x) is model
    state = copy.deepcopy(baseline.state_dict())
    ours, theirs = model(x), baseline(x)
    if variant == "rw":
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    baseline.load_state_dict(state)
    model.load_state_dict(state, strict=False)
    theirs_grad = gradients(baseline, x)
    ours_grad = gradients(model, x)
    new = {name for name in ours_grad if "laurel" in name}
    equal_gradients({name: ours_grad[name] for name in ours_grad if name not in new}, theirs_grad)
    assert new == {name for name, _ in model.named_parameters() if "laurel" in name}
    assert all(module.training == training for module in model.modules())


class PatchTokens(nn.Module):
    """Tokens made of an image keep its memory layout, channels first; the branch's result has the ordinary one."""

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.swapped, self.mlp = swapped, mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.mlp(x) + x if self.swapped else x + self.mlp(x)


@pytest.mark.parametrize("swapped", [False, True])
@every_variant
def test_sums_keep_their_memory_layout(variant: str, swapped: bool) -> None:
    model, x = PatchTokens(swapped), torch.randn(2, D, 5)
    expected = model(x).stride()
    assert expected == ((5 * D, D, 1) if swapped else (5 * D, 1, 5))
    apply_laurel(model, variant, x)
    assert model(x).stride() == expected


@every_variant
def test_channels_last_stays_channels_last(variant: str) -> None:
    model, x = resnet(torch.float32)
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    apply_laurel(model, variant, x)
    outputs = []
    for layer in laurel_layers(model).values():
        layer.register_forward_hook(lambda *call: outputs.append(call[-1]))
    model(x)
    assert outputs
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)


@both_models
def test_a_pretrained_models_names_order_and_values_stay(make: Make) -> None:
    model, x = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    apply_laurel(model, "rw+lr+pa@4", x)
    after = model.state_dict()
    assert [name for name in after if "laurel" not in name] == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value)
    assert sum("laurel" in name for name in after) > 0
    assert all(isinstance(p, nn.Parameter) and p.is_leaf and p.requires_grad for p in model.parameters())


@every_variant
def test_state_dict_round_trip(variant: str, tmp_path: Path) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    fresh, _ = transformer()
    apply_laurel(fresh, variant, x, seed=1)
    assert not torch.equal(fresh(x), model(x))
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(fresh(x), model(x))


def test_the_global_random_stream_is_not_touched_and_the_seed_decides() -> None:
    drawn = []
    for seed in (0, 0, 1):
        model, x = transformer()
        torch.manual_seed(123)
        apply_laurel(model, "lr@4", x, seed=seed)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(123)))
        drawn.append(torch.cat([p.flatten() for n, p in model.named_parameters() if ".A." in n]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_draw_does_not_depend_on_the_dtype() -> None:
    single, x = transformer(torch.float32)
    double, _ = transformer(torch.float64)
    apply_laurel(single, "lr@4", x)
    apply_laurel(double, "lr@4", x.double())
    for (name, one), (_, two) in zip(laurel_layers(single).items(), laurel_layers(double).items(), strict=True):
        assert torch.equal(one.A[0].weight.double(), two.A[0].weight), name  # type: ignore[operator]


def test_the_buffers_and_the_mode_are_left_alone_by_the_trace() -> None:
    model, x = resnet()
    model.train()
    model.blocks[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    apply_laurel(model, "rw+lr@4", x)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    for name, training in modes.items():
        assert model.get_submodule(name).training == training, name
    assert all(p.grad is None for p in model.parameters())


# ---------------------------------------------------------------- nothing at run time


@every_variant
def test_rewriting_adds_no_hooks_and_no_modes(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    for name, module in model.named_modules():
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            assert not getattr(module, kind), f"{name} {kind}"
        assert "forward" not in vars(module)
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()))
            return x

    model.layers[1].mlp.append(Spy())
    model(x)
    assert seen == [(0, 0)]


def test_one_more_call_for_each_connection_and_nothing_else() -> None:
    """The rewritten model runs the baseline's operators, with RW's `mul` and `addcmul` in place of each addition."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(func._schema.name.partition("::")[2])
            return func(*args, **(kwargs or {}))

    model, x = transformer()
    baseline = copy.deepcopy(model)
    apply_laurel(model, "rw", x)
    with torch.no_grad(), Count() as ours:
        model(x)
    with torch.no_grad(), Count() as theirs:
        baseline(x)
    own = {"_softmax", "mul", "unbind", "add", "addcmul"}
    assert [name for name in ours.names if name not in own] == [name for name in theirs.names if name not in own]
    connections = len(laurel_layers(model))
    assert ours.names.count("add") == theirs.names.count("add") - connections
    assert ours.names.count("addcmul") == connections
    # The other `mul` of each connection makes twice the softmax, of two scalars.
    assert ours.names.count("mul") == theirs.names.count("mul") + 2 * connections


def test_only_owners_get_another_class_and_it_is_still_theirs() -> None:
    model, x = transformer()
    classes = {name: type(module) for name, module in model.named_modules()}
    apply_laurel(model, "rw", x)
    for name, cls in classes.items():
        module = model.get_submodule(name)
        assert isinstance(module, cls)
        assert (type(module) is cls) == (cls is not Layer)
        assert type(module).__name__ == cls.__name__
    other = Layer()  # the class itself is as it was
    assert type(other) is Layer
    assert not laurel_layers(other)
    other(torch.randn(2, 5, D))


def test_two_models_of_one_class_have_their_own_layers() -> None:
    left, x = transformer()
    right, _ = transformer()
    apply_laurel(left, "rw", x)
    apply_laurel(right, "pa", x)
    untouched, _ = transformer()
    stir(left)
    assert torch.equal(right(x), untouched(x))
    assert not torch.equal(left(x), untouched(x))


# ---------------------------------------------------------------- what PyTorch does with a model


@both_models
@every_variant
def test_autocast(make: Make, variant: str) -> None:
    model, x = make(torch.float32)
    model.eval()
    baseline = copy.deepcopy(model)
    apply_laurel(model, variant, x)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = model(x), baseline(x)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    stir(model)
    with torch.autocast("cpu", torch.bfloat16):
        grads = gradients(model, x)
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads.values())
    assert {name for name in grads if "laurel" in name} == {n for n, _ in model.named_parameters() if "laurel" in n}


@both_models
@pytest.mark.parametrize("spec", [Spec(rw=True, vector_weights=True), Spec(rw=True, lr=True, pa=True, rank=4)])
def test_autocast_keeps_the_dtype_of_every_activation(make: Make, spec: Spec) -> None:
    """Parameters in float32 must not widen a bfloat16 stream."""
    model, x = make(torch.float32)
    model.eval()
    baseline = copy.deepcopy(model)
    apply_laurel(model, spec, x)

    def dtypes(of: nn.Module) -> dict[str, torch.dtype]:
        seen: dict[str, torch.dtype] = {}
        hooks = [
            module.register_forward_hook(lambda module, _, output, name=name: seen.update({name: output.dtype}))
            for name, module in of.named_modules()
            if "laurel" not in name
        ]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            of(x)
        for hook in hooks:
            hook.remove()
        return seen

    assert dtypes(model) == dtypes(baseline)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@every_variant
def test_new_parameters_have_the_models_dtype(variant: str, dtype: torch.dtype) -> None:
    model, x = transformer(dtype)
    baseline = copy.deepcopy(model)
    apply_laurel(model, variant, x)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(x).dtype == dtype
    assert torch.allclose(model(x), baseline(x), atol=0.1 if dtype == torch.bfloat16 else 1e-5)


@both_models
@every_variant
def test_compile_full_graph_without_recompilation(make: Make, variant: str) -> None:
    model, x = make()
    model.eval()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    graphs = torch._dynamo.utils.counters["stats"]
    for _ in range(3):
        assert torch.allclose(compiled(x), model(x), rtol=1e-12, atol=1e-12)
        equal_gradients(gradients(model, x), expected)
        compiled_grads = gradients(compiled, x)
        equal_gradients({name.removeprefix("_orig_mod."): g for name, g in compiled_grads.items()}, expected)
    assert graphs["unique_graphs"] == 1
    with torch.no_grad():
        compiled(x)
    assert graphs["unique_graphs"] <= 2
    torch._dynamo.reset()


@pytest.mark.slow
@both_models
@every_variant
def test_compile_through_aot_autograd(make: Make, variant: str) -> None:
    model, x = make()
    apply_laurel(model, variant, x)
    stir(model)
    state = copy.deepcopy(model.state_dict())
    expected = gradients(model, x)
    torch._dynamo.reset()
    model.load_state_dict(state)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ours = gradients(compiled, x)
    equal_gradients({name.removeprefix("_orig_mod."): g for name, g in ours.items()}, expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("each", [1, 2, 3])
@every_variant
def test_checkpointing_gives_the_same_gradients(variant: str, each: int) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    model.each = each
    model.reentrant = False
    equal_gradients(gradients(model, x), expected)
    equal_gradients(gradients(model, x.requires_grad_()), expected)  # and once more
    model.reentrant = None
    equal_gradients(gradients(model, x), expected)  # and after it


@with_pa
def test_checkpointing_some_layers_only(variant: str) -> None:
    class Some(Transformer):
        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            for number, layer in enumerate(self.layers):
                x = checkpoint(layer, x, use_reentrant=False) if number == 1 else layer(x)
            return self.norm(x)

    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    torch.manual_seed(0)
    some = Some().double()
    apply_laurel(some, variant, x)
    stir(some)
    some.load_state_dict(model.state_dict())
    equal_gradients(gradients(some, x), gradients(model, x))


@with_pa
def test_reentrant_checkpointing_is_refused_where_it_would_lose_gradients(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    model.reentrant = True
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        gradients(model, x.requires_grad_())
    model.reentrant = None
    model(x)


class Offset(nn.Module):
    """The stream is changed between the region's beginning and the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(D), mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x + self.mlp(x)


def test_reentrant_checkpointing_is_refused_in_post_norm_too() -> None:
    torch.manual_seed(0)
    model, x = Transformer().double(), torch.randn(2, 5, D, dtype=torch.float64)
    model.layers = nn.ModuleList(Offset() for _ in range(3)).double()
    apply_laurel(model, "pa", x)
    stir(model)
    expected = gradients(model, x)
    model.reentrant = True
    try:
        ours = gradients(model, x.requires_grad_())
    except RuntimeError as error:
        assert "use_reentrant=False" in str(error)  # noqa: PT017
    else:
        equal_gradients(ours, expected)


@pytest.mark.parametrize("variant", ["rw", "lr@4", "rw+lr@4"])
def test_reentrant_checkpointing_works_without_history(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    model.reentrant = True
    equal_gradients(gradients(model, x.requires_grad_()), expected)


@every_variant
def test_a_copy_is_a_model_of_its_own(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    twin = copy.deepcopy(model)
    expected = model(x)
    assert torch.equal(twin(x), expected)
    if Spec.parse(variant).pa:
        histories = [{id(layer.schedule.calls[0][0]) for layer in laurel_layers(of).values()} for of in (model, twin)]
        assert len(histories[0]) == len(histories[1]) == 1
        assert not histories[0] & histories[1]
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin(x * 3)
    assert torch.equal(model(x), expected)


def test_a_copy_made_in_the_middle_of_a_pass() -> None:
    model, x = transformer()
    apply_laurel(model, "pa", x)
    stir(model)
    expected = model(x)
    copies = []
    model.layers[1].register_forward_pre_hook(lambda *_: copies.append(copy.deepcopy(model.layers)))
    assert torch.equal(model(x), expected)
    assert all(layer.schedule is not None for layer in laurel_layers(copies[0]).values())


@both_models
@every_variant
def test_export_again(make: Make, variant: str) -> None:
    model, x = make()
    model.eval()
    apply_laurel(model, variant, x)
    stir(model)
    with torch.no_grad():
        expected = model(x)
        exported = torch.export.export(model, (x,), strict=False)
        torch.testing.assert_close(exported.module()(x), expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(model(x), expected)


@with_pa
def test_pickle_of_the_whole_model_or_a_clear_state_dict(variant: str, tmp_path: Path) -> None:
    """A history in the middle of a pass is never written."""
    model, x = transformer()
    apply_laurel(model, variant, x)
    model(x)
    state = model.state_dict()
    assert not any("history" in name for name in state)
    assert all(isinstance(value, Tensor) for value in state.values())


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@every_variant
def test_distributed_data_parallel(variant: str, process_group: None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    parallel = DistributedDataParallel(model)
    for _ in range(2):
        ours = gradients(parallel, x)
        equal_gradients({name.removeprefix("module."): grad for name, grad in ours.items()}, expected)


# ---------------------------------------------------------------- the history


class StoppedError(Exception):
    pass


def shared_depth() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return SharedAcrossDepth().double(), torch.randn(2, 5, D, dtype=torch.float64)


@pytest.mark.parametrize("make", [transformer, shared_depth])
@with_pa
def test_the_history_begins_anew_after_a_pass_that_raised(make: Make, variant: str) -> None:
    model, x = make()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    for stop in range(1, 5):
        calls = 0

        def raises(*_: Any, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise StoppedError

        modules = model.layers if hasattr(model, "layers") else [model.block]
        hooks = [module.mlp.register_forward_hook(raises) for module in modules]
        if stop <= 3:
            with pytest.raises(StoppedError):
                model(x * 100)
        for hook in hooks:
            hook.remove()
        equal_gradients(gradients(model, x), expected)


@with_pa
def test_batches_may_change(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    whole = model(torch.cat([x, x * 2, x - 1]))
    for i, part in enumerate([x, x * 2, x - 1]):
        torch.testing.assert_close(model(part), whole[2 * i : 2 * i + 2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x[:, :3])[:1], model(x[:1, :3]), rtol=1e-12, atol=1e-12)


@with_pa
def test_eval_after_train_and_two_passes_before_one_backward(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    one, two = gradients(model, x), gradients(model, x * 2)
    model.zero_grad()
    first, second = model(x), model(x * 2)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), first.detach())  # made by other operators, see `laurel.fast`
    ramp = torch.linspace(0.5, 1.5, first.numel()).view_as(first).double()
    ((first * ramp).sum() + (second * ramp).sum()).backward()
    both = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    equal_gradients(both, {name: one[name] + two[name] for name in one})


@pytest.mark.parametrize("make", [transformer, resnet, shared_depth])
@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@every_variant
def test_nothing_is_held_after_a_pass(make: Make, grad: bool, variant: str) -> None:
    model, x = make()
    apply_laurel(model, variant, x)
    held: list[weakref.ref[Tensor]] = []
    for layer in laurel_layers(model).values():
        layer.register_forward_hook(lambda _, operands, output: held.extend(map(weakref.ref, (*operands, output))))
    with torch.set_grad_enabled(grad):
        output = model(x)
        if grad:
            output.sum().backward()
    del output
    gc.collect()
    assert len(held) > 0
    alive = [ref().shape for ref in held if ref() is not None and ref() is not x]  # type: ignore[union-attr]
    assert not alive


def test_only_the_last_lags_are_held_within_a_pass() -> None:
    model, x = transformer()
    apply_laurel(model, Spec(pa=True, lags=2), x)
    alive, held = [], []
    for layer in laurel_layers(model).values():
        layer.register_forward_pre_hook(lambda _, operands: held.append(weakref.ref(operands[0])))
        layer.register_forward_hook(lambda *_: alive.append(sum(ref() is not None for ref in held)))
    with torch.no_grad():
        model(x)
    assert len(alive) == 6
    assert max(alive) <= 3  # the current one, the one before, and what the caller's frame still names


@with_pa
def test_encoder_and_decoder_have_histories_of_their_own(variant: str) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder().double()
    source, target = torch.randn(2, 5, D, dtype=torch.float64), torch.randn(2, 5, D, dtype=torch.float64)
    apply_laurel(model, variant, (source, target))
    layers = laurel_layers(model)
    histories = {name.partition(".")[0]: set() for name in layers}
    for name, layer in layers.items():
        histories[name.partition(".")[0]].add(id(layer.schedule.calls[0][0]))
    assert len(histories["encoder"]) == len(histories["decoder"]) == 1
    assert not histories["encoder"] & histories["decoder"]
    assert [layer.lags for layer in layers.values()] == [1, 2, 3, 3, 1, 2, 3, 3, 3, 3]


def test_a_dropped_layer_truncates_the_history() -> None:
    """LayerDrop: what did not run in this pass is not read from the pass before."""

    class Dropping(Transformer):
        dropped: int | None = None

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            for number, layer in enumerate(self.layers):
                if number != self.dropped:
                    x = layer(x)
            return self.norm(x)

    for dropped in range(3):
        torch.manual_seed(0)
        model, x = Dropping().double(), torch.randn(2, 5, D, dtype=torch.float64)
        apply_laurel(model, "pa", x)
        stir(model)
        fresh = copy.deepcopy(model)
        model(x * 10)
        model.dropped = fresh.dropped = dropped
        assert torch.equal(model(x), fresh(x))
        model(x * 10)
        assert torch.equal(model(x), fresh(x))
        model.dropped = fresh.dropped = None
        assert torch.equal(model(x), fresh(x))


@with_pa
def test_two_threads_do_not_share_a_history(variant: str) -> None:
    """Copies, as `DataParallel` and servers make them, run side by side."""
    from concurrent.futures import ThreadPoolExecutor

    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    expected = [model(x * n) for n in range(4)]
    models = [copy.deepcopy(model) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = list(pool.map(lambda n: models[n](x * n), range(4)))
            assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


# ---------------------------------------------------------------- kinds of models


def test_twice_is_refused() -> None:
    model, x = transformer()
    apply_laurel(model, "rw", x)
    names = list(model.state_dict())
    with pytest.raises(ModelError, match="has LAuReL already"):
        apply_laurel(model, "lr", x)
    assert list(model.state_dict()) == names


def test_no_residual_connection_is_an_error() -> None:
    with pytest.raises(ModelError, match="no residual connection"):
        apply_laurel(mlp(), "rw", torch.randn(2, D))


def test_a_model_that_does_not_run_is_an_error_and_stays_as_it_was() -> None:
    model, _ = transformer()
    with pytest.raises(ModelError, match="does not run"):
        apply_laurel(model, "rw", torch.randn(2, 5, D + 1))
    assert not laurel_layers(model)
    assert type(model.layers[0]) is Layer


@every_variant
def test_per_block(variant: str) -> None:
    model, x = transformer()
    baseline = copy.deepcopy(model)
    apply_laurel(model, Spec.parse(variant, per="block"), x)
    assert len(laurel_layers(model)) == 3
    assert [layer.lags for layer in laurel_layers(model).values()] == ([1, 2, 3] if "pa" in variant else [0, 0, 0])
    torch.testing.assert_close(model(x), baseline(x), rtol=1e-10, atol=1e-10)


def test_per_block_is_one_equation_for_the_whole_block() -> None:
    """x' = a (attention + MLP) + b x, where the MLP still reads x + attention."""
    model, x = transformer()
    apply_laurel(model, Spec(rw=True, normalize="none", per="block"), x)
    stir(model)
    with torch.no_grad():
        y = model.embed(x)
        for layer in model.layers:
            a, b = next(iter(laurel_layers(layer).values())).weights
            f = layer.attn(layer.norm1(y))
            f = f + layer.mlp(layer.norm2(y + f))
            y = a * f + b * y
        torch.testing.assert_close(model(x), model.norm(y), rtol=1e-12, atol=1e-12)


def test_per_block_keeps_one_for_each_in_post_norm() -> None:
    from ..residual.patterns import PostNorm  # noqa: TID252

    model = PostNorm()
    apply_laurel(model, Spec(rw=True, per="block"), torch.randn(2, 5, D))
    assert len(laurel_layers(model)) == 2


@with_pa
def test_per_block_history_is_that_of_the_blocks(variant: str) -> None:
    model, x = transformer()
    apply_laurel(model, Spec(pa=True, lags=2, per="block"), x)
    stir(model)
    with torch.no_grad():
        y, past = model.embed(x), []
        for layer in model.layers:
            past.insert(0, y)
            f = layer.attn(layer.norm1(y))
            f = f + layer.mlp(layer.norm2(y + f))
            c = next(iter(laurel_layers(layer).values())).c
            y = y + f + sum(c[j] * past[j] for j in range(len(c)))
        torch.testing.assert_close(model(x), model.norm(y), rtol=1e-12, atol=1e-12)


def test_shared_weights_share_their_laurel_and_roll_the_history() -> None:
    """One block four times: eight connections, two layers, each reading the last three inputs."""
    model, x = shared_depth()
    apply_laurel(model, "pa", x)
    stir(model)
    layers = list(laurel_layers(model).values())
    assert len(layers) == 2
    with torch.no_grad():
        y, past = x, []
        for _ in range(4):
            for layer, norm, branch in zip(
                layers, (model.block.norm1, model.block.norm2), (model.block.attn, model.block.mlp), strict=True
            ):
                past.insert(0, y)
                total = sum(layer.c[j] * past[j] for j in range(min(3, len(past))))
                y = y + branch(norm(y)) + total
        for _ in range(2):
            torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)


def test_a_shared_block_is_the_same_parameter_once() -> None:
    """The same module under two names."""
    torch.manual_seed(0)
    layer = Layer()
    model, x = nn.Sequential(nn.Linear(D, D), nn.Sequential(layer), nn.Sequential(layer)), torch.randn(2, 5, D)
    before = model(x)
    apply_laurel(model, "rw", x)
    assert torch.equal(model(x), before)
    assert sum(p.numel() for n, p in model.named_parameters() if "laurel" in n) == 4


def test_tied_weights_stay_tied() -> None:
    class Tied(Transformer):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.head = nn.Embedding(11, D), nn.Linear(D, 11, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(super().forward(self.tokens(ids)))

    torch.manual_seed(0)
    model, ids = Tied(), torch.arange(10).view(2, 5)
    before = model(ids)
    apply_laurel(model, "rw+lr+pa@4", ids)
    assert model.head.weight is model.tokens.weight
    torch.testing.assert_close(model(ids), before)


def test_frozen_weights_stay_frozen_and_laurel_learns() -> None:
    model, x = transformer()
    model.requires_grad_(False)
    apply_laurel(model, "rw+lr+pa@4", x)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("laurel" in name)
    stir(model)
    assert gradients(model, x).keys() == {name for name, _ in model.named_parameters() if "laurel" in name}


@every_variant
def test_meta_models(variant: str) -> None:
    with torch.device("meta"):
        model = Transformer()
    x = torch.randn(2, 5, D)
    apply_laurel(model, variant, x)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    real, _ = transformer(torch.float32)
    apply_laurel(real, variant, x)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in real.named_parameters()}
    model.to_empty(device="cpu")
    model.load_state_dict(real.state_dict())
    assert torch.equal(model(x), real(x))


def test_a_meta_model_made_real_gets_its_start_from_reset_parameters() -> None:
    with torch.device("meta"):
        model = Transformer()
    x = torch.randn(2, 5, D)
    apply_laurel(model, "rw+lr+pa@4", x)
    model.to_empty(device="cpu")
    real, _ = transformer(torch.float32)
    model.load_state_dict(real.state_dict(), strict=False)
    for layer in laurel_layers(model).values():
        layer.reset_parameters()
    torch.testing.assert_close(model(x), real(x))


def test_fused_transformer_layers_run_laurel_in_eval_too() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, mask = torch.randn(2, 5, D), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        before, masked = model(x), model(x, src_key_padding_mask=mask)
        apply_laurel(model, "rw", x)
        torch.testing.assert_close(model(x), before)
        torch.testing.assert_close(model(x, src_key_padding_mask=mask)[~mask], masked[~mask])
        stir(model)
        slow = model.train()(x)
        torch.testing.assert_close(model.eval()(x), slow)
        assert not torch.allclose(slow, before, atol=1e-3)


def test_a_map_made_before_spares_the_trace() -> None:
    from laurel_cli.residual import find_connections

    model, x = transformer()
    baseline = copy.deepcopy(model)
    found = find_connections(model, x)
    apply_laurel(model, "rw", residual_map=found)
    assert len(laurel_layers(model)) == len(found.connections) == 6
    assert torch.equal(model(x), baseline(x))
    with pytest.raises(TypeError):
        apply_laurel(baseline, "rw")


def test_a_map_serves_a_copy_too() -> None:
    from laurel_cli.residual import find_connections

    model, x = transformer()
    found = find_connections(model, x)
    for variant in VARIANTS:
        apply_laurel(copy.deepcopy(model), variant, residual_map=found)
    assert not laurel_layers(model)


def test_optimiser_steps_learn_the_new_parameters() -> None:
    model, x = transformer()
    apply_laurel(model, "rw+lr+pa@4", x)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):  # B moves in the first step, A in the second
        optimiser.zero_grad()
        model(x).pow(3).sum().backward()
        optimiser.step()
    still = [n for n, p in model.named_parameters() if torch.equal(p, start[n]) and "laurel" in n]
    assert not still


class ByMode(nn.Module):
    """DINOv2: the sum of training and that of inference are two expressions."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # noqa: SIM108
            x = x + F.dropout(self.mlp(x), 0.0)
        else:
            x = x + self.mlp(x)
        return x


def test_a_sum_that_only_one_mode_runs_is_replaced_in_both_or_told() -> None:
    model, x = ByMode(), torch.randn(2, 5, D)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            apply_laurel(model, "rw", x)
        except ModelError:
            return
    stir(model)
    assert caught or torch.allclose(model.train()(x), model.eval()(x))


class NormInSinglePrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(D), mlp().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x.float()).bfloat16())


@every_variant
def test_mixed_parameter_dtypes(variant: str) -> None:
    """The norm's parameters are float32, the stream is bfloat16."""
    torch.manual_seed(0)
    model, x = NormInSinglePrecision(), torch.randn(2, 5, D).bfloat16()
    before = model(x)
    apply_laurel(model, variant, x)
    assert model(x).dtype == torch.bfloat16
    torch.testing.assert_close(model(x), before)


@every_variant
def test_functional_calls_and_gradients_of_each_sample(variant: str) -> None:
    from torch.func import functional_call, grad, vmap

    model, x = transformer()
    apply_laurel(model, variant, x)
    stir(model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def total(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, parameters, (sample[None],)).pow(2).sum()

    each = vmap(grad(total), (None, 0))(parameters, x)
    for i, sample in enumerate(x):
        model.zero_grad()
        model(sample[None]).pow(2).sum().backward()
        equal_gradients({n: g[i] for n, g in each.items()}, {n: p.grad for n, p in model.named_parameters()})  # type: ignore[misc]


@pytest.mark.parametrize("make", [transformer, shared_depth])
@with_pa
def test_offloading_saved_tensors_is_no_checkpointing(make: Make, variant: str) -> None:
    model, x = make()
    apply_laurel(model, variant, x)
    stir(model)
    expected = gradients(model, x)
    held: list[weakref.ref[Tensor]] = []
    for layer in laurel_layers(model).values():
        layer.register_forward_pre_hook(lambda _, operands: held.extend(map(weakref.ref, operands)))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        equal_gradients(gradients(model, x), expected)
    gc.collect()
    assert not [ref for ref in held if ref() is not None and ref() is not x]


# ---------------------------------------------------------------- other people's models


def real(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    ids = torch.arange(12).view(2, 6) % 50
    if name == "torchvision resnet18":
        from torchvision.models import resnet18

        return resnet18(num_classes=10), {"x": images}
    if name == "torchvision vit":
        from torchvision.models import VisionTransformer

        model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10)
        nn.init.normal_(model.heads[-1].weight)  # type: ignore[arg-type]
        return model, {"x": images}
    if name == "torchvision swin":
        from torchvision.models import SwinTransformer

        return SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], stochastic_depth_prob=0.0), {"x": images}
    if name.startswith("timm "):
        import timm

        options = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
        arguments = options if "vit" in name or "deit" in name else {}
        return timm.create_model(name.removeprefix("timm "), num_classes=10, **arguments), {"x": images}
    import transformers as hf

    small = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    depth = {"num_hidden_layers": 2}
    if name == "GPT-2":
        return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)), {"input_ids": ids}
    if name == "Llama":
        config = hf.LlamaConfig(**small, **depth, num_key_value_heads=1)
        return hf.LlamaForCausalLM(config), {"input_ids": ids}
    if name == "BERT":
        return hf.BertModel(hf.BertConfig(**small, **depth)), {"input_ids": ids}
    if name == "ALBERT":
        config = hf.AlbertConfig(**small, num_hidden_layers=3, embedding_size=8)
        return hf.AlbertModel(config), {"input_ids": ids}
    if name == "Bloom":
        config = hf.BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2)
        return hf.BloomForCausalLM(config), {"input_ids": ids}
    if name == "GPT-J":
        config = hf.GPTJConfig(vocab_size=50, n_embd=16, n_layer=2, n_head=2, rotary_dim=4)
        return hf.GPTJForCausalLM(config), {"input_ids": ids}
    assert name == "T5"
    config = hf.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return hf.T5ForConditionalGeneration(config), {"input_ids": ids, "decoder_input_ids": ids[:, :4]}


REAL = {
    "torchvision resnet18": 8,
    "torchvision vit": 4,
    "torchvision swin": 8,
    "timm resnet18": 8,
    "timm vit_tiny_patch16_224": 4,
    "timm regnetx_002": 13,
    "timm mobilenetv3_small_050": 7,
    "GPT-2": 4,
    "Llama": 4,
    "BERT": 4,
    "ALBERT": 6,
    "Bloom": 4,
    "GPT-J": 2,
    "T5": 10,
}


def first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str) -> None:
    from laurel_cli.residual import find_connections

    model, inputs = real(name)
    model = model.double().eval()
    inputs = {key: x.double() if x.is_floating_point() else x for key, x in inputs.items()}
    found = find_connections(model, inputs)
    assert len(found.connections) == REAL[name]
    with torch.no_grad():
        expected = first_tensor(model(**inputs))
    for variant in VARIANTS if "GPT-2" in name else VARIANTS[-1:]:
        ours = copy.deepcopy(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            apply_laurel(ours, variant, inputs, residual_map=found)
        output = first_tensor(ours(**inputs))
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
        stir(ours, 0.1)
        output = first_tensor(ours(**inputs))
        assert not torch.allclose(output, expected, atol=1e-6)
        (output * torch.linspace(0.5, 1.5, output.numel()).view_as(output)).sum().backward()
        for parameter_name, parameter in ours.named_parameters():
            if "laurel" in parameter_name:
                assert parameter.grad is not None, parameter_name
                assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", ["GPT-2", "Llama"])
@with_pa
def test_checkpointing_as_transformers_does_it(name: str, variant: str) -> None:
    model, inputs = real(name)
    model = model.double().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    apply_laurel(model, variant, inputs)
    stir(model, 0.1)

    def grads() -> dict[str, Tensor]:
        model.zero_grad()
        logits = model(**inputs, use_cache=False).logits
        (logits * torch.linspace(0.5, 1.5, logits.numel()).view_as(logits)).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    equal_gradients(grads(), expected)


def test_generation_with_a_cache_and_hidden_states() -> None:
    model, inputs = real("Llama")
    model.eval()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = model.generate(inputs["input_ids"], **options)
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    apply_laurel(model, "rw+lr+pa@4", inputs)
    assert torch.equal(model.generate(inputs["input_ids"], **options), expected)
    with torch.no_grad():
        ours = model(**inputs, output_hidden_states=True).hidden_states
    assert len(ours) == len(hidden)
    for a, b in zip(ours, hidden, strict=True):
        torch.testing.assert_close(a, b)
    stir(model, 0.1)
    whole = model(inputs["input_ids"]).logits[:, -1].argmax(-1)
    one = model.generate(inputs["input_ids"], **(options | {"max_new_tokens": 1}))
    assert torch.equal(one[:, -1], whole)
