"""`laurel --help` and friends start at once."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "transformers", "pandas", "numpy", "matplotlib", "scipy"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["analyze", "--help"], ["models", "vgg"], ["frob"]])
def test_no_heavy_import(words, laurel_env):
    script = (
        "import sys\nfrom laurel_cli.cli.main import run\n"
        f"try: run({words!r})\n"
        f"finally: print('heavy:', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=laurel_env, capture_output=True, text=True, check=False)
    assert "heavy: []" in done.stderr


def test_importing_the_app_needs_no_rich(laurel_env):
    script = "import sys, laurel_cli.cli.app; assert 'rich' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], env=laurel_env, check=False).returncode == 0
