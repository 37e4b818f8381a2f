"""Residual connections that others proposed: each a file with its formula, its parameters, its start and its source.

A rival is a class with the attributes and methods of `laurel.formula.Formula`; most are `static.Static`. It is found,
placed, counted, timed, trained and judged by the code that does so for LAuReL. A new one is a file here and a line in
`OURS`; one of another package is an entry point, one of a file is brought by `add_arms`, see `outside`.
"""

from __future__ import annotations

from pathlib import Path

from laurel_cli import arm_files
from laurel_cli.rivals import outside
from laurel_cli.rivals.affine import Affine
from laurel_cli.rivals.altup import AltUp
from laurel_cli.rivals.attnres import AttnRes
from laurel_cli.rivals.attnres_block import AttnResBlock
from laurel_cli.rivals.delta_attnres import DeltaAttnRes
from laurel_cli.rivals.dense import Dense
from laurel_cli.rivals.depthscale import DepthScale
from laurel_cli.rivals.gate import Gate
from laurel_cli.rivals.gemma3n import Gemma3n
from laurel_cli.rivals.hc import HC
from laurel_cli.rivals.ihc import IHC
from laurel_cli.rivals.layerscale import LayerScale
from laurel_cli.rivals.mhc import MHC
from laurel_cli.rivals.rezero import ReZero
from laurel_cli.rivals.static import Static
from laurel_cli.rivals.x0 import X0

_SCALES = (ReZero, LayerScale, Affine, Gate, DepthScale)
_MAPS = (Gemma3n,)
_OVER_DEPTH = (X0, Dense, AttnRes, AttnResBlock, DeltaAttnRes)
_STREAMS = (AltUp, IHC, HC, MHC)
_ALL: tuple[type[Static], ...] = (*_SCALES, *_MAPS, *_OVER_DEPTH, *_STREAMS)
OURS: dict[str, type[Static]] = {rival.title: rival for rival in _ALL}
_THEIRS, BROKEN = outside.found(OURS)
RIVALS: dict[str, type[Static]] = OURS | _THEIRS


def add_arms(file: str | Path) -> tuple[str, ...]:
    """Bring the arms that a Python file defines: from here on every function and every process knows them by name.

    >>> import laurel_cli as laurel
    >>> laurel.add_arms("my_arm.py")
    ('halved',)
    >>> laurel.analyze("resnet18", "halved", check=False).arm("halved").added_parameters
    8

    Args:
        file: whose classes are subclasses of `laurel_cli.rivals.static.Static`, as CONTRIBUTING.md shows one. It is
            run in this process and in those that measure and train.

    Returns:
        The names of its arms.

    Raises:
        UsageError: there is no such file, it fails, it defines no arm, or one whose name is taken.
    """
    arms = outside.in_file(file, RIVALS)
    RIVALS.update(arms)
    arm_files.remember(file)
    return tuple(arms)
