"""A model written by hand: the typical day of each weekday, drawn towards the typical day of all, at today's level."""

from dataclasses import dataclass

import numpy as np


def places(index, tz):
    """Hour of the local week, 0 to 167: Monday's midnight first."""
    local = index.tz_convert(tz)
    return local.day_of_week.to_numpy() * 24 + local.hour.to_numpy()


@dataclass(frozen=True)
class TypicalDay:
    """What fleet.toml names; its fields are the recipe's options."""

    weight: float = 4.0  # the typical day of all weekdays counts as much as so many days of the one in question

    uses_covariates = False

    def fit(self, y, X, task):
        known = y.dropna()
        place = places(known.index, task.tz)
        count = np.bincount(place, minlength=168).reshape(7, 24)
        total = np.bincount(place, known, minlength=168).reshape(7, 24)
        day = (total.sum(axis=0) + self.weight * known.mean()) / (count.sum(axis=0) + self.weight)
        return Fitted((total + self.weight * day) / (count + self.weight))

    def load(self, blob):
        return Fitted(np.frombuffer(blob).reshape(7, 24))


@dataclass(frozen=True)
class Fitted:
    """What was learnt: 7 x 24 means. The history comes anew with every forecast, so only the level is read from it."""

    table: np.ndarray

    def predict(self, y, X, task):
        week = y.dropna().tail(168)
        level = np.mean(week - self.table.ravel()[places(week.index, task.tz)]) if len(week) else 0.0
        return task.frame(self.table.ravel()[places(task.target, task.tz)] + level)

    def save(self):
        return self.table.tobytes()
