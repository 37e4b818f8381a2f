"""What a person sees of the document of `laurel convert --fold`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Page, answer


def page(document: Mapping[str, Any]) -> Page:
    """What was folded, how far the file is from the model, how it is opened."""
    far, dtype = document["difference"], document["dtype"]
    moved = "no output differs" if far == 0 else f"outputs differ by {far:.2g} of the largest one"
    folded = f"factors of {document['arm']} at {document['folded']} of {document['connections']} connections"
    sums = ", ".join(f"{count} {form}" for form, count in document.get("sums", {}).items())
    norms = document.get("norms", 0)
    facts = [
        ("model", document["model"]),
        ("folded", folded),
        ("sums", sums or f"{document['plain']} f + x"),
        *([("norms", f"{norms} merged into the convolutions before them")] if norms else []),
        *(("left", reason) for reason in document["left"]),
        ("function", f"as the file computes it, in {dtype}, on the example inputs, {moved}"),
        ("samples", "any number" if document["batch"] == 0 else f"{document['batch']} at a time"),
        ("file", document["file"]),
        ("open it with", f"torch.export.load({document['file']!r}).module()"),
    ]
    row = {
        key: value for key, value in document.items() if key not in ("schema", "command", "warnings", "left", "sums")
    }
    return answer(f"{document['model']}, folded", document, rows=[row], tables=[], facts=facts)
