"""Products that PyTorch's counter has no formula for, complex and sparse ones: against sums written out."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from laurel_cli.cost.count import Cost, count
from laurel_cli.models.inputs import Inputs


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def of(function, *tensors, real: bool = False) -> Cost:
    return count(Calls(function).eval(), Inputs(tensors), saved=False, real=real)


def complex_(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("function", "shapes", "products"),
    [
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 60),
        (lambda a, b: a @ b, [(2, 3, 4), (2, 4, 5)], 120),
        (lambda a, b: torch.einsum("bij,jk->bik", a, b), [(2, 3, 4), (4, 5)], 120),
        (lambda a, b: a @ b, [(3, 4), (4,)], 12),
        (lambda a, b: torch.vdot(a, b), [(4,), (4,)], 4),
        (lambda a, b: functional.linear(a, b), [(2, 3, 4), (5, 4)], 120),
    ],
)
def test_a_complex_multiply_add_is_four_real_ones(function, shapes, products: int) -> None:
    assert of(function, *(complex_(*shape) for shape in shapes)).macs == 4 * products


def test_a_complex_convolution_is_run_as_three_real_ones() -> None:
    cost = of(lambda x, w: functional.conv2d(x, w), complex_(1, 2, 5, 5), complex_(3, 2, 3, 3))
    assert cost.macs == 3 * (3 * 3 * 3 * 2 * 3 * 3)


@pytest.mark.parametrize(
    ("function", "operations"), [(lambda a, b: a + b, 2), (lambda a, b: a * b, 6), (lambda a, b: a.sum(), 2)]
)
def test_complex_elementwise_work(function, operations: int) -> None:
    cost = of(function, complex_(3, 4), complex_(3, 4))
    assert cost.elementwise_flops + cost.reduction_flops == operations * 12


def test_complex_parameters_are_counted_once_and_said_to_be_complex() -> None:
    cost = count(nn.Linear(3, 5, dtype=torch.complex64), Inputs((complex_(2, 3),)))
    assert cost.parameters == 3 * 5 + 5
    assert any("complex" in note and "20" in note for note in cost.notes)
    assert not any("complex" in note for note in count(nn.Linear(3, 5), Inputs((torch.randn(2, 3),))).notes)


ENTRIES = torch.tensor([[0, 0, 1, 2, 3], [1, 3, 0, 2, 2]])


def matrix(layout: torch.layout) -> torch.Tensor:
    made = torch.sparse_coo_tensor(ENTRIES, torch.ones(5), (4, 4), check_invariants=True).coalesce()
    return {torch.sparse_coo: lambda: made, torch.sparse_csr: made.to_sparse_csr, torch.sparse_csc: made.to_sparse_csc}[
        layout
    ]()


LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_times_dense_by_entries(layout: torch.layout) -> None:
    sparse = matrix(layout)
    assert of(lambda x: sparse @ x, torch.randn(4, 7), real=True).macs == 5 * 7
    assert of(lambda x: x @ sparse, torch.randn(7, 4), real=True).macs == 5 * 7


def test_sparse_products_of_every_kind() -> None:
    coo, csr = matrix(torch.sparse_coo), matrix(torch.sparse_csr)
    assert of(lambda x: torch.sparse.mm(coo, x), torch.randn(4, 7), real=True).macs == 5 * 7
    assert of(lambda x: torch.sparse.addmm(x, coo, x), torch.randn(4, 7), real=True).macs == 5 * 7
    assert of(lambda x: csr @ x, torch.randn(4), real=True).macs == 5
    assert of(lambda x: torch.sparse.sampled_addmm(csr, x, x.T), torch.randn(4, 3), real=True).macs == 5 * 3
    # Row 0 meets rows 1 and 3 (one entry each), 1 meets 0 (two), 2 meets 2 (one), 3 meets 2 (one).
    assert (
        of(lambda x: torch.sparse.mm(coo, coo).to_dense() + x, torch.randn(4, 4), real=True).macs == 1 + 1 + 2 + 1 + 1
    )


def test_what_is_sparse_counts_its_entries_and_is_never_faked() -> None:
    class Adjacent(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("adjacency", matrix(torch.sparse_coo))

        def forward(self, x):
            return self.adjacency @ x

    cost = count(Adjacent(), Inputs((torch.randn(4, 7),)))
    assert cost.macs == 5 * 7
    assert cost.bytes_moved == 5 * (2 * 8 + 4) + 2 * 4 * 7 * 4
    born_sparse = of(lambda x: x.to_sparse() @ x.T, torch.eye(4, 6))
    assert born_sparse.macs == 4 * 4
    assert any("real tensors" in note for note in born_sparse.notes)


def test_sparse_elementwise_work_is_one_operation_an_entry() -> None:
    sparse = matrix(torch.sparse_coo)
    assert of(lambda x: sparse * 2.0, torch.randn(1), real=True).elementwise_flops == 5


def test_bilinear() -> None:
    cost = count(nn.Bilinear(3, 4, 6, bias=False), Inputs((torch.randn(5, 3), torch.randn(5, 4))), saved=False)
    # x W for every pair of output and second input, then the product with y.
    assert cost.macs == 5 * 6 * 4 * 3 + 5 * 6 * 4
    assert cost.uncounted == ()


def test_distances() -> None:
    few = of(torch.cdist, torch.randn(5, 3), torch.randn(6, 3))
    assert (few.macs, few.reduction_flops, few.uncounted) == (0, 3 * 5 * 6 * 3, ())
    many = of(torch.cdist, torch.randn(50, 3), torch.randn(60, 3))
    assert (many.macs, many.uncounted) == (50 * 60 * (3 + 2), ())


@pytest.mark.parametrize(("mode", "taps"), [("bilinear", 4), ("nearest", 0), ("bicubic", 16)])
def test_grid_sampling(mode: str, taps: int) -> None:
    image, grid = torch.randn(1, 3, 8, 8), torch.zeros(1, 5, 7, 2)
    cost = of(lambda x, g: functional.grid_sample(x, g, mode=mode, align_corners=False), image, grid)
    assert cost.reduction_flops == max(2 * taps - 1, 0) * 3 * 5 * 7
    assert cost.uncounted == ()


def test_deformable_convolution() -> None:
    layer = torchvision.ops.DeformConv2d(4, 6, 3, bias=False)
    x, offset = torch.randn(2, 4, 9, 9), torch.zeros(2, 2 * 9, 7, 7)
    cost = count(layer, Inputs((x, offset)), saved=False)
    assert cost.macs == 2 * 6 * 7 * 7 * 4 * 9
    assert cost.reduction_flops == 7 * 2 * 4 * 9 * 7 * 7
    masked = count(layer, Inputs((x, offset, torch.ones(2, 9, 7, 7))), saved=False)
    assert masked.reduction_flops == 8 * 2 * 4 * 9 * 7 * 7
    assert cost.uncounted == masked.uncounted == ()


def test_aligned_regions_where_their_samples_are_known() -> None:
    x, boxes = torch.randn(1, 3, 16, 16), torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0], [0.0, 1.0, 1.0, 9.0, 5.0]])
    known = of(lambda x, b: torchvision.ops.roi_align(x, b, (4, 5), sampling_ratio=2), x, boxes)
    assert known.reduction_flops == 2 * 3 * 4 * 5 * 2 * 2 * 8
    assert known.uncounted == ()
    # Without a ratio the samples follow from each box's size.
    unknown = of(lambda x, b: torchvision.ops.roi_align(x, b, (4, 5)), x, boxes)
    assert dict(unknown.uncounted) == {"torchvision.roi_align": 1}


def test_unsafe_split_is_a_view() -> None:
    cost = of(lambda x: torch.unsafe_split(x, 2)[0] + 1, torch.randn(4, 4))
    assert (cost.kernels, cost.elementwise_flops, cost.uncounted) == (1, 8, ())


def test_sorting_is_comparisons() -> None:
    cost = of(lambda x: x.sort(dim=0).values, torch.randn(9, 5))
    assert (cost.reduction_flops, cost.flops, cost.uncounted) == (9 * 5 * 4, 0, ())


class Output(nn.Module):
    """The first result of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args):
        return self.layer(*args)[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_the_gates_of_an_lstm_fused_and_written_out(layers: int) -> None:
    steps, batch, width, units = 6, 3, 5, 7
    fused = count(Output(nn.LSTM(width, units, layers)), Inputs((torch.randn(steps, batch, width),)), saved=False)
    in_double = nn.LSTM(width, units, layers).double()
    written_out = count(Output(in_double), Inputs((torch.randn(steps, batch, width).double(),)), saved=False)
    assert fused.elementwise_flops == written_out.elementwise_flops == 13 * units * steps * batch * layers
    assert fused.macs == written_out.macs


def test_a_gru_is_counted_in_full() -> None:
    cost = count(Output(nn.GRU(16, 16, batch_first=True)), Inputs((torch.randn(2, 8, 16),)), saved=False)
    assert cost.macs == 2 * 8 * 3 * 16 * (16 + 16)
    assert cost.elementwise_flops > 0
    assert cost.uncounted == ()
