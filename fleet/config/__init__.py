"""The configuration of a fleet: ``fleet.toml`` read, checked, and resolved for each asset."""

from fleet.config.alerting import AlertSection, ChannelSection
from fleet.config.delivering import DeliverySection
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
    "AlertSection",
    "AssetConfig",
    "AssetsSection",
    "BacktestSection",
    "ChannelSection",
    "CovariateSection",
    "DataSection",
    "DeliverySection",
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
