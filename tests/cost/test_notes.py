"""What a count says beside its figures: that they rest on data, and which parts of the model were not run."""

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


class Towers(nn.Module):
    """A tower for images, one for text where there is any, a bare parameter and a table that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.text = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
        self.blocks = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(7))
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, image, text=None):
        out = self.blocks[0](self.image(image)) + self.shift.data
        return out if text is None else out + self.text(text)


def test_parts_that_the_inputs_did_not_reach_are_named() -> None:
    x = torch.randn(2, 4)
    one = count(Towers(), Inputs((x,)))
    assert dict(one.unread) == {"text": 15 + 16, "blocks.1": 16, "blocks.2": 16, "scale": 7}
    assert any("text (31 parameters)" in note and "scale (7 parameters)" in note for note in one.notes)
    both = count(Towers(), Inputs((x, x)))
    assert dict(both.unread) == {"blocks.1": 16, "blocks.2": 16, "scale": 7}
    for real in (False, True):
        assert count(Towers(), Inputs((x,)), real=real).unread == one.unread


def test_a_part_that_stands_for_others_is_named_with_all_of_them() -> None:
    assert dict(count(Towers(), Inputs((torch.randn(2, 4),)), multiplicity={"blocks.2": 10}).unread)["blocks.2"] == 160


def test_shared_and_viewed_parameters_are_read() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.table.weight
            self.rows = nn.Parameter(torch.randn(3, 2, 4))

        def forward(self, ids):
            return self.table(ids) @ self.rows[1].t()

    assert count(Tied(), Inputs((torch.tensor([[1, 2]]),))).unread == ()
