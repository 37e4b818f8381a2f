"""What a person sees of the document of `laurel convert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Page, answer

SAME = {"float32": 1e-6, "float64": 1e-12}  # below it the function is called unchanged; other dtypes: exactly alike


def page(document: Mapping[str, Any]) -> Page:
    """What was written, and whether it computes what it did."""
    added = f"{text.count(document['added'])} of {text.count(document['parameters'])} parameters"
    facts = [
        ("model", document["model"]),
        ("learned", f"{document['arm']} at {document['connections']} residual connections, {added}"),
        ("function", _function(document["difference"], document["dtype"])),
        ("folder", document["folder"]),
        ("open it with", f"laurel_cli.load({document['folder']!r})"),
    ]
    if document.get("architecture"):
        how = f"import laurel_cli, then from_pretrained of an Auto class that has {document['architecture']}"
        facts.append(("in transformers", how))
    row = {key: value for key, value in document.items() if key not in ("schema", "command", "warnings")}
    return answer(f"{document['model']} with {document['arm']}", document, rows=[row], tables=[], facts=facts)


def _function(far: float | None, dtype: str) -> str:
    """How far what is computed has moved, in words."""
    if far is None:
        return f"not compared: in {dtype}, on the example inputs, the model returns no finite number"
    moved = "no output changed" if far == 0 else f"outputs changed by {far:.2g} of the largest one"
    kept = far <= SAME.get(dtype, 0.0)
    return f"{'unchanged' if kept else 'changed'}: in {dtype}, on the example inputs, {moved}"
