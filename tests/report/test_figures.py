"""Every figure with 1, 2, 6 and 40 arms: nothing collides, nothing leaves the canvas, the same bytes every time."""

import random
import re
from itertools import combinations, pairwise

import pytest

from laurel_cli.reports import figures
from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.captions import caption
from laurel_cli.reports.figures.scale import plain
from tests.report.made import ARMS, HOSTILE, analysis, controlled, document, paper, profile, study, trial
from tests.report.made import put as put_record

VARIANTS = ("lr", "rw+lr", "lr+pa", "rw+lr+pa")


def arms(count):
    """`count` arms beside the copy: the usual ones, then variants at more and more ranks."""
    usual = [arm for arm in ARMS if arm[0] != "copy"]
    rng = random.Random(3)
    more = [(v, rank) for rank in (2, 4, 8, 32, 64, 128, 256, 512, 1024, 2048) for v in VARIANTS]
    usual += [(f"{v}@{r}", "laurel", 900 * r * (2 + VARIANTS.index(v)), 1 - 0.1 * rng.random()) for v, r in more]
    return usual[:count]


def records(folder, count):
    chosen = arms(count)
    rng = random.Random(2)
    study(folder, chosen, seeds=2)
    analysis(folder, chosen)
    ratios = {name: 1 + 0.3 * rng.random() for name, kind, *_ in chosen if kind != "baseline"}
    profile(folder, {name: (ratio, ratio - 0.02, ratio + 0.02) for name, ratio in ratios.items()})
    return document(folder)


@pytest.fixture(scope="module", params=[1, 2, 6, 40])
def drawn(request, tmp_path_factory):
    made = records(tmp_path_factory.mktemp("records"), request.param)
    found = {name: figures.draw(made, name) for name in figures.names(made)}
    return request.param, made, {name: (figure, texts(figure)) for name, figure in found.items()}


