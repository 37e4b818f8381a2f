"""Analyze models at their default size, on fake tensors: `python -m tests.zoo.full`.

Every shipped shape and every causal, masked, encoder-decoder, vision and audio configuration class of transformers.
Results go to a file of JSON lines, one a model, as soon as each is known; a second run does what is missing, so that a
killed one goes on. `--report` renders that file as reports/zoo-full.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.zoo.full_cases import KINDS, FullCase, full_cases
from tests.zoo.report import versions
from tests.zoo.sweep import ROOT, read, sweep

RESULTS = ROOT / "build" / "zoo-full.jsonl"
REPORT = ROOT / "reports" / "zoo-full.md"

Record = dict[str, Any]


def chosen(options: argparse.Namespace, known: Mapping[str, Record]) -> list[FullCase]:
    """What is to be looked at in this run."""
    cases = [case for case in full_cases(options.kind) if fnmatch.fnmatch(case.reference, options.only)]
    if options.every > 1:
        cases = cases[:: options.every]
    if options.again != "all":
        failed = {name for name, record in known.items() if record["status"] == "failed"}
        again = failed if options.again == "failed" else set()
        cases = [case for case in cases if case.reference not in known or case.reference in again]
    return cases


def at_defaults(results: Path) -> dict[str, str]:
    """Why each model failed that was given no values, in its last try without."""
    lines = map(json.loads, filter(str.strip, results.read_text().splitlines()))
    return {r["name"]: r["problems"][0] for r in lines if r["status"] == "failed" and not r.get("given")}


def page(records: Sequence[Record], total: int, without: Mapping[str, str]) -> str:
    """The report: how many of each kind are counted, every failure with its reason, a table.

    Args:
        without: why models that are given values failed at their defaults, by name.
    """
    lines = ["# Models at their default size\n", f"{__doc__.strip().partition(chr(10))[0]} {versions()}\n"]
    lines.append("A model that was counted is not counted again when laurel changes, unless `--again all` is given.\n")
    lines += ["| kind | models | counted | percent | without a connection | failed |", "|---|--:|--:|--:|--:|--:|"]
    for kind in (*dict.fromkeys(record["kind"] for record in records), "all"):
        group = [record for record in records if kind in ("all", record["kind"])]
        tally = {status: sum(r["status"] == status for r in group) for status in ("passed", "none", "failed")}
        share = f"{100 * (tally['passed'] + tally['none']) / len(group):.1f}"
        lines.append(f"| {kind} | {len(group)} | {tally['passed']} | {share} | {tally['none']} | {tally['failed']} |")
    if len(records) < total:
        lines.append(f"\n{total - len(records)} of {total} models have not been looked at yet.")
    for title, status in (("Failures", "failed"), ("Without a residual connection", "none")):
        lines.append(f"\n## {title}\n")
        named = [record for record in records if record["status"] == status]
        lines += [f"- `{r['name']}` ({r.get('model') or 'not built'}): {'; '.join(r['problems'])}" for r in named]
        lines += [] if named else ["None."]
    given = [record for record in records if record.get("given")]
    if given:
        lines.append("\n## Values that the defaults lack\n")
        lines.append(
            "transformers itself cannot build or run these at its defaults, mostly since a field is left None.\n"
        )
        for r in given:
            reason = without.get(r["name"], "not tried at its defaults.")
            lines.append(f"- `{r['name']}`: {reason} Given: `{json.dumps(r['given'])}`")
    lines += ["\n## All\n", "| model | class | parameters | MACs | connections | projection | refused | s | |"]
    lines.append("|---|---|" + "--:|" * 6 + "---|")
    for r in records:
        bound = ">= " if r.get("uncounted") else ""
        numbers = f"{r.get('parameters', 0):,} | {bound}{r.get('macs', 0):,} | {r.get('connections', 0)}"
        rest = f"{r.get('projection', 0)} | {r.get('refused', 0)} | {r['seconds']} | {r['status']}"
        lines.append(f"| {r['name']} | {r.get('model', '')} | {numbers} | {rest} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line. Exit status 1 where a model failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.full", description=__doc__)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="references to look at, with * and ?")
    parser.add_argument("--kind", choices=("shape", *KINDS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: every N-th model")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--again", choices=("failed", "all"), help="look at these though they have a result")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="a model (default %(default)s)")
    parser.add_argument("--memory", type=float, default=8.0, metavar="GIB", help="of the worker (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the worker (default %(default)s)")
    parser.add_argument("--report", action="store_true", help="look at nothing, write reports/zoo-full.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker is stopped on the way out
    if not options.report:
        sweep(options, {case.reference: case.kind for case in chosen(options, read(options.results))}, "full")
    known = read(options.results)
    if options.report:
        cases = full_cases()
        found = [known[c.reference] for c in cases if c.reference in known]
        REPORT.write_text(page(found, len(cases), at_defaults(options.results)))
    return int(any(record["status"] == "failed" for record in known.values()))


if __name__ == "__main__":
    sys.exit(main())
