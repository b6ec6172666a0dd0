"""What users may write down about a run: names, parameters, tags, metrics. Kept typed, or refused by name.

JSON is the store's form, so a tuple comes back as a list, an instant and a path as text, and a number that JSON has
not (NaN, the infinities) as the text ``nan``, ``inf`` or ``-inf``, which SQL casts back to DOUBLE.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import PurePath
from typing import Any

from store.errors import SchemaMismatch
from store.rows import to_json

MAX_NAME_BYTES = 512
MAX_VALUE_BYTES = 65_536
_DEEPEST = 32
_WHOLE = range(-(1 << 63), 1 << 64)
#: Tags that the store writes itself. ``parent``: the run this one is a child of. ``environment``: host, user, Python,
#: script, process and libraries (see ``store.environment``). ``artifacts``: by name their kind, size and hash.
#: ``note``: text about the run. ``deleted``: when, by whom and why the run was deleted.
RESERVED = ("parent", "environment", "artifacts", "note", "deleted")
OLD_ARTIFACT = "artifact/"


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON keeps them.

    >>> plain_params({"lags": (24, 48), "since": date(2024, 6, 1), "alpha": float("inf")})
    {'lags': [24, 48], 'since': '2024-06-01', 'alpha': 'inf'}

    Raises:
        SchemaMismatch: names the parameter that cannot be written.
    """
    return {check_name("parameter", name): _sized(f"params.{name}", value) for name, value in params.items()}


def plain_tags(tags: Mapping[str, Any]) -> dict[str, Any]:
    """A user's tags as JSON keeps them; the store's own are refused."""
    for name in tags:
        if name in RESERVED or str(name).startswith(OLD_ARTIFACT):
            raise SchemaMismatch(f"the tag {name!r} is the store's own", hint="give yours another name")
    return {check_name("tag", name): _sized(f"tags.{name}", value) for name, value in tags.items()}


def plain_note(text: str) -> str:
    """A note about a run, or an error."""
    if not isinstance(text, str):
        raise _refused("the note", text)
    return str(_sized("the note", text))


def metric_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as doubles; NaN and the infinities are values like others.

    >>> metric_values({"mae": 3})
    {'mae': 3.0}
    """
    return {name: doubles(name, [value])[0] for name, value in metrics.items()}


def doubles(name: str, values: Any) -> list[float]:
    """The values of a metric as doubles; lists, arrays and whatever else can be gone through.

    Raises:
        SchemaMismatch: names the metric and the value that is no number.
    """
    check_name("metric", name)
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, Iterable):
        raise SchemaMismatch(f"the metric {name!r} takes a series of numbers, not {values!r:.80}")
    made = []
    for value in listed:
        number = _number(value)
        if number is None:
            raise SchemaMismatch(f"the metric {name!r} takes a number, not {value!r:.80} ({type(value).__name__})")
        made.append(number)
    return made


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def check_name(what: str, name: object) -> str:
    """The name of a parameter, tag, metric or artifact, or an error that says what is wrong with it."""
    if not isinstance(name, str) or not name:
        raise SchemaMismatch(f"the name of a {what} is text, not {name!r:.80}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise SchemaMismatch(f"the {what} {name!r} holds half of a character (a lone surrogate)") from None
    if size > MAX_NAME_BYTES:
        raise SchemaMismatch(f"the {what} {name[:40]!r}... has a name of {size} bytes, {MAX_NAME_BYTES} are allowed")
    if any(unicodedata.category(char) == "Cc" for char in name):
        raise SchemaMismatch(f"the {what} {name!r} holds a control character")
    return name


def _sized(place: str, value: Any) -> Any:
    made = plain(place, value)
    if made is None or isinstance(made, (bool, int, float)):
        return made
    size = len(to_json(made))
    if size > MAX_VALUE_BYTES:
        raise SchemaMismatch(
            f"{place} takes {size} bytes, {MAX_VALUE_BYTES} are allowed", hint="log it as an artifact: log_json"
        )
    return made


def plain(place: str, value: Any, depth: int = 0) -> Any:
    """A value as JSON keeps it; ``place`` names it in the error.

    Raises:
        SchemaMismatch: for a value that has no faithful form.
    """
    if depth > _DEEPEST:
        raise SchemaMismatch(f"{place} is nested more than {_DEEPEST} deep, or holds itself")
    if value is None or isinstance(value, (bool, str, int, float)):
        return _scalar(place, value)
    if isinstance(value, (datetime, date, time, timedelta)):
        return _moment(value)
    if isinstance(value, PurePath):
        return _scalar(place, str(value))
    if isinstance(value, Mapping):
        return _mapping(place, value, depth)
    if isinstance(value, (list, tuple, range)):
        return [plain(f"{place}[{i}]", one, depth + 1) for i, one in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(place, one, depth + 1) for one in value), key=repr)
    return _of_numpy(place, value, depth)


def _scalar(place: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SchemaMismatch(f"{place} holds half of a character (a lone surrogate): {value!r:.80}") from None
        return str.__str__(value)
    if isinstance(value, int):
        if value not in _WHOLE:
            raise SchemaMismatch(f"{place} is a whole number of more than 64 bits", hint="log it as text")
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else repr(number)


def _moment(value: Any) -> str | None:
    if value != value:  # noqa: PLR0124 - pandas' NaT is a datetime, and the only one unequal to itself
        return None
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
        return f"{micros // 1_000_000}s" if micros % 1_000_000 == 0 else f"{micros}us"
    return str(value.isoformat())


def _mapping(place: str, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise SchemaMismatch(f"{place} has the key {name!r:.80}, which is no text", hint="name it by text")
        text = _scalar(place, str(name))
        if text in made:
            raise SchemaMismatch(f"{place} has the key {text!r} twice, as text and as a number")
        made[text] = plain(f"{place}.{text}", inner, depth + 1)
    return made


def _of_numpy(place: str, value: Any, depth: int) -> Any:
    """Scalars and arrays of NumPy and its kin, by what they can do: the store does not import them."""
    dtype = getattr(value, "dtype", None)
    dated = getattr(dtype, "kind", "") in {"M", "m"} and hasattr(value, "astype")
    if dated and str(dtype).endswith("[ns]"):
        value = value.astype(str(dtype).replace("[ns]", "[us]"))  # nanoseconds would come out as bare numbers
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        inner = value.item()
        if type(inner) is not type(value):
            return plain(place, inner, depth + 1)
    elif hasattr(value, "tolist") and hasattr(value, "__len__"):
        inner = value.tolist()
        if isinstance(inner, list):
            return plain(place, inner, depth + 1)
    raise _refused(place, value)


def _refused(place: str, value: object) -> SchemaMismatch:
    return SchemaMismatch(
        f"{place} cannot be written down: {value!r:.80} is a {type(value).__name__}",
        hint="numbers, text, true, false, None, instants, paths, lists and mappings of them can; or log its repr()",
    )
