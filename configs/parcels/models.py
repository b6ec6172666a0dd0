"""A team's own model: a plain function is enough."""

import pandas as pd


def typical_weekday(y, X, task, weeks=6):
    """The median of the last few readings on the same weekday, on the depot's own calendar."""
    known = y.dropna().tail(7 * weeks)
    by_weekday = known.groupby(known.index.tz_convert(task.tz).day_of_week).median()
    weekdays = pd.Series(task.target.tz_convert(task.tz).day_of_week, index=task.target)
    return pd.DataFrame({"mean": weekdays.map(by_weekday).fillna(known.median())})
