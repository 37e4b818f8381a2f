"""The page of arithmetic against the operators that run: bytes and FLOPs of every form, counted one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laurel_cli.laurel import fast, worth
from tests.bench import roofline
from tests.bench.roofline import FORMS, WAYS, Machine, least, placed, ratio, today

ROWS, WIDTH, RANK = 48, 40, 5  # no two of T D, T r, r D, k T r, k r D are alike


class Moved(TorchDispatchMode):
    """Adds up what every operator reads and writes; one that returns a view moves nothing.

    Tensors of a handful of numbers (a, b, c and what they are made of) are left out, as the page says.
    """

    def __init__(self):
        super().__init__()
        self.bytes = self.elementwise = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        in_place = func._schema.name.endswith("_")
        lies = {t.untyped_storage().data_ptr() for t in given}
        if not in_place and any(t.untyped_storage().data_ptr() in lies for t in made):
            return out
        large = [t for t in {id(t): t for t in given}.values() if t.numel() > 10]
        self.bytes += sum(t.numel() * t.element_size() for t in (*large, *made) if t.numel() > 10)
        name = func._schema.name.removeprefix("aten::")
        if name in ("mm", "addmm", "addmm_"):  # torch's own counter does not know the latter
            (m, k), (_, n) = (t.shape for t in given[-2:])
            self.products += 2 * m * k * n
        if name in ("add", "add_", "mul", "sum", "addcmul", "dot") and large:
            each = max(t.numel() for t in large)
            scales = name in ("add", "add_") and (kwargs or {}).get("alpha", 1) != 1
            self.elementwise += each * (2 if name in ("addcmul", "dot") or scales else 1)
        return out


def counted(form, way, lags):
    """(bytes, FLOPs of products, operations element by element) of the operators that run."""
    run = placed(form, WIDTH, RANK, lags, fold=way == "folded")
    x, f, *earlier = (torch.randn(ROWS, WIDTH, requires_grad=True) for _ in range(lags + 1))
    read = earlier if "pa" in form else []
    moved = Moved()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "watched", lambda: False)  # as if nobody counted
        for least in (worth.INFERENCE, worth.TRAINING):  # nor cared for how small these are
            patch.setitem(least, "cpu", dict.fromkeys(least["cpu"], 0))
        _run(run, x, f, read, way, moved)
    return moved.bytes, moved.products, moved.elementwise


def _run(run, x, f, read, way, moved):
    if way == "backward":
        y = run(x, f, *read)
        dy = torch.randn(ROWS, WIDTH)
        with moved:
            torch.autograd.grad(y, [x, f, *read, *run.parameters], dy)
    else:
        with torch.set_grad_enabled(way == "forward"), moved:
            run(x, f, *read)


@pytest.mark.parametrize("lags", [2, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_the_formulas_of_today_are_what_runs(form, way, lags):
    doing = today(form, way, lags)
    elementwise = doing.elementwise * ROWS * WIDTH + doing.narrow_elementwise * ROWS * RANK
    expected = doing.bytes(ROWS, WIDTH, RANK, 4), doing.product_flops(ROWS, WIDTH, RANK), elementwise
    assert counted(form, way, lags) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_the_least_holds_what_goes_in_and_out(form, way):
    """Forward: x, f, earlier inputs and maps in, y out. Backward: those and dy in, a gradient of each out."""
    earlier, maps = (2 if "pa" in form else 0), (3 if form == "rw+lr+pa" else int("lr" in form))
    found = least(form, way, 3)
    if way == "backward":
        passed_on = form == "add"  # dy itself is both gradients
        wide = 0 if passed_on else 1 + 2 * (1 + earlier) + (2 if "rw" in form else 0)
        assert (found.wide, found.maps) == (wide, 2 * 2 * maps)
    else:
        assert (found.wide, found.maps) == (2 + earlier + 1, 2 * maps)
    assert found.bytes(ROWS, WIDTH, RANK, 4) <= today(form, way, 3).bytes(ROWS, WIDTH, RANK, 4)
    assert found.flops(ROWS, WIDTH, RANK) == today(form, way, 3).flops(ROWS, WIDTH, RANK)


def test_the_limit_is_the_larger_of_memory_and_arithmetic():
    slow_memory = Machine("", bandwidth=1.0, rate=1e30, size=4, source="")
    slow_products = Machine("", bandwidth=1e30, rate=1.0, size=4, source="")
    assert ratio(slow_memory, today, "rw", "inference", 64, 32) == pytest.approx(5 / 3)
    assert ratio(slow_memory, today, "rw", "training", 64, 32) == pytest.approx((5 + 8) / 3)
    assert slow_products.seconds(today("lr", "forward"), 64, 32, 4) == 4 * 4 * 64 * 32


def test_the_page_says_whether_it_was_timed(monkeypatch):
    monkeypatch.setattr(roofline, "SHAPES", {"small": (32, 16)})
    monkeypatch.setattr(roofline, "measured_machine", lambda: Machine("any", 1e10, 1e11, 4, ""))  # it takes 512 MiB
    untimed = "\n".join(roofline.page(0, busy=False))
    assert roofline.NOT_TIMED in untimed
    assert "Reached" not in untimed
    timed = "\n".join(roofline.page(2, busy=True))
    assert "Other work ran" in timed
    assert timed.count("| small | rw+lr+pa |") == 3
