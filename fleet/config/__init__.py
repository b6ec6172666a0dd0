"""The configuration of a fleet: ``fleet.toml`` read, checked, and resolved for each asset."""

from fleet.config.alerting import AlertSection, ChannelSection
from fleet.config.candidates import BacktestSection, PromotionSection, RecipeConfig, TrainSection
from fleet.config.delivering import DeliverySection
from fleet.config.document import FleetConfig
from fleet.config.inputs import (
    AssetsSection,
    CovariateSection,
    DataSection,
    ForecastSection,
    MaskPolicySection,
    MaskSection,
    Stamps,
)
from fleet.config.loading import FILE_NAME, find, load, parse
from fleet.config.products import FleetSection, ProductSection, RetentionSection
from fleet.config.resolving import AssetConfig, Setting
from fleet.config.scheduling import JobSection
from fleet.config.sections import Origin

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
