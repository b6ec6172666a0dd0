"""What becomes of a lost item, over every engine: it comes back once, without the parts that are to blame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet.engines import Engine, Mark
from fleet.engines.inline import Inline
from fleet.engines.local import Local
from fleet.engines.retrying import Patience, seen_through
from fleet.outcome import Cause, attempt_part
from tests.contracts.test_engines import do, never, nothing, refuse

TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Thing:
    """An item whose parts are deeds: `fine`, `light`, one of `do`, or `flaky 2`, which is refused twice."""

    name: str
    deeds: tuple[str, ...]


class Deeds:
    """How a thing is made of its deeds."""

    def count(self, item: Thing) -> int:
        return len(item.deeds)

    def only(self, item: Thing, places: Sequence[int]) -> Thing:
        return replace(item, deeds=tuple(item.deeds[place] for place in places))

    def safe(self, item: Thing) -> bool:
        return set(item.deeds) == {"light"}


def work(folder: str, items: Sequence[Thing], mark: Mark) -> list[tuple[str, tuple[str, ...], int]]:
    """Do every deed, with a dot into a file for each try; the name, the deeds and the process of each thing."""
    for place, item in enumerate(items):
        for part, deed in enumerate(item.deeds):
            mark(place, part)
            tries = Path(folder, f"{item.name} {deed}")
            with tries.open("a") as file:
                file.write(".")
            word, _, times = deed.partition(" ")
            if word == "flaky" and len(tries.read_text()) <= int(times):
                attempt_part(refuse)
            if word == "wrong":
                raise ValueError("wrong")
            do(word, deed)
    return [(item.name, item.deeds, os.getpid()) for item in items]


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    engine = Local(2, nothing, memory=100_000_000)
    yield engine
    engine.close()


@pytest.fixture(params=["inline", "local"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Inline() if request.param == "inline" else request.getfixturevalue("local")


@dataclass
class End:
    """What came of a thing: the deeds that came through, in which process; the others with their causes."""

    deeds: tuple[str, ...]
    charged: dict[str, Cause]
    process: int | None


def ends(engine: Engine, folder: Path, things: dict[str, tuple[str, ...]], retries: int = 1) -> dict[str, End]:
    """Every thing's end, after checking that it came back once, as it was given."""
    given = [Thing(name, deeds) for name, deeds in things.items()]
    patience = Patience(timeout_s=TIMEOUT_S, retries=retries)
    found: dict[str, End] = {}
    for chunk, result, charges in seen_through(
        engine, partial(work, str(folder)), given, Deeds(), patience, stop=never
    ):
        made: list[Any] = result or [(item.name, (), None) for item in chunk]
        for place, (item, (name, deeds, process)) in enumerate(zip(chunk, made, strict=True)):
            assert item in given
            assert item.name == name
            assert name not in found, f"{name} came back twice"
            charged = {item.deeds[part]: failed.cause for part, failed in charges.get(place, {}).items()}
            found[name] = End(deeds, charged, process)
    assert set(found) == set(things)
    return found


def tries(folder: Path, name: str, deed: str) -> int:
    path = folder / f"{name} {deed}"
    return len(path.read_text()) if path.exists() else 0


def others(count: int = 20) -> dict[str, tuple[str, ...]]:
    return {f"other {n}": ("fine",) for n in range(count)}


@pytest.mark.parametrize("retries", [1, 3])
def test_what_can_pass_is_tried_again_until_it_comes_through(engine: Engine, tmp_path: Path, retries: int) -> None:
    deed = f"flaky {retries}"
    found = ends(engine, tmp_path, {"a": ("fine", deed, "light"), **others()}, retries)
    assert (found["a"].deeds, found["a"].charged) == (("fine", deed, "light"), {})
    assert tries(tmp_path, "a", deed) == retries + 1


@pytest.mark.parametrize("retries", [0, 2])
def test_what_does_not_pass_is_charged_after_its_last_try_and_the_rest_goes_on(
    engine: Engine, tmp_path: Path, retries: int
) -> None:
    found = ends(engine, tmp_path, {**others(), "a": ("fine", "flaky 9", "nice")}, retries)
    assert (found["a"].deeds, found["a"].charged) == (("fine", "nice"), {"flaky 9": Cause.EXCEPTION})
    assert tries(tmp_path, "a", "flaky 9") == retries + 1
    assert all(end.charged == {} and end.deeds == ("fine",) for name, end in found.items() if name != "a")


