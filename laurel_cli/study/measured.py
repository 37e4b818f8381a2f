"""What a trial's process finds where it trains, held against its study: code, versions, the user's files, processes.

What a record says of these is what was found here, never what the study says. Data is measured as it is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath

from laurel_cli.arms import foreign
from laurel_cli.devices import family
from laurel_cli.errors import RecordError, ResourceError, UsageError
from laurel_cli.proxy.contenders import Contender
from laurel_cli.records.provenance import counted_by, trained_by, version, versions
from laurel_cli.study import block, sources
from laurel_cli.study.folder import Study


def code_of(study: Study) -> dict[str, str]:
    """What an outcome depends on besides recipe and data, as it is here: by name, as a study's `code` holds it."""
    found = {name: version for name, version in versions().items() if version is not None}
    found["code"] = trained_by()
    return found | of_arms(study.contenders) | sources.now(study.code)


def of_arms(contenders: Sequence[Contender]) -> dict[str, str]:
    """What a study's `code` holds for some of its arms alone: those from outside, the counter of those that grow, the
    peft of those with LoRA.

    Raises:
        ResourceError: it is missing.
    """
    counter = {"arm :grow, counted by": counted_by()} if any(one.grow for one in contenders) else {}
    peft = {"arm :train=lora, peft": _peft()} if any(one.lora for one in contenders) else {}
    return foreign(one.arm for one in contenders) | counter | peft


def _peft() -> str:
    found = version("peft")
    if found is None:
        what, hint = "An arm with `:train=lora` needs peft.", "Type pip install 'laurel-cli[lora]'."
        raise ResourceError(what, "It is not installed.", hint)
    return found


def check(study: Study, *, world: int, allowed: Collection[str] = (), device: str | None = None) -> dict[str, str]:
    """`code_of` a study that may be trained here.

    Args:
        study: as it lies on disk.
        world: processes that train the trial together.
        allowed: packages whose versions may differ.
        device: on which it is to train; None for one of the study's kind.

    Raises:
        RecordError: something is not the study's; every difference is named.
        UsageError: `allowed` names no package.
    """
    check_names(allowed)
    found = code_of(study)
    changed = [f"{name} was {was}, is {now}" for name, (was, now) in differing(study.code, found, allowed).items()]
    if device is not None and family(device) != family(study.recipe.device):
        changed.append(f"device was {family(study.recipe.device)}, is {family(device)}")
    if world != study.recipe.world:
        changed.append(f"processes were {study.recipe.world}, are {world}")
    _refuse(changed, [name for name in versions() if any(one.startswith(f"{name} was") for one in changed)])
    return found


def check_loaded(study: Study, references: Iterable[str]) -> None:
    """The user's files that this process has run must be the study's, wherever they lie here.

    Args:
        references: of the models that were built.

    Raises:
        RecordError: a file was run that the study has not, or another content of one.
    """
    known = {(PurePath(name).name, digest) for name, digest in study.code.items() if name.endswith(sources.ENDING)}
    found = sources.loaded(references)
    strange = {name: digest for name, digest in found.items() if (PurePath(name).name, digest) not in known}
    _refuse([f"{name} was {_short(study.code.get(name))}, is {_short(digest)}" for name, digest in strange.items()])


def differing(
    was: Mapping[str, str], now: Mapping[str, str], allowed: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """(was, is) of what differs, by name, but for packages in `allowed`."""
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name) and name not in allowed)
    return {name: (_short(was.get(name)), _short(now.get(name))) for name in names}


def check_names(allowed: Iterable[str]) -> None:
    """Refuse what is no package whose version is measured.

    Raises:
        UsageError: one of them is none.
    """
    known = list(versions())
    for name in allowed:
        if name not in known and name != block.MIXED:
            raise UsageError(
                f"`allow_versions={name!r}` is no package that is measured.", f"Measured are {', '.join(known)}."
            )


def _refuse(changed: Iterable[str], versions_alone: Iterable[str] = ()) -> None:
    changed, packages = list(changed), list(versions_alone)
    if not changed:
        return
    hint = "Put it back as it was, or begin another `study`."
    if len(packages) == len(changed):
        allowing = ", ".join(f"`allow_versions={name!r}`" for name in packages)
        hint = f"Install what it began with, or allow it by {allowing}."
    raise RecordError("What would train here is not what the study began with.", f"{'; '.join(changed)}.", hint)


def _short(value: str | None) -> str:
    return "absent" if value is None else value if len(value) <= 24 else value[:12]
