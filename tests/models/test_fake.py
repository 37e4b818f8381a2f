"""Models whose tensors are kept anywhere run without memory, and are left as they were."""

import torch
from torch import nn

from laurel_cli.cost.count import count
from laurel_cli.models.inputs import Inputs, as_inputs
from laurel_cli.residual import find_connections

X = torch.randn(2, 5, 8)


class Keeps(nn.Module):
    """Tensors in lists, tuples and dicts beside parameters, one within the other."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.masks = [torch.ones(5, 5).tril(), torch.ones(5, 5)]
        self.tables = {"scale": (torch.full((8,), 2.0), torch.zeros(8)), "names": ["a", "b"]}
        self.cache = {"seen": []}

    def forward(self, x):
        scale, shift = self.tables["scale"]
        self.cache["seen"].append(x)
        for mask in self.masks:
            x = x + self.linear(mask @ x) * scale + shift
        return x


def test_tensors_in_lists_and_dicts() -> None:
    expected = 2 * 2 * (5 * 8 * 8 + 5 * 5 * 8)
    with torch.device("meta"):
        without_data = Keeps()
    for model in (Keeps(), without_data):
        masks, before = model.masks, list(model.masks)
        assert count(model, Inputs((X,)), saved=False).macs == expected
        assert model.masks is masks
        assert all(mask is old for mask, old in zip(model.masks, before, strict=True))
        assert model.cache == {"seen": []}


def test_a_real_pass_leaves_plain_tensors_as_they_were() -> None:
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.total, self.parts = nn.Linear(8, 8), torch.zeros(()), [torch.zeros(())]

        def forward(self, x):
            self.total += 1
            self.parts[0].add_(2)
            return self.linear(x) if float(x.sum()) < 1e9 else x

    model = Adds()
    count(model, Inputs((X,)))
    assert (float(model.total), float(model.parts[0])) == (0, 0)


def test_lists_and_mappings_as_one_argument_or_several() -> None:
    class One(nn.Module):
        def forward(self, batch):
            return batch["a"] if isinstance(batch, dict) else torch.stack(batch)

    class Two(nn.Module):
        def forward(self, x, y=None, **options):
            return x + y

    one, two, entries = One(), Two(), [torch.ones(3), torch.ones(3)]
    assert as_inputs({"a": 1}, one) == Inputs(({"a": 1},))
    assert as_inputs({"batch": entries}, one).kwargs.keys() == {"batch"}
    assert as_inputs(entries, one).args == (entries,)
    assert len(as_inputs(entries, two).args) == 2
    assert as_inputs({"x": 1, "other": 2}, two).kwargs == {"x": 1, "other": 2}
    assert len(as_inputs(tuple(entries), one).args) == 2


def test_connections_of_lazy_modules_are_found_and_the_model_stays_lazy() -> None:
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.LazyLinear(8)

        def forward(self, x):
            return x + self.linear(x)

    model = Lazy()
    assert len(find_connections(model, X).connections) == 1
    assert isinstance(model.linear.weight, nn.UninitializedParameter)


def test_connections_within_a_branch_are_found() -> None:
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return x + torch.cond(x.sum() < 1e9, lambda x: self.linear(x), lambda x: -x, (x,))

    found = find_connections(Branches(), X)
    assert len(found.connections) == 1
    assert found.not_run == ()
