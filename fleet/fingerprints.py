"""What a run of a recipe on an asset depends on, as one hash: what has the same one need not be done again.

A fit depends on what `fit` is given: the history in the window as it is known at the end of the data, the covariates
in reach, the task, the static facts. A judgement depends on all that its origins could see and on what happened
after them. Older history, newer readings after a fixed last target, another snapshot or another name change nothing.

The zone rules (tzdata) are left out: they change several times a year, hardly ever for a past that a model has seen,
and would have every model fitted again; `--force` does that. What mase divides by looks further back than any model
and is renewed by itself (`fleet.scaling`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Literal

import numpy as np

from fleet import intervals
from fleet.frames import AssetRows, Covariate, History, Rows, newest
from fleet.judging import issues_of
from fleet.plan import Recipe, Settings
from fleet.population import Loaded, Member, Population
from fleet.recipes import short_hash
from fleet.task import IntArray

# Raised when what all recipes share (features, calendar, alignment, checks) computes something else than before.
ARITHMETIC = 3

Kind = Literal["backtest", "train"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The part of an asset's past that matters: instants in UTC microseconds, both ends included.

    Args:
        since: the first step that is seen.
        until: the last step of the last target.
        issue: rows known later than this are not seen, apart from what happened.
        facts: what else of the history matters, as text.
    """

    since: int
    until: int
    issue: int
    facts: str


class Fingerprints:
    """The fingerprints of a batch; what assets share is hashed once.

    Args:
        kind: backtest or train; only a backtest depends on how the past is cut, and on what happened.
    """

    def __init__(self, loaded: Loaded, people: Population, kind: Kind) -> None:
        self._loaded, self._people, self._kind = loaded, people, kind
        self._settings = [_settings_text(settings, kind) for settings in people.settings]
        self._seen: dict[tuple[object, ...], str] = {}

    def of(self, member: Member, recipes: Mapping[str, Recipe]) -> dict[str, str]:
        """By name the fingerprints of these recipes on an asset; equal ones give equal results."""
        if not recipes:
            return {}
        asset, settings = self._loaded.assets[member.asset_id], self._people.settings[member.settings]
        rows = self._loaded.panel.slice(asset.span)
        reach = _trained(rows, settings) if self._kind == "train" else _judged(rows, settings)
        shared = [
            f"{self._kind}{ARITHMETIC}",
            asset.asset_id,
            self._settings[member.settings],
            json.dumps(dict(member.static), sort_keys=True, default=str),
            reach.facts if reach else "no reading",
        ]
        if self._kind == "backtest" and reach:
            shared.append(repr(_held(member.capacities, reach)))
            hidden = [m for m in asset.unscored if m[0] <= reach.until and reach.since < m[1]]
            shared += [f"unscored {hidden}"] if hidden else []
        return {
            name: short_hash("\x1f".join([*shared, *_definition(recipe), *self._covariates(asset, recipe, reach)]))
            for name, recipe in recipes.items()
        }

    def _covariates(self, asset: AssetRows, recipe: Recipe, reach: Reach | None) -> Iterator[str]:
        for covariate in recipe.sees(asset.covariates):
            seen = "no reading" if reach is None else self._values(covariate, reach)
            part = f"{covariate.weight}:{covariate.since}:{covariate.until}"
            yield f"{covariate.name}:{covariate.foresight}:{covariate.vintages}:{part}:{seen}"

    def _values(self, covariate: Covariate, reach: Reach) -> str:
        """The values of one covariate that the asset's models could see."""
        span, foresight, vintages = covariate.span, covariate.foresight, covariate.vintages
        key = (span, reach.since, reach.until, reach.issue, foresight, vintages)
        if key not in self._seen:
            assert self._loaded.covariates is not None
            rows, _ = _between(self._loaded.covariates.slice(span), reach.since, reach.until)
            if not foresight:
                rows = rows.part(rows.available_at <= reach.issue)
            if foresight or (self._kind == "train" and not vintages):
                # One issue sees the newest value of each instant, whenever it came; of a forecast each row of the past
                # is shown another vintage.
                rows = newest(rows)
                self._seen[key] = _hashed([_regular(rows.valid_time), rows.value.tobytes()])
            else:
                self._seen[key] = _of_rows(rows)
        return self._seen[key]


