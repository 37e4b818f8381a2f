"""A model whose parameters are parted among the processes that train it, by FSDP2, and its checkpoint.

Every block is a unit of its own, and what lies outside of them is one more: a unit's parameters are whole, plain
tensors while it runs forward or backward, and parted before and after. So its layers, LAuReL's among them, see what
they see in one process. By torch.distributed.fsdp.fully_shard; checkpoints by torch.distributed.checkpoint, whose own
format has a pickle among its files: they are written as safetensors, of which nothing is ever run.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, zeros
from torch.utils._pytree import tree_leaves

from laurel_cli.errors import ModelError, RecordError, ResourceError
from laurel_cli.models.guard import called, said
from laurel_cli.models.preserve import random_states
from laurel_cli.proxy import checkpoint
from laurel_cli.proxy.checkpoint import sha256_of, shards_of
from laurel_cli.records.files import sync_folder
from laurel_cli.text import first_line

if TYPE_CHECKING:
    from laurel_cli.proxy.parallel import Group
    from laurel_cli.proxy.start import Start

ROWS = (nn.ModuleList, nn.Sequential)
NEVER_CALLED = (nn.ModuleList, nn.ModuleDict)
WHOLE = "Train it with the whole model in every process, `parallel='ddp'`."


def parted(model: nn.Module, begun: Start, group: Group) -> nn.Module:
    """The model, its parameters parted in place; it is tried once, forth and back, on its example inputs.

    Args:
        model: on the group's device, the same in all processes.
        begun: where the trial begins: the paths of its blocks, how it is called.

    Raises:
        RecordError: the processes have not built the same.
        ModelError: FSDP cannot part it, or it does not run once it is.
    """
    group.agree(weights=sha256_of(model.state_dict()))
    mesh = _mesh(group)
    try:
        for path in units(model, begun.blocks):
            fully_shard(model.get_submodule(path), mesh=mesh, reshard_after_forward=True)
        # The rest too: nothing is whole between two passes, when parameters are read, restored or updated.
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        if any(True for _ in model.buffers()):
            model.register_forward_pre_hook(_first_one_s_buffers)
        with random_states():
            _try(model, begun, group)
    except Exception as error:  # of torch's own, or of a model that cannot run like this
        raise ModelError("FSDP cannot part this model.", said(error), WHOLE) from error
    return model


def units(model: nn.Module, blocks: Sequence[str]) -> list[str]:
    """Paths of the modules whose parameters are parted together, those within others first.

    They are the blocks, and what stands in a row with them: naive scaling's own too. A module that shares a parameter
    with what lies outside of it is none: the whole model is the unit that has both.

    Args:
        blocks: paths in the model as it is without its arm.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    wanted = {path for path in blocks if path in modules}
    for path in [path.rpartition(".")[0] for path in wanted]:
        if isinstance(modules[path], ROWS):
            wanted |= {f"{path}.{name}" if path else name for name, _ in modules[path].named_children()}
    places: dict[int, list[str]] = defaultdict(list)
    for path, module in modules.items():
        places[id(module)].append(path)
        for name, parameter in module.named_parameters(recurse=False):
            places[id(parameter)].append(f"{path}.{name}")

    def is_apart(path: str) -> bool:
        unit = modules[path]
        own = [unit, *unit.parameters()]
        return all(place == path or place.startswith(f"{path}.") for one in own for place in places[id(one)])

    found = [
        path
        for path in wanted
        if path and not isinstance(modules[path], NEVER_CALLED) and any(True for _ in modules[path].parameters())
    ]
    return sorted((path for path in found if is_apart(path)), key=lambda path: (-path.count("."), path))


