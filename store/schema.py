"""Every table, declared once: columns in the order of the views, key, sort order, time column, what may be added.

A keyed table is last-write-wins; its companion ``<name>__replaced`` names the keys that were written again, and with
which rank the newest row wins. Views, hot tables, segments and checks are all built from the declarations here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["text", "double", "bigint", "bool", "instant", "date", "json"]

SQL_TYPES: dict[str, str] = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "bool": "BOOLEAN",
    "instant": "TIMESTAMPTZ",
    "date": "DATE",
}
REPLACED = "__replaced"
ENTITIES = ("asset_id", "series_id")


class Column(NamedTuple):
    """One column of a table; ``required`` refuses NULL."""

    name: str
    kind: Kind
    required: bool = False

    @property
    def sql_type(self) -> str:
        return SQL_TYPES[self.kind]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What is stored under one name.

    ``key`` empty means append-only. ``rank`` are the columns that decide, before the commit order, which row of a key
    is the newest. ``dynamic`` is the pattern of DOUBLE columns that rows may bring along, after ``dynamic_after``.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rank: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    time_column: str | None = None
    partition: Literal["year", "month"] | None = None
    dynamic: str | None = None
    dynamic_after: str = ""
    #: The columns whose equality with the newest known row makes a replaced row no revision at all.
    same_if: tuple[str, ...] = ()
    #: How the store finds superseded rows: by a companion table, or by a view over every row.
    superseded: Literal["companion", "window"] = "companion"
    #: The tables that it is made of, for one that can be thrown away and made anew.
    derived_from: tuple[str, ...] = ()
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    @property
    def keyed(self) -> bool:
        return bool(self.key)

    @property
    def entity(self) -> str | None:
        """The column that says whose row it is: the asset or the series."""
        return next((name for name in ENTITIES if name in self.by_name), None)

    @property
    def replaced(self) -> str | None:
        """The name of the companion table, for a keyed table that has one."""
        return self.name + REPLACED if self.keyed and self.superseded == "companion" else None

    @cached_property
    def dynamic_pattern(self) -> re.Pattern[str] | None:
        return re.compile(self.dynamic) if self.dynamic else None

    def column(self, name: str) -> Column | None:
        """The declared or dynamic column of this name, if there may be one."""
        found = self.by_name.get(name)
        if found is None and self.dynamic_pattern is not None and self.dynamic_pattern.fullmatch(name):
            return Column(name, "double")
        return found

    def ordered(self, dynamic: tuple[str, ...] | list[str]) -> tuple[str, ...]:
        """All column names in the order of the view, with these dynamic ones in their place."""
        if not dynamic:
            return self.names
        at = self.names.index(self.dynamic_after) + 1
        return self.names[:at] + tuple(sorted(dynamic, key=dynamic_rank)) + self.names[at:]

    @property
    def arrow(self) -> pa.Schema:
        """The declared columns as an Arrow schema; dynamic columns are float64."""
        import pyarrow as pa

        return pa.schema([pa.field(c.name, arrow_type(c.kind), nullable=not c.required) for c in self.columns])


def arrow_type(kind: Kind) -> pa.DataType:
    """The Arrow type in which a kind of column crosses a border."""
    import pyarrow as pa

    match kind:
        case "text" | "json":
            return pa.string()
        case "double":
            return pa.float64()
        case "bigint":
            return pa.int64()
        case "bool":
            return pa.bool_()
        case "instant":
            return pa.timestamp("us", tz="UTC")
        case "date":
            return pa.date32()


_FAMILIES = ("q", "n_q", "pinball_sum_q", "covered_", "width_sum_", "winkler_sum_")


def dynamic_rank(name: str) -> tuple[int, float, str]:
    """Where a dynamic column stands: by family, then by level.

    >>> sorted(["q10", "q05", "q025", "q9"], key=dynamic_rank)
    ['q025', 'q05', 'q10', 'q9']
    """
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    family = _FAMILIES.index(stem) if stem in _FAMILIES else len(_FAMILIES)
    return family, float(f"0.{digits or 0}"), name


def _columns(spec: str) -> tuple[Column, ...]:
    kinds: dict[str, Kind] = {
        "": "text", "d": "double", "i": "bigint", "b": "bool", "t": "instant", "day": "date", "j": "json",
    }  # fmt: skip
    made = []
    for word in spec.split():
        name, _, kind = word.partition(":")
        made.append(Column(name.rstrip("!"), kinds[kind.rstrip("!")], required=word.endswith("!")))
    return tuple(made)


_DECLARED = (
    Table(
        name="assets",
        columns=_columns("asset_id! kind region capacity:d unit timezone freq state meta:j valid_from:t valid_to:t"),
        key=("asset_id", "valid_from"),
        sort=("asset_id", "valid_from"),
        time_column="valid_from",
    ),
    Table(name="series", columns=_columns("series_id! source freq timezone"), key=("series_id",), sort=("series_id",)),
    Table(
        name="links",
        columns=_columns("asset_id! series_id! name valid_from:t valid_to:t"),
        key=("asset_id", "series_id", "name", "valid_from"),
        sort=("asset_id", "series_id", "name", "valid_from"),
        time_column="valid_from",
        # Only links of a weighted map bring it; a store without one has the columns that it always had.
        dynamic=r"weight",
        dynamic_after="valid_to",
    ),
    Table(
        name="actuals",
        columns=_columns("asset_id! valid_time:t! y:d available_at:t! quality"),
        key=("asset_id", "valid_time"),
        rank=("available_at",),
        sort=("asset_id", "valid_time", "available_at"),
        time_column="valid_time",
        partition="year",
        same_if=("y", "quality"),
    ),
    Table(
        name="covariates",
        columns=_columns("series_id! name! valid_time:t! available_at:t! value:d"),
        key=("series_id", "name", "valid_time"),
        rank=("available_at",),
        sort=("series_id", "name", "valid_time", "available_at"),
        time_column="valid_time",
        partition="year",
        same_if=("value",),
        superseded="window",
    ),
    Table(
        name="masks",
        columns=_columns("asset_id! valid_from:t! valid_to:t reason available_at:t actor"),
        key=("asset_id", "valid_from", "reason"),
        sort=("asset_id", "valid_from", "reason"),
        time_column="valid_from",
    ),
    Table(
        name="runs",
        columns=_columns(
            "run_id! asset_id product recipe recipe_hash library library_version kind status started_at:t ended_at:t "
            "duration_s:d params:j tags:j data_version:i train_start:t train_end:t code_version fingerprint batch_id "
            "error_code error"
        ),
        key=("run_id",),
        sort=("asset_id", "started_at", "run_id"),
        time_column="started_at",
    ),
    Table(
        name="metrics",
        columns=_columns("run_id! asset_id recipe library name! step:i time:t value:d"),
        sort=("asset_id", "name", "time"),
        time_column="time",
        partition="month",
    ),
    Table(
        name="versions",
        columns=_columns(
            "version_id! asset_id product recipe recipe_hash run_id codec trusted:b bytes:i sha256 created_at:t"
        ),
        sort=("asset_id", "created_at", "version_id"),
        time_column="created_at",
    ),
    Table(
        name="champions",
        columns=_columns("asset_id! product! recipe version_id since:t"),
        key=("asset_id", "product"),
        sort=("asset_id", "product"),
        time_column="since",
    ),
    Table(
        name="forecasts",
        columns=_columns(
            "asset_id! product! recipe recipe_hash version_id run_id role! issue_time:t! valid_time:t! step:i mean:d "
            "quality created_at:t"
        ),
        key=("asset_id", "product", "recipe", "recipe_hash", "version_id", "role", "issue_time", "valid_time"),
        sort=("asset_id", "issue_time", "valid_time"),
        time_column="issue_time",
        partition="month",
        dynamic=r"q\d{2,}",
        dynamic_after="mean",
    ),
    Table(
        name="scores",
        columns=_columns(
            "asset_id! product! recipe recipe_hash version_id role! truth! perfect_foresight:b day:day! lead_bucket! "
            "n:i points sum_e:d sum_abs_e:d sum_sq_e:d sum_abs_y:d sum_smape:d sum_nmae_cap:d n_cap:i actuals_v:i"
        ),
        key=(
            "asset_id",
            "product",
            "recipe",
            "recipe_hash",
            "version_id",
            "role",
            "truth",
            "perfect_foresight",
            "day",
            "lead_bucket",
        ),
        sort=("asset_id", "day"),
        time_column="day",
        partition="month",
        # n_q: of a cell with quantiles the points that have them, as those before a recipe's first errors do not.
        dynamic=r"n_q|pinball_sum_q\d{2,}|(?:covered|width_sum|winkler_sum)_\d+",
        dynamic_after="n_cap",
    ),
    Table(
        name="scales",
        columns=_columns("asset_id! product! origin:t! season:i! scale_abs:d scale_sq:d"),
        key=("asset_id", "product", "origin", "season"),
        sort=("asset_id", "origin", "season"),
        time_column="origin",
    ),
    Table(
        name="decisions",
        columns=_columns(
            "asset_id! product! decided_at:t champion challenger metric champion_value:d challenger_value:d margin:d "
            "lower:d n:i verdict reason actor"
        ),
        sort=("asset_id", "decided_at"),
        time_column="decided_at",
    ),
    Table(
        name="job_runs",
        columns=_columns(
            "job! slot:t! attempt:i status started_at:t ended_at:t assets:i ok:i failed:i fell_back:i skipped:i error "
            "revision:i"
        ),
        key=("job", "slot"),
        sort=("job", "slot"),
        time_column="slot",
    ),
    Table(
        name="outcomes",
        columns=_columns("job! slot:t! asset_id! product recipe status error_code cause duration_s:d revision:i"),
        sort=("asset_id", "slot"),
        time_column="slot",
    ),
    Table(
        name="adjustments",
        columns=_columns(
            "adjustment_id! asset_id! product! valid_from:t! valid_to:t! kind! value:d actor reason created_at:t "
            "expires_at:t revoked_at:t"
        ),
        key=("adjustment_id",),
        sort=("asset_id", "valid_from", "adjustment_id"),
        time_column="valid_from",
    ),
    Table(
        name="deliveries",
        columns=_columns(
            "delivery! number:i! product issue_time:t snapshot:i rows:i sha256 target status! attempts:i sent_at:t "
            "acknowledged_at:t error job slot:t spec:j"
        ),
        key=("delivery", "number"),
        sort=("delivery", "number"),
        time_column="issue_time",
    ),
    Table(
        name="alerts",
        columns=_columns("alert_id! opened_at:t closed_at:t rule cause assets:i impact:d severity text"),
        key=("alert_id",),
        sort=("opened_at", "alert_id"),
        time_column="opened_at",
    ),
    # Which assets an alert is about, by which rule, since when and until when.
    Table(
        name="alert_assets",
        columns=_columns("alert_id! rule! asset_id! product value:d impact:d since:t until:t"),
        key=("alert_id", "rule", "asset_id"),
        sort=("alert_id", "rule", "asset_id"),
        time_column="since",
    ),
    # What people said to an alert: acknowledge, mute, unmute, close.
    Table(
        name="alert_actions",
        columns=_columns("action_id! alert_id! acted_at:t! action! actor until:t note"),
        sort=("acted_at", "action_id"),
        time_column="acted_at",
    ),
    # What was sent to whom, or has still to be sent.
    Table(
        name="notifications",
        columns=_columns("notification_id! alert_id! channel! event! created_at:t status attempts:i sent_at:t error"),
        key=("notification_id",),
        sort=("created_at", "notification_id"),
        time_column="created_at",
    ),
    Table(
        name="reports",
        columns=_columns("report_id! job slot:t created_at:t kind product body:j"),
        key=("report_id",),
        sort=("created_at", "report_id"),
        time_column="created_at",
    ),
)


def _companion(table: Table) -> Table:
    columns = tuple(table.by_name[name] for name in (*table.key, *table.rank))
    return Table(
        name=table.name + REPLACED,
        columns=(*columns, Column("win_v", "bigint")),
        sort=table.key,
        time_column=table.time_column if table.time_column in table.key else None,
    )


#: ``product`` is that of the run's row. ``open``: some metric of the key is of a run without a row, whose product may
#: still come.
LATEST = Table(
    name="latest",
    columns=_columns("asset_id product recipe name! step:i time:t value:d run_id! open:b"),
    key=("asset_id", "product", "recipe", "name"),
    sort=("asset_id", "product", "recipe", "name"),
    time_column="time",
    superseded="window",
    derived_from=("metrics", "runs"),
)

TABLES: dict[str, Table] = {table.name: table for table in _DECLARED}
COMPANIONS: dict[str, Table] = {t.name + REPLACED: _companion(t) for t in _DECLARED if t.replaced is not None}
#: What commits write: hot rows and segments.
STORED: dict[str, Table] = TABLES | COMPANIONS
#: What upkeep makes of them, only as segments: never the truth, and made anew when it is lost.
DERIVED: dict[str, Table] = {LATEST.name: LATEST}
#: Whatever has segments.
FILED: dict[str, Table] = STORED | DERIVED


class View(NamedTuple):
    """One name of the public views: whose rows it shows, what it leaves out, in which order it is listed."""

    name: str
    table: Table
    shape: Literal["alive", "raw", "newest", "in_force", "published", "latest"] = "alive"
    hidden: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()


def _views() -> dict[str, View]:
    views = {name: View(name=name, table=table, sort=table.sort) for name, table in TABLES.items()}
    views["actuals_all"] = View(
        name="actuals_all", table=TABLES["actuals"], shape="raw", sort=(*TABLES["actuals"].sort, "_v")
    )
    views["covariates_all"] = View(
        name="covariates_all", table=TABLES["covariates"], shape="raw", sort=(*TABLES["covariates"].sort, "_v")
    )
    views["covariates"] = View(
        name="covariates", table=TABLES["covariates"], shape="newest", sort=TABLES["covariates"].sort
    )
    views["assets"] = View(
        name="assets", table=TABLES["assets"], shape="in_force", hidden=("valid_from", "valid_to"), sort=("asset_id",)
    )
    views["assets_all"] = View(name="assets_all", table=TABLES["assets"], sort=TABLES["assets"].sort)
    views["champions_all"] = View(
        name="champions_all", table=TABLES["champions"], shape="raw", sort=(*TABLES["champions"].sort, "_v")
    )
    views["published"] = View(
        name="published", table=TABLES["forecasts"], shape="published",
        sort=("asset_id", "product", "issue_time", "valid_time"),
    )  # fmt: skip
    views["latest"] = View(name="latest", table=LATEST, shape="latest", hidden=("open",), sort=LATEST.sort)
    return views


VIEWS: dict[str, View] = _views()
MACROS: tuple[str, ...] = ("forecast_as_of",)