def texts(figure):
    """Every text that is shown, with its extent in pixels."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t.figure is not None]
    clipped = set(_clipped(figure))
    return [(t, t.get_window_extent(renderer)) for t in shown if id(t) not in clipped]


def _clipped(figure):
    """Tick labels beyond the limits of their axis are made, not shown."""
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if not min(limits) <= tick.get_loc() <= max(limits):
                    yield from (id(tick.label1), id(tick.label2))


def test_the_usual_figures_are_there(drawn):
    count, _, found = drawn
    kinds = {name.partition("-")[2] for name in found}
    assert kinds >= {"frontier", "curves"}
    assert ("sweep" in kinds) == (count > 6)
    assert ("latency" in kinds) == (count > 1)


def test_no_text_leaves_the_canvas(drawn):
    for name, (figure, shown) in drawn[2].items():
        width, height = figure.bbox.width, figure.bbox.height
        for text, box in shown:
            where = f"{name}: {text.get_text()!r} {box}"
            assert box.x0 >= -1, where
            assert box.x1 <= width + 1, where
            assert box.y0 >= -1, where
            assert box.y1 <= height + 1, where


def test_no_text_lies_on_another(drawn):
    for name, (_, shown) in drawn[2].items():
        level = [(t, b) for t, b in shown if t.get_rotation() in (0.0, 90.0)]
        for (t1, a), (t2, b) in combinations(level, 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 1.5 or high < 1.5, f"{name}: {t1.get_text()!r} on {t2.get_text()!r}"


def test_every_arm_is_named_in_the_frontier(drawn):
    count, made, found = drawn
    labels = found["1-frontier"][1]
    shown = [text.get_text() for text, _ in labels]
    for arm in made["comparisons"][0]["panels"][0]["arms"]:
        assert any(re.fullmatch(rf"(\d+  )?{re.escape(arm['name'])}", text) for text in shown)
    if count == 40:  # and each number stands in every panel and in the key
        axes = [text for text, _ in labels if text.get_fontsize() == 8 and text.get_path_effects()]
        for number in range(1, 41):
            placed = [text for text in axes if text.get_text() == str(number)]
            assert len(placed) == len(made["comparisons"][0]["panels"])


def test_the_same_bytes_every_time(tmp_path):
    made = records(tmp_path, 6)
    for name in figures.names(made):
        for kind in style.FORMATS if name == "1-curves" else ("svg",):
            one, two = (style.saved(figures.draw(made, name), name, kind) for _ in range(2))
            assert one == two, (name, kind)


def test_formats_are_what_they_say_and_hold_no_date(tmp_path):
    made = records(tmp_path, 2)
    files = dict(figures.pictures(made, style.FORMATS))
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for name, content in files.items():
        assert content.startswith(starts[name.rpartition(".")[2]])
        assert not re.search(rb"20\d\d-\d\d-\d\dT|CreationDate|Matplotlib v", content)


def test_status_is_seen(tmp_path):
    """Filled on the frontier, hollow where dominated: read from the drawn markers."""
    study(tmp_path)
    made = document(tmp_path)
    figure = figures.draw(made, "1-frontier")
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    faces = {float(line.get_xdata()[0]): line.get_markerfacecolor() for line in lines}
    assert faces[4.4] == style.PAPER  # naive+1, dominated
    assert faces[2.4] == style.marker("rw+lr+pa")[1]


def markers(axes):
    """Shapes of single points by their place."""
    return {line.get_marker(): line for line in axes.get_lines() if len(line.get_xdata()) == 1}


def test_a_control_is_told_from_the_arms(tmp_path):
    """Another shape, named in the legend and the caption; controls of the recipe cost nothing and are left out."""
    controlled(tmp_path)
    made = document(tmp_path)
    figure = figures.draw(made, "1-frontier")
    shown = [text.get_text() for text, _ in texts(figure)]
    assert "control" in shown
    assert "baseline:width=1.125" in shown
    assert not {"baseline:lr=2", "baseline:lr=0.5", "copy"} & set(shown)
    assert "P" in markers(figure.axes[0])
    assert "is a control" in caption("frontier", made["comparisons"][0])
    curves = figures.draw(made, "1-curves")
    dashed = [line for line in curves.axes[0].get_lines() if line.get_linestyle() == "--" and len(line.get_xdata()) > 2]
    assert len(dashed) == 3
    assert "Dashed: controls." in caption("curves", made["comparisons"][0])


def steps_of(axes):
    return [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]


def test_the_line_goes_through_what_is_established_alone(tmp_path):
    """Means without a verdict make no frontier: where nothing is better, the line stays at the baseline."""
    controlled(tmp_path, [(n, k, a, 1.0) for n, k, a, _ in ARMS])
    analysis(tmp_path)
    made = document(tmp_path)
    parameters, flops = figures.draw(made, "1-frontier").axes
    (line,) = steps_of(parameters)
    base = next(arm for arm in made["comparisons"][0]["arms"] if arm["kind"] == "baseline")
    assert set(line.get_ydata()) == {base["quality"]["mean"]}
    assert steps_of(flops) == []  # two prices have no line


def test_bars_have_the_level_that_the_caption_says(made):
    body = document(made)["comparisons"][0]
    assert "interval of the difference to the baseline (95 to 99.1 %)" in caption("frontier", body)
    assert "interval of a measured cost (95 %)" in caption("frontier", body)
    assert "interval of the estimate (95 %)" in caption("latency", body)


def test_of_another_metric_the_means_alone(made):
    shown = document(made, metric="accuracy")
    axes = figures.draw(shown, "1-frontier").axes[0]
    assert steps_of(axes) == []
    vertical = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert vertical == []
    assert "the means alone are shown" in caption("frontier", shown["comparisons"][0])


@pytest.mark.parametrize("count", [3, 12])
def test_bands_that_the_caption_promises_are_drawn(tmp_path, count):
    study(tmp_path, arms(count), seeds=3)
    made = document(tmp_path)
    (axes,) = figures.draw(made, "1-curves").axes
    assert "bands" in caption("curves", made["comparisons"][0])
    assert len(axes.collections) == count


def test_zero_and_0_003_and_4_37_percent_stand_apart_on_one_axis(tmp_path):
    paper(tmp_path)
    axes = figures.draw(document(tmp_path), "1-frontier").axes[0]
    left, right = axes.get_window_extent().x0, axes.get_window_extent().x1
    places = [axes.transData.transform((x, 75))[0] for x in (0, 0.003, 1.68, 2.4, 4.37)]
    assert left < places[0]
    assert places[-1] < right
    assert all(b - a > 8 for a, b in pairwise(places))


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (1e-4, "0.0001"), (0.1 + 0.2, "0.3"), (10.0, "10"), (-2.5, "-2.5"), (1e5, "100000")]
)
def test_ticks_are_plain(value, said):
    assert plain(value) == said


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    chosen = [("baseline", "baseline", 0, 1.0), (HOSTILE, "against", 9, 0.9), ("$x$", "against", 5, 0.95)]
    study(tmp_path, chosen, seeds=3, task={"name": HOSTILE, "kind": "image", "sha256": "d" * 64, "unit": HOSTILE})
    made = document(tmp_path)
    for name in figures.names(made):
        shown = " ".join(text.get_text() for text, _ in texts(figures.draw(made, name)))
        assert "\x1b" not in shown
    svg = figures.inline(made)["1-frontier"]
    assert "script" not in svg
    assert "$x$" in [text.get_text() for text, _ in texts(figures.draw(made, "1-frontier"))]


def test_inline_pictures_share_no_identifier_and_follow_the_page(made):
    found = figures.inline(document(made))
    ids = [i for svg in found.values() for i in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in found.values():
        assert svg.startswith("<svg ")
        assert "currentColor" in svg
        assert style.INK not in svg
        assert style.PAPER not in svg
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)) <= {(i, "") for i in ids} | {
            ("", i) for i in ids
        }


def test_a_study_without_anything_to_draw_has_no_figures(tmp_path):
    put_record(tmp_path, trial("baseline", "baseline", 0, final=None, status="failed", reason="x", evaluations=[]))
    assert figures.names(document(tmp_path)) == []


def test_bands_at_the_end_of_the_curves_are_not_cut(tmp_path):
    study(tmp_path, arms(6), seeds=5)
    made = document(tmp_path)
    (axes,) = figures.draw(made, "1-curves").axes
    low, high = axes.get_ylim()
    for line in made["comparisons"][0]["curves"]:
        last = line["points"][-1]
        assert low < last["low"] < last["high"] < high