def test_what_cannot_pass_is_never_tried_again(local: Engine, tmp_path: Path) -> None:
    found = ends(local, tmp_path, {"late": ("hang", "fine"), **others()}, retries=5)
    assert found["late"].charged == {"hang": Cause.TIMEOUT}
    assert tries(tmp_path, "late", "hang") == 1


def test_each_part_has_its_own_tries(engine: Engine, tmp_path: Path) -> None:
    found = ends(engine, tmp_path, {"a": ("flaky 1", "flaky 9", "fine")})
    assert (found["a"].deeds, found["a"].charged) == (("flaky 1", "fine"), {"flaky 9": Cause.EXCEPTION})


def test_an_item_may_lose_all_its_parts(engine: Engine, tmp_path: Path) -> None:
    found = ends(engine, tmp_path, {"a": ("flaky 8", "flaky 9"), **others()})
    assert found["a"] == End((), {"flaky 8": Cause.EXCEPTION, "flaky 9": Cause.EXCEPTION}, None)


def test_a_failure_between_the_parts_costs_one_part_after_the_other(engine: Engine, tmp_path: Path) -> None:
    """Nobody knows which part it came from, so the item is tried without each of them."""
    assert ends(engine, tmp_path, {"a": ("wrong", "fine")})["a"].charged == {"wrong": Cause.EXCEPTION}
    assert ends(engine, tmp_path, {"b": ("fine", "wrong")})["b"] == End(
        (), {"fine": Cause.EXCEPTION, "wrong": Cause.EXCEPTION}, None
    )


def test_a_part_that_kills_its_process_costs_itself(local: Engine, tmp_path: Path) -> None:
    deeds = ("fine", "exit", "nice", "segfault", "hog", "hang")
    found = ends(local, tmp_path, {"a": deeds, **others()})
    assert found["a"].deeds == ("fine", "nice")
    assert found["a"].charged == {
        "exit": Cause.CRASHED,
        "segfault": Cause.CRASHED,
        "hog": Cause.MEMORY,
        "hang": Cause.TIMEOUT,
    }
    assert [tries(tmp_path, "a", deed) for deed in ("exit", "segfault", "hog", "hang")] == [2, 2, 2, 1]


def test_what_is_left_runs_in_this_process_only_when_it_is_safe(local: Engine, tmp_path: Path) -> None:
    found = ends(local, tmp_path, {"a": ("exit", "light"), "b": ("exit", "fine"), "c": ("light",)}, retries=0)
    assert (found["a"].deeds, found["a"].process) == (("light",), os.getpid())
    assert found["b"].deeds == ("fine",)
    assert os.getpid() not in (found["b"].process, found["c"].process)


def test_to_wait_before_another_try_holds_up_no_other_work(engine: Engine, tmp_path: Path) -> None:
    """The clock stands still until all others are through: what waits has to come after them, and then come."""
    clock = [0.0]
    things = [Thing("a", ("flaky 1",)), *(Thing(name, deeds) for name, deeds in others(40).items())]
    patience = Patience(timeout_s=TIMEOUT_S, retries=1, backoff_s=3600.0)
    seen: list[str] = []
    through = seen_through(
        engine, partial(work, str(tmp_path)), things, Deeds(), patience, stop=never, clock=lambda: clock[0]
    )
    for chunk, _, _ in through:
        seen += [item.name for item in chunk]
        if len(seen) == 40:
            assert "a" not in seen
            clock[0] = 3600.0
    assert seen[-1] == "a"


def test_a_stop_leaves_what_waits_for_the_next_time(engine: Engine, tmp_path: Path) -> None:
    asked: list[bool] = []
    things = [Thing("fine", ("fine",)), Thing("a", ("flaky 1",))]
    patience = Patience(timeout_s=TIMEOUT_S, retries=1, backoff_s=3600.0)
    seen: list[str] = []
    for chunk, _, _ in seen_through(
        engine, partial(work, str(tmp_path)), things, Deeds(), patience, stop=lambda: bool(asked)
    ):
        seen += [item.name for item in chunk]
        asked.append(True)
    assert seen == ["fine"]
