"""Many assets in one call of a model: what each got, or why it got none, as values.

An asset that fails fails alone. Where the call itself fails, nothing is known of the single assets: those of a
vectorised model are asked one by one, those of a global one share its failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pandas as pd

from fleet.errors import BadOutput
from fleet.forecaster import Fitted, Question
from fleet.outcome import Failed, attempt, failure_of
from fleet.plan import Recipe

Got = TypeVar("Got")

LEAST = 2
"""Fewer assets are asked one by one, so that a time limit and a crash find whose they are."""


def fitted_many(recipe: Recipe, questions: Sequence[Question]) -> list[Fitted | Failed]:
    """The model of each history, or its failure.

    Raises:
        Exception: whatever the call itself raises.
    """
    assert recipe.many is not None
    return _values(recipe.many.fit_many(questions), len(questions), "fit_many")


def predicted_many(
    recipe: Recipe, fitted: Sequence[Fitted], questions: Sequence[Question]
) -> list[pd.DataFrame | Failed]:
    """What each model says to its question, or its failure.

    Raises:
        Exception: whatever the call itself raises.
    """
    assert recipe.many is not None
    return _values(recipe.many.predict_many(fitted, questions), len(questions), "predict_many")


def predicted_each(
    recipe: Recipe, fitted: Sequence[Fitted], questions: Sequence[Question]
) -> list[pd.DataFrame | Failed]:
    """`predicted_many`; one by one where the call itself fails."""
    done = attempt(predicted_many, recipe, fitted, questions) if len(questions) >= LEAST else None
    if isinstance(done, list):
        return done
    return [attempt(model.predict, *question) for model, question in zip(fitted, questions, strict=True)]


def _values(got: Sequence[Got | Failed | Exception], count: int, name: str) -> list[Got | Failed]:
    if len(got) != count:
        raise BadOutput(f"{name} returned {len(got)} answers for {count} assets")
    return [failure_of(one) if isinstance(one, Exception) else one for one in got]
