"""What an ingest did: rows read and written, and what is odd about the data, by asset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from fleet import calendar, cards
from fleet.checks import quality_report
from fleet.config import DataSection
from fleet.ingest.cleaning import Clean, Step
from fleet.ingest.faults import SAID, BadRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something odd about one asset; it is told and nothing is changed.

    Args:
        check: its name: no_data, gaps, missing, constant, zero, negative, flat_line, outliers, completeness, range;
            ambiguous and duplicates (decided by a rule of the source); estimated, incomplete, rollover and reset (of
            a meter); kept_aside.
        rows: how many rows it is about.
        detail: the numbers, for people.
    """

    asset_id: str
    check: str
    rows: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest brought in.

    Args:
        assets: in the data; `new_assets` of them, or of the register, were not known before.
        rows: actuals read; `missing` of them NaN; from `first` to `last`, the starts of their intervals.
        written: rows stored, by table; empty when there was nothing new.
        bad: rows kept aside, in the files `aside`.
        findings: what is odd, by asset.
        notes: what the user should know, a sentence each.
        snapshot: that the commit made; None when there was nothing to commit.
    """

    assets: int
    new_assets: int
    rows: int
    missing: int
    first: datetime | None
    last: datetime | None
    written: Mapping[str, int]
    bad: int = 0
    aside: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    snapshot: int | None = None
    seconds: float = 0.0

    def summary(self) -> list[dict[str, object]]:
        """One row for each check that found something, the most frequent first, with an asset to look at.

        >>> one = Finding(asset_id="b1", check="gaps", rows=2, detail="5 steps absent")
        >>> facts = dict(assets=1, new_assets=0, rows=9, missing=0, first=None, last=None, written={})
        >>> IngestReport(findings=(one,), **facts).summary()
        [{'check': 'gaps', 'assets': 1, 'rows': 2, 'example': 'b1', 'detail': '5 steps absent'}]
        """
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.check, []).append(finding)
        rows: list[dict[str, object]] = []
        for check, some in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
            worst = max(some, key=lambda finding: finding.rows)
            total = sum(finding.rows for finding in some)
            rows.append(
                {"check": check, "assets": len(some), "rows": total, "example": worst.asset_id, "detail": worst.detail}
            )
        return rows

    def _repr_html_(self) -> str:
        return cards.ingest_card(self)


@dataclass(kw_only=True)
class Tally:
    """What is counted while actuals stream by."""

    assets: int = 0
    rows: int = 0
    missing: int = 0
    first: int | None = None
    last: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, clean: Clean, steps: Sequence[Step], data: DataSection) -> None:
        """Count a batch, and look at the quality of its series."""
        if not len(clean):
            return
        self.assets += len(clean.present())
        self.missing += int(np.isnan(clean.values[0]).sum())
        low, high = int(clean.starts.min()), int(clean.starts.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        self.findings += decided(clean)
        self.findings += odd(clean, steps, data)


def decided(clean: Clean) -> list[Finding]:
    """How many rows of each series a rule of the source decided about."""
    words = {
        "ambiguous": "in the hour that stands twice",
        "duplicates": "other rows of the same time left out",
        "estimated": "intervals from most of their readings",
        "incomplete": "intervals without enough readings",
        "rollover": "times the register began again with 0",
        "reset": "times the register was reset",
    }
    return [
        Finding(
            asset_id=clean.keys[code] or "",
            check=check,
            rows=int(counts[code]),
            detail=f"{counts[code]} {words[check]}",
        )
        for check, counts in clean.counts.items()
        for code in np.flatnonzero(counts).tolist()
    ]


def kept_aside(bad: BadRows) -> list[Finding]:
    """The rows of each series that were kept aside."""
    return [
        Finding(asset_id=key, check="kept_aside", rows=count, detail=f"{count} {SAID[fault][0]}")
        for (key, fault), count in bad.by_key.items()
    ]


def odd(clean: Clean, steps: Sequence[Step], data: DataSection) -> list[Finding]:
    """What the quality checks say of each series; of several revisions the last counts."""
    last = np.append((clean.starts[1:] != clean.starts[:-1]) | (clean.codes[1:] != clean.codes[:-1]), True)
    clean = clean if last.all() else clean.taken(last)
    table = pa.table(
        {
            "asset_id": dictionary(clean),
            "valid_time": pa.array(clean.starts, pa.timestamp("us", "UTC")),
            "y": pa.array(clean.values[0]),
        }
    )
    present = clean.present()
    freq = {clean.keys[code] or "": steps[code][0] for code in present}
    tz = {clean.keys[code] or "": steps[code][1] for code in present}
    report = quality_report(table, freq=freq, tz=tz)
    return [finding for row in report.to_pylist() for finding in _of_row(row, data)]


def _of_row(row: Mapping[str, object], data: DataSection) -> Iterable[Finding]:
    def number(name: str) -> float:
        value = row[name]
        return float(value) if isinstance(value, int | float) else float("nan")

    rows, flat, share = int(number("rows")), int(number("longest_flat")), number("completeness")
    low, high = number("minimum"), number("maximum")
    details: dict[str, tuple[int, str]] = {
        "no_data": (rows, f"none of {rows} rows holds a reading"),
        "gaps": (int(number("gaps")), f"{int(number('absent'))} steps absent"),
        "missing": (int(number("missing")), f"{int(number('missing'))} of {rows} rows are NaN"),
        "constant": (rows, f"always {low:g}"),
        "zero": (rows, "always 0"),
        "negative": (int(number("negatives")), f"down to {low:g}"),
        "flat_line": (flat, f"{flat} steps at {number('flat_value'):g}"),
        "outliers": (int(number("outliers")), f"from {low:g} to {high:g}"),
    }
    names = set(str(row["findings"]).split("+")) & set(details)
    if data.flat_steps is not None:
        names = names - {"flat_line"} | ({"flat_line"} if flat > data.flat_steps and low != high else set())
    if "zero" in names:
        names.discard("constant")
    if "no_data" in names:
        names.discard("missing")
    elif share < data.completeness:
        details["completeness"] = (rows, f"{share:.0%} of the steps hold a reading")
        names.add("completeness")
    if (data.minimum is not None and low < data.minimum) or (data.maximum is not None and high > data.maximum):
        details["range"] = (rows, f"from {low:g} to {high:g}")
        names.add("range")
    asset = str(row["asset_id"])
    for name in details:
        if name in names:
            yield Finding(asset_id=asset, check=name, rows=details[name][0], detail=details[name][1])


def dictionary(clean: Clean) -> pa.DictionaryArray:
    """The series of each row as Arrow text; a series that lost all its rows is not among them."""
    begins = clean.begins()
    names = pa.array([clean.keys[code] for code in clean.codes[begins].tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(np.cumsum(begins, dtype=np.int32) - 1, pa.int32()), names)


def moment(micros: int | None) -> datetime | None:
    """Microseconds as an aware datetime."""
    return None if micros is None else calendar.from_micros(np.array([micros]))[0].to_pydatetime()
