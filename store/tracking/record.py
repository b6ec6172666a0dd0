"""What is known of a run, to read: the half of a run that asks and never writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from store.errors import NotFound, SchemaMismatch, StoreError, WrongProcess
from store.planning import template
from store.tracking import artifacts, shown
from store.tracking.artifacts import Artifact
from store.tracking.ledger import Ledger, Told
from store.tracking.values import OLD_ARTIFACT, RESERVED

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_HISTORY = "SELECT step, time, value FROM metrics__v WHERE run_id = $id AND name = $name ORDER BY step, time, _v"


class Record:
    """A run as it was last told or read."""

    def __init__(self, ledger: Ledger, told: Told) -> None:
        self._ledger, self._told = ledger, told
        self._latest: dict[str, float] = {}

    @property
    def id(self) -> str:
        """The run's id."""
        return self._told.id

    @property
    def status(self) -> str:
        """``not begun``, ``running``, ``ok``, ``failed`` or ``killed``."""
        return str(self._told.row.get("status") or "not begun")

    @property
    def batch_id(self) -> str:
        """What a run shares with its parent and children."""
        return str(self._told.row.get("batch_id") or self.id)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as JSON keeps them."""
        return dict(self._told.params)

    @property
    def tags(self) -> dict[str, Any]:
        """The tags, without those the store writes itself."""
        told = self._told.tags
        return {n: value for n, value in told.items() if n not in RESERVED and not n.startswith(OLD_ARTIFACT)}

    @property
    def note(self) -> str:
        """Text about the run."""
        return str(self._told.tags.get("note", ""))

    def metrics(self) -> dict[str, float]:
        """The last value of each metric: of the largest step, and of equal steps the latest."""
        query = f"SELECT name, value FROM ({template('last_metrics')}) WHERE run_id = $id ORDER BY name"
        rows = self._ledger.sql(query, {"id": self.id}).rows()
        return {row["name"]: row["value"] for row in rows}

    def history(self, name: str) -> pd.DataFrame:
        """Every value of a metric, as pandas: step, time, value."""
        return self._ledger.sql(_HISTORY, {"id": self.id, "name": name}).df()

    def artifacts(self) -> list[Artifact]:
        """What was stored beside the numbers, by name."""
        return list(artifacts.in_tags(self._told.tags).values())

    def artifact(self, name: str) -> bytes:
        """The bytes of an artifact, checked against their hash."""
        return self._ledger.blob(self._artifact(name).sha256)

    def table(self, name: str) -> pa.Table:
        """A table that was logged, as Arrow."""
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(io.BytesIO(self.artifact(name)))
        except pa.ArrowException as cause:
            raise SchemaMismatch(f"the artifact {name!r} is no table: {str(cause).splitlines()[0]}") from cause

    def download(self, folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write artifacts, all or those named, below a folder; their paths. Files of the same name are overwritten."""
        wanted = self.artifacts() if names is None else [self._artifact(name) for name in names]
        return [artifacts.write_down(Path(folder), one.name, self._ledger.blob(one.sha256)) for one in wanted]

    def _artifact(self, name: str) -> Artifact:
        held = artifacts.in_tags(self._told.tags)
        if name not in held:
            raise NotFound(f"the run {self.id} has no artifact {name!r}", hint=f"it has {', '.join(held) or 'none'}")
        return held[name]

    def __repr__(self) -> str:
        return shown.line(self._told, self.status, self._latest)

    def _repr_html_(self) -> str:
        try:
            latest = self.metrics() | self._latest
        except StoreError:  # a store that was closed must not break a notebook
            latest = self._latest
        return shown.card(self._told, self.status, latest, self.artifacts())

    def __reduce__(self) -> NoReturn:
        raise WrongProcess(f"{self!r} cannot go to another process", hint="pass its id and resume it there")
