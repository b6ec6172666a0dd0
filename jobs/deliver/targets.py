"""Where a delivery goes: a file, an HTTP server, a table of a database. Sending the same again changes nothing there.

What a target refuses is a value and no exception: the job goes on with the next delivery, and the next run tries again.
The database is spoken to through the DB-API connection that a function of the user opens, since the house's own
engines are not its clients: each database has its driver, and the user knows which.
"""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.sources.python import function, importable
from jobs.deliver.content import texted
from jobs.errors import DeliveryInvalid
from store.errors import TsfleetError
from store.files import sync_folder

if TYPE_CHECKING:
    from fleet.config import DeliverySection
    from jobs.deliver.content import Content

TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "parquet": "application/vnd.apache.parquet"}
# 408 and 429 ask for another time; what else begins with 4 will not be better then.
_AGAIN = (408, 425, 429)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one sending.

    Args:
        acknowledged: the receiver said that it has it; a file has no receiver that could.
        attempts: how often it was tried.
        error: why it did not arrive; None when it did.
    """

    target: str
    acknowledged: bool = False
    attempts: int = 1
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One number on its way.

    Args:
        target: the file's path, the URL, or the table.
        key: that the receiver may know it by, the same each time it is sent.
        folder: of ``fleet.toml``.
    """

    section: DeliverySection
    content: Content
    target: str
    number: int
    key: str
    folder: Path


def transmit(parcel: Parcel, environ: Mapping[str, str], wait: Callable[[float], None]) -> Receipt:
    """Send a parcel, again where that may help.

    Args:
        environ: holds the token that the configuration names.
        wait: sleeps so many seconds between two attempts.
    """
    once = {"csv": _file, "parquet": _file, "http": _post, "sql": _upsert}[parcel.section.format]
    attempts, error = 0, ""
    while attempts <= parcel.section.retries:
        if attempts:
            wait(min(parcel.section.backoff.total_seconds() * 2 ** (attempts - 1), 300.0))
        attempts += 1
        refused = once(parcel, environ)
        if refused is None:
            told = parcel.section.format in ("http", "sql")
            return Receipt(target=parcel.target, acknowledged=told, attempts=attempts)
        error = refused.why
        if not refused.passing:
            break
    return Receipt(target=parcel.target, attempts=attempts, error=error)


@dataclass(frozen=True, slots=True)
class _Refused:
    why: str
    passing: bool = True


def _file(parcel: Parcel, _environ: Mapping[str, str]) -> _Refused | None:
    """Whole under its name or not at all; over a file of the same name."""
    path = Path(parcel.target)
    beside = path.with_name(f".{path.name}.{parcel.number}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(parcel.content.data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except (OSError, TsfleetError) as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        return _Refused(f"{path}: {getattr(error, 'strerror', None) or error}")
    return None


def _post(parcel: Parcel, environ: Mapping[str, str]) -> _Refused | None:
    section = parcel.section
    headers = {"Content-Type": TYPES[section.body], "Idempotency-Key": parcel.key}
    if section.token_env is not None:
        if not environ.get(section.token_env):
            return _Refused(f"the environment variable {section.token_env} is not set", passing=False)
        headers["Authorization"] = f"Bearer {environ[section.token_env]}"
    # The scheme was checked when the configuration was read.
    request = urllib.request.Request(parcel.target, data=parcel.content.data, headers=headers, method="POST")  # noqa: S310
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=section.timeout.total_seconds()) as answer:
            answer.read(65_536)
    except urllib.error.HTTPError as error:
        with error:
            passing = error.code >= 500 or error.code in _AGAIN
            return _Refused(f"{parcel.target} answered {error.code} {error.reason}", passing=passing)
    except (OSError, HTTPException) as error:
        return _Refused(f"{parcel.target}: {getattr(error, 'reason', None) or str(error) or type(error).__name__}")
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would lose its body, and carry its token to who knows whom."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _upsert(parcel: Parcel, _environ: Mapping[str, str]) -> _Refused | None:
    """All rows in one transaction: put in, or over those with the same keys."""
    section = parcel.section
    assert section.connect is not None
    with importable(parcel.folder):
        try:
            connect = function(section.connect, f'connect = "{section.connect}"')
        except TsfleetError as error:
            return _Refused(f"{error.message}; {error.hint}", passing=False)
        table = texted(parcel.content.table)
        query = upsert_sql(parcel.target, table.column_names, section.keys, _mark(section.connect))
        rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        try:
            with closing(connect()) as connection:  # type: ignore[type-var]  # whatever the user's driver gives
                cursor = connection.cursor()  # type: ignore[attr-defined]  # as above
                cursor.executemany(query, rows)
                connection.commit()  # type: ignore[attr-defined]  # as above
        except Exception as error:  # noqa: BLE001  a driver raises what it likes; it costs this delivery alone
            return _Refused(f"{parcel.target}: {type(error).__name__}: {error}")
    return None


def upsert_sql(table: str, columns: list[str], keys: tuple[str, ...], mark: str) -> str:
    """The statement that puts a row in, or over the one with its keys; SQLite, PostgreSQL and DuckDB know it.

    >>> upsert_sql("out.fc", ["id", "mw"], ("id",), "?")
    'INSERT INTO "out"."fc" ("id", "mw") VALUES (?, ?) ON CONFLICT ("id") DO UPDATE SET "mw" = excluded."mw"'
    """
    place = ".".join(_quoted(part) for part in table.split("."))
    listed, marks = ", ".join(map(_quoted, columns)), ", ".join([mark] * len(columns))
    rest = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in columns if name not in keys)
    change = f"DO UPDATE SET {rest}" if rest else "DO NOTHING"
    conflict = f"ON CONFLICT ({', '.join(map(_quoted, keys))}) {change}"
    return f"INSERT INTO {place} ({listed}) VALUES ({marks}) {conflict}"  # noqa: S608  names are checked, values bound


def _quoted(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise DeliveryInvalid(f"{name!r} is no name in a database", hint="letters, digits and _, no digit first")
    return f'"{name}"'


def _mark(connect: str) -> str:
    """How the driver writes a parameter: PARAMSTYLE of the function's module, or of the one driver it imported."""
    module = sys.modules[connect.partition(":")[0]]
    styles = {getattr(one, "paramstyle", None) for one in [module, *vars(module).values()]} - {None}
    return "%s" if styles & {"format", "pyformat"} else "?"