def _settings_text(settings: Settings, kind: Kind) -> str:
    """The window of a fit is in what it cuts out; of a backtest it moves with the origins."""
    text = repr(replace(settings, judgement=None, window_us=None) if kind == "train" else settings) + settings.rule
    return f"{text} intervals{intervals.REVISION}" if kind == "backtest" and settings.quantiles else text


def _trained(rows: Rows, settings: Settings) -> Reach | None:
    """What a fit at the end of the data is given."""
    history = History(rows, settings.freq, settings.tz)
    end = history.last_reading_end
    if end is None:
        return None
    issue = settings.fit_issue(end)
    target = settings.target(issue, history.anchor)
    values, steps = history.known_arrays(issue)
    cut = 0 if settings.window_us is None else int(np.searchsorted(steps, issue - settings.window_us))
    y = values[cut:]
    asked = [int(target.asi8[0]), int(target.asi8[-1]), len(target)]
    begins = int(steps[cut]) if len(y) else issue
    return Reach(
        since=begins,
        until=asked[1],
        issue=issue,
        facts=f"{asked} {begins} {len(y)} {_hashed([y.tobytes()])}",
    )


def _judged(rows: Rows, settings: Settings) -> Reach | None:
    """What the origins of a backtest see, and what happened after them."""
    history = History(rows, settings.freq, settings.tz)
    issues = issues_of(history.last_reading_end, settings)
    if not issues:
        return None
    firsts = [int(settings.target(issue, history.anchor).asi8[0]) for issue in issues]
    until = int(settings.target(issues[-1], history.anchor).asi8[-1])
    first = int(rows.valid_time[0])
    since = first if settings.window_us is None else max(first, issues[0] - settings.window_us)
    seen, longer = _between(rows, since, until)
    facts = f"{list(issues)} {firsts} {until} {since if longer else 'all'} {_of_rows(seen)}"
    return Reach(since=since, until=until, issue=issues[-1], facts=facts)


def _between(rows: Rows, since: int, until: int) -> tuple[Rows, bool]:
    """The rows of instants from `since` through `until`, and whether there are earlier ones."""
    start, stop = np.searchsorted(rows.valid_time, [since, until + 1]).tolist()
    return rows.part(slice(start, stop)), start > 0


def _of_rows(rows: Rows) -> str:
    """Rows with when each was known: an issue in between sees only some of them."""
    return _hashed([_regular(rows.valid_time), rows.value.tobytes(), _regular(rows.available_at - rows.valid_time, 0)])


def _regular(numbers: IntArray, order: int = 1) -> bytes:
    """Whole numbers as bytes, in a few words where they are constant (order 0) or evenly spaced (order 1)."""
    steps = np.diff(numbers) if order else numbers
    if len(steps) and bool((steps == steps[0]).all()):
        return repr((int(numbers[0]), int(steps[0]), len(numbers))).encode()
    return numbers.tobytes()


def _held(capacities: Iterable[tuple[int, float]], reach: Reach) -> list[tuple[int, float]]:
    """The capacities from which one holds at an instant in reach; what came before and comes after is left out."""
    known = [held for held in capacities if held[0] <= reach.until]
    before = [held for held in known if held[0] <= reach.since]
    return known[max(0, len(before) - 1) :]


def _definition(recipe: Recipe) -> tuple[str, ...]:
    """The recipe, its library, and the list of holidays where it looks at one."""
    looks = "holiday" in (getattr(recipe.forecaster, "calendar", None) or ())
    return recipe.recipe_hash, recipe.library_version, version_of("holidays") if looks else ""


@cache
def version_of(distribution: str) -> str:
    """The version of an installed distribution."""
    return metadata.version(distribution)


def _hashed(parts: Iterable[bytes]) -> str:
    # On processors of the last years twice as fast as BLAKE2: 40 us for a year of hours.
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()[:32]
