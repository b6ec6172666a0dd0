"""Gradient-boosted trees of LightGBM on lags, calendar and covariates: the mean, and one model for each quantile.

One direct model serves all steps of the horizon (see `fleet.tabular`); trees take a missing value as it is, where
training had some. The blob holds the models' text and what columns they see. Of the text is left out what a forecast
does not read and a tree can do without (values and weights inside of it, the list of parameters): a fifth of the bytes
and almost half of the time to load. Gains and counts stay, so importances can still be asked for.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet.errors import AdapterMissing, ConfigInvalid, FleetError
from fleet.tabular import Columns, Lessons, Tabular, lessons
from fleet.task import FloatArray, Task

if TYPE_CHECKING:
    import lightgbm

_DEFAULTS = {"num_leaves": 31, "learning_rate": 0.1}
# Two threads took eleven times the CPU of one on small tables; workers are the parallelism here.
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


@dataclass(frozen=True, kw_only=True)
class LightGBM(Tabular):
    """Boosted trees on features of the history, the calendar and the covariates; those options are `Tabular`'s.

    Args:
        rounds: trees of each model.
        params: LightGBM's own parameters, by its names.
    """

    rounds: int = 100
    params: dict[str, Any] = field(default_factory=dict)

    library: ClassVar[str] = "lightgbm"
    codec: ClassVar[str] = "lightgbm-text"
    revision: ClassVar[int] = 1
    light: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigInvalid(f"rounds is a number of trees from 1 up, got {self.rounds}")
        fixed = [name for name in self.params if name in (*_FIXED, "seed")]
        if fixed:
            raise ConfigInvalid(f"params.{fixed[0]} is set by the fleet: one thread, its seed, equal results")
        super().__post_init__()

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> LightGBMFitted:
        given = lessons(y, X, task, self.features_for(task.seasons), gaps=True)
        return LightGBMFitted(columns=given.columns, models=_trained(given, self.rounds, self.params, task))

    def load(self, blob: bytes) -> LightGBMFitted:
        return LightGBMFitted.from_bytes(blob)

    def import_library(self) -> None:
        _library()


@dataclass(frozen=True, kw_only=True)
class LightGBMFitted:
    """Trained trees; stored ones are read when first asked.

    Args:
        columns: what they see.
        models: by ``mean`` or the level of a quantile, as trained or as their text in LightGBM's own format.
    """

    columns: Columns
    models: dict[str, lightgbm.Booster | str]

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        rows = self.columns.asked(y, X, task)
        asked = [q for q in task.quantiles if str(q) in self.models]
        return task.frame(self._values("mean", rows), {q: self._values(str(q), rows) for q in asked})

    def _values(self, name: str, rows: FloatArray) -> FloatArray:
        model = self.models[name]
        if isinstance(model, str):
            model = self.models[name] = _library().Booster(model_str=model)
        found: FloatArray = np.asarray(model.predict(rows, num_threads=1), dtype=np.float64)
        return found

    def save(self) -> bytes:
        texts = {name: (m if isinstance(m, str) else text_of(m)).encode() for name, m in self.models.items()}
        head = {"columns": self.columns.as_json(), "models": {name: len(text) for name, text in texts.items()}}
        told = json.dumps(head, separators=(",", ":")).encode()
        body = b"".join([len(told).to_bytes(4, "big"), told, *texts.values()])
        packed: bytes = _zstd().compress(body, asbytes=True)
        return _MAGIC + len(body).to_bytes(8, "big") + packed

    @classmethod
    def from_bytes(cls, blob: bytes) -> LightGBMFitted:
        """The model from what `save` gave."""
        if not blob.startswith(_MAGIC):
            return cls._from_first_format(blob)
        begin = len(_MAGIC) + 8
        size = int.from_bytes(blob[len(_MAGIC) : begin], "big")
        body = memoryview(_zstd().decompress(memoryview(blob)[begin:], decompressed_size=size))
        place = 4 + int.from_bytes(body[:4], "big")
        head = json.loads(bytes(body[4:place]))
        texts: dict[str, lightgbm.Booster | str] = {}
        for name, length in head["models"].items():
            texts[name] = str(body[place : place + length], "utf-8")
            place += length
        return cls(columns=Columns.from_json(head["columns"]), models=texts)

    @classmethod
    def _from_first_format(cls, blob: bytes) -> LightGBMFitted:
        """Format 1: JSON, deflated, the texts in full."""
        kept = json.loads(zlib.decompress(blob))
        if kept["format"] != 1:
            raise FleetError(f"the model was written in format {kept['format']}, this release reads 1 and 2")
        return cls(columns=Columns.from_json(kept["columns"]), models=kept["models"])


_MAGIC = b"tsfleet lightgbm 2\n"
_SPARE = re.compile(r"\n(?:tree_sizes|internal_value|internal_weight|leaf_weight)=[^\n]*")


def text_of(model: lightgbm.Booster) -> str:
    """A model in LightGBM's own format, without what no forecast reads."""
    text: str = model.model_to_string(num_iteration=-1)
    trees, end, _ = text.partition("end of trees\n")
    return _SPARE.sub("", trees) + end


def _zstd() -> pa.Codec:
    # Level 1 leaves fewer bytes of this text than deflate's 6 does, in a tenth of the time.
    return pa.Codec("zstd", compression_level=1)


def _trained(given: Lessons, rounds: int, params: Mapping[str, Any], task: Task) -> dict[str, lightgbm.Booster | str]:
    """The models by ``mean`` or level; they share one table, binned once."""
    library = _library()
    common = {**_DEFAULTS, **params, **_FIXED, "seed": task.seed}
    data = library.Dataset(given.table, label=given.values, params=common, free_raw_data=False)
    objectives: dict[str, dict[str, Any]] = {"mean": {"objective": "regression", **common}}
    for level in task.quantiles:
        objectives[str(level)] = {**common, "objective": "quantile", "alpha": level}
    # Kept as trained: the library would else write each model as text and read it again, a fifth of the time of a fit.
    return {
        name: library.train(wanted, data, num_boost_round=rounds, keep_training_booster=True)
        for name, wanted in objectives.items()
    }


def _library() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise AdapterMissing(f"lightgbm cannot be imported: {error}", hint="pip install lightgbm") from error
    except OSError as error:
        raise AdapterMissing(
            f"lightgbm cannot be loaded: {error}",
            hint="it needs the system's OpenMP: apt-get install libgomp1 (Debian, Ubuntu), brew install libomp (macOS)",
        ) from error
    return lightgbm
