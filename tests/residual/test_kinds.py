"""Kinds of models that once went wrong: every connection is found, and none that is no connection."""

import pytest
import torch

from laurel_cli.residual import find_connections

from .kinds import KINDS, sampled_where_it_says


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_connections_of(name: str) -> None:
    torch.manual_seed(0)
    kind = KINDS[name]
    found = find_connections(kind.make().eval(), torch.randn(kind.shape)).connections
    assert len(found) == kind.connections
    if kind.projections is not None:
        assert sum(connection.kind == "projection" for connection in found) == kind.projections


def test_a_skip_that_is_sampled_where_it_says_is_not_linear() -> None:
    assert not find_connections(sampled_where_it_says().eval(), torch.randn(2, 8, 8, 8)).connections
