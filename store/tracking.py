"""Tracking from a notebook: one run, its parameters, metrics, models and files, each visible as soon as it is logged.

The run's row is written when the block begins and again when it ends, with its status; an exception marks it failed
and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from store.clock import Clock
from store.errors import NotFound, StoreError
from store.ids import check_asset_id, new_id
from store.writing import Transaction


@runtime_checkable
class Saves(Protocol):
    """A model that can write itself down in its own format."""

    def save(self) -> bytes: ...


class Run:
    """One training of one recipe on one asset; use it as a context manager."""

    def __init__(
        self,
        begin: Callable[..., Transaction],
        clock: Clock,
        *,
        asset: str,
        recipe: str,
        product: str = "default",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        library: str = "",
        kind: str = "manual",
    ) -> None:
        self.id = new_id()
        self._begin, self._clock = begin, clock
        self._params, self._tags = dict(params or {}), dict(tags or {})
        self._started: datetime | None = None
        self._row: dict[str, Any] = {
            "run_id": self.id,
            "asset_id": check_asset_id(asset),
            "product": product,
            "recipe": recipe,
            "library": library,
            "kind": kind,
        }

    def __repr__(self) -> str:
        return f"Run({self.id}, asset={self._row['asset_id']!r}, {self._row.get('status', 'not begun')})"

    def __enter__(self) -> Self:
        self._started = self._clock.now()
        self._row |= {"status": "running", "started_at": self._started}
        self._commit(first=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._running()
        ended = self._clock.now()
        assert self._started is not None
        self._row |= {"ended_at": ended, "duration_s": (ended - self._started).total_seconds(), "status": "ok"}
        if kind is not None:
            killed = not issubclass(kind, Exception)
            self._row["status"] = "killed" if killed else "failed"
            self._row["error_code"] = _code(kind)
            self._row["error"] = f"{kind.__name__}: {error}".encode("utf-8", "replace").decode()
        self._commit(upkeep=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, time: datetime | None = None) -> None:
        """Store values under names, at a step and an instant (now by default)."""
        self._running()
        told = {"run_id": self.id, "step": step, "time": time or self._clock.now()}
        told |= {name: self._row[name] for name in ("asset_id", "recipe", "library")}
        txn = self._begin(upkeep=False)
        txn.insert("metrics", [told | {"name": name, "value": value} for name, value in metrics.items()])
        txn.commit()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters of the run."""
        self._running()
        self._params.update(params)
        self._commit()

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags of the run."""
        self._running()
        self._tags.update(tags)
        self._commit()

    def log_model(self, model: bytes | Saves, *, codec: str = "bytes") -> str:
        """Store a model's bytes as a version of this run; its version id."""
        self._running()
        if isinstance(model, (bytes, bytearray, memoryview)):
            blob = bytes(model)
        elif isinstance(model, Saves):
            blob, codec = model.save(), str(getattr(model, "codec", codec))
        else:
            raise StoreError(
                f"a {type(model).__name__} cannot be stored: it is not bytes and has no save() that returns bytes",
                hint="save it in its library's own format and log the bytes",
            )
        txn = self._begin(upkeep=False)
        sha = txn.put_blobs([blob])[0]
        version = {
            "version_id": new_id(), "run_id": self.id, "codec": codec, "trusted": False, "bytes": len(blob),
            "sha256": sha, "created_at": self._clock.now(),
        }  # fmt: skip
        version |= {name: self._row[name] for name in ("asset_id", "product", "recipe")}
        txn.insert("versions", [version])
        txn.commit()
        return str(version["version_id"])

    def log_artifact(self, path: str | Path) -> str:
        """Store a file's bytes; its SHA-256, also kept as the run's tag ``artifact/<name>``."""
        self._running()
        place = Path(path)
        try:
            data = place.read_bytes()
        except OSError as cause:
            raise NotFound(f"the file {place} cannot be read: {cause.strerror}") from cause
        txn = self._begin(upkeep=False)
        sha = txn.put_blobs([data])[0]
        self._tags[f"artifact/{place.name}"] = sha
        txn.replace("runs", [self._told()])
        txn.commit()
        return sha

    def _running(self) -> None:
        if self._row.get("status") != "running":
            state = self._row.get("status", "not begun")
            raise StoreError(f"the run {self.id} is {state}", hint="log inside its with block")

    def _told(self) -> dict[str, Any]:
        return self._row | {"params": self._params, "tags": self._tags}

    def _commit(self, *, first: bool = False, upkeep: bool = False) -> None:
        txn = self._begin(upkeep=upkeep)
        (txn.insert if first else txn.replace)("runs", [self._told()])
        txn.commit()


def _code(kind: type[BaseException]) -> str:
    given = getattr(kind, "code", None)
    return given if isinstance(given, str) else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()
