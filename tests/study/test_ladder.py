"""A ladder on disk: what is declared stays, sizes come on top, every addition is a look."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.study import ladder
from laurel_cli.study.ladder import Ladder, LadderLook, Size, begin, check, load


def size(number: int, width: int, **more: object) -> Size:
    made = Size(str(width), width, None, 2, 12 * width**2, width, 240 * width**2, float(width**4), 1000 * number)
    return replace(made, **more)  # type: ignore[arg-type]


SIZES = tuple(size(number, width) for number, width in enumerate((64, 96, 128, 192)))
FIRST = Ladder(20.0, 3, (("rw", "x0"),), (LadderLook(3, 5),), SIZES[:3])


def asked(**more: object) -> Ladder:
    return replace(FIRST, **more)  # type: ignore[arg-type]


def test_what_is_written_is_read_again(tmp_path):
    assert begin(tmp_path, FIRST) == FIRST
    assert load(tmp_path) == FIRST
    assert begin(tmp_path, FIRST) == FIRST  # the same command again declares nothing new


def test_rates_carried_by_mup_are_said_where_they_are(tmp_path):
    assert "mup" not in FIRST.plain()
    carried = begin(tmp_path, asked(mup=True))
    assert json.loads((tmp_path / ladder.FILE).read_text())["mup"] is True
    assert load(tmp_path) == carried == asked(mup=True)


def test_a_larger_size_is_a_further_look(tmp_path):
    begin(tmp_path, FIRST)
    found = begin(tmp_path, asked(sizes=SIZES, looks=(LadderLook(4, 5),)))
    assert found.sizes == SIZES
    assert found.looks == (LadderLook(3, 5), LadderLook(4, 5))
    again = begin(tmp_path, FIRST)  # fewer sizes are asked for: nothing is lost
    assert again == found


def test_more_seeds_are_a_further_look_and_more_arms_a_family(tmp_path):
    begin(tmp_path, FIRST)
    found = begin(tmp_path, asked(looks=(LadderLook(3, 8),), families=(("rw", "lr@4"),)))
    assert found.looks == (LadderLook(3, 5), LadderLook(3, 8))
    assert found.families == (("rw", "x0"), ("lr@4",))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (asked(tokens_per_parameter=10.0), "tokens_per_parameter was 20.0, is 10.0"),
        (asked(rates=5), "lr_search was 3, is 5"),
        (asked(mup=True), "ladder_lr was search, is mup"),
        (asked(sizes=(size(0, 64, parameters=7), *SIZES[1:3])), "parameters of size 64 was 49152, is 7"),
    ],
)
def test_another_ladder_is_refused(tmp_path, wanted, said):
    begin(tmp_path, FIRST)
    with pytest.raises(RecordError) as caught:
        begin(tmp_path, wanted)
    assert said in str(caught.value)
    assert load(tmp_path) == FIRST


def test_no_size_comes_in_between(tmp_path):
    begin(tmp_path, FIRST)
    with pytest.raises(UsageError) as caught:
        begin(tmp_path, asked(sizes=(SIZES[0], size(1, 80), *SIZES[2:])))
    assert "larger sizes" in str(caught.value)


def test_a_study_is_no_ladder(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UsageError):
        begin(tmp_path, FIRST)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (SIZES[:2], "3 sizes"),
        (SIZES[::-1], "does not ascend"),
        ((SIZES[0], SIZES[1], SIZES[1]), "does not ascend"),
        (tuple(size(i, width) for i, width in enumerate((64, 72, 80))), "2.4 times the compute"),
    ],
)
def test_what_is_no_ladder_is_refused(sizes, said):
    with pytest.raises(UsageError) as caught:
        check(sizes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: "{",
        lambda plain: json.dumps(plain | {"schema": "laurel.ladder/9"}),
        lambda plain: json.dumps({key: value for key, value in plain.items() if key != "looks"}),
        lambda plain: json.dumps(plain | {"sizes": []}),
        lambda plain: json.dumps(plain | {"sizes": [plain["sizes"][0] | {"name": "../../etc"}]}),
        lambda plain: json.dumps([plain]),
    ],
)
def test_a_spoilt_file_is_an_error_that_names_it(tmp_path, spoil):
    begin(tmp_path, FIRST)
    path = tmp_path / ladder.FILE
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(RecordError) as caught:
        load(tmp_path)
    assert "ladder.json" in str(caught.value)


def test_no_ladder_is_an_error(tmp_path):
    with pytest.raises(RecordError):
        load(tmp_path)
