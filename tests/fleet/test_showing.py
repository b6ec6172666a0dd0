"""Progress in a notebook: seldom enough, complete at the end, and never in the way."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fleet.outcome import Progress
from fleet.showing import EVERY_S, Bar, shown, told


class Screen:
    """What a notebook would show; answers as IPython's display does."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, data: dict[str, str], **_: object) -> Screen:
        self.update(data)
        return self

    def update(self, data: dict[str, str], **_: object) -> None:
        self.seen.append(data["text/plain"])


def in_a_notebook(monkeypatch: pytest.MonkeyPatch, display: Any) -> None:
    """As where a kernel runs, as far as anyone can see."""
    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]  # made here
    module.display = display  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)


def at(done: int) -> Progress:
    return Progress(done=done, total=1_000, ok=done, seconds=done / 100)


def test_a_bar_is_drawn_five_times_a_second_at_most_and_ends_with_the_last_word() -> None:
    screen, clock = Screen(), [0.0]
    bar = Bar("train", screen, now=lambda: clock[0])
    for done in range(1, 1_001):  # ten seconds, a hundred words a second
        clock[0] = done / 100
        bar(at(done))
    bar.end()
    assert len(screen.seen) <= 10 / EVERY_S + 1
    assert screen.seen[-1].startswith("train: 1,000 of 1,000")
    bar.end()
    assert len(screen.seen) <= 10 / EVERY_S + 1  # nothing new, nothing drawn


def test_a_notebook_shows_the_verb_and_nowhere_else_does_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown("train", None) as show:
        assert show is None
    screen = Screen()
    in_a_notebook(monkeypatch, screen)
    with shown("train", None) as show:
        assert show is not None
        show(at(500))
    assert screen.seen == ["train: 500 of 1,000, ok 500, 100 a second, 5 s left"]


def test_what_the_caller_asked_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_notebook(monkeypatch, Screen())
    words: list[Progress] = []
    with shown("train", words.append) as show:
        assert show == words.append


def test_the_last_word_is_drawn_when_the_verb_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    in_a_notebook(monkeypatch, screen)

    def work() -> None:
        with shown("train", None, now=lambda: 0.0) as show:
            assert show is not None
            for done in (1, 2):
                show(at(done))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [line[:15] for line in screen.seen] == ["train: 1 of 1,0", "train: 2 of 1,0"]


def gone(*_: object, **__: object) -> None:
    raise BrokenPipeError("the front end went away")


def mute(*_: object, **__: object) -> None:
    """Takes the data and gives nothing back to draw over."""


def other(data: object) -> None:
    """Knows neither raw nor display_id."""


@pytest.mark.parametrize("display", [None, gone, mute, other])
def test_half_a_notebook_stops_nothing(monkeypatch: pytest.MonkeyPatch, display: Any) -> None:
    in_a_notebook(monkeypatch, display)
    with shown("train", None, now=iter(range(100)).__next__) as show:
        assert (show is None) == (display is None)
        for done in (1, 2, 3):
            if show is not None:
                show(at(done))


def test_ipython_alone_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", half)
    with shown("train", None) as show:
        assert show is None
    half.get_ipython = lambda: None  # type: ignore[attr-defined]  # made here
    with shown("train", None) as show:
        assert show is None


def test_times_are_told_as_people_say_them() -> None:
    slow = Progress(done=10, total=1_000, ok=10, seconds=100.0)
    assert told("train", slow).endswith("0.1 a second, 2 h 45 min left")
    assert told("train", Progress(done=0, total=9)) == "train: 0 of 9"
