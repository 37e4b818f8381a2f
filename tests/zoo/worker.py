"""A process that checks one model after the other: names come in by line, results go out by line as JSON.

It dies alone: out of memory or out of time, the sweep starts another one and goes on.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch


def main() -> None:
    """Answer until standard input ends. Arguments: threads, the limit of memory in GiB, "small" or "full"."""
    threads, gibibytes = int(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(threads)
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models print goes to standard error
    answer = _full() if sys.argv[3:] == ["full"] else _small()
    for line in sys.stdin:
        answers.write(json.dumps(answer(line.strip())) + "\n")
        answers.flush()


def _small() -> Callable[[str], dict[str, Any]]:
    from tests.zoo.cases import all_cases
    from tests.zoo.check import as_record, check
    from tests.zoo.report import made_with

    cases = {case.name: case for case in all_cases()}
    with_what = {"made_with": made_with()}  # what is installed and edited later made no row of this process
    return lambda name: as_record(check(cases[name])) | with_what


def _full() -> Callable[[str], dict[str, Any]]:
    from tests.zoo.full_check import full_check

    return full_check


if __name__ == "__main__":
    main()
