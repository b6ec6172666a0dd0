"""One line for whatever is wrong with ``fleet.toml``: file, key, value, the nearest right key, what is accepted."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from fleet.config.values import duration_text
from fleet.errors import ConfigInvalid

Section = Sequence[str | int]
Models = Mapping[str, type[BaseModel]]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list, such as [1, 2]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_too_short": "text that is not empty",
}


def meant(name: str, accepted: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest right one, and all that are accepted.

    >>> meant("tiemout", ["timeout", "window"])
    '; did you mean "timeout"? accepted: timeout, window'
    """
    names = sorted(accepted)
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    guess = f'; did you mean "{folded[close[0]]}"?' if close else ";"
    return f"{guess} accepted: {', '.join(names) or 'none'}"


def toml_text(value: object) -> str:
    """A value as the file writes it, cut where it is long.

    >>> toml_text("x"), toml_text((24, 168)), toml_text(True)
    ('"x"', '[24, 168]', 'true')
    """
    if isinstance(value, timedelta):
        value = duration_text(value)
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(toml_text(item) for item in value) + "]"
    elif isinstance(value, Mapping):
        text = "{ " + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + " }"
    elif isinstance(value, str | bool):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def place(section: Section) -> str:
    """A section as its header stands in the file.

    >>> place(["overrides", "region=north", "train"]), place(["covariates", 0])
    ('[overrides."region=north".train]', '[[covariates]] no. 1')
    """
    if len(section) == 2 and isinstance(section[1], int):
        return f"[[{section[0]}]] no. {section[1] + 1}"
    bare = re.compile(r"[A-Za-z0-9_-]+")
    parts = [str(part) for part in section]
    return f"[{'.'.join(part if bare.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in parts)}]"


def syntax_error(file: str, error: tomllib.TOMLDecodeError, text: str) -> ConfigInvalid:
    """A file that is no TOML: line, column, and what the parser says."""
    said = str(error)
    found = re.search(r" \(at line (\d+), column (\d+)\)", said)
    what = said.replace(found[0], "") if found else said.replace(" (at end of document)", "") + ", the file ends"
    lines = text.split("\n")
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    return ConfigInvalid(
        f"{file}: line {line}, column {column}: {what}", hint="text stands in quotes, lists in brackets, one key a line"
    )


def unknown_key(file: str, section: Section, key: str, model: type[BaseModel], others: Models) -> ConfigInvalid:
    """A key that its section does not have, and the section that has it, if another does."""
    at_home = [f"[{name}]" for name, other in others.items() if key in other.model_fields and other is not model]
    here = sorted(model.model_fields)
    ending = (
        f"; it belongs in {' or '.join(at_home)}; accepted here: {', '.join(here)}" if at_home else meant(key, here)
    )
    header = f"{place(section)} " if section else ""
    return ConfigInvalid(f"{file}: {header}{key}: unknown {'key' if section else 'section'}{ending}")


def invalid(
    file: str, section: Section, error: ValidationError, model: type[BaseModel], others: Models
) -> ConfigInvalid:
    """The first thing that pydantic found wrong in a section, as one line."""
    found = error.errors(include_url=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    loc = [part for part in first["loc"] if isinstance(part, int) or not part.startswith("function-")]
    if first["type"] == "extra_forbidden":
        return unknown_key(file, section, str(loc[0]), model, others)
    if not loc:
        return ConfigInvalid(f"{file}: {place(section)} {_said(first)}")
    if first["type"] == "missing":
        return ConfigInvalid(f"{file}: {place(section)} {loc[0]}: {_said(first)}")
    index = f"[{loc[1]}]" if len(loc) > 1 and isinstance(loc[1], int) else ""
    return ConfigInvalid(f"{file}: {place(section)} {loc[0]}{index} = {toml_text(first['input'])}: {_said(first)}")


def _said(found: Mapping[str, Any]) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "literal_error":
        return "accepted: " + str(context["expected"]).replace("'", '"').replace(" or ", ", ")
    if kind == "less_than_equal":
        return f"accepted: {context['le']} or less"
    if kind in ("greater_than_equal", "greater_than"):
        bound = next(iter(context.values()))
        if not isinstance(bound, int | float):
            # Of the sections only lengths of time have such a bound, and theirs is zero.
            return "accepted: a length of time above zero"
        return f"accepted: {bound} or more" if kind == "greater_than_equal" else f"accepted: more than {bound}"
    if kind == "missing":
        return "missing; this key is required"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    return str(found["msg"]).removeprefix("Value error, ")
