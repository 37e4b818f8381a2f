"""The public surface: what `laurel_cli` exports, and that importing it is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import laurel_cli


def test_exported_names_are_pinned():
    assert laurel_cli.__all__ == [
        "LaurelError",
        "Spec",
        "__version__",
        "add_arms",
        "analyze",
        "apply",
        "apply_laurel",
        "as_inputs",
        "count",
        "find_connections",
        "fold",
        "fold_training",
        "load",
        "parameters",
        "profile",
        "remove",
        "report",
        "residual_map",
        "restore",
        "save",
        "train",
        "unfold_training",
    ]


def test_every_exported_name_is_what_it_says():
    for name in laurel_cli.__all__:
        value = getattr(laurel_cli, name)
        assert name == "__version__" or (callable(value) and value.__name__ == name)
    assert set(laurel_cli.__all__) <= set(dir(laurel_cli))


def test_a_function_is_not_hidden_by_the_module_of_its_name(python):
    python("from laurel_cli.analysis import analyze; import laurel_cli; assert laurel_cli.analyze is analyze")


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(laurel_cli, "nothing")


def test_importing_the_package_imports_no_torch(laurel_env):
    script = "import sys, laurel_cli; laurel_cli.Spec; assert not {'torch', 'typer', 'rich'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], env=laurel_env, check=False).returncode == 0


def test_a_class_name_stands_for_one_thing():
    """No two classes of the package share a name."""
    home = Path(laurel_cli.__file__).parent
    found: dict[str, list[str]] = {}
    for path in sorted(home.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(home)))
    assert len(found) > 100
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
