"""Every way to write a residual connection is found by name and kind; what only looks like one is refused."""

import pytest
import torch

from laurel_cli.residual import find_connections

from .patterns import PATTERNS, Pattern


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_connections_of(pattern: Pattern) -> None:
    torch.manual_seed(0)
    found = find_connections(pattern.make(), pattern.inputs())
    refused = [(refused.name, refused.reason) for refused in found.refused]
    assert [f"{c.name} {c.kind}" for c in found.connections] == list(pattern.expected), refused
