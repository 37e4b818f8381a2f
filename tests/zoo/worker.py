"""A process that checks one model after the other: names come in by line, results go out by line as JSON.

It dies alone: out of memory or out of time, the sweep starts another one and goes on.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import torch

from tests.zoo.cases import all_cases
from tests.zoo.check import as_record, check


def main() -> None:
    """Answer until standard input ends. Arguments: threads, and the limit of memory in GiB."""
    threads, gibibytes = int(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(threads)
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what models print goes to standard error
    cases = {case.name: case for case in all_cases()}
    for line in sys.stdin:
        answers.write(json.dumps(as_record(check(cases[line.strip()]))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
