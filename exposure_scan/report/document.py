"""The JSON document of a scan: its published schema, and how a saved one is read again."""

from __future__ import annotations

import json
import re

from exposure_scan.model import SCHEMA, Problem, Scan
from exposure_scan.model.text import json_text, terminal_text

from .material import Material

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_FAMILY = re.compile(r"exposure-scan/scan/([0-9]{1,9})\Z")
_MOST_PROBLEMS = 5
_GIVE = "Give a file that `scan --json` wrote."


def schema_json() -> str:
    """The JSON Schema (draft 2020-12) of the document that `Scan.to_json` writes, ending in a newline."""
    schema = Scan.model_json_schema(mode="serialization", by_alias=True)
    required = ["schema", *(name for name in schema["required"] if name != "schema")]
    document = {"$schema": _DRAFT, "$id": SCHEMA, **schema, "required": required}
    return json_text(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def render_json(material: Material) -> str:
    """The scan's own document."""
    return material.scan.to_json()


def load_scan(text: str) -> Scan:
    """Read a saved scan.

    Raises:
        Problem: the text is not JSON, not ours, of a newer version, or damaged; says which and what to do.
    """
    import pydantic
    from pydantic_core import from_json

    try:
        document = from_json(text.removeprefix("\ufeff"), allow_inf_nan=False)
    except ValueError as error:
        raise Problem(f"This is not JSON ({terminal_text(str(error))}). {_GIVE}") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise Problem(_foreign(found))
    try:
        return Scan.model_validate_json(text.removeprefix("\ufeff"))
    except pydantic.ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        sentences = [
            f"The saved scan is damaged at {terminal_text(_path(one['loc']))}: {terminal_text(one['msg'])}."
            for one in errors[:_MOST_PROBLEMS]
        ]
        if len(errors) > _MOST_PROBLEMS:
            sentences.append(f"It has {len(errors) - _MOST_PROBLEMS} more such places; take an undamaged copy.")
        raise Problem(*sentences) from None


def _foreign(found: object) -> str:
    if not isinstance(found, str):
        return f'This JSON is no saved scan: it lacks "schema": "{SCHEMA}". {_GIVE}'
    match = _FAMILY.match(found)
    ours = int(SCHEMA.rpartition("/")[2])
    if match and int(match[1]) > ours:
        return f"A newer exposure-scan saved this scan (schema {found}); this one reads {SCHEMA}. Update it."
    return f'This JSON is of schema "{terminal_text(found)}"; only {SCHEMA} can be read.'


def _path(parts: tuple[int | str, ...]) -> str:
    """``hosts[0].ports[3].state``."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "its top"
