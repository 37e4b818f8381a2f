"""JSON Schema (draft 2020-12) from the types of documents.

Of the libraries that do this, pydantic's TypeAdapter is the best kept. It is not used: it would become a dependency of
`laurel records --schema`, and its validator reads what we must refuse ("600" for 600) unless every field says
otherwise. What our types consist of fits into one file.
"""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from laurel_cli.schemas.marks import Above, AtLeast, Below, Matches, fields, is_mapping, is_object, parts

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
Plain = dict[str, Any]


def json_schema(name: str, of: Any, *, closed: bool = False) -> Plain:
    """The schema of one document.

    Args:
        name: of the schema, "laurel.study/2".
        of: a TypedDict, or a union of several.
        closed: refuse keys that the types do not name. A later version may add some, so what is published is open.

    Raises:
        TypeError: a type of which nothing is said here.
    """
    definitions: dict[str, Plain] = {}
    body = _schema(of, definitions)
    more = {"additionalProperties": False} if closed else {}
    named = {key: definitions[key] | more for key in sorted(definitions)}
    return {"$schema": DRAFT, "title": name, **body, "$defs": named}


def _schema(hint: Any, definitions: dict[str, Plain]) -> Plain:
    bare, said = parts(hint)
    found = _bare(bare, definitions)
    for one in said:
        match one:
            case AtLeast(low):
                found["minimum"] = low
            case Above(low):
                found["exclusiveMinimum"] = low
            case Below(high):
                found["exclusiveMaximum"] = high
            case Matches(pattern):
                found["pattern"] = f"^(?:{pattern})$"
    return found


def _bare(hint: Any, definitions: dict[str, Plain]) -> Plain:
    if hint is Any:
        return {}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if is_object(hint):
        return _object(hint, definitions)
    if is_mapping(hint):
        return {"type": "object", "additionalProperties": _schema(get_args(hint)[1], definitions)}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
    if origin is list:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is tuple:
        items = [_schema(arg, definitions) for arg in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (Union, UnionType):
        return _union([_schema(arg, definitions) for arg in args])
    raise TypeError(f"nothing is said of {hint!r} in JSON Schema")


def _union(found: list[Plain]) -> Plain:
    """`{"type": ["integer", "null"]}` where that says it all."""
    if all(set(one) == {"type"} for one in found):
        return {"type": [one["type"] for one in found]}
    return {"anyOf": found}


def _object(of: Any, definitions: dict[str, Plain]) -> Plain:
    """A reference; the object itself, with its docstring, goes to `definitions`."""
    name = of.__name__
    if name not in definitions:
        definitions[name] = {}
        properties = {field.name: _schema(field.hint, definitions) for field in fields(of)}
        body: Plain = {"type": "object", "description": inspect.getdoc(of) or "", "properties": properties}
        body["required"] = [field.name for field in fields(of) if field.required]
        definitions[name] = body
    return {"$ref": f"#/$defs/{name}"}
