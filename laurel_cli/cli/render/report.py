"""What a person sees of the document of `laurel report`: the answer, the tables, the figures, how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.cli.render.page import Block, Bullets, Code, Heading, Page, Picture, Prose
from laurel_cli.cli.render.sheet import Column, Look, Table
from laurel_cli.report import words
from laurel_cli.report.figures.captions import CAPTIONS, DATA

Item = Mapping[str, Any]
ARM = Column("arm", code=True)
MANY = 24  # orders listed one by one at most


def report_text(document: Item, format: str, look: Look, pictures: Mapping[str, str]) -> str:  # noqa: A002
    """The report in one of the formats that show a page; `pictures` as `render` says."""
    page = report_page(document, pictures)
    if format == "markdown":
        from laurel_cli.cli.render.page_markdown import page_markdown

        return page_markdown(page)
    if format == "html":
        from laurel_cli.cli.render.page_html import page_html

        return page_html(page)
    if format == "latex":
        from laurel_cli.cli.render.page_latex import page_latex

        return page_latex(page)
    from laurel_cli.cli.render.page_table import page_table

    return page_table(page, look)


def report_page(document: Item, pictures: Mapping[str, str]) -> Page:
    """The whole report, comparison after comparison."""
    blocks: list[Block] = []
    compared = document["comparisons"]
    if not compared:
        blocks.append(Prose("No record was found, so there is nothing to report.", strong=True))
    for number, body in enumerate(compared, start=1):
        blocks += _comparison(body, number)
    if document["formulas"]:
        rows = tuple((item["name"], item["text"], item["source"]) for item in document["formulas"])
        columns = (Column("figure"), Column("how it is made", prose=True), Column("source", prose=True))
        blocks += [Heading(2, "Method"), Table("How the figures are made", columns, rows)]
    if document["warnings"]:
        blocks += [Heading(2, "What could not be read"), Bullets(tuple(document["warnings"]))]
    blocks += _origin(document)
    return Page("LAuReL: quality against cost", tuple(blocks), pictures)


def _comparison(body: Item, number: int) -> list[Block]:
    model, study = body["model"], body["study"]
    said = str(model["reference"]) + (f", study {study['name']}" if study else "")
    blocks: list[Block] = [Heading(2, said), Prose(body["answer"][0], strong=True)]
    blocks += [Bullets(tuple(body["answer"][1:]))] if body["answer"][1:] else []
    blocks.append(Table("What was measured", (Column("fact"), Column("value", prose=True)), _facts(body)))
    if study is not None:
        blocks += [_quality(body), *_pictures(body, number, "frontier"), *_frontiers(body)]
        blocks += [*_naive(body), *_orders(body)]
        blocks += [*_pictures(body, number, "sweep"), *_pictures(body, number, "curves")]
        blocks += _pictures(body, number, "coefficients")
    blocks += [*_costs(body), *_pictures(body, number, "latency"), *_pictures(body, number, "where")]
    blocks += [*_printed(body), *_paper(body)]
    if body["caveats"]:
        blocks += [Heading(3, "Read with care"), Bullets(tuple(body["caveats"]))]
    return blocks


def _facts(body: Item) -> tuple[tuple[str, str], ...]:
    model, study = body["model"], body["study"]
    facts = [("model", f"{model['reference']} ({model['source']})")]
    facts += [("parameters", text.count(model["parameters"]))] if model["parameters"] is not None else []
    facts += [("input", "; ".join(model["inputs"]))] if model["inputs"] else []
    if study is None:
        return tuple(facts)
    metric, task = study["metric"], study["task"]
    unit = task.get("unit") or "examples"
    amounts = [f"{text.count(task[key])} {unit} to {said}" for key, said in _AMOUNTS.items() if task.get(key)]
    facts.append(("task", ", ".join([str(task["title"]), *amounts])))
    facts.append(("metric", f"{metric} at the last step, {study['better']} is better"))
    facts.append(("trials", words.trials(study["trials"])))
    blocks = {True: "every arm with every seed", False: "none: the arms share no seeds", None: "-"}[study["paired"]]
    facts.append(("paired blocks", blocks))
    if study["correlation"] is not None:
        facts.append(("correlation with the baseline over blocks", f"{study['correlation']:.2f}"))
    if study["noise_floor"] is not None:
        facts.append(("noise floor (the baseline's copy over it)", words.gain(study["noise_floor"], metric, unit=True)))
    if study["smallest_visible"] is not None:
        size = words.scaled(study["smallest_visible"], metric)
        facts.append(("smallest gain seen four times in five", f"{size:.2g} {words.UNITS[metric]}"))
    if study["chance_loss"] is not None and metric == "loss":
        facts.append(("chance", f"{study['chance_loss']:.4g} nats"))
    facts.append(("trained on", str(study["device"])))
    return tuple(facts)


_AMOUNTS = {"train_examples": "train on", "evaluation_examples": "evaluate on"}


def _quality(body: Item) -> Table:
    metric = body["study"]["metric"]
    arms = [arm for arm in body["arms"] if arm["verdict"] != "not trained"]
    columns = (
        ARM,
        _right(f"{metric}{' %' if metric == 'accuracy' else ''}, 95 % interval"),
        _right("trials"),
        _right("gain over the baseline, 95 % interval"),
        _right("p (Holm)"),
        Column("verdict"),
    )
    rows = []
    for arm in arms:
        figure = words.quality(arm["quality"], metric) if arm["quality"] else arm["verdict"].upper()
        gain = arm["gain"]
        p = text.NOTHING if gain is None else words.short_p(gain["p_holm"])
        verdict = arm["verdict"] + (f": {'; '.join(arm['reasons'])}" if arm["reasons"] and not arm["quality"] else "")
        rows.append((arm["name"], figure, words.trials(arm["trials"]), words.gain(gain, metric), p, verdict))
    return Table("Quality", columns, tuple(rows), frozenset((i, 1) for i in _best(arms, body)))


def _best(arms: Sequence[Item], body: Item) -> list[int]:
    """The rows of the best arm and of those that are not separated from it."""
    ranked = [arm for arm in arms if arm["quality"] and arm["kind"] != "copy"]
    if not ranked or body["study"]["learned"] is False:
        return []
    sign = 1 if body["study"]["better"] == "higher" else -1
    best = max(ranked, key=lambda arm: sign * arm["quality"]["mean"])
    worse = {order["worse"] for order in body["orders"] if order["better"] == best["name"] and order["established"]}
    if best["kind"] == "baseline":
        worse |= {arm["name"] for arm in ranked if arm["verdict"] == "worse"}
    elif best["verdict"] == "better":
        worse |= {arm["name"] for arm in ranked if arm["kind"] == "baseline"}
    return [i for i, arm in enumerate(arms) if arm in ranked and arm["name"] not in worse]


def _frontiers(body: Item) -> list[Block]:
    blocks: list[Block] = []
    for panel in body["panels"]:
        columns = [ARM, _right("cost"), Column("frontier"), _right("P(frontier)")]
        saves = any(point["saving_at_equal_quality"] for point in panel["arms"])
        columns += [_right("saving at equal quality")] if saves else []
        rows = []
        for point in panel["arms"]:
            said = {"percent": point["cost_percent"], "low": point["cost_low"], "high": point["cost_high"]}
            row = [point["name"], words.cost(said), point["status"], words.probability(point["probability"])]
            rows.append((*row, *([words.saving(point["saving_at_equal_quality"])] if saves else [])))
        setting = f" ({panel['setting']})" if panel["setting"] else ""
        strong = frozenset((i, 2) for i, point in enumerate(panel["arms"]) if point["status"] == "on the frontier")
        blocks.append(Table(f"Quality against {panel['title']}{setting}", tuple(columns), tuple(rows), strong))
        blocks += [Prose(_volume(panel, body["study"]["metric"]))] if panel["hypervolume"] else []
        if panel["missing"]:
            blocks.append(Prose(f"Not measured: {words.listed(panel['missing'])}."))
    return blocks


def _volume(panel: Item, metric: str) -> str:
    def said(volume: Item) -> str:
        low, middle, high = (words.scaled(volume[key], metric) for key in ("low", "value", "high"))
        return f"{middle:.3g} {words.UNITS[metric]} [{low:.3g}, {high:.3g}]"

    sentence = (
        f"Hypervolume: a budget up to a tenth beyond the largest cost buys {said(panel['hypervolume'])} on average"
    )
    naive = panel["hypervolume_naive"]
    return sentence + (f"; with naive scaling alone {said(naive)}." if naive else ".")


def _naive(body: Item) -> list[Block]:
    """What the paper calls times fewer, and the share of naive scaling's gain."""
    arms = [arm for arm in body["arms"] if arm["share_of_naive_gain"]]
    panel = next((panel for panel in body["panels"] if panel["name"] == "parameters"), None)
    points = {point["name"]: point for point in panel["arms"]} if panel else {}
    if not arms:
        return []
    naive = arms[0]["share_of_naive_gain"]["of"]
    columns = (ARM, _right(f"share of {naive}'s gain"), _right("parameters: times fewer", text.times))
    rows = tuple(
        (
            arm["name"],
            words.share(arm["share_of_naive_gain"]),
            points.get(arm["name"], {}).get("times_fewer_than_naive"),
        )
        for arm in arms
    )
    return [Table(f"Against {naive}", columns, rows)]


