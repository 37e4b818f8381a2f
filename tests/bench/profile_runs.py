"""Real runs of `laurel profile`, one page of their answers; their records go to reports/records.

Runs that the page already holds are kept, so that a broken series can go on; remove the file to begin anew.

python -m tests.bench.profile_runs cpu --output reports/profile-cpu.md
python -m tests.bench.profile_runs cuda --output reports/profile-cuda.md
PJRT_DEVICE=CPU python -m tests.bench.profile_runs xla --output reports/profile-xla.md
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL = "--variant rw,lr,pa,rw+lr,rw+lr+pa --rank 16"
RANKS = "--variant rw,rw+lr,rw+lr+pa --rank 16"
LLAMA_1B = "llama-3.2-1b"
RUNS = {
    "cpu": [
        f"resnet50 {ALL} --batch 8",
        f"resnet50 {ALL} --batch 4 --mode train",
        "resnet50 --variant rw,rw+lr --rank 16 --batch 4 --mode train --folded",
        f"gpt2 {ALL} --seq-len 128",
        f"gpt2 {ALL} --seq-len 64 --mode train",
        f"vit_b_16 {ALL}",
        f"vit_b_16 {ALL} --mode train",
    ],
    "cuda": [  # the first ones first, where time on the device is short
        f"{model} {RANKS} {size} --mode {mode} --dtype bf16{compiled}"
        for compiled in ("", " --compile")
        for model, size, mode in (
            ("resnet50", "--batch 64 --channels-last", "infer"),
            ("gpt2", "--batch 8 --seq-len 1024", "train"),
            ("vit_b_16", "--batch 64", "infer"),
            ("resnet50", "--batch 64 --channels-last", "train"),
            ("vit_b_16", "--batch 64", "train"),
            ("gpt2", "--batch 8 --seq-len 1024", "infer"),
            (LLAMA_1B, "--batch 1 --seq-len 2048", "infer"),
            (LLAMA_1B, "--batch 1 --seq-len 2048", "train"),
        )
    ],
    "xla": [f"resnet18 --variant rw,rw+lr --rank 16 --image-size 64 --mode {mode}" for mode in ("infer", "train")],
}


def run(device: str, words: str, max_time: float) -> str:
    """The markdown answer of one run, under its command line; what failed says why."""
    options = ["--device", device, "--max-time", f"{max_time:g}", "--format", "markdown"]
    command = [sys.executable, "-m", "laurel_cli", "profile", *shlex.split(words), *options]
    print("laurel profile", words, flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    return _head(words) + (
        done.stdout if done.returncode == 0 else f"Failed, exit code {done.returncode}: {done.stderr}\n"
    )


def _head(words: str) -> str:
    return f"## `laurel profile {words}`\n\n"


def _kept(page: Path) -> dict[str, str]:
    """Sections of a page by their first line."""
    if not page.exists():
        return {}
    sections = page.read_text().split("\n## ")[1:]
    return {"## " + section.partition("\n")[0]: "## " + section.rstrip("\n") + "\n" for section in sections}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile_runs", description=__doc__)
    parser.add_argument("device", choices=RUNS)
    parser.add_argument("--max-time", type=float, default=600)
    parser.add_argument("--output", type=Path, metavar="FILE", required=True)
    chosen = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision"))
    parts = [
        f"# `laurel profile` on {chosen.device}\n\nMade by `python -m tests.bench.profile_runs {chosen.device} "
        f"--max-time {chosen.max_time:g}`; {platform.machine()}, {os.cpu_count()} cores, {versions}.\n"
    ]
    kept = _kept(chosen.output)
    for words in RUNS[chosen.device]:
        parts.append(kept.get(_head(words).strip()) or run(chosen.device, words, chosen.max_time))
        chosen.output.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
