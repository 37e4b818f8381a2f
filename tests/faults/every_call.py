"""Writers of one file, each system call of which fails in turn: `python -m tests.faults.every_call PLAN FOLDER`.

The shim of `tests.bench.reliability.shim` is loaded before it. Prints a JSON line for each failure.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from laurel_cli.errors import LaurelError, lacking
from laurel_cli.records.files import UNFINISHED, write_whole
from laurel_cli.records.folder import gather, merge
from laurel_cli.records.store import write
from laurel_cli.tasks.reading import cache
from tests.bench.reliability.shim import CALLS, FAULTS, Shim

OLD, NEW = "old\n" * 10_000, "new\n" * 10_000


def prepared(folder):
    cache.obtain(folder, "data", {"a": 1}, lambda writer: writer.put("x", cache.np.arange(50_000)) or {})


WRITERS = {
    "a file that is replaced": lambda folder: write_whole(folder / "old", NEW, force=True),
    "a file that is new": lambda folder: write_whole(folder / "new", NEW, force=False),
    "a record": lambda folder: write(folder / "kept", "analyze", "complete", {"a": NEW}),
    "a merge": lambda folder: merge(gather([folder / "source"]), folder / "into"),
    "prepared data": prepared,
}


def lay_out(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "old").write_text(OLD)
    for number in range(2):
        write(folder / "source", "other", "complete", {"a": NEW, "number": number})


def held(folder):
    """What files hold; times and locks are left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {
        str(path.relative_to(folder)): json.loads(path.read_bytes())["content"]
        if path.suffix == ".json"
        else path.read_bytes().hex()
        for path in files
        if not UNFINISHED.fullmatch(path.name)
    }


def in_a_copy(work, folder, plan):
    """Run a writer in a copy of this process, which meets the fault; what it raised, as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.environ["LAUREL_SHIM"] = str(plan)
        said = {"code": 0, "text": ""}
        try:
            work(folder)
        except LaurelError as error:
            said = {"code": error.exit_code, "text": str(error)}
        except OSError as error:  # as the commands take it
            ours = lacking(error)
            said = {"code": ours.exit_code if ours else 1, "text": str(ours or repr(error))}
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        found = file.read()
    os.waitpid(pid, 0)
    return json.loads(found)


def main(plan, folder):
    shim = Shim(plan)
    for name, work in WRITERS.items():
        lay_out(folder)
        before = held(folder)
        shim.tell(folder)
        assert in_a_copy(work, folder, plan)["code"] == 0
        letters, _ = shim.seen()
        after = held(folder)
        for at, letter in enumerate(letters, 1):
            for fault in FAULTS:
                if letter not in fault.calls:
                    continue
                lay_out(folder)
                shim.tell(folder, at, fault)
                said = in_a_copy(work, folder, plan)
                _, failed = shim.seen()
                found = held(folder)
                left = [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]
                for path in left:
                    os.utime(path, (time.time() - 60,) * 2)
                new = name == "a file that is new" and found == after  # which is refused a second time
                again = {"code": 0} if new else in_a_copy(work, folder, folder / "no plan")
                told = {"writer": name, "call": CALLS[letter], "at": at, "fault": fault.name, "failed": failed, **said}
                torn = [path for path, data in found.items() if data not in (before.get(path), after.get(path))]
                told |= {"left": len(left), "complete": found == after, "torn": torn}
                told |= {"lost": sorted(before.keys() - found.keys()), "again": again["code"]}
                told["ends"] = held(folder) == after
                told["swept"] = not [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
