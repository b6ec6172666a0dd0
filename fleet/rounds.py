"""What a recipe says at the origins of a backtest: of one asset by itself, or of many, origin by origin.

Each issue is shown what was known at its time. A model that learns from a group learns at the earliest origin of the
round, so that no asset is told what happened elsewhere after its own issue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fleet.checks import Checked, check_output
from fleet.errors import NoData, TooShort
from fleet.forecaster import Fitted, Question
from fleet.frames import History
from fleet.outcome import Failed, attempt
from fleet.own import check_keepable
from fleet.plan import Context, Item, Recipe
from fleet.together import fitted_many, predicted_each


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """An asset's origins, UTC microseconds, and its history behind them.

    Args:
        wanted: whether it is judged; else a model only learns from it.
    """

    item: Item
    history: History
    issues: Sequence[int]
    wanted: bool = True


@dataclass(slots=True, kw_only=True)
class Past:
    """The forecasts of an asset's origins, as far as they have come.

    Args:
        trained: what the run's row says of the first fit.
    """

    targets: list[pd.DatetimeIndex] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    trained: dict[str, Any] = field(default_factory=dict)


def alone(context: Context, recipe: Recipe, course: Course) -> Past:
    """The past of one asset.

    Raises:
        NoData, TooShort: there is nothing to judge on, or nothing known at an origin.
        Exception: whatever the model raises.
    """
    check_readings(course)
    past = Past()
    fitted: Fitted | None = None
    for issue in course.issues:
        question = asked(context, recipe, course, issue)
        if fitted is None or _refits(context, course):
            fitted = recipe.forecaster.fit(*question)
            if not past.trained:
                check_keepable(recipe.forecaster, fitted, question.y, context.no_pickles)
                past.trained = {"train_start": question.y.index[0], "train_end": question.y.index[-1]}
        _take(past, question, fitted.predict(*question))
    return past


def check_readings(course: Course) -> None:
    """NoData where an asset has nothing to judge on."""
    if not len(course.issues) or not np.isfinite(course.history.values).any():
        raise NoData(f"{course.item.asset.asset_id} has no reading to judge on")


def asked(context: Context, recipe: Recipe, course: Course, issue: int) -> Question:
    """What an issue of an asset is given."""
    question = context.question(course.item, recipe, course.history, issue)
    if not len(question.y):
        at = f"{question.task.target[0]:%Y-%m-%dT%H:%MZ}"
        raise TooShort(f"nothing is known at the origin {at}, the history is too short")
    return question


def _refits(context: Context, course: Course) -> bool:
    judgement = context.settings[course.item.settings].judgement
    return judgement is not None and judgement.refit


def _take(past: Past, question: Question, frame: pd.DataFrame) -> None:
    past.checked.append(check_output(frame, question.task))
    past.targets.append(question.task.target)


class Together:
    """The pasts of many assets, round by round; one that fails is out, the others go on.

    Args:
        courses: of the assets.
    """

    def __init__(self, context: Context, recipe: Recipe, courses: Sequence[Course]) -> None:
        self._context, self._recipe, self._courses = context, recipe, courses
        self._models: dict[int, Fitted] = {}
        self._pasts = [Past() for _ in courses]
        self._failed: dict[int, Failed] = {}

    def pasts(self) -> list[Past | Failed]:
        """By course its past, or why it has none.

        Raises:
            Exception: what a call of `fit_many` raises.
        """
        for place, course in enumerate(self._courses):
            self._note(place, attempt(check_readings, course))
        rounds = max((len(course.issues) for course in self._courses), default=0)
        for turn in range(rounds):
            live = [p for p, c in enumerate(self._courses) if p not in self._failed and turn < len(c.issues)]
            if live and (turn == 0 or _refits(self._context, self._courses[live[0]])):
                self._fit(live, turn)
            self._predict([p for p in live if self._courses[p].wanted and p not in self._failed], turn)
        return [self._failed.get(place, past) for place, past in enumerate(self._pasts)]

    def _note(self, place: int, done: object) -> bool:
        """Whether an act came through; what it failed with is kept."""
        if isinstance(done, Failed):
            self._failed[place] = done
        return not isinstance(done, Failed)

    def _asked(self, place: int, issue: int) -> Question | Failed:
        return attempt(asked, self._context, self._recipe, self._courses[place], issue)

    def _fit(self, live: Sequence[int], turn: int) -> None:
        issues = [self._courses[place].issues[turn] for place in live]
        first = [min(issues)] * len(issues) if self._recipe.together else issues
        questions = {}
        for place, issue in zip(live, first, strict=True):
            question = self._asked(place, issue)
            if self._note(place, question) and not isinstance(question, Failed):
                questions[place] = question
        if not questions:
            return
        done = dict(zip(questions, fitted_many(self._recipe, [*questions.values()]), strict=True))
        learnt = {place: model for place, model in done.items() if self._note(place, model)}
        ends = {place: questions[place].y.index[-1] for place in learnt}
        last = max(ends.values(), default=None)
        keepable: dict[int, object] = {}
        for place, model in learnt.items():
            assert not isinstance(model, Failed)
            self._models[place] = model
            past, y = self._pasts[place], questions[place].y
            if not past.trained and self._courses[place].wanted:
                if id(model) not in keepable:
                    forecaster, reason = self._recipe.forecaster, self._context.no_pickles
                    keepable[id(model)] = attempt(check_keepable, forecaster, model, y, reason)
                self._note(place, keepable[id(model)])
                past.trained = {"train_start": y.index[0], "train_end": last if self._recipe.together else ends[place]}

    def _predict(self, live: Sequence[int], turn: int) -> None:
        questions = {}
        for place in live:
            question = self._asked(place, self._courses[place].issues[turn])
            if self._note(place, question) and not isinstance(question, Failed):
                questions[place] = question
        models = [self._models[place] for place in questions]
        frames = predicted_each(self._recipe, models, [*questions.values()]) if questions else []
        for (place, question), frame in zip(questions.items(), frames, strict=True):
            if self._note(place, frame) and not isinstance(frame, Failed):
                self._note(place, attempt(_take, self._pasts[place], question, frame))
