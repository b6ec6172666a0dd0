"""Which assets a rule is about to tell of: values beside bounds, with hysteresis. Arithmetic only.

A rule opens for an asset at its upper bound. One that it is open for stays until the value is below the lower bound.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fleet.metrics import evaluate, loss, parse
from fleet.review import changes
from fleet.review.grids import windows
from jobs.alerts.evidence import Evidence, Feed, Served

if TYPE_CHECKING:
    from fleet.config import AlertSection

FloatArray = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that holds for an asset.

    Args:
        place: of the asset in the evidence.
        value: beside the rule's bound; hours for an age, a fraction or a metric else.
        feed: the late one, for inputs.
        said: status and cause, for outcomes.
    """

    rule: str
    place: int
    product: str
    value: float
    feed: Feed | None = None
    said: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinding:
    """A rule that holds for a job: that it failed, or is late.

    Args:
        since: its last success, or when it was first heard of; None for one that never ran.
        due: the slot that nobody has begun.
    """

    rule: str
    job: str
    failed: bool
    since: datetime | None
    error: str
    due: datetime | None = None


def beyond(values: FloatArray, held: Flags, *, opens: float, closes: float) -> Flags:
    """Where a rule holds: from `opens` on, or still from `closes` on where it held before. NaN never does.

    >>> beyond(np.array([0.4, 0.4, 0.6, np.nan]), np.array([False, True, False, True]), opens=0.5, closes=0.3).tolist()
    [False, True, True, False]
    """
    with np.errstate(invalid="ignore"):
        return (values >= opens) | (held & (values >= closes))


def findings(
    evidence: Evidence, rules: Sequence[AlertSection], held: Collection[tuple[str, str]]
) -> tuple[list[Finding], list[JobFinding]]:
    """What all rules find.

    Args:
        held: (rule, asset) pairs that are open now.
    """
    found: list[Finding] = []
    jobs: list[JobFinding] = []
    for rule in rules:
        before = np.array([(rule.name, asset) in held for asset in evidence.assets], dtype=bool)
        match rule.kind:
            case "metric":
                for product, served in _served(evidence, rule):
                    found += metric_findings(evidence, rule, product, served, before)
            case "readings":
                found += _silent(evidence, rule, before)
            case "inputs":
                for product, served in _served(evidence, rule):
                    found += _inputs(evidence, rule, product, served, before)
            case "outcomes":
                for product, served in _served(evidence, rule):
                    found += _outcomes(evidence, rule, product, served)
            case "jobs":
                jobs += _jobs(evidence, rule)
    return found, jobs


def _served(evidence: Evidence, rule: AlertSection) -> list[tuple[str, Served]]:
    return [(name, one) for name, one in evidence.products.items() if rule.product in (None, name)]


def metric_findings(evidence: Evidence, rule: AlertSection, product: str, served: Served, held: Flags) -> list[Finding]:
    """The assets whose metric is beyond the bound, or grew by it; growth has to be beyond the noise to open."""
    asked = parse(rule.metric)
    now, before = windows(evidence.at.date(), rule.window.days, rule.history.days)
    sums = served.grids.over(now)
    value = loss(asked, evaluate(asked, sums))
    enough = sums["n"] >= rule.least_points
    if rule.change is None:
        holds = beyond(value, held, opens=rule.opens_at, closes=rule.closes_at) & enough
    else:
        past = served.grids.over(before)
        value = changes.change(value, loss(asked, evaluate(asked, past)))
        far = changes.distance(
            loss(asked, served.grids.daily(asked, now)), loss(asked, served.grids.daily(asked, before))
        )
        loud = held | (far >= changes.NOISE)
        enough &= past["n"] >= rule.least_points
        holds = beyond(value, held, opens=rule.opens_at, closes=rule.closes_at) & enough & loud
    holds &= evidence.chosen[rule.name] & served.issued
    return [
        Finding(rule=rule.name, place=int(k), product=product, value=float(value[k])) for k in np.flatnonzero(holds)
    ]


def age_h(at: datetime, moment: datetime | None) -> float:
    """Hours since a moment; infinite where there was none."""
    return np.inf if moment is None else (at - moment).total_seconds() / 3600


def _silent(evidence: Evidence, rule: AlertSection, held: Flags) -> list[Finding]:
    ages = np.array([age_h(evidence.at, end) for end in evidence.ends], dtype=np.float64)
    holds = beyond(ages, held, opens=rule.opens_at, closes=rule.closes_at) & evidence.chosen[rule.name]
    return [Finding(rule=rule.name, place=int(k), product="", value=float(ages[k])) for k in np.flatnonzero(holds)]


def lateness(evidence: Evidence, served: Served, feed: Feed) -> FloatArray:
    """(k,) hours that a feed falls short of what each of its assets needs: to the end of a forecast issued now."""
    need = served.ahead_h[feed.assets] if feed.ahead else np.zeros(len(feed.assets))
    short: FloatArray = age_h(evidence.at, feed.reach) + need
    return short


def _inputs(evidence: Evidence, rule: AlertSection, product: str, served: Served, held: Flags) -> list[Finding]:
    found = []
    for feed in evidence.feeds:
        if rule.only and feed.name not in rule.only:
            continue
        late = lateness(evidence, served, feed)
        holds = beyond(late, held[feed.assets], opens=rule.opens_at, closes=rule.closes_at)
        holds &= evidence.chosen[rule.name][feed.assets] & served.issued[feed.assets]
        found += [
            Finding(rule=rule.name, place=int(feed.assets[k]), product=product, value=float(late[k]), feed=feed)
            for k in np.flatnonzero(holds)
        ]
    return found


def _outcomes(evidence: Evidence, rule: AlertSection, product: str, served: Served) -> list[Finding]:
    return [
        Finding(rule=rule.name, place=k, product=product, value=1.0, said=said)
        for k, said in enumerate(served.last[rule.verb])
        if said is not None and said[0] in ("failed", "fell_back") and evidence.chosen[rule.name][k]
    ]


def _jobs(evidence: Evidence, rule: AlertSection) -> list[JobFinding]:
    known = {state.job: state for state in evidence.jobs}
    found = []
    for name in rule.only or evidence.scheduled:
        state = known.get(name)
        failed = state is not None and state.status in ("failed", "killed")
        since, due = (None if state is None else state.last_ok or state.first), evidence.overdue.get(name)
        waited = evidence.at - (since or due or evidence.at)
        late = due is not None if rule.after is None else waited > rule.after
        if failed or late:
            error = "" if state is None else state.error or ""
            found.append(JobFinding(rule=rule.name, job=name, failed=failed, since=since, error=error, due=due))
    return found
