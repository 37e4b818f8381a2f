"""The results of the sweep as a page of Markdown."""

from pathlib import Path
from typing import Any


def write_report(path: Path, records: list[dict[str, Any]], total: int) -> None:
    """Write the page."""
