"""From many findings to few causes: what explains what, who is concerned, how much it weighs, one sentence.

A fault of the data explains what follows from it. An asset whose inputs are late or have a gap, whose meter is silent,
has a gap or stands still, or which was served by a fallback, is not one whose model decays. So a feed that stopped is
one cause, whatever rules it breaks for however many assets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from fleet.config.alerting import SEVERITIES, Severity
from fleet.metrics import evaluate, parse
from fleet.review.grids import windows
from jobs.alerts.evidence import DENSE, Evidence, Feed, Served
from jobs.alerts.judging import Finding, JobFinding, age_h, lateness

if TYPE_CHECKING:
    from fleet.config import AlertSection

FloatArray = npt.NDArray[np.float64]
Family = Literal["inputs", "readings", "outcomes", "metric", "jobs"]

#: Where no rule says from when on readings or inputs are late.
GRACE_H = 24.0
#: Data that are missing only in part explain an error where so much is missing; a fallback, where it served so much.
GAP = 1 - DENSE
STOOD_IN = 0.2
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Concerned:
    """One asset in an alert, by one rule."""

    rule: str
    asset_id: str
    product: str
    value: float
    impact: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One cause: an alert to be.

    Args:
        cause: what it is known by, the same from run to run.
        text: one sentence for people.
        rules: names of those that it breaks, the most telling first.
    """

    cause: str
    family: Family
    rules: tuple[str, ...]
    severity: Severity
    impact: float
    text: str
    assets: int
    concerned: tuple[Concerned, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cause:
    family: Family
    key: str
    #: Of the sentence what comes before and after the number of assets.
    said: str
    more: str = ""


def grouped(
    evidence: Evidence, rules: Sequence[AlertSection], found: Sequence[Finding], jobs: Sequence[JobFinding]
) -> tuple[Group, ...]:
    """The causes behind all findings, the gravest first; rules that want more assets than a cause has are left out."""
    by_name = {rule.name: rule for rule in rules}
    known = _Faults(evidence, rules)
    impacts = _Impacts(evidence)
    gathered: dict[str, tuple[_Cause, list[Finding]]] = {}
    for finding in found:
        cause = _cause_of(evidence, by_name[finding.rule], finding, known)
        gathered.setdefault(cause.key, (cause, []))[1].append(finding)
    made = [group for cause, mine in gathered.values() if (group := _group(evidence, by_name, cause, mine, impacts))]
    made += [_job_group(by_name[one.rule], one) for one in jobs]
    return tuple(sorted(_once(made), key=lambda g: (-SEVERITIES.index(g.severity), -g.impact, g.cause)))


def _cause_of(evidence: Evidence, rule: AlertSection, finding: Finding, known: _Faults) -> _Cause:
    """What is behind a finding: the fault that its asset has, or what the finding itself says."""
    match rule.kind:
        case "inputs":
            assert finding.feed is not None
            return known.feed(finding.feed)
        case "readings":
            return known.silence(finding.place)
        case "outcomes":
            assert finding.said is not None
            status, cause = finding.said
            fault = known.inputs(finding.place) if cause == "missing_covariate" else None
            fault = known.readings(finding.place) if cause in ("no_data", "too_short") else fault
            words = {"failed": "failed", "fell_back": "fell back"}[status]
            key = f"{rule.verb} {words}: {cause or 'no reason given'}"
            return fault or _Cause("outcomes", key, key)
        case _:
            fault = known.inputs(finding.place) or known.readings(finding.place)
            return fault or known.stood_in(finding) or _decay(evidence, rule, finding.place)


def _decay(evidence: Evidence, rule: AlertSection, place: int) -> _Cause:
    """No fault of the data is known: the model does not fit any more."""
    group = evidence.groups[rule.name][place]
    where = f" in {rule.group} {group}" if rule.group else ""
    if rule.change is None:
        said = f"{rule.metric} beyond {rule.opens_at:g}"
    else:
        said = f"{rule.metric} grew by {rule.opens_at:.0%} or more in {rule.window.days} days"
    return _Cause("metric", f"{rule.name}: {said}{where}", f"{said}{where}", ", with data in order: the model decays")


class _Faults:
    """What is wrong with the data of each asset, asked of by place."""

    def __init__(self, evidence: Evidence, rules: Sequence[AlertSection]) -> None:
        self.evidence = evidence
        self.metrics = {rule.name: rule for rule in rules}
        self.late_h = min((rule.opens_at for rule in rules if rule.kind == "inputs"), default=GRACE_H)
        self.silent_h = min((rule.opens_at for rule in rules if rule.kind == "readings"), default=GRACE_H)
        self._stops = _stops(evidence.ends, evidence.at, self.silent_h)
        self._late = [feed for feed in evidence.feeds if self._is_late(feed)]
        self._whole = _whole_sources(evidence.feeds, self._late)
        self._feed_of: dict[int, Feed] = {}
        for feed in reversed(self._late):
            self._feed_of.update(dict.fromkeys(feed.assets.tolist(), feed))

    def _is_late(self, feed: Feed) -> bool:
        late = [lateness(self.evidence, one, feed) for one in self.evidence.products.values()]
        return feed.gap > GAP or any(bool((hours >= self.late_h).any()) for hours in late)

    def feed(self, feed: Feed) -> _Cause:
        """A covariate source that stopped or has a gap; all its series as one where most of them did."""
        if feed.source in self._whole:
            named = feed.source
        else:
            named = feed.series if feed.series == feed.source or not feed.source else f"{feed.series} of {feed.source}"
        mine = [
            one
            for one in self._late
            if one.source == feed.source and (one.series == feed.series or feed.source in self._whole)
        ]
        names = ", ".join(sorted({one.name for one in mine or [feed]})[:EXAMPLES])
        reach = max((one.reach for one in mine if one.reach is not None), default=None)
        until = f"no value since {reach:%Y-%m-%d %H:%M} UTC" if reach is not None else "no value for weeks"
        if all(age_h(self.evidence.at, one.reach) < self.late_h for one in mine):
            until = "values are missing"
        return _Cause("inputs", f"inputs of {named}", f"feed {named} late ({names})", f", {until}")

    def inputs(self, place: int) -> _Cause | None:
        """The late feed that an asset sees, if it does."""
        feed = self._feed_of.get(place)
        return None if feed is None else self.feed(feed)

    def readings(self, place: int) -> _Cause | None:
        """What is wrong with an asset's own readings."""
        evidence = self.evidence
        if age_h(evidence.at, evidence.ends[place]) >= self.silent_h:
            return self.silence(place)
        if evidence.flat[place]:
            return _Cause("readings", "readings stand still", "readings stand still")
        if evidence.gap[place] > GAP:
            return _Cause("readings", "readings have gaps", "readings have gaps")
        return None

    def silence(self, place: int) -> _Cause:
        """Readings that stopped, together with those of other assets that stopped about then."""
        end = self.evidence.ends[place]
        if end is None:
            return _Cause("readings", "no reading ever", "no reading ever")
        stop = self._stops.get(place, end)
        return _Cause(
            "readings", f"no readings since {stop:%Y-%m-%d %H:%M}", f"no readings since {stop:%Y-%m-%d %H:%M} UTC"
        )

    def stood_in(self, finding: Finding) -> _Cause | None:
        """A fallback that did the champion's work for much of the window."""
        served, rule = self.evidence.products[finding.product], self.metrics[finding.rule]
        now, _ = windows(self.evidence.at.date(), rule.window.days, rule.history.days)
        share = served.grids.share(now, "fallback")[finding.place]
        if not share >= STOOD_IN:
            return None
        last = served.last["forecast"][finding.place]
        cause = last[1] if last is not None and last[0] in ("failed", "fell_back") and last[1] else "a while ago"
        return _Cause("outcomes", f"forecast fell back: {cause}", f"forecast fell back: {cause}")


def _stops(ends: Sequence[datetime | None], at: datetime, apart_h: float) -> dict[int, datetime]:
    """Of each silent asset when its cluster stopped: who stopped less than `apart_h` after another stopped with it."""
    silent = sorted((end, k) for k, end in enumerate(ends) if end is not None and age_h(at, end) >= apart_h / 2)
    stops: dict[int, datetime] = {}
    cluster: list[tuple[datetime, int]] = []
    for end, k in silent:
        if cluster and age_h(end, cluster[-1][0]) >= apart_h:
            stops.update({place: cluster[-1][0] for _, place in cluster})
            cluster = []
        cluster.append((end, k))
    stops.update({place: cluster[-1][0] for _, place in cluster})
    return stops


def _whole_sources(feeds: Sequence[Feed], late: Sequence[Feed]) -> frozenset[str]:
    """The sources of which two series or more, and at least half of them, are late."""
    every = {
        source: {f.series for f in feeds if f.source == source} for source in {f.source for f in feeds if f.source}
    }
    stopped = {source: {f.series for f in late if f.source == source} for source in every}
    return frozenset(s for s in every if len(stopped[s]) >= 2 and 2 * len(stopped[s]) >= len(every[s]))


class _Impacts:
    """What each asset's trouble costs: its stake times the error that it has too much.

    The excess is this window's wape less that of the window before. Where it is not known yet, as with a feed that
    stopped an hour ago, the usual error once more is taken for it; without any score a tenth.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.stake = evidence.stake
        self._excess = {name: self._of(served, evidence.at) for name, served in evidence.products.items()}

    def _of(self, served: Served, at: datetime) -> FloatArray:
        now, before = windows(at.date(), min(7, served.grids.days - 1), max(served.grids.days - 7, 1))
        value, past = (evaluate(parse("wape"), served.grids.over(window)) for window in (now, before))
        usual = np.where(np.isnan(past), 0.1, past)
        grown = np.where(np.isnan(value), 0.0, value - usual)
        excess: FloatArray = np.where(grown > 0.05 * usual, grown, usual)
        return excess

    def of(self, finding: Finding) -> float:
        """Of one finding."""
        names = [finding.product] if finding.product else [*self._excess]
        worst = max((float(self._excess[name][finding.place]) for name in names), default=0.1)
        return float(self.stake[finding.place]) * worst


def _group(
    evidence: Evidence,
    rules: Mapping[str, AlertSection],
    cause: _Cause,
    found: Sequence[Finding],
    impacts: _Impacts,
) -> Group | None:
    each: dict[tuple[str, int], Concerned] = {}
    for one in found:
        place = one.rule, one.place
        here = Concerned(
            rule=one.rule,
            asset_id=evidence.assets[one.place],
            product=one.product,
            value=one.value,
            impact=impacts.of(one),
        )
        if place not in each or here.value > each[place].value:
            each[place] = here
    counted = Counter(rule for rule, _ in each)
    names = [rule for rule in rules if counted[rule] >= rules[rule].assets]
    if not names:
        return None
    names.sort(key=lambda rule: (_TELLING.index(rules[rule].kind), [*rules].index(rule)))
    concerned = tuple(each[key] for key in sorted(each) if key[0] in names)
    by_asset: dict[str, float] = {}
    for asset in concerned:
        by_asset[asset.asset_id] = max(by_asset.get(asset.asset_id, 0.0), asset.impact)
    return Group(
        cause=cause.key,
        family=cause.family,
        rules=tuple(names),
        severity=max((rules[rule].severity for rule in names), key=SEVERITIES.index),
        impact=sum(by_asset[asset] for asset in sorted(by_asset)),
        text=_sentence(cause, by_asset, len(evidence.assets)),
        assets=len(by_asset),
        concerned=concerned,
    )


_TELLING = ("inputs", "readings", "outcomes", "metric", "jobs")


def _sentence(cause: _Cause, by_asset: Mapping[str, float], fleet: int) -> str:
    ranked = sorted(by_asset, key=lambda asset: (-by_asset[asset], asset))
    listed = ", ".join(ranked[:EXAMPLES]) + (", ..." if len(ranked) > EXAMPLES else "")
    many = f"{len(ranked):,} assets" if len(ranked) > 1 else "1 asset"
    most = "; most of the fleet at once: look at what they share" if 2 * len(ranked) > fleet > 3 else ""
    return f"{cause.said}: {many}{cause.more} ({listed}){most if cause.family == 'metric' else ''}"


def _job_group(rule: AlertSection, found: JobFinding) -> Group:
    since = f"no success since {found.since:%Y-%m-%d %H:%M} UTC" if found.since is not None else "no success yet"
    what = "failed" if found.failed else "late" if found.due is None else f"late, due {found.due:%Y-%m-%d %H:%M} UTC"
    error = f": {found.error.splitlines()[0]}" if found.error else ""
    return Group(
        cause=f"job {found.job}",
        family="jobs",
        rules=(rule.name,),
        severity=rule.severity,
        impact=0.0,
        text=f"job {found.job} {what}, {since}{error}",
        assets=0,
    )


def _once(groups: Sequence[Group]) -> list[Group]:
    """One group for each cause: of a job that two rules speak of, the graver one with the names of both."""
    made: dict[str, Group] = {}
    for group in groups:
        held = made.get(group.cause)
        if held is None:
            made[group.cause] = group
        else:
            graver = max(held, group, key=lambda g: SEVERITIES.index(g.severity))
            made[group.cause] = replace(graver, rules=(*held.rules, *(r for r in group.rules if r not in held.rules)))
    return list(made.values())
