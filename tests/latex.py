"""The LaTeX that is installed here, if it has what our pages load."""

from __future__ import annotations

import re
import shutil
import subprocess

from laurel_cli.render import latex


def found() -> str | None:
    """Path of pdflatex, None where it or a package of ours is missing."""
    program, search = shutil.which("pdflatex"), shutil.which("kpsewhich")
    if program is None or search is None:
        return None
    needed = re.findall(r"^\\usepackage(?:\[[^]]*\])?\{(\w+)\}", latex.PREAMBLE, re.MULTILINE)
    assert "siunitx" in needed
    words = [search, *(f"{name}.sty" for name in needed)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return program if len(done.stdout.split()) == len(needed) else None