@contextmanager
def whole(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Modules with whole parameters, to be read by all processes together."""
    held = [
        (part, name, own)
        for module in modules
        for part in module.modules()
        for name, own in part.named_parameters(recurse=False)
    ]
    try:
        for part, name, own in held:
            if isinstance(own, DTensor):
                setattr(part, name, nn.Parameter(own.full_tensor(), requires_grad=own.requires_grad))
        yield
    finally:
        for part, name, own in held:
            setattr(part, name, own)


def save(path: Path, state: Mapping[str, Any], owner: Mapping[str, Any], group: Group) -> None:
    """Replace the checkpoint at `path`: every process writes its part of the tensors into a new folder beside it, then
    the first one the file that names the folder, with a checksum of every part. Until then the old one stands.

    Args:
        path, owner: as for `checkpoint.save`; the same in all processes but for the attempt, which the first one knows.
        state: of which "model" and "optimizers" hold tensors.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; the old checkpoint is as it was.
    """
    folder = path.with_name(group.shared(f"{shards_of(path)}{owner.get('token', 0)}-{state['step']}"))
    if group.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    group.agree()  # nobody writes before it is gone
    kept, tensors = _without_tensors(state)
    try:
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
        sync_folder(folder)
        files = group.every(_checksums(folder, group))
    except (CheckpointException, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ResourceError(f"{str(folder)!r} cannot be written.", f"{_why(error)}.") from None
    forms = {
        name: [list(one.shape), str(one.dtype).removeprefix("torch."), isinstance(one, DTensor)]
        for name, one in tensors.items()
    }
    every = {name: digest for part in files for name, digest in part.items()}
    if group.rank == 0:
        parts = {"folder": folder.name, "files": every, "tensors": forms}
        checkpoint.save(path, {**kept, "shards": parts}, owner)
        checkpoint.remove_shards(path, keep=folder.name)


def restore(path: Path, saved: Mapping[str, Any], group: Group) -> dict[str, Any]:
    """The state that `save` was given, its tensors parted as they were.

    Args:
        path: of the checkpoint; `saved` what the file holds, the same in all processes.

    Raises:
        RecordError: what it names is not there, has been changed, or does not fit; in all processes.
    """
    try:
        parts = saved["shards"]
        folder = path.with_name(Path(parts["folder"]).name)
        wrong = [said for said in group.every(_wrong(folder, parts["files"], group)) if said]
        if wrong:
            why = f"Of {folder.name}, which holds its parts: {wrong[0]}."
            raise RecordError(f"{str(path)!r} is no whole checkpoint.", why, checkpoint.ANEW)
        mesh = _mesh(group)
        tensors = {name: _empty(form, mesh) for name, form in parts["tensors"].items()}
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
        return _with_tensors(saved, tensors)
    except RecordError:
        raise
    except (CheckpointException, Exception) as error:  # noqa: BLE001 - torch's own say in every way that something does not fit
        raise RecordError(f"{str(path)!r} does not fit its trial.", f"{_why(error)}.", checkpoint.ANEW) from None


def _mesh(group: Group) -> DeviceMesh:
    return init_device_mesh(group.device.torch.type, (group.world,))


def _first_one_s_buffers(model: nn.Module, _: Any) -> None:
    """Forward pre-hook: all processes train with the buffers of the first one, as DistributedDataParallel has it."""
    if torch.is_grad_enabled():
        for buffer in model.buffers():
            its = buffer.contiguous()
            dist.broadcast(its, 0)
            if its is not buffer:
                buffer.copy_(its)


def _try(model: nn.Module, begun: Start, group: Group) -> None:
    (example,) = (leaf for leaf in tree_leaves((begun.inputs.args, begun.inputs.kwargs)) if isinstance(leaf, Tensor))
    model.eval()
    with called():
        begun.call(model, example.to(group.device.torch)).float().sum().backward()
    for parameter in model.parameters():
        parameter.grad = None
    model.train()


def _places(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What of a state holds tensors, by the beginning of their names."""
    yield "model", given["model"]
    for number, updates in enumerate(given["optimizers"]):
        for index, memory in updates["state"].items():
            yield f"optimizers.{number}.{index}", memory


def _copied(given: Mapping[str, Any]) -> dict[str, Any]:
    """A state whose mappings may be changed."""
    updates = [
        {**one, "state": {index: dict(memory) for index, memory in one["state"].items()}} for one in given["optimizers"]
    ]
    return {**given, "model": dict(given["model"]), "optimizers": updates}


def _without_tensors(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kept, tensors = _copied(given), {}
    for stem, place in _places(kept):
        for key, value in place.items():
            if isinstance(value, Tensor):
                tensors[f"{stem}.{key}"] = value.detach()
                place[key] = None
    return kept, tensors


def _with_tensors(saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    filled = _copied(saved)
    for stem, place in _places(filled):
        for key in place:
            if f"{stem}.{key}" in tensors:
                place[key] = tensors[f"{stem}.{key}"]
    return filled


def _empty(form: tuple[list[int], str, bool], mesh: DeviceMesh) -> Tensor:
    """A tensor to be filled: of this shape and type, parted or in every process as a whole."""
    shape, dtype, is_parted = form
    if is_parted:
        return zeros(*shape, dtype=getattr(torch, dtype), device_mesh=mesh, placements=[Shard(0)])
    return torch.zeros(shape, dtype=getattr(torch, dtype))


def _checksums(folder: Path, group: Group) -> dict[str, str]:
    """SHA-256 of this process's share of the files in a folder."""
    names = sorted(file.name for file in folder.iterdir())
    return {name: _sha256_of(folder / name) for name in names[group.rank :: group.world]}


def _wrong(folder: Path, files: Mapping[str, str], group: Group) -> str:
    """What is wrong with a folder, as far as this process looks at its files; "" for nothing."""
    try:
        names = sorted(file.name for file in folder.iterdir())
        if names != sorted(files):
            return "other files lie there"
        changed = [name for name, digest in _checksums(folder, group).items() if digest != files[name]]
        return f"the checksum of {changed[0]} is another" if changed else ""
    except OSError as error:
        return f"{error.strerror}".lower()


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _why(error: BaseException) -> str:
    """What went wrong, in the first process where something did."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return first_line(error)
