"""What can go wrong with a fleet: the input, the configuration, a library, a model.

A model's failure becomes a value (an outcome) before it reaches the user; the other errors stop the command with one
line.
"""

from __future__ import annotations

from store.errors import TsfleetError


class FleetError(TsfleetError):
    """The fleet could not do what was asked."""

    code = "fleet"


class ConfigInvalid(FleetError, ValueError):
    """A key or value of the configuration does not hold; mend the file."""

    code = "config-invalid"


class ModelBroken(ConfigInvalid):
    """The code of a user's model does not run; mend it. It costs its own recipe and no other."""

    code = "model-broken"


class SeriesInvalid(FleetError, ValueError):
    """The data break a rule of the source; mend them, or let the source keep bad rows aside."""

    code = "series-invalid"


class MetricUnknown(FleetError, ValueError):
    """No metric has this name; use one that the message lists."""

    code = "metric-unknown"


class NothingSelected(FleetError, LookupError):
    """No asset matches the selection; widen it."""

    code = "nothing-selected"


class AssetUnknown(FleetError, KeyError):
    """The register has no asset of this id; look at the names that the hint gives."""

    code = "asset-unknown"

    def __str__(self) -> str:
        return self.message  # a KeyError would show it in quotes


class ForecastMissing(FleetError, LookupError):
    """The asset has no forecast of this issue, recipe or role; look at the one that the hint names."""

    code = "forecast-missing"


class AdjustmentMissing(FleetError, LookupError):
    """There is no adjustment with this id; list those that there are."""

    code = "adjustment-missing"


class AdapterMissing(FleetError, ImportError):
    """The library behind a recipe cannot be imported; install what the hint names."""

    code = "adapter-missing"


class ModelError(FleetError):
    """A model could not be fitted or could not forecast; the asset falls back."""

    code = "model"


class FitFailed(ModelError):
    """The fit gave parameters that cannot be used."""

    code = "fit-failed"


class CovariateMissing(ModelError):
    """A covariate that the model learnt from is not known where the forecast needs it; mend its feed."""

    code = "missing-covariate"


class BadOutput(ModelError, ValueError):
    """A model's forecast has a wrong grid, length or value."""

    code = "bad-output"


class TooShort(ModelError, ValueError):
    """The history is shorter than the model needs."""

    code = "too-short"


class NoData(ModelError, ValueError):
    """The history holds no reading at all."""

    code = "no-data"


class Unsaveable(ModelError, TypeError):
    """The fitted model has no form that can be kept; give it a save() that returns bytes."""

    code = "unsaveable"


class VersionMismatch(ModelError):
    """The stored model was written by another release of its library; fit it again with the one installed."""

    code = "version-mismatch"


class Untrusted(ModelError):
    """What is stored would run code, and nothing vouches for it; sign it, trust the store, or fit it again."""

    code = "untrusted"
