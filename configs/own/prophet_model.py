"""Prophet on the asset's own clock, kept as its own JSON without the readings. Needs `pip install prophet`."""

import logging
from dataclasses import dataclass

from prophet import Prophet
from prophet.serialize import model_from_json, model_to_json

logging.getLogger("cmdstanpy").disabled = True  # it tells of every fit on stderr


@dataclass(frozen=True)
class Trend:
    """What fleet.toml names; its fields are the recipe's options."""

    changepoints: int = 10

    library = "prophet"

    def fit(self, y, X, task):
        model = Prophet(n_changepoints=self.changepoints, uncertainty_samples=0)
        model.fit(y.tz_convert(task.tz).tz_localize(None).rename_axis("ds").reset_index(name="y"), seed=task.seed)
        # Prophet keeps its history, and asks it for dates only: the last two stay, no reading, nothing as long as it.
        model.history = model.history[["ds", "t"]].tail(2)
        model.history_dates = model.history["ds"]
        model.params.pop("trend", None)
        return Fitted(model)

    def load(self, blob):
        return Fitted(model_from_json(blob.decode()))


@dataclass(frozen=True)
class Fitted:
    """A curve that was fitted once, moved to where the last day known lies."""

    model: Prophet

    def curve(self, index, tz):
        clock = index.tz_convert(tz).tz_localize(None)
        curve = self.model.predict(clock.unique().to_frame(index=False, name="ds")).set_index("ds")["yhat"]
        return curve[clock].to_numpy()  # in autumn an hour of the clock is asked for twice

    def predict(self, y, X, task):
        day = y.dropna().tail(24)
        return task.frame(self.curve(task.target, task.tz) + (day - self.curve(day.index, task.tz)).median())

    def save(self):
        return model_to_json(self.model).encode()
