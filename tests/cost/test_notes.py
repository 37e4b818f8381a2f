"""What a count says beside its figures: that they rest on data."""

import torch
from torch import nn

from laurel_cli.cost.count import Cost, count
from laurel_cli.models.inputs import Inputs


class Routed(nn.Module):
    """Rows go to one of two experts by the sign of their sum."""

    def __init__(self, select) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2))
        self.select = select

    def forward(self, x):
        return (
            self.experts[0](self.select(x, x.sum(-1) > 0)).sum() + self.experts[1](self.select(x, x.sum(-1) <= 0)).sum()
        )


def of(select) -> Cost:
    x = torch.ones(6, 4)
    x[0] = -1
    return count(Routed(select), Inputs((x,)), saved=False)


def test_figures_that_rest_on_data_say_so() -> None:
    for select, name in (
        (lambda x, mask: x[mask], "aten.index"),
        (lambda x, mask: x[torch.where(mask)[0]], "aten.nonzero"),
        (lambda x, mask: x.masked_select(mask[:, None]).view(-1, 4), "aten.masked_select"),
        (lambda x, mask: x[: int(mask.sum())], "aten._local_scalar_dense"),
    ):
        cost = of(select)
        assert cost.macs == 6 * 16
        (note,) = cost.notes
        assert "follows from data" in note
        assert name in note


def test_a_lookup_by_whole_numbers_is_no_such_thing() -> None:
    assert of(lambda x, mask: x[torch.tensor([0, 1, 2])]).notes == ()
