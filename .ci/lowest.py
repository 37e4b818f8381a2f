"""Write the lowest version of everything that a pyproject.toml depends on, one `name==version` a line, for pip."""

import re
import sys
import tomllib
from pathlib import Path

RUN_APART = {"tpu"}  # extras that need another environment


def main(path: Path) -> None:
    """Write the lines; a requirement without a lower bound is an error."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = (needed for name, needed in project["optional-dependencies"].items() if name not in RUN_APART)
    for requirement in sorted({*project["dependencies"], *(line for needed in extras for line in needed)}):
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
        if name == project["name"]:
            continue  # its own extras
        bound = re.search(r">=\s*([^,;\s]+)", requirement)
        if bound is None:
            sys.exit(f"{path}: {requirement!r} has no lower bound.")
        sys.stdout.write(f"{name}=={bound[1]}\n")


main(Path(sys.argv[1]))