def _orders(body: Item) -> list[Block]:
    orders, metric = body["orders"], body["study"]["metric"]
    if not orders:
        return []
    open_ones = sorted((order for order in orders if not order["established"]), key=lambda order: order["p"] or 0)
    known = len(orders) - len(open_ones)
    said = f"Of {len(orders):,} pairs of arms beside the baseline the order of {known:,} is established."
    columns = (
        Column("ahead", code=True),
        Column("of", code=True),
        _right("by, 95 % interval"),
        _right("p"),
        _right("p (Holm)"),
    )
    shown = [*(order for order in orders if order["established"]), *open_ones][:MANY]
    rows = tuple(
        (o["better"], o["worse"], words.gain(o, metric), words.short_p(o["p"]), words.short_p(o["p_holm"]))
        for o in shown
    )
    strong = frozenset((i, 2) for i, order in enumerate(shown) if order["established"])
    more = f" {len(orders) - MANY:,} of them are not listed here; JSON has them all." if len(orders) > MANY else ""
    return [Table("Arms against each other", columns, rows, strong), Prose(said + more + " Established ones are bold.")]


def _costs(body: Item) -> list[Block]:
    """Everything that was counted and timed, in all and added."""
    blocks: list[Block] = []
    for setting in body["settings"]:
        name = setting["name"]
        kind = name.partition("_")[0]
        arms = [arm for arm in body["arms"] if name in arm["costs"]]
        read = {"parameters": text.count, "flops": text.amount, "memory": text.size}.get(kind, _milliseconds)
        columns = [ARM, _right(_UNITS[kind], read)]
        columns += [_right("added", read)] if kind in ("parameters", "flops", "memory") else []
        columns.append(_right("added, in percent"))
        rows = []
        for arm in arms:
            paid = arm["costs"][name]
            row = [arm["name"], paid["total"], *([paid["added"]] if len(columns) == 4 else [])]
            rows.append((*row, words.cost(paid)))
        said = f" ({setting['setting']})" if setting["setting"] else ""
        blocks.append(Table(f"Cost: {setting['title']}{said}", tuple(columns), tuple(rows)))
    return [Heading(3, "What the arms cost"), *blocks] if blocks else []


