"""Decisions worked out by hand, and laws that hold for any figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.promotion import Candidate, Decision, decide

NAN = math.nan


def candidate(recipe: str, error: float, points: int = 168, *, foresight: bool = False) -> Candidate:
    return Candidate(recipe=recipe, error=error, points=points, foresight=foresight)


def decided(
    candidates: Sequence[Candidate], champion: str | None = "old", margin: float = 0.02, min_points: int = 168
) -> Decision:
    return decide(candidates, champion=champion, margin=margin, min_points=min_points)


@pytest.mark.parametrize(
    ("old", "new", "margin", "chosen"),
    [
        (1.0, 0.97, 0.02, "new"),  # better by 3 %, 2 % are asked
        (1.0, 0.99, 0.02, "old"),  # better by 1 %
        (1.0, 0.75, 0.25, "old"),  # exactly the margin is not beyond it
        (200.0, 150.0, 0.24, "new"),  # a fraction of the champion's error, whatever the unit
        (1.0, 1.0, 0.0, "old"),  # equal is not better
        (1.0, 0.999, 0.0, "new"),
        (0.9, 1.0, 0.02, "old"),
        (0.0, 0.0, 0.02, "old"),  # nothing is better than no error at all
        (-0.10, -0.20, 0.5, "new"),  # a skill of 0.2 beats one of 0.1: twice as far from nothing
    ],
)
def test_a_challenger_takes_over_beyond_the_margin(old: float, new: float, margin: float, chosen: str) -> None:
    decision = decided([candidate("old", old), candidate("new", new)], margin=margin)
    assert decision.chosen == chosen
    assert decision.verdict == ("promoted" if chosen == "new" else "kept")
    assert (decision.champion, decision.challenger) == ("old", "new")
    assert (decision.champion_value, decision.challenger_value) == (old, new)
    assert decision.points == 168


def test_the_best_of_several_challengers_is_the_one_that_is_weighed() -> None:
    field = [candidate("good", 0.8), candidate("old", 1.0), candidate("best", 0.5), candidate("bad", 2.0)]
    decision = decided(field)
    assert (decision.chosen, decision.challenger, decision.challenger_value) == ("best", "best", 0.5)


def test_a_champion_that_leads_is_kept_beside_its_runner_up() -> None:
    decision = decided([candidate("third", 3.0), candidate("second", 2.0), candidate("old", 1.0)])
    assert (decision.chosen, decision.verdict) == ("old", "kept")
    assert (decision.challenger, decision.challenger_value) == ("second", 2.0)


def test_too_few_points_keep_the_champion_and_say_so() -> None:
    field = [candidate("old", 1.0, points=167), candidate("new", 0.1, points=167)]
    decision = decided(field)
    assert (decision.chosen, decision.verdict, decision.points) == ("old", "too_few_points", 167)
    assert decided(field, min_points=167).chosen == "new"


def test_the_first_champion_is_the_best_with_however_few_points() -> None:
    decision = decided([candidate("a", 2.0, points=1), candidate("b", 1.0, points=1)], champion=None)
    assert (decision.chosen, decision.verdict) == ("b", "promoted")
    assert (decision.champion, decision.champion_value) == (None, None)
    assert (decision.challenger, decision.challenger_value) == ("b", 1.0)


@pytest.mark.parametrize("rest", [[], [candidate("old", NAN)]], ids=["removed", "without a figure"])
def test_a_champion_that_is_not_judged_gives_way_to_the_best(rest: list[Candidate]) -> None:
    decision = decided([candidate("a", 2.0), candidate("b", 1.0), *rest])
    assert (decision.chosen, decision.verdict) == ("b", "promoted")
    assert "old" in decision.reason


def test_without_any_figure_everything_stays_as_it_is() -> None:
    for field in ([], [candidate("old", NAN), candidate("new", NAN)], [candidate("new", math.inf)]):
        for champion in ("old", None):
            decision = decided(field, champion=champion)
            assert (decision.chosen, decision.verdict) == (champion, "kept")
            assert (decision.champion_value, decision.challenger_value) == (None, None)


def test_who_saw_the_future_is_never_weighed_against_who_did_not() -> None:
    seer = candidate("seer", 0.01, foresight=True)
    honest = decided([seer, candidate("old", 1.0), candidate("new", 0.995)])
    assert (honest.chosen, honest.verdict, honest.challenger) == ("old", "kept", "new")
    first = decided([seer, candidate("new", 5.0)], champion=None)
    assert first.chosen == "new"
    taken_back = decided([seer, candidate("new", 5.0)], champion="seer")
    assert (taken_back.chosen, taken_back.champion_value) == ("new", None)
    assert "future" in taken_back.reason


def test_those_who_all_saw_the_future_are_weighed_among_themselves() -> None:
    field = [candidate("old", 1.0, foresight=True), candidate("new", 0.5, foresight=True)]
    assert decided(field).chosen == "new"


figures = st.one_of(st.integers(1, 40).map(lambda n: n / 8), st.just(NAN))
fields = st.lists(
    st.builds(
        Candidate,
        recipe=st.sampled_from("abcde"),
        error=figures,
        points=st.sampled_from((100, 200)),
        foresight=st.booleans(),
    ),
    unique_by=lambda one: one.recipe,
    max_size=5,
)
champions = st.one_of(st.none(), st.sampled_from("abcdef"))


@given(fields, champions, st.sampled_from((0.0, 0.02, 0.5)), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(field, champion, margin, random) -> None:
    shuffled = random.sample(field, len(field))
    assert decided(shuffled, champion, margin) == decided(field, champion, margin)


@given(fields, champions, st.sampled_from((0.0, 0.02, 0.5)), st.sampled_from((0.25, 1024.0)))
def test_the_unit_does_not_matter(field, champion, margin, unit) -> None:
    scaled = [candidate(c.recipe, c.error * unit, c.points, foresight=c.foresight) for c in field]
    one, other = decided(field, champion, margin), decided(scaled, champion, margin)
    assert (one.chosen, one.verdict, one.challenger) == (other.chosen, other.verdict, other.challenger)


@given(fields, champions, st.sampled_from((0.0, 0.02, 0.5)))
def test_deciding_again_with_the_same_figures_changes_nothing(field, champion, margin) -> None:
    first = decided(field, champion, margin)
    again = decided(field, first.chosen, margin)
    assert again.chosen == first.chosen
    assert again.verdict != "promoted" or first.chosen not in [c.recipe for c in field]


@given(fields, champions, st.sampled_from((0.0, 0.02, 0.5)))
def test_whoever_takes_over_has_the_lowest_error_of_its_kind(field, champion, margin) -> None:
    decision = decided(field, champion, margin)
    if decision.verdict == "promoted":
        by_name = {c.recipe: c for c in field}
        new = by_name[decision.chosen]
        rivals = [c for c in field if c.foresight == new.foresight and math.isfinite(c.error)]
        assert new.error == min(c.error for c in rivals)
        assert decision.champion == champion, "the ledger names who was replaced"
        held = by_name.get(champion)
        if held is not None and held in rivals:
            assert new.points >= 168
            assert new.error < held.error * (1 - margin)
    else:
        assert decision.chosen == champion
