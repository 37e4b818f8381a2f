"""The arm of one's own that CONTRIBUTING.md shows."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def shown() -> str:
    """The file."""
    block = re.search(r'(?ms)^    """An arm of my own.*?(?=^\S)', TEXT)[0]
    assert len(block.strip().splitlines()) <= 30
    return re.sub(r"(?m)^    ", "", block)
