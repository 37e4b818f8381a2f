"""How every figure looks: one family of arms, one shape and one colour; nothing depends on the user's settings.

Colours: Okabe and Ito's, told apart by people who see red and green alike; the shape tells the same a second time.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from laurel_cli.rivals import RIVALS
from laurel_cli.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In SVG these two become the colours of the page around it, so that a figure follows its dark mode.
INK, PAPER = "#1a1a1b", "#fefefd"
FAINT = "#8a8a8a"
FORMATS = ("png", "svg", "pdf")
FAMILIES = {
    "baseline": ("o", INK),
    "copy": ("o", FAINT),
    "naive": ("s", "#999999"),
    "rw": ("^", "#e69f00"),
    "lr": ("D", "#56b4e9"),
    "pa": ("p", "#cc79a7"),
    "rw+lr": ("v", "#0072b2"),
    "rw+pa": ("<", "#b8860b"),
    "lr+pa": (">", "#008080"),
    "rw+lr+pa": ("*", "#009e73"),
    "against": ("X", "#d55e00"),
    "control": ("P", "#5f5f5f"),
}
OTHER = ("h", "#d55e00")
LONGEST = 30
SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.usetex": False,
    "text.parse_math": False,  # a name may hold dollars
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "path",  # no font of the reader's can move a label
    "pdf.fonttype": 42,
    "savefig.facecolor": PAPER,
}


@contextmanager
def settings() -> Iterator[None]:
    """matplotlib's defaults with ours, whatever a matplotlibrc says; in it figures are made and saved."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def new(width: float, height: float) -> Figure:
    """A figure of `width` by `height` inches, with a canvas that can measure text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Figure, name: str, format: str) -> bytes:  # noqa: A002 - as everywhere
    """The figure's bytes, always the same ones: no date, no version, identifiers from `name`."""
    import matplotlib as mpl

    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[format]
    file = io.BytesIO()
    with settings(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format=format, dpi=160, metadata=metadata)
    return file.getvalue()


def marker(family: str) -> tuple[str, str]:
    """Shape and colour of a family of arms."""
    if family in RIVALS:
        return RIVALS[family].look
    return FAMILIES.get(family, OTHER)


def colours(families: Sequence[str]) -> list[str]:
    """A colour for each of several arms: those of one family from light to its own, in the order given."""
    found = []
    for i, family in enumerate(families):
        later = families[i + 1 :].count(family)
        most = max(1, families.count(family) - 1)
        found.append(_lighter(marker(family)[1], 0.6 * later / most))
    return found


def _lighter(colour: str, share: float) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def short(name: str, longest: int = LONGEST) -> str:
    """A name for a figure: hostile characters escaped, the middle of a long one left out (tables have it whole)."""
    said = visible(name)
    if len(said) <= longest:
        return said
    end = longest // 3
    return f"{said[: longest - end - 1]}…{said[-end:]}"


def text_size(figure: Figure, said: str, size: float) -> tuple[float, float]:
    """Width and height of a text in pixels."""
    from matplotlib.font_manager import FontProperties

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height, _ = renderer.get_text_width_height_descent(said, FontProperties(size=size), False)
    return float(width), float(height)
