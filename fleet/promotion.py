"""Who becomes an asset's champion: a pure decision over figures that were measured on the same points.

A challenger takes over when its error is lower than the champion's by the margin, a fraction of the champion's error,
on at least so many points. The verdict is always recorded, also when everything stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["promoted", "kept", "too_few_points", "not_fitted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One recipe's figure on an asset: the error (lower is better), its points, whether it saw the future."""

    recipe: str
    error: float
    points: int
    foresight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who is in charge from now on, and why; `champion` and `challenger` are the two that were weighed.

    Args:
        chosen: the recipe in charge after the decision; None when nothing could be judged.
    """

    chosen: str | None
    champion: str | None
    challenger: str | None
    champion_value: float | None
    challenger_value: float | None
    points: int
    verdict: Verdict
    reason: str


def decide(candidates: Sequence[Candidate], *, champion: str | None, margin: float, min_points: int) -> Decision:
    """The decision over an asset's candidates.

    Args:
        candidates: judged on the same points; those with a NaN error are left out. Recipes that saw the future of a
            covariate are weighed only where no other is left, since the two cannot be compared.
        champion: the recipe in charge, None at the first decision.
        margin: fraction of the champion's error by which a challenger must be better.

    >>> pair = [Candidate(recipe="old", error=1.0, points=200), Candidate(recipe="new", error=0.9, points=200)]
    >>> decide(pair, champion="old", margin=0.02, min_points=168).verdict
    'promoted'
    >>> decide(pair, champion="old", margin=0.2, min_points=168).chosen
    'old'
    """
    valid = [c for c in candidates if math.isfinite(c.error)]
    honest = [c for c in valid if not c.foresight]
    field = sorted(honest or valid, key=lambda c: (c.error, c.recipe))
    if not field:
        return _kept(champion, None, None, "no candidate has a figure")
    best = field[0]
    holder = next((c for c in field if c.recipe == champion), None)
    if holder is None:
        why = "first champion" if champion is None else _left_out(champion, valid)
        return _promoted(champion, None, best, f"{why}; lowest error of {len(field)} candidates")
    if best is holder:
        runner_up = field[1] if len(field) > 1 else None
        return _kept(champion, holder, runner_up, f"lowest error of {len(field)} candidates")
    if best.points < min_points:
        kept = _kept(champion, holder, best, f"{best.points} points, {min_points} are needed")
        return replace(kept, verdict="too_few_points")
    gain = _gain(holder.error, best.error)
    if gain <= margin:
        return _kept(champion, holder, best, f"{best.recipe} is better by {gain:.1%}, {margin:.1%} is needed")
    return _promoted(champion, holder, best, f"better by {gain:.1%} on {best.points} points")


def _gain(error: float, better: float) -> float:
    """How much lower an error is, as a fraction of the other; a skill, whose error is below zero, counts alike."""
    if error == better:
        return 0.0
    return (error - better) / abs(error) if error else math.inf


def _left_out(champion: str, judged: Sequence[Candidate]) -> str:
    flagged = any(c.recipe == champion for c in judged)
    return f"{champion} saw the future" if flagged else f"{champion} is not judged on these points"


def _promoted(champion: str | None, holder: Candidate | None, best: Candidate, reason: str) -> Decision:
    return Decision(
        chosen=best.recipe,
        champion=champion,
        challenger=best.recipe,
        champion_value=holder.error if holder else None,
        challenger_value=best.error,
        points=best.points,
        verdict="promoted",
        reason=reason,
    )


def _kept(champion: str | None, holder: Candidate | None, other: Candidate | None, reason: str) -> Decision:
    return Decision(
        chosen=champion,
        champion=champion,
        challenger=other.recipe if other else None,
        champion_value=holder.error if holder else None,
        challenger_value=other.error if other else None,
        points=holder.points if holder else 0,
        verdict="kept",
        reason=reason,
    )
