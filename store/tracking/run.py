"""One run: its parameters, metrics, models and artifacts, each in the store when the call returns.

The run's row is written when the block begins, when a parameter, tag or artifact is told, and with its status when the
block ends; an exception is recorded and goes on. Threads may share a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as but
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, Unpack, runtime_checkable

from store.errors import StoreError, WrongState
from store.ids import new_id
from store.tracking import artifacts, telling
from store.tracking.artifacts import Artifact, Payload
from store.tracking.ledger import Change, Ledger, Sink, Told
from store.tracking.record import Record
from store.tracking.telling import Status, Words
from store.tracking.values import doubles, metric_values, plain_note, plain_params, plain_tags


@runtime_checkable
class Saves(Protocol):
    """A model that can write itself down in its own format."""

    def save(self) -> bytes: ...


class Run(Record):
    """One training of one recipe on one asset, or whatever else is worth writing down; a context manager.

    Made by ``store.run``, ``store.resume``, ``run.child`` and ``batch.run``; what it can be asked stands in
    :class:`~store.tracking.record.Record`.
    """

    def __init__(self, ledger: Ledger, sink: Sink, told: Told, make: Callable[..., Run], *, resumed: bool) -> None:
        super().__init__(ledger, told)
        self._sink, self._make, self._resumed = sink, make, resumed
        self._lock = threading.RLock()
        self._open = False
        self._began: datetime | None = None
        self._earlier_s = 0.0

    # ---------------------------------------------------------------- beginning and end

    def begin(self) -> Self:
        """Write the run down as running; ``with`` does this.

        Raises:
            WrongState: when it runs already or has ended, or when a run to resume is deleted.
        """
        with self._lock:
            if self._began is not None:
                raise self._wrong("take it up again: store.resume(run.id)")
            now = self._ledger.clock.now()
            if self._resumed:
                self._told = self._sink.change(self._told, telling.reopened)
                self._earlier_s = float(self._told.row.get("duration_s") or 0.0)
            else:
                self._told = self._sink.begin(telling.begun(self._told, now))
            self._began, self._open = now, True
        return self

    def end(self, status: Status = "ok", error: BaseException | None = None) -> None:
        """Write the run down as ended, with what ended it; ``with`` does this. Once is enough, twice is fine."""
        with self._lock:
            if self._began is None:
                raise self._wrong("begin it: with run: ...")
            if not self._open:
                return
            now = self._ledger.clock.now()
            seconds = self._earlier_s + (now - self._began).total_seconds()
            self._told = self._sink.change(
                self._told, lambda told: telling.ended(told, status, error, now, seconds), last=True
            )
            self._open = False

    def __enter__(self) -> Self:
        return self if self._open else self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status = telling.status_after(error)
        self.end(status, None if status == "ok" else error)

    def child(self, asset: str | None = None, recipe: str | None = None, **about: Unpack[Words]) -> Run:
        """A run within this one: it shares its ``batch_id`` and names it as its parent. Takes what ``store.run`` does.

        Raises:
            WrongState: while this one has not begun.
        """
        return self._make(asset=asset, recipe=recipe, parent=self, **about)

    def as_parent(self) -> Told:
        """What children need to know.

        Raises:
            WrongState: while this one has not begun, so that nobody could find it.
        """
        if self.status == "not begun":
            raise self._wrong("begin it first: with run: ...")
        return self._told

    # ---------------------------------------------------------------- logging

    def log_params(self, params: Mapping[str, Any], *, replace: bool = False) -> None:
        """Add parameters; the same value again is fine.

        Raises:
            AlreadyExists: when one has another value already, and not ``replace``.
            SchemaMismatch: when one cannot be written down; see ``store.tracking.values``.
        """
        made = plain_params(params)
        self._change(lambda told: telling.with_params(told, made, replacing=replace))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags, or change them."""
        made = plain_tags(tags)
        self._change(lambda told: but(told, tags={**told.tags, **made}))

    def remove_tags(self, *names: str) -> None:
        """Take tags away; one that is not there is fine."""
        gone = plain_tags(dict.fromkeys(names))
        self._change(lambda told: but(told, tags={name: v for name, v in told.tags.items() if name not in gone}))

    def set_note(self, text: str) -> None:
        """Say in words what the run is about."""
        note = plain_note(text)
        self._change(lambda told: but(told, tags={**told.tags, "note": note}))

    def log_metric(self, name: str, value: float, step: int | None = None, time: datetime | None = None) -> None:
        """Store one value under a name."""
        self.log_metrics({name: value}, step, time)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, time: datetime | None = None) -> None:
        """Store values under names, at a step and an instant (now by default). NaN and infinities are values."""
        values = {name: [value] for name, value in metric_values(metrics).items()}
        self._log_metrics(values, [step], None if time is None else [time])

    def log_history(
        self,
        history: Mapping[str, Sequence[float]],
        *,
        steps: Sequence[int] | None = None,
        times: Sequence[datetime] | None = None,
    ) -> None:
        """Store whole series of values under names, such as a loss by epoch, in one commit.

        Args:
            history: lists or arrays, by name.
            steps: beside the values; 0, 1, ... by default.
            times: beside the values; now by default.

        Raises:
            SchemaMismatch: when lengths differ or a value is no number.
        """
        self._log_metrics({name: doubles(name, values) for name, values in history.items()}, steps, times)

    def _log_metrics(self, values: Mapping[str, list[float]], steps: Any, times: Any) -> None:
        self._logging()
        rows, last = telling.metric_rows(self._told, values, steps, times, self._ledger.clock.now())
        self._sink.add({"metrics": rows})
        with self._lock:
            self._latest |= last

    def log_model(self, model: bytes | Saves, *, codec: str = "bytes") -> str:
        """Store a model's bytes as a version of this run; its version id."""
        self._logging()
        if isinstance(model, (bytes, bytearray, memoryview)):
            blob = bytes(model)
        elif isinstance(model, Saves):
            blob, codec = model.save(), str(getattr(model, "codec", codec))
        else:
            raise StoreError(
                f"a {type(model).__name__} cannot be stored: it is not bytes and has no save() that returns bytes",
                hint="save it in its library's own format and log the bytes",
            )
        version = {
            "version_id": new_id(), "run_id": self.id, "codec": codec, "trusted": False, "bytes": len(blob),
            "sha256": sha256(blob).hexdigest(), "created_at": self._ledger.clock.now(),
        }  # fmt: skip
        version |= {name: self._told.row[name] for name in ("asset_id", "product", "recipe")}
        self._sink.add({"versions": [version]}, [blob])
        return str(version["version_id"])

    def log_artifact(self, path: str | Path, name: str | None = None) -> list[Artifact]:
        """Store a file, or every file of a folder, in one commit; what was stored.

        Args:
            path: of the file or folder.
            name: to find it by; the file's or folder's own by default. Files of a folder are ``name/...``.
        """
        return self._keep(artifacts.from_path(Path(path), name))

    def log_bytes(self, data: bytes, name: str) -> Artifact:
        """Store bytes under a name."""
        return self._keep([Payload(artifacts.check_path(name), "bytes", bytes(data))])[0]

    def log_text(self, text: str, name: str) -> Artifact:
        """Store text, as UTF-8."""
        return self._keep([Payload(artifacts.check_path(name), "text", text.encode())])[0]

    def log_json(self, value: Any, name: str) -> Artifact:
        """Store a value as JSON; it may hold what parameters may."""
        return self._keep([artifacts.from_json(value, name)])[0]

    def log_figure(self, figure: Any, name: str) -> Artifact:
        """Store a figure in the format its name ends in: Matplotlib .png, .svg, .pdf; Plotly .html or .json."""
        return self._keep(artifacts.from_figure(figure, name))[0]

    def log_table(self, table: Any, name: str) -> Artifact:
        """Store a pandas or Arrow table as Parquet, named ``.parquet``."""
        return self._keep([artifacts.from_table(table, name)])[0]

    def _keep(self, payloads: Sequence[Payload]) -> list[Artifact]:
        made = [one.artifact() for one in payloads]
        blobs = [one.data for one in payloads]
        self._change(lambda told: but(told, tags=artifacts.with_artifacts(told.tags, made)), blobs)
        return made

    def _change(self, change: Change, blobs: Sequence[bytes] = ()) -> None:
        with self._lock:
            self._logging()
            self._told = self._sink.change(self._told, change, blobs)

    def _logging(self) -> None:
        if not self._open:
            raise self._wrong("log inside its with block; to go on later: store.resume(run.id)")

    def _wrong(self, hint: str) -> WrongState:
        return WrongState(f"the run {self.id} is {self.status}", hint=hint)


def told_of(ledger: Ledger, run: Run | str | None) -> Told | None:
    """What is known of a run that is named as a parent.

    Raises:
        WrongState: when it has not begun, so that nobody could find it.
        NotFound: when no run has this id.
    """
    if isinstance(run, Run):
        return run.as_parent()
    return None if run is None else ledger.told(run)
