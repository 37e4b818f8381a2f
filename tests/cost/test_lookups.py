"""Look-ups and scatters: what is read of a table and added into a target, not all of it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from laurel_cli.cost.count import Cost, count
from laurel_cli.models.inputs import Inputs


class Calls(nn.Module):
    """A module from a function, with tables of its own."""

    def __init__(self, function, **tables):
        super().__init__()
        self.function = function
        for name, table in tables.items():
            self.register_buffer(name, table)

    def forward(self, *args):
        return self.function(self, *args)


def of(function, *tensors, real: bool = False, **tables) -> Cost:
    return count(Calls(function, **tables).eval(), Inputs(tensors), saved=False, real=real)


ROWS, WIDTH = 100_000, 16
IDS = torch.arange(12).reshape(4, 3)
WORD, NUMBER = 8, 4  # bytes of an index and of a float


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("sparse", [False, True])
def test_embedding_bag_reads_the_rows_that_it_sums(mode: str, sparse: bool) -> None:
    if sparse and mode == "max":
        pytest.skip("PyTorch has no sparse gradients of a maximum")
    bag = nn.EmbeddingBag(ROWS, WIDTH, mode=mode, sparse=sparse)
    cost = count(bag, Inputs((IDS,)), saved=False)
    assert cost.reduction_flops == 12 * WIDTH
    assert cost.flops == cost.elementwise_flops == 0
    looked_up, result = 12 * WIDTH * NUMBER, 4 * WIDTH * NUMBER
    # Beside these the indices, where each bag starts, and what the operator notes for the backward pass.
    assert looked_up + result <= cost.bytes_moved <= looked_up + result + 12 * WORD + 6 * 4 * WORD + result * 2


def test_embedding_bag_with_weights_multiplies_too() -> None:
    weights = torch.ones(4, 3)
    cost = of(lambda m, ids: functional.embedding_bag(ids, m.table, mode="sum", per_sample_weights=m.weights), IDS,
              table=torch.randn(ROWS, WIDTH), weights=weights)  # fmt: skip
    assert cost.reduction_flops == 2 * 12 * WIDTH


@pytest.mark.parametrize(
    ("function", "read", "written"),
    [
        (lambda m, i: functional.embedding(i, m.table), 12 * WIDTH, 12 * WIDTH),
        (lambda m, i: functional.embedding(i, m.table, sparse=True), 12 * WIDTH, 12 * WIDTH),
        (lambda m, i: m.table[i], 12 * WIDTH, 12 * WIDTH),
        (lambda m, i: m.table.index_select(0, i.flatten()), 12 * WIDTH, 12 * WIDTH),
        (lambda m, i: m.table.gather(0, i), 12, 12),
        (lambda m, i: torch.take(m.table, i), 12, 12),
    ],
)
def test_a_lookup_reads_what_it_returns(function, read: int, written: int) -> None:
    cost = of(function, IDS, table=torch.randn(ROWS, WIDTH))
    assert cost.bytes_moved == NUMBER * (read + written) + 12 * WORD
    assert (cost.flops, cost.elementwise_flops, cost.reduction_flops) == (0, 0, 0)


def test_take_along_dim_reads_what_it_returns() -> None:
    cost = of(lambda m, i: torch.take_along_dim(m.table, i, 0), IDS, table=torch.randn(ROWS, 3))
    # Newer versions of PyTorch wrap negative indices first, which reads and writes them once more.
    assert cost.bytes_moved == NUMBER * 2 * 12 + (1 if cost.kernels == 1 else 3) * 12 * WORD


NODES, MESSAGES = 10, 1000
TARGET = torch.arange(MESSAGES) % NODES
TALL = TARGET[:, None].expand(MESSAGES, WIDTH).contiguous()


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.nodes.index_add(0, m.target, x),
        lambda m, x: m.nodes.clone().index_add_(0, m.target, x),
        lambda m, x: m.nodes.index_reduce(0, m.target, x, "mean"),
        lambda m, x: m.nodes.scatter_add(0, m.tall, x),
        lambda m, x: m.nodes.clone().scatter_add_(0, m.tall, x),
        lambda m, x: m.nodes.scatter_reduce(0, m.tall, x, "amax"),
        lambda m, x: m.nodes.scatter(0, m.tall, x, reduce="add"),
        lambda m, x: m.nodes.index_put((m.target,), x, accumulate=True),
        lambda m, x: m.nodes.clone().index_put_((m.target,), x, accumulate=True),
        lambda m, x: torch.ops.aten.index_put_(m.nodes.clone(), [m.target, None], x, True),
        lambda m, x: torch.segment_reduce(x, "sum", lengths=m.lengths),
    ],
)
def test_every_message_is_added(function) -> None:
    tables = {"nodes": torch.zeros(NODES, WIDTH), "target": TARGET, "tall": TALL, "lengths": torch.full((NODES,), 100)}
    cost = of(function, torch.randn(MESSAGES, WIDTH), **tables)
    assert cost.reduction_flops == MESSAGES * WIDTH
    assert cost.elementwise_flops == 0
    assert cost.uncounted == ()


def test_bincount_is_an_addition_an_entry() -> None:
    assert of(lambda m, i: torch.bincount(i, minlength=8), TARGET, real=True).reduction_flops == MESSAGES


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        # Rows of the source are read, those of the target written: the table is not touched elsewhere.
        (lambda m, x: m.table.index_copy_(0, m.three, x), 2 * 3 * WIDTH * NUMBER + 3 * WORD),
        (lambda m, x: m.table.index_put_((m.three,), x), 2 * 3 * WIDTH * NUMBER + 3 * WORD),
        (lambda m, x: m.table.__setitem__(m.three, x), 2 * 3 * WIDTH * NUMBER + 3 * WORD),
        (lambda m, x: m.table.index_fill_(0, m.three, 0.0), 3 * WIDTH * NUMBER + 3 * WORD),
        # What is added to is read as well.
        (lambda m, x: m.table.index_add_(0, m.three, x), 3 * 3 * WIDTH * NUMBER + 3 * WORD),
    ],
)
def test_a_scatter_in_place_touches_what_it_hits(function, moved: int) -> None:
    tables = {"table": torch.zeros(ROWS, WIDTH), "three": torch.tensor([5, 7, 9])}
    assert of(function, torch.randn(3, WIDTH), **tables).bytes_moved == moved


def test_a_mask_takes_what_it_marks() -> None:
    mask = torch.arange(ROWS) < 3
    cost = of(lambda m, x: m.table.index_put_((m.mask,), x), torch.randn(3, WIDTH), real=True,
              table=torch.zeros(ROWS, WIDTH), mask=mask)  # fmt: skip
    assert cost.bytes_moved == 2 * 3 * WIDTH * NUMBER + ROWS


def test_max_norm_rescales_the_rows_that_it_looks_up() -> None:
    cost = count(nn.Embedding(ROWS, WIDTH, max_norm=1.0).requires_grad_(False), Inputs((IDS,)), saved=False)
    assert cost.uncounted == ()
    assert cost.bytes_moved < 5 * 12 * WIDTH * NUMBER


def test_few_samples_of_a_large_image() -> None:
    image, grid = torch.randn(1, 3, 500, 500), torch.zeros(1, 2, 2, 2)
    cost = of(lambda m, x, g: functional.grid_sample(x, g, align_corners=False), image, grid)
    assert cost.bytes_moved == NUMBER * (4 * 3 * 4 + 8 + 3 * 4)  # four neighbours of four points, the grid, the result