_UNITS = {"parameters": "parameters", "flops": "FLOPs", "memory": "peak", "latency": "ms", "step": "ms"}


def _printed(body: Item) -> list[Block]:
    columns = (ARM, _right("paper", text.percent), _right("counted", text.percent), Column("remark", prose=True))
    rows = tuple((row["arm"], row["paper_percent"], row["percent"], row["remark"]) for row in body["printed"])
    return [Table("Added parameters: the paper's figure beside the count", columns, rows)] if rows else []


def _paper(body: Item) -> list[Block]:
    found = body["paper"]
    if found is None:
        return []
    columns = (
        ARM,
        _right("paper: share of +1 layer's gain"),
        _right("here"),
        _right("paper: times fewer parameters", text.times),
        _right("here", text.times),
    )
    rows = tuple(
        (
            row["arm"],
            f"{100 * row['paper_share_of_naive_gain']:.0f} %",
            words.share(row["share_of_naive_gain"]),
            row["paper_times_fewer"],
            row["times_fewer"],
        )
        for row in found["rows"]
    )
    return [Table("The paper beside this run", columns, rows), Prose(f"Paper: {found['source']}. {found['remark']}")]


def _pictures(body: Item, number: int, kind: str) -> list[Block]:
    return [Picture(f"{number}-{kind}", CAPTIONS[kind])] if body[DATA[kind]] else []


def _origin(document: Item) -> list[Block]:
    blocks: list[Block] = []
    if document["environment"]:
        columns = (Column("record"), Column("device"), Column("versions", prose=True))
        rows = tuple((item["kind"], item["device"], item["versions"]) for item in document["environment"])
        blocks += [Heading(2, "Environment"), Table("Devices and versions", columns, rows)]
    counts = ", ".join(f"{number:,} {kind}" for kind, number in document["records"].items()) or "none"
    blocks += [Heading(2, "Again"), Prose(f"Records: {counts}. The measurements were made by")]
    blocks += [Code(tuple(document["commands"]))] if document["commands"] else []
    blocks += [Prose("and this report by"), Code((document["command"],))]
    return blocks


def _right(title: str, read: Any = text.words) -> Column:
    return Column(title, read, align="right")


def _milliseconds(value: float | None) -> str:
    return text.NOTHING if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
