"""What a person sees of the document of `laurel report`: the answer, the tables, the figures, how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.arms import kind_of
from laurel_cli.render.page import Block, Bullets, Code, Column, Heading, Page, Picture, Prose, Table
from laurel_cli.render.pages.report_quality import ARM, gates, quality, right
from laurel_cli.reports import words
from laurel_cli.reports.figures.captions import DATA, caption
from laurel_cli.reports.frontier import CONTROL, FRONTIER
from laurel_cli.reports.rows import rows as flat_rows
from laurel_cli.verdict.effects import WORSE
from laurel_cli.verdict.findings import JUDGED
from laurel_cli.verdict.trials import alike

Item = Mapping[str, Any]
MANY = 24  # orders listed one by one at most


def page(document: Item) -> Page:
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
    return Page("LAuReL: quality against cost", tuple(blocks), document, rows=flat_rows(document), is_titled=True)


def _comparison(body: Item, number: int) -> list[Block]:
    model, study = body["model"], body["study"]
    said = str(model["reference"]) + (f", study {study['name']}" if study else "")
    blocks: list[Block] = [Heading(2, said), Prose(body["answer"][0], strong=True)]
    blocks += [Bullets(tuple(body["answer"][1:]))] if body["answer"][1:] else []
    blocks.append(Table("What was measured", (Column("fact"), Column("value", prose=True)), _facts(body)))
    if study is not None:
        blocks += [*quality(body), *gates(body), *_pictures(body, number, "frontier"), *_frontiers(body)]
        blocks += [*_naive(body), *_alike(body), *_orders(body)]
        blocks += [*_pictures(body, number, "sweep"), *_pictures(body, number, "curves")]
        blocks += _pictures(body, number, "coefficients")
    blocks += [*_costs(body), *_to_naive(body), *_pictures(body, number, "latency"), *_pictures(body, number, "where")]
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
    better = "higher" if metric == "accuracy" else "lower"
    facts.append(("verdict by", f"{metric} at the last step, {better} is better"))
    if study["shown"] != metric:
        facts.append(("shown", f"{study['shown']}, of which nothing is claimed"))
    facts.append(("trials", words.trials(study["trials"])))
    blocks = {True: "every arm with every seed", False: "none: the arms share no seeds", None: "-"}[study["paired"]]
    facts.append(("paired blocks", blocks))
    if study["correlation"] is not None:
        facts.append(("correlation with the baseline over blocks", f"{study['correlation']:.2f}"))
    if study["noise_floor"] is not None:
        facts.append(("noise floor", _noise(study["noise_floor"], metric)))
    if study["smallest_visible"] is not None:
        facts.append(("smallest gain seen four times in five", words.visible(study["smallest_visible"], metric)))
    if study["chance_loss"] is not None:
        facts.append(("chance", f"{study['chance_loss']:.4g} nats"))
    facts.append(("trained on", str(study["device"])))
    return tuple(facts)


_AMOUNTS = {"train_examples": "train on", "evaluation_examples": "evaluate on"}


def _noise(floor: Item, metric: str) -> str:
    spread = "" if floor["sd"] is None else f"standard deviation {words.size(floor['sd'], metric)}: {floor['what']}"
    copy = floor["gain"]
    if copy is None:
        return spread or text.NOTHING
    beside = f"the copy's gain {words.gain_at(copy, metric)}"
    return f"{spread}; {beside}" if spread else beside


def _frontiers(body: Item) -> list[Block]:
    blocks: list[Block] = []
    for panel in body["panels"]:
        measured = any(point["level"] is not None for point in panel["arms"])
        counted = panel["cost"] == "flops"
        saves = any(point["times_fewer"] for point in panel["arms"])
        columns = [ARM, right("cost")]
        columns += [right("level", words.level)] if measured else []
        columns += [right("elementwise added", text.amount)] if counted else []
        columns.append(Column("frontier"))
        columns += [right("times less than naive+1 for equal quality"), right("level", words.level)] if saves else []
        rows = []
        for point in panel["arms"]:
            said = {"percent": point["cost_percent"], "low": point["cost_low"], "high": point["cost_high"]}
            said |= {"lower_bound": point.get("lower_bound", False)}
            row: list[Any] = [point["name"], words.cost(said)]
            row += [_level(said | {"level": point["level"]})] if measured else []
            row += [point["elementwise_added"]] if counted else []
            row.append(point["status"])
            if saves:
                times = point["times_fewer"]
                judged = times is not None or _may_be_compared(point["name"], body)
                row += [words.saving(times) if judged else text.NOTHING, times and times["level"]]
            rows.append(tuple(row))
        setting = f" ({panel['setting']})" if panel["setting"] else ""
        where = columns.index(next(column for column in columns if column.title == "frontier"))
        strong = frozenset((i, where) for i, point in enumerate(panel["arms"]) if point["status"] == FRONTIER)
        blocks.append(Table(f"Quality against {panel['title']}{setting}", tuple(columns), tuple(rows), strong))
        blocks += _below(panel, body, strong=bool(strong))
    return blocks


def _may_be_compared(name: str, body: Item) -> bool:
    """Whether an arm stands against naive scaling: it is neither that, nor the baseline or behind it, nor a control."""
    arm = next(arm for arm in body["arms"] if arm["name"] == name)
    return arm["role"] == "arm" and not kind_of(arm["kind"]).is_scaling and arm["verdict"] != WORSE


def _below(panel: Item, body: Item, strong: bool) -> list[Block]:
    """What the words and the bold of a frontier table mean."""
    said = ["Bold: on the frontier, established to be better than every arm that may cost no more."] if strong else []
    if any(point["status"] == CONTROL for point in panel["arms"]):
        said.append("The control is shown beside the arms and is no rival of theirs.")
    said += words.trained_longer(point["name"] for point in panel["arms"])
    if not body["study"]["declared"]["controls"]["recipe"]:
        said.append("No control of the recipe was run: the order may be that of the recipe.")
    if panel["cost"] == "flops":
        said.append("FLOPs are of products; one arm costs no more than another where it has no more of both columns.")
        if any(point["times_fewer"] for point in panel["arms"]):
            said.append("How many times less is of the products alone.")
    if panel["missing"]:
        said.append(f"Not measured: {words.listed(panel['missing'])}.")
    return [Prose(" ".join(said))] if said else []


def _naive(body: Item) -> list[Block]:
    """What naive scaling gains and would cost: known only where it is established to be better than the baseline."""
    study, metric = body["study"], body["study"]["metric"]
    arms = [arm for arm in body["arms"] if arm["role"] == "arm" and not kind_of(arm["kind"]).is_scaling]
    compared = [arm for arm in arms if arm["to_naive"]]
    known = study["equal_quality"]["known"]
    blocks: list[Block] = []
    if compared:
        columns = [ARM, right("gain over naive+1"), right("level", words.level), right("p (Holm)", words.short_p)]
        columns += [Column("verdict"), right("share of naive+1's gain")]
        rows = tuple(
            (
                arm["name"],
                words.gain(arm["to_naive"], metric),
                arm["to_naive"]["level"],
                arm["to_naive"]["p_holm"],
                arm["to_naive"]["verdict"],
                words.share(arm["share_of_naive"]),
            )
            for arm in compared
        )
        blocks.append(Table("Against naive+1", tuple(columns), rows))
    if arms and not known:
        blocks.append(
            Prose(f"What naive scaling would cost for the same quality is not known: {study['equal_quality']['why']}.")
        )
    saved = [arm for arm in arms if arm["steps_saved"]]
    if saved:
        columns = [ARM, right("steps that the baseline would need beyond its own"), right("level", words.level)]
        steps = tuple((arm["name"], words.steps(arm["steps_saved"]), arm["steps_saved"]["level"]) for arm in saved)
        blocks.append(Table("Steps saved", tuple(columns), steps))
    return blocks


def _alike(body: Item) -> list[Block]:
    """What arms with settings gain over the baseline with the same ones."""
    rows = tuple(
        (arm["name"], item["control"], words.gain(item["gain"], body["study"]["metric"]), *_tested(item["gain"]))
        for arm in body["arms"]
        for item in arm["controls"]
        if arm["verdict"] in JUDGED and item["control"] == alike(arm["name"])
    )
    columns = (
        ARM,
        Column("over", code=True),
        right("gain"),
        right("level", words.level),
        right("p (Holm)", words.short_p),
    )
    return [Table("Against the baseline with the same settings", columns, rows)] if rows else []


def _tested(gain: Item | None) -> tuple[float | None, float | None]:
    return (None, None) if gain is None else (gain["level"], gain["p_holm"])


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
        right("by"),
        right("level", words.level),
        right("p"),
        right("p (Holm)"),
    )
    shown = [*(order for order in orders if order["established"]), *open_ones][:MANY]
    rows = tuple(
        (o["better"], o["worse"], words.gain(o, metric), o["level"], words.short_p(o["p"]), words.short_p(o["p_holm"]))
        for o in shown
    )
    strong = frozenset((i, 2) for i, order in enumerate(shown) if order["established"])
    more = f" {len(orders) - MANY:,} of them are not listed here; JSON has them all." if len(orders) > MANY else ""
    bold = " Established ones are bold." if strong else ""
    recipe = " Orders are those at the study's recipe: no control stands between two arms."
    return [Table("Arms against each other", columns, rows, strong), Prose(said + more + bold + recipe)]


def _costs(body: Item) -> list[Block]:
    """Everything that was counted and timed, in all and added."""
    blocks: list[Block] = []
    for setting in body["settings"]:
        name = setting["name"]
        kind = name.partition("_")[0]
        arms = [arm for arm in body["arms"] if name in arm["costs"]]
        read = {"parameters": text.count, "flops": text.amount, "memory": text.size}.get(kind, words.milliseconds)
        measured = any(arm["costs"][name]["level"] is not None for arm in arms)
        keys = ["total"] + (["added"] if kind in ("parameters", "flops", "memory") else [])
        total = _at_least if kind == "flops" else read
        columns = [ARM, *(right(_UNITS[kind], total) if key == "total" else right(key, read) for key in keys)]
        if kind == "flops":
            keys.append("elementwise_added")
            columns.append(right("elementwise added", text.amount))
        columns.append(right("added, in percent"))
        columns += [right("level", words.level)] if measured else []
        rows = []
        for arm in arms:
            paid = arm["costs"][name]
            figures = paid | ({"total": (paid["total"], bool(paid.get("lower_bound")))} if kind == "flops" else {})
            row = [arm["name"], *(figures[key] for key in keys), words.cost(paid)]
            rows.append((*row, *([_level(paid)] if measured else [])))
        said = f" ({setting['setting']})" if setting["setting"] else ""
        blocks.append(Table(f"Cost: {setting['title']}{said}", tuple(columns), tuple(rows)))
    return [Heading(3, "What the arms cost"), *blocks] if blocks else []


def _at_least(found: tuple[float | None, bool]) -> str:
    """FLOPs, with a mark where they are a lower bound."""
    return (">= " if found[1] else "") + text.amount(found[0])


def _to_naive(body: Item) -> list[Block]:
    """Ratios to naive+1, of the profiles that tested them."""
    blocks: list[Block] = []
    for panel in body["latencies"]:
        rows = tuple(
            (arm["arm"], words.ratio(arm["to_naive"]), _level(arm["to_naive"]), arm["to_naive"]["verdict"])
            for arm in panel["arms"]
            if arm["to_naive"]
        )
        columns = (ARM, right("time over naive+1's"), right("level", words.level), Column("verdict"))
        blocks += [Table(f"Time against naive+1 ({panel['setting']})", columns, rows)] if rows else []
    return blocks


def _level(found: Item) -> float | None:
    """Of an interval, where there is one."""
    return None if found["low"] is None or found["high"] is None else found["level"]


_UNITS = {"parameters": "parameters", "flops": "FLOPs", "memory": "peak", "latency": "ms", "step": "ms"}


def _printed(body: Item) -> list[Block]:
    columns = (ARM, right("paper", text.percent), right("counted", text.percent), Column("remark", prose=True))
    rows = tuple((row["arm"], row["paper_percent"], row["percent"], row["remark"]) for row in body["printed"])
    return [Table("Added parameters: the paper's figure beside the count", columns, rows)] if rows else []


def _paper(body: Item) -> list[Block]:
    found = body["paper"]
    if found is None:
        return []
    columns = (
        ARM,
        right("paper: share of +1 layer's gain"),
        right("here"),
        right("paper: times fewer parameters", text.times),
        right("here, for equal quality"),
        right("level", words.level),
    )
    rows = tuple(
        (
            row["arm"],
            f"{100 * row['paper_share_of_naive_gain']:.0f} %",
            words.share(row["share_of_naive"]),
            row["paper_times_fewer"],
            words.saving(row["times_fewer"]),
            row["times_fewer"] and row["times_fewer"]["level"],
        )
        for row in found["rows"]
    )
    return [Table("The paper beside this run", columns, rows), Prose(f"Paper: {found['source']}. {found['remark']}")]


def _pictures(body: Item, number: int, kind: str) -> list[Block]:
    return [Picture(f"{number}-{kind}", caption(kind, body))] if body[DATA[kind]] else []


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
