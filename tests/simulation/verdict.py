"""What a walk left behind, beside what the story asks for: nothing lost, nothing twice, every sum a recount."""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from fleet import Fleet
from store import FixedClock, Store
from tests.simulation.story import TIMINGS, ZONE, Story, slots
from tests.simulation.world import World

ENDED = ("ok", "failed")
BUCKETS = ((1, "0-1h"), (6, "1-6h"), (24, "6-24h"), (48, "1-2d"), (168, "2-7d"))
SUMS = ("n", "sum_e", "sum_abs_e", "sum_sq_e", "sum_abs_y", "pinball_sum_q10", "pinball_sum_q90")


class Verdict:
    """The figures of a walk."""

    def __init__(self, folder: Path, story: Story, world: World) -> None:
        self.story, self.world, self.folder = story, world, folder
        self.end = world.clock.now()
        # What came after the last score is scored, as it would be at the next one.
        with Fleet.open(folder / "fleet.toml", clock=FixedClock(self.end)) as fleet:
            fleet.score()
        self.store = Store.open(folder / "simulated.store", read_only=True)

    def close(self) -> None:
        self.store.close()

    def asked(self, query: str) -> list[Mapping[str, Any]]:
        return self.store.sql(query).rows()

    # ------------------------------------------------------------------------------------------------------ slots

    def due(self) -> dict[str, list[datetime]]:
        """The slots that each job had; one that follows another has those that went well."""
        runs = self.runs()
        found: dict[str, list[datetime]] = {}
        for job, timing in TIMINGS.items():
            if timing.after is None:
                found[job] = slots(timing, self.story.begin, self.story.end)
            else:
                found[job] = [slot for slot in found[timing.after] if runs.get((timing.after, slot)) == "ok"]
        return found

    def runs(self) -> dict[tuple[str, datetime], str]:
        """What became of each slot's run."""
        return {
            (row["job"], row["slot"]): row["status"] for row in self.asked("select job, slot, status from job_runs")
        }

    def slots(self) -> dict[str, Any]:
        """Slots due, run and lost; those run that were never due."""
        due, runs = self.due(), self.runs()
        wanted = {(job, slot) for job, times in due.items() for slot in times}
        ended = {key for key, status in runs.items() if status in ENDED and key[1] <= self.story.end}
        return {
            "due": len(wanted),
            "run": len(wanted & ended),
            "failed": sum(runs[key] == "failed" for key in wanted & ended),
            "doubled": len(self.doubled()),
            "lost": len(wanted - ended),
            "invented": len(ended - wanted),
            "by_job": {job: len(times) for job, times in due.items()},
        }

    def doubled(self) -> list[tuple[str, str]]:
        """Whatever a slot did twice: the team's own rows, outcomes, decisions, reports, deliveries, files."""
        found: list[tuple[str, str]] = []
        for what, query in _DOUBLED.items():
            found += [(what, str(dict(row))) for row in self.asked(query)]
        for name in ("desk", "market"):
            files = Counter(path.stem.rpartition("-")[0] for path in (self.folder / "out" / name).glob("*.csv"))
            found += [("files", f"{name} {stem}") for stem, count in files.items() if count > 1]
        return found

    def effects(self) -> dict[str, Any]:
        """Runs of the team's own kind that went well, and the rows that they left."""
        runs = [key for key, status in self.runs().items() if key[0] == "own" and status == "ok"]
        rows = self.asked("select count(*) as n from metrics where run_id = 'own'")[0]["n"]
        return {"own_ok": len(runs), "own_rows": rows}

    # -------------------------------------------------------------------------------------------------- forecasts

    def forecasts(self) -> dict[str, Any]:
        """For every asset, product and issue that went well exactly one published forecast, of its whole length."""
        runs = self.runs()
        expected: dict[tuple[str, str, datetime], int] = {}
        for job, product in (("forecast", "default"), ("dayahead", "day_ahead")):
            for (name, slot), status in runs.items():
                if name == job and status == "ok":
                    for asset in self.story.assets:
                        expected[asset, product, slot] = 24 if product == "default" else _hours_of_tomorrow(slot)
        found = {
            (row["asset_id"], row["product"], row["issue_time"]): row
            for row in self.asked(
                "select asset_id, product, issue_time, count(*) as n, count(distinct valid_time) as steps, "
                "count(distinct (recipe_hash, version_id, role)) as models, min(role) as role, "
                "bool_or(quality like '%late%') as late from published group by all"
            )
        }
        once = sum(
            key in found and (found[key]["n"], found[key]["steps"], found[key]["models"]) == (steps, steps, 1)
            for key, steps in expected.items()
        )
        mine = [row for key, row in found.items() if key in expected]
        return {
            "expected": len(expected),
            "published_once": once,
            "not_asked_for": len(found.keys() - expected.keys()),
            "champion": sum(row["role"] == "champion" for row in mine),
            "fallback": sum(row["role"] == "fallback" for row in mine),
            "late": sum(bool(row["late"]) for row in mine),
            "rows_doubled": self.asked(
                "select count(*) - count(distinct (asset_id, product, recipe, recipe_hash, version_id, role, "
                "issue_time, valid_time)) as n from forecasts"
            )[0]["n"],
        }

    def delivered(self) -> dict[str, Any]:
        """Files of the desk whose numbers are those that were published when they were sent."""
        right = wrong = 0
        for row in self.asked(
            "select * from deliveries where delivery = 'desk' and status in ('sent', 'acknowledged')"
        ):
            published = self.store.at(row["snapshot"]).sql(
                "select asset_id, valid_time, mean from published where product = 'default' and issue_time = $at",
                {"at": row["issue_time"]},
            )
            wanted = {(one["asset_id"], one["valid_time"]): one["mean"] for one in published.rows()}
            with Path(row["target"]).open(newline="", encoding="utf-8") as file:
                told = {
                    (one["asset_id"], datetime.fromisoformat(one["valid_time"])): float(one["mean"])
                    for one in csv.DictReader(file)
                }
            same = told == wanted
            right, wrong = right + same, wrong + (not same)
        statuses = Counter(row["status"] for row in self.asked("select status from deliveries"))
        return {"files_right": right, "files_wrong": wrong, **statuses}

    # ----------------------------------------------------------------------------------------------------- scores

    def scores(self) -> dict[str, Any]:
        """Every cell beside a recount, a loop with exact sums over what was forecast and what was read."""
        actuals = self._told()
        terms: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.asked(
            "select * from forecasts where role <> 'backtest'"  # quantiles are columns where there are any
        ):
            y = actuals.get((row["asset_id"], row["valid_time"]), math.nan)
            if not math.isfinite(y) or row["mean"] is None:
                continue
            hours = (row["valid_time"] - row["issue_time"]) / timedelta(hours=1)
            bucket = next((name for upto, name in BUCKETS if hours < upto), "7d+")
            day = row["valid_time"].astimezone(ZONE).date()
            cell = terms[
                row["asset_id"], row["product"], row["recipe_hash"], row["version_id"], row["role"], day, bucket
            ]
            e = row["mean"] - y
            for name, value in zip(SUMS, (1.0, e, abs(e), e * e, abs(y)), strict=False):
                cell[name].append(value)
            for name, level in (("q10", 0.1), ("q90", 0.9)):
                if (quantile := row.get(name)) is not None:
                    gap = y - quantile
                    cell[f"pinball_sum_{name}"].append(max(level * gap, (level - 1) * gap))
        held = {
            (r["asset_id"], r["product"], r["recipe_hash"], r["version_id"], r["role"], r["day"], r["lead_bucket"]): r
            for r in self.asked("select * from scores where role <> 'backtest' and truth = 'latest' and n > 0")
        }
        off = 0.0
        for key in terms.keys() & held.keys():
            for name, parts in terms[key].items():
                size = math.fsum(map(abs, parts))
                gap = abs((held[key][name] or 0.0) - math.fsum(parts))
                off = max(off, gap / size if size else gap)
        return {
            "cells": len(terms),
            "missing": len(terms.keys() - held.keys()),
            "surplus": len(held.keys() - terms.keys()),
            "worst_of_sum_abs": off,
        }

    def _told(self) -> dict[tuple[str, datetime], float]:
        """The last value of each reading that the feed has told by the last ingest that went well."""
        last = max(slot for (job, slot), status in self.runs().items() if job == "ingest" and status == "ok")
        begun = self.asked(
            f"select started_at from job_runs where job = 'ingest' and slot = '{last.isoformat()}'::timestamptz"
        )[0]["started_at"]
        known = self.world.readings[self.world.readings["known"] <= pd.Timestamp(begun)]
        newest = known.drop_duplicates(["unique_id", "ds"], keep="last")
        stamps = [one.to_pydatetime() for one in newest["ds"]]
        return dict(zip(zip(newest["unique_id"], stamps, strict=True), newest["y"].tolist(), strict=True))

    def ingested(self) -> dict[str, Any]:
        """Readings of the store beside those of the feed."""
        told = self._told()
        held = {(row["asset_id"], row["valid_time"]): row["y"] for row in self.asked("select * from actuals")}
        return {
            "readings": len(held),
            "missing": len(told.keys() - held.keys()),
            "surplus": len(held.keys() - told.keys()),
            "other": sum(held[key] != told[key] for key in told.keys() & held.keys()),
        }

    def alerts(self) -> dict[str, Any]:
        """Alerts by what they are about, those open twice, and lines that people were sent."""
        opened = Counter(row["rule"] for row in self.asked("select rule from alerts"))
        twice = self.asked(
            "select rule, cause, count(*) as n from alerts where closed_at is null group by all having n > 1"
        )
        log = self.folder / "alerts.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return {"alerts": dict(opened), "open_twice": len(twice), "lines": len(lines)}


_DOUBLED = {
    "own": "select run_id, name, count(*) as n from metrics where run_id in ('own', 'night_once', 'night_twice', "
    "'night_skip') group by all having n > 1",
    "outcomes": "select job, slot, asset_id, product, recipe, count(*) as n from outcomes where job <> 'train' "
    "group by all having n > 1",
    "decisions": "select o.slot, d.asset_id, d.product, d.challenger, count(*) as n from decisions d "
    "join job_runs o on o.job = 'train' and d.decided_at >= o.slot and d.decided_at < o.slot + interval 12 hour "
    "group by all having n > 1",
    "reports": "select job, slot, product, count(*) as n from reports group by all having n > 1",
    "deliveries": "select delivery, issue_time, count(*) as n from deliveries group by all having n > 1",
}


def _hours_of_tomorrow(slot: datetime) -> int:
    """Hours of the local day after a slot's."""
    tomorrow = slot.astimezone(ZONE).date() + timedelta(days=1)
    start = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZONE)
    after = tomorrow + timedelta(days=1)
    stop = datetime(after.year, after.month, after.day, tzinfo=ZONE)
    return round((stop.timestamp() - start.timestamp()) / 3600)
