"""``[deliveries.NAME]``: where published forecasts go, and what they look like there."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal, Self

from pydantic import model_validator

from fleet.config.sections import Section
from fleet.config.values import (
    ENERGY,
    POWER,
    Duration,
    Levels,
    NonNegative,
    PositiveDuration,
    Real,
    Text,
    Texts,
    wrong,
)

PLACEHOLDERS = ("product", "issue", "number", "date")
SAID = ("asset_id", "product", "issue_time", "valid_time", "local_time", "date", "step", "recipe", "role", "quality")
"""The columns of a row beside its values, in any order that ``columns`` names them in."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_QUANTILE = re.compile(r"q\d{2,}")


class DeliverySection(Section):
    """``[deliveries.NAME]``: one product, for the selected assets, in one form, to one place.

    ``format`` is csv or parquet, files written whole under ``path`` (with {product}, {issue}, {number}, {date}, the
    first local day; a path beside fleet.toml); http, a POST to ``url`` with ``body`` csv, json or parquet; or sql, rows
    put into ``table`` by ``keys`` through the DB-API connection that the function ``connect`` opens.

    ``layout = "long"`` is a row for each step; its ``columns`` map ours to theirs, in their order. ``"local-day"`` is a
    row for each asset, local day and value, with as many columns as the day has steps: 92, 96 or 100 quarters.
    ``unit`` turns values from the unit of each asset's register row; ``scale`` multiplies them, ``decimals`` rounds.
    Quantiles go along when ``quantiles`` names their levels. ``token_env`` names the environment variable of a bearer
    token. A refused or failed sending is tried again ``retries`` times, after ``backoff`` and twice as long each time,
    and once more by the next run of the job.
    """

    product: Text = "default"
    select: Texts = ()
    where: Text | None = None
    format: Literal["csv", "parquet", "http", "sql"] = "csv"
    path: Text | None = None
    layout: Literal["long", "local-day"] = "long"
    columns: dict[Text, Text] | None = None
    quantiles: Levels = ()
    unit: Text | None = None
    scale: Real = 1.0
    decimals: NonNegative | None = None
    url: Text | None = None
    body: Literal["csv", "json", "parquet"] = "csv"
    token_env: Text | None = None
    timeout: PositiveDuration = timedelta(seconds=30)
    retries: NonNegative = 3
    backoff: Duration = timedelta(seconds=1)
    connect: Text | None = None
    table: Text | None = None
    keys: Texts = ("asset_id", "valid_time")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        needed = {"csv": ("path",), "parquet": ("path",), "http": ("url",), "sql": ("connect", "table")}
        for key in needed[self.format]:
            if getattr(self, key) is None:
                raise wrong(f'format = "{self.format}" needs {key}')
        for key in ("path", "url", "connect", "table"):
            if getattr(self, key) is not None and key not in needed[self.format]:
                raise wrong(f'{key} is not for format = "{self.format}"; accepted: {", ".join(needed[self.format])}')
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise wrong(f'url = "{self.url}": accepted: http://... or https://...')
        if self.connect is not None and not all(part.strip() for part in self.connect.partition(":")):
            raise wrong(f'connect = "{self.connect}": accepted: "module:function"')
        return self

    @model_validator(mode="after")
    def _known_places(self) -> Self:
        for name in _PLACEHOLDER.findall(self.path or ""):
            if name not in PLACEHOLDERS:
                known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
                raise wrong(f'path = "{self.path}": there is no {{{name}}}; accepted: {known}')
        if set("{}") & set(_PLACEHOLDER.sub("", self.path or "")):
            raise wrong(f'path = "{self.path}": a brace stands alone')
        if self.unit is not None and self.unit not in {*POWER, *ENERGY}:
            raise wrong(f'unit = "{self.unit}": accepted: {", ".join([*POWER, *ENERGY])}; or scale = 0.001')
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        if self.layout == "local-day" and (self.columns is not None or self.format == "sql"):
            raise wrong('columns and sql are for layout = "long"; a local day has its own columns')
        for ours in self.columns or {}:
            if ours not in SAID and ours != "mean" and not _QUANTILE.fullmatch(ours):
                raise wrong(f"columns: there is no {ours}; accepted: {', '.join(SAID)}, mean, q10 and the like")
        theirs = [*(self.columns or {}).values()]
        if len(set(theirs)) < len(theirs):
            raise wrong("columns: two have the same name")
        if self.format == "sql":
            names = {*theirs} if self.columns else {"asset_id", "issue_time", "valid_time", "mean"}
            for key in self.keys:
                if key not in names:
                    raise wrong(f"keys: {key} is not among the columns; accepted: {', '.join(sorted(names))}")
        return self
