"""Parameters that nobody knows."""

from __future__ import annotations

import pytest

from tests.web.conftest import Client

PATHS = (
    "assets",
    "runs",
    "forecasts",
    "actuals",
    "scores",
    "decisions",
    "job-runs",
    "alerts",
    "leaderboard",
    "snapshot",
)


@pytest.mark.parametrize("name", PATHS)
def test_a_parameter_that_a_list_does_not_have_is_refused_with_those_that_it_has(ask: Client, name: str) -> None:
    found = ask(f"/api/v1/{name}?produkt=x")
    assert (found.status, found.problem) == (400, "parameter-unknown")
    assert "'produkt'" in found.json["detail"]
    if name not in {"snapshot", "assets", "actuals", "job-runs", "alerts"}:
        assert 'did you mean "product"?' in found.json["detail"]
    if name not in {"snapshot", "leaderboard"}:
        assert ask(f"/api/v1/{name}?limit=1&format=json").status == 200


def test_the_nearest_name_is_told(ask: Client) -> None:
    told = ask("/api/v1/assets?regoin=north").json["detail"]
    assert 'did you mean "region"? accepted: after, asset, format, kind, limit, q, region, state' in told


def test_a_parameter_that_is_not_known_is_text(ask: Client) -> None:
    assert ask("/api/v1/assets?%3Cscript%3E=1").status == 400
    assert ask("/api/v1/assets?=1").status == 400


@pytest.mark.parametrize("name", PATHS)
def test_a_parameter_that_has_one_value_is_not_said_twice(ask: Client, name: str) -> None:
    """Only the last would hold, and the answer look right."""
    if name != "snapshot":
        found = ask(f"/api/v1/{name}?format=json&format=json")
        assert (found.status, found.problem) == (400, "parameter-twice")
    if name not in {"snapshot", "job-runs", "alerts"}:
        assert ask(f"/api/v1/{name}?asset=north-1&asset=north-2").status == 200


def test_what_a_probe_adds_to_its_question_is_left_alone(ask: Client) -> None:
    assert ask("/healthz?x=1").status == ask("/metrics?x=1").status == 200


def test_who_may_not_ask_is_told_so_first(ask: Client) -> None:
    assert ask("/api/v1/assets?nothing=1", token="tsf_00000000_wrong").status == 401  # noqa: S106  none of ours
