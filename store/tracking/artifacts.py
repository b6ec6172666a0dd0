"""What is kept beside a run's numbers: files, texts, figures, tables; each a blob found by its name.

A name is a relative path with ``/`` between its parts. It becomes a path only in :func:`write_down`, which checks it
again: the store may have been written by somebody else.
"""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from store.errors import NotFound, SchemaMismatch, StoreError
from store.tracking.values import OLD_ARTIFACT, check_name, plain

Kind = Literal["file", "bytes", "text", "json", "figure", "table"]
_PLOTLY = "plotly.min.js"
_MAX_PART_BYTES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One stored thing of a run. ``bytes`` is None for what an early release stored and did not measure."""

    name: str
    bytes: int | None
    sha256: str
    kind: Kind


class Payload(NamedTuple):
    """Bytes on their way to become an artifact."""

    name: str
    kind: Kind
    data: bytes

    def artifact(self) -> Artifact:
        digest = sha256(self.data).hexdigest()
        return Artifact(name=self.name, bytes=len(self.data), sha256=digest, kind=self.kind)


def check_path(name: str) -> str:
    """An artifact's name, or an error that says what is wrong with it.

    >>> check_path("plots/fan.html")
    'plots/fan.html'

    Raises:
        SchemaMismatch: for what is no relative path that stays below its folder.
    """
    name = unicodedata.normalize("NFC", check_name("artifact", name))
    for part in name.split("/"):
        if part in {"", ".", ".."} or "\\" in part:
            raise SchemaMismatch(
                f"the artifact's name {name!r} is no relative path", hint="name it like 'fan.html' or 'plots/fan.html'"
            )
        if len(part.encode()) > _MAX_PART_BYTES:
            raise SchemaMismatch(f"the artifact's name {name!r} has a part longer than {_MAX_PART_BYTES} bytes")
    return name


# ---------------------------------------------------------------------------------------------------- from the user


def from_path(path: Path, name: str | None) -> list[Payload]:
    """A file, or every file below a folder; links to folders are not followed.

    Raises:
        NotFound: when there is nothing to read.
    """
    first = check_path(path.name if name is None else name)
    if not path.is_dir():
        return [Payload(first, "file", _read(path))]
    found = []
    for place, folders, files in os.walk(path, onerror=_unreadable):
        folders.sort()
        for file in sorted(files):
            whole = Path(place, file)
            if whole.is_file():  # no sockets, no pipes
                inner = whole.relative_to(path).as_posix()
                found.append(Payload(check_path(f"{first}/{inner}"), "file", _read(whole)))
    if not found:
        raise NotFound(f"the folder {path} holds no file")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise NotFound(f"the file {path} cannot be read: {cause.strerror}") from cause


def _unreadable(cause: OSError) -> None:
    raise NotFound(f"the folder {cause.filename} cannot be read: {cause.strerror}") from cause


def from_json(value: Any, name: str) -> Payload:
    """A value as JSON text for people, by the rules that parameters follow."""
    text = json.dumps(plain(name, value), indent=1, ensure_ascii=False)
    return Payload(check_path(name), "json", text.encode())


def from_figure(figure: Any, name: str) -> list[Payload]:
    """A Matplotlib figure in the format of its name's ending, or a Plotly figure as a page.

    The page loads ``plotly.min.js`` from beside it, which is stored once for all figures of a store, so both come with
    a download and neither needs the network. A Plotly figure also goes into ``.json``.
    """
    name, suffix = check_path(name), PurePosixPath(name).suffix.lower()
    if hasattr(figure, "to_plotly_json"):
        return _of_plotly(figure, name, suffix)
    drawn = figure if hasattr(figure, "savefig") else getattr(figure, "figure", None)  # an Axes knows its figure
    if drawn is None or not hasattr(drawn, "savefig"):
        raise StoreError(
            f"a {type(figure).__name__} is no figure: it has neither savefig nor to_plotly_json",
            hint="save it to a file and log that with log_artifact",
        )
    sink = io.BytesIO()
    try:
        drawn.savefig(sink, format=suffix.removeprefix(".") or None)
    except ValueError as cause:
        raise SchemaMismatch(
            f"the figure cannot become {name!r}: {cause}", hint="name it .png, .svg or .pdf"
        ) from cause
    return [Payload(name, "figure", sink.getvalue())]


def _of_plotly(figure: Any, name: str, suffix: str) -> list[Payload]:
    if suffix == ".json":
        return [Payload(name, "figure", str(figure.to_json()).encode())]
    if suffix == ".html":
        page = str(figure.to_html(include_plotlyjs="directory", div_id="figure"))
        beside = PurePosixPath(name).with_name(_PLOTLY)
        script = sys.modules["plotly.offline"] if "plotly.offline" in sys.modules else _part_of(figure, "offline")
        return [
            Payload(name, "figure", page.encode()),
            Payload(str(beside), "file", str(script.get_plotlyjs()).encode()),
        ]
    try:
        image = figure.to_image(format=suffix.removeprefix("."))
    except (ValueError, RuntimeError) as cause:  # without Kaleido, or an unknown format
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise StoreError(f"the figure cannot become {name!r}: {reason}", hint="name it .html or .json") from cause
    return [Payload(name, "figure", bytes(image))]


def _part_of(figure: Any, part: str) -> Any:
    """A module of the library that a figure comes from: the store imports no drawing library by name."""
    from importlib import import_module

    return import_module(f"{type(figure).__module__.partition('.')[0]}.{part}")


def from_table(table: Any, name: str) -> Payload:
    """A table (Arrow, pandas, or anything that speaks Arrow's C stream) as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = check_path(name)
    if PurePosixPath(name).suffix != ".parquet":
        raise SchemaMismatch(f"a table is stored as Parquet, {name!r} is named otherwise", hint="name it .parquet")
    try:
        if hasattr(table, "to_frame") and getattr(table, "ndim", 2) == 1:  # a pandas Series
            table = table.to_frame()
        if hasattr(table, "iloc"):
            made = pa.Table.from_pandas(table)
        else:
            made = table if isinstance(table, pa.Table) else pa.table(table)
        sink = io.BytesIO()
        pq.write_table(made, sink, compression="zstd")
    except (pa.ArrowException, TypeError, ValueError) as cause:
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise SchemaMismatch(f"{name!r} cannot be stored as a table: {reason}") from cause
    return Payload(name, "table", sink.getvalue())


# ---------------------------------------------------------------------------------------------------- in a run's tags


def in_tags(tags: Mapping[str, Any]) -> dict[str, Artifact]:
    """The artifacts that a run's tags name, in the order of their names; those of an early release too."""
    found = {
        name.removeprefix(OLD_ARTIFACT): Artifact(
            name=name.removeprefix(OLD_ARTIFACT), bytes=None, sha256=str(digest), kind="file"
        )
        for name, digest in tags.items()
        if name.startswith(OLD_ARTIFACT)
    }
    for name, told in tags.get("artifacts", {}).items():
        found[name] = Artifact(name=name, bytes=told["bytes"], sha256=told["sha256"], kind=told["kind"])
    return dict(sorted(found.items()))


def with_artifacts(tags: Mapping[str, Any], artifacts: Iterable[Artifact]) -> dict[str, Any]:
    """Tags that also name these artifacts; one of the same name is superseded.

    Raises:
        SchemaMismatch: when a name is a file here and a folder there.
    """
    held = dict(tags.get("artifacts", {}))
    for one in artifacts:
        held[one.name] = {"kind": one.kind, "bytes": one.bytes, "sha256": one.sha256}
    for name in held:
        above = next((str(p) for p in PurePosixPath(name).parents if str(p) in held), None)
        if above is not None:
            raise SchemaMismatch(f"the artifact {above!r} is a file, so {name!r} cannot lie below it")
    return {**tags, "artifacts": held}


def write_down(folder: Path, name: str, data: bytes) -> Path:
    """Write one artifact below a folder; its path.

    Raises:
        StoreError: when the name, or a link that lies there, leads out of the folder.
    """
    root = folder.resolve()
    target = root.joinpath(*check_path(name).split("/"))
    if not target.resolve().is_relative_to(root):
        raise StoreError(f"{target} leads out of {root}", hint="download into an empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target
