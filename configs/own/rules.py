"""Rules around a model, any model: what it sees is cleaned before, and what it says is bounded after."""


def without_spikes(y, X, task):
    """A reading far outside the day around it counts as missing, at the fit and at every forecast."""
    off = (y - y.rolling(25, center=True, min_periods=8).median()).abs()
    return y.mask(off > 15 * off.mean()), X


def within_capacity(forecast, task):
    """No forecast and no quantile lies below nothing, or above what the register says the building can draw."""
    return forecast.clip(lower=0.0, upper=task.static.get("capacity"))
