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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from fleet.errors import AdapterMissing, ConfigInvalid, CovariateMissing, FleetError
from fleet.forecaster import Fitted, Question, Scoped
from fleet.outcome import Failed, attempt, failure_of
from fleet.tabular import Columns, Lessons, Tabular, farthest_of, joined, lessons
from fleet.task import FloatArray, Task

if TYPE_CHECKING:
    import lightgbm

_DEFAULTS = {"num_leaves": 31, "learning_rate": 0.1}
# Two threads took eleven times the CPU of one on small tables; workers are the parallelism here.
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


@dataclass(frozen=True, kw_only=True)
class LightGBM(Tabular, Scoped):
    """Boosted trees on features of the history, the calendar and the covariates; those options are `Tabular`'s.

    With ``scope = "global"`` one model learns from many assets, each in units of its own mean absolute reading.

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
        Tabular.__post_init__(self)
        Scoped.__post_init__(self)

    def fit(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> LightGBMFitted:
        given = lessons(y, X, task, self.features_for(task.seasons), gaps=True)
        return LightGBMFitted(columns=given.columns, models=_trained(given, self.rounds, self.params, task))

    def fit_many(self, questions: Sequence[Question]) -> list[Fitted | Failed]:
        # What most of them know decides how far back lags are moved; the few that lag behind have theirs bridged.
        farthest = _commonest([done for q in questions if isinstance(done := attempt(farthest_of, q.y, q.task), int)])
        parts = [attempt(self._lessons, question, farthest) for question in questions]
        held = [part for part in parts if not isinstance(part, Failed)]
        if not held:
            return [part for part in parts if isinstance(part, Failed)]
        shape = _commonest([_shape(part) for part in held])
        given = joined([part for part in held if _shape(part) == shape])
        models = _trained(given, self.rounds, self.params, questions[0].task)
        model = LightGBMFitted(columns=given.columns, models=models, relative=True)
        return [
            part if isinstance(part, Failed) else model if _shape(part) == shape else failure_of(_stranger(part, given))
            for part in parts
        ]

    def _lessons(self, question: Question, farthest: int | None) -> Lessons:
        y, X, task = question
        wanted = self.features_for(task.seasons)
        return lessons(y / _level(y), X, task, wanted, gaps=True, farthest=farthest)

    def predict_many(self, fitted: Sequence[Fitted], questions: Sequence[Question]) -> list[pd.DataFrame | Failed]:
        found: dict[int, pd.DataFrame | Failed] = {}
        for model in {id(one): one for one in fitted}.values():
            assert isinstance(model, LightGBMFitted)
            mine = {place: question for place, question in enumerate(questions) if fitted[place] is model}
            asked = {place: attempt(model.rows, *question) for place, question in mine.items()}
            rows = {place: table for place, table in asked.items() if not isinstance(table, Failed)}
            found |= {place: failed for place, failed in asked.items() if isinstance(failed, Failed)}
            told = model.told(list(rows.values()), [questions[place] for place in rows])
            found |= dict(zip(rows, told, strict=True))
        return [found[place] for place in range(len(questions))]

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
        relative: they learnt from histories in units of their mean absolute reading.
    """

    columns: Columns
    models: dict[str, lightgbm.Booster | str]
    relative: bool = False

    def predict(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> pd.DataFrame:
        (frame,) = self.told([self.rows(y, X, task)], [Question(y, X, task)])
        return frame

    def rows(self, y: pd.Series[float], X: pd.DataFrame | None, task: Task) -> FloatArray:
        """(horizon, columns) what the trees are asked about a question."""
        return self.columns.asked(y / _level(y) if self.relative else y, X, task)

    def told(self, tables: Sequence[FloatArray], questions: Sequence[Question]) -> list[pd.DataFrame]:
        """The forecasts of questions whose rows these are; the trees are asked once for all."""
        if not tables:
            return []
        rows = tables[0] if len(tables) == 1 else np.concatenate(tables)
        wanted = {"mean", *(str(q) for _, _, task in questions for q in task.quantiles)}
        values = {name: self._values(name, rows) for name in self.models if name in wanted}
        frames, start = [], 0
        for y, _, task in questions:
            part, unit = slice(start, start + task.horizon), _level(y) if self.relative else 1.0
            levels = [q for q in task.quantiles if str(q) in self.models]
            frames.append(task.frame(values["mean"][part] * unit, {q: values[str(q)][part] * unit for q in levels}))
            start += task.horizon
        return frames

    def _values(self, name: str, rows: FloatArray) -> FloatArray:
        model = self.models[name]
        if isinstance(model, str):
            model = self.models[name] = _library().Booster(model_str=model)
        found: FloatArray = np.asarray(model.predict(rows, num_threads=1), dtype=np.float64)
        return found

    def save(self) -> bytes:
        texts = {name: (m if isinstance(m, str) else text_of(m)).encode() for name, m in self.models.items()}
        head: dict[str, Any] = {
            "columns": self.columns.as_json(),
            "models": {n: len(text) for n, text in texts.items()},
        }
        if self.relative:
            head["relative"] = True
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
        return cls(columns=Columns.from_json(head["columns"]), models=texts, relative=head.get("relative", False))

    @classmethod
    def _from_first_format(cls, blob: bytes) -> LightGBMFitted:
        """Format 1: JSON, deflated, the texts in full."""
        kept = json.loads(zlib.decompress(blob))
        if kept["format"] != 1:
            raise FleetError(f"the model was written in format {kept['format']}, this release reads 1 and 2")
        return cls(columns=Columns.from_json(kept["columns"]), models=kept["models"])


def _level(y: pd.Series[float]) -> float:
    """The mean absolute reading of a history, the unit that assets of all sizes have in common; 1 where it has none."""
    values = np.abs(np.asarray(y.to_numpy(), dtype=np.float64))
    finite = values[np.isfinite(values)]
    mean = float(finite.mean()) if len(finite) else 0.0
    return mean if mean > 0 else 1.0


def _shape(part: Lessons) -> tuple[Any, ...]:
    """What lessons have to share for one model to learn from them."""
    return part.columns.features, part.columns.covariates, part.columns.past


def _commonest(values: Sequence[Any]) -> Any:
    """The value that occurs most often, of several such the first; None of none."""
    return Counter(values).most_common(1)[0][0] if values else None


def _stranger(part: Lessons, given: Lessons) -> CovariateMissing:
    names = ", ".join(given.columns.covariates) or "no covariates"
    mine = ", ".join(part.columns.covariates) or "none"
    return CovariateMissing(f"its group learns from {names}, of this asset there are {mine} in the same form")


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
