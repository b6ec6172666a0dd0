"""The configuration of a fleet: ``fleet.toml`` read, checked, and resolved for each asset."""

from fleet.config.document import FleetConfig
from fleet.config.loading import FILE_NAME, find, load, parse
from fleet.config.models import (
    AssetsSection,
    BacktestSection,
    CovariateSection,
    DataSection,
    FleetSection,
    ForecastSection,
    JobSection,
    MaskPolicySection,
    MaskSection,
    Origin,
    ProductSection,
    PromotionSection,
    RecipeConfig,
    RetentionSection,
    Stamps,
    TrainSection,
)
from fleet.config.resolving import AssetConfig, Setting

__all__ = [
    "FILE_NAME",
    "AssetConfig",
    "AssetsSection",
    "BacktestSection",
    "CovariateSection",
    "DataSection",
    "FleetConfig",
    "FleetSection",
    "ForecastSection",
    "JobSection",
    "MaskPolicySection",
    "MaskSection",
    "Origin",
    "ProductSection",
    "PromotionSection",
    "RecipeConfig",
    "RetentionSection",
    "Setting",
    "Stamps",
    "TrainSection",
    "find",
    "load",
    "parse",
]
