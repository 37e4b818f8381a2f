"""A document's figures, and where they go: in the page, beside the file that `--output` names, or to `--figures`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.render import FORMATS

if TYPE_CHECKING:
    from laurel_cli.cli.destination import Destination


def figure_folder(destination: Destination, figures: Path | None) -> Path | None:
    """Where figures go: as asked, else beside a markdown or LaTeX file.

    Raises:
        UsageError: LaTeX could not name a file there.
    """
    from laurel_cli.errors import UsageError

    folder = figures
    if folder is None and destination.path is not None and FORMATS[destination.format].pictures:
        named = destination.path.stem
        folder = destination.path.with_name("figures" if named == "report" else f"{named}-figures")
    if folder is not None and destination.format == "latex" and not re.fullmatch(r"[\w./ +@,=-]*", str(folder)):
        raise UsageError(f"LaTeX cannot include figures from {str(folder)!r}.", hint="Name a plain --figures folder.")
    return folder


def pictures_of(
    document: Mapping[str, Any], destination: Destination, folder: Path | None, all_formats: bool, force: bool
) -> dict[str, str]:
    """Draw and write the figures; what the format needs of them by name.

    Raises:
        UsageError, ResourceError: a file exists already, or cannot be written.
    """
    shown = FORMATS[destination.format]
    if folder is not None:
        from laurel_cli.errors import ResourceError
        from laurel_cli.records.files import check_writable, write_whole
        from laurel_cli.reports.figures import names, pictures
        from laurel_cli.reports.figures.style import FORMATS as ALL

        chosen = ALL if all_formats else (shown.pictures,)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{str(folder)!r} cannot be made.", f"{error.strerror}.") from error
        for name in names(document):
            for kind in chosen:
                check_writable(folder / f"{name}.{kind}", force)
        for name, content in pictures(document, chosen):
            write_whole(folder / name, content, force)
    if shown.is_inline:
        from laurel_cli.reports.figures import inline

        return inline(document)
    if folder is None or not shown.pictures:
        return {}
    here = destination.path.parent if destination.path is not None else Path()
    relative = Path(os.path.relpath(folder, here)).as_posix()
    return {name: f"{relative}/{name}.{shown.pictures}" for name in names(document)}
