"""The commands one begins with: init, config, doctor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from jobs.cli.console import print_json, print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import KEEP, Common, Product
from jobs.errors import UsageInvalid
from store.errors import NotFound

if TYPE_CHECKING:
    from fleet.config import FleetConfig
    from jobs.cli.console import Row

COMMON = Common()
config = App(name="config", help="Look at the configuration.", help_format="markdown", group=KEEP)


def init(
    folder: Path = Path(),
    /,
    *,
    name: str | None = None,
    data: str = "data/*.parquet",
    asset: str = "unique_id",
    time: str = "ds",
    target: str = "y",
    freq: str = "1h",
    timezone: str = "UTC",
) -> int:
    """Write a commented fleet.toml to begin with.

    Tell it where the data are and how the columns are called, or edit the file afterwards. An existing fleet.toml is
    never touched.

    For example:

    - `tsfleet init`
    - `tsfleet init north --data 'meters/*.csv' --asset meter --time at --target kwh --timezone Europe/Oslo`

    Args:
        folder: Where; made if it is not there.
        name: The fleet's name; without it, the folder's.
        data: Parquet or CSV files, relative to the folder; a glob.
        asset: Column that names the asset.
        time: Column of the times.
        target: Column of the values to forecast.
        freq: Step of the series, as 15min, 1h, 1D.
        timezone: The assets' local clock, an IANA name.
    """
    from fleet.config import parse
    from jobs.cli.template import fleet_toml

    path = folder / "fleet.toml"
    text = fleet_toml(
        name=name or folder.resolve().name,
        data=data,
        asset=asset,
        time=time,
        target=target,
        freq=freq,
        timezone=timezone,
    )
    parse(text, path)  # a value that does not hold is refused here, before a file is there
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageInvalid(f"{path} exists; it was left as it is", hint="edit it, or name another folder") from None
    say(f"wrote {path}")
    say(f"next: look it over, then `{'' if folder == Path() else f'cd {folder} && '}tsfleet ingest && tsfleet train`")
    return Exit.OK


@config.command
def show(asset: str | None = None, /, *, product: Product = None, common: Common = COMMON) -> int:
    """The values in force, for the fleet or for one asset, and where each comes from.

    For example:

    - `tsfleet config show`
    - `tsfleet config show plant-7`
    - `tsfleet config show plant-7 --product day_ahead`

    Args:
        asset: An asset's id; without it, what holds for all.
        product: What holds for this product, by name; the first of fleet.toml without it.
    """
    found = common.load()
    if product is not None and product not in found.product_names:
        raise UsageInvalid(f"--product {product}: no such product", hint=f"there are {', '.join(found.product_names)}")
    settings = found.show(asset or "", {} if asset is None else _register_row(found, asset), product)
    rows = [{"key": s.key, "value": _as_written(s.value), "from": s.origin} for s in settings]
    print_rows(rows, as_json=common.json)
    return Exit.OK


def _as_written(value: object) -> object:
    """A value as the file writes it."""
    from fleet.config.values import duration_text

    if isinstance(value, tuple) and value and isinstance(value[0], time):
        return [f"{one:%H:%M}" for one in value]
    return duration_text(value) if isinstance(value, timedelta) else value


def _register_row(config: FleetConfig, asset: str) -> Mapping[str, object]:
    """What the store knows of an asset; nothing before the first ingest."""
    if not config.store_path.is_dir():
        say("nothing is ingested yet: overrides by group need the register that `tsfleet ingest` reads")
        return {}
    from store import Store

    with Store.open(config.store_path, create=False, read_only=True) as store:
        rows = store.sql("select * from assets where asset_id = $asset", {"asset": asset}).rows()
    if not rows:
        raise NotFound(f"no asset {asset!r} in {config.store_path}", hint="tsfleet sql 'select asset_id from assets'")
    found: Mapping[str, object] = rows[0]
    return found


def doctor(*, common: Common = COMMON) -> int:
    """Check what is installed, which adapters can be loaded, and whether the fleet here can run.

    An adapter whose library or system library is missing is shown with the line to type; each recipe of the fleet is
    looked at, and the store is asked how it is. Exit code 1 when something in the configuration cannot run.

    For example:

    - `tsfleet doctor`
    - `tsfleet doctor --json`
    """
    from jobs.cli.checks import adapter_rows, fleet_rows, package_rows

    rows: list[Row] = [*package_rows(), *adapter_rows(), *fleet_rows(common.config)]
    if common.json:
        print_json(rows)
    else:
        print_rows(rows, as_json=False)
    return Exit.OK if all(row["ok"] for row in rows) else Exit.PARTLY
