"""`tsfleet ui`: the dashboard and the REST interface, and who may use them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from jobs.cli.console import print_rows, say
from jobs.cli.exits import Exit
from jobs.cli.options import LOOK, Common, Flag
from store.errors import ReadOnly

if TYPE_CHECKING:
    from fleet import Fleet
    from jobs.web.tokens import Tokens

COMMON = Common()
ui = App(name="ui", help="The dashboard in a browser, and REST.", help_format="markdown", group=LOOK)
token = App(name="token", help="Who may use the dashboard and REST, and for what.", help_format="markdown")
ui.command(token)


@ui.default
def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    name: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    require_token: Flag = False,
    secure: Flag = False,
    read_only: Flag = False,
    common: Common = COMMON,
) -> int:
    """Serve pages and REST over this fleet, until Ctrl-C.

    On this machine anybody may look; writing needs a token. From other machines nothing is answered without one.

    For example:

    - `tsfleet ui`
    - `tsfleet ui --host 0.0.0.0 --name plants.example --secure`

    Args:
        host: The address to listen on.
        port: 0 lets the system choose one.
        name: A further name that the server is reached by; may be repeated.
        require_token: Ask for a token on this machine, too.
        secure: It is reached by https, through a proxy that ends it.
        read_only: Open the store for reading only.
    """
    from jobs.web import Settings
    from jobs.web import serve as served

    settings = Settings(host=host, port=port, names=name, require_token=require_token, secure=secure)
    with _opened(common, read_only=read_only) as fleet:
        served(fleet, settings, on_ready=lambda address: say(f"{fleet.config.fleet.name} at {address} (Ctrl-C ends)"))
    return Exit.OK


def _opened(common: Common, *, read_only: bool) -> Fleet:
    """The fleet, for writing where that can be."""
    from fleet import Fleet

    if not read_only:
        try:
            return Fleet.open(common.config, create=False)
        except ReadOnly:
            say("the store cannot be written: readings cannot be uploaded")
    return Fleet.open(common.config, create=False, read_only=True)


@token.command
def add(
    name: str,
    /,
    *,
    scope: Annotated[tuple[str, ...], Parameter(negative="")] = ("read",),
    assets: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    days: int | None = None,
    common: Common = COMMON,
) -> int:
    """Make a token; it is printed once and kept nowhere.

    For example:

    - `tsfleet ui token add grafana`
    - `tsfleet ui token add meters --scope operate --assets 'north-*' --days 90`

    Args:
        name: Whose it is.
        scope: read, operate (upload, run jobs), approve, or admin; may be repeated.
        assets: A glob of the assets it is for; may be repeated; all without it.
        days: After so many it ends.
    """
    lasts = None if days is None else timedelta(days=days)
    made, text = _tokens(common).add(name, scope, assets=assets, lasts=lasts)
    print_rows([{"id": made.id, "name": made.name, "token": text}], as_json=common.json)
    say("this is shown once: keep it where only its user reads it")
    return Exit.OK


@token.command
def ls(*, common: Common = COMMON) -> int:
    """The tokens there are."""
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "scopes": ", ".join(one.scopes),
            "assets": ", ".join(one.assets) or "all",
            "created": one.created_at,
            "expires": one.expires_at,
        }
        for one in _tokens(common).all()
    ]
    print_rows(rows, as_json=common.json, empty="no tokens: `tsfleet ui token add NAME` makes one")
    return Exit.OK


@token.command
def revoke(which: str, /, *, common: Common = COMMON) -> int:
    """Take a token away; who uses it is refused from now on.

    Args:
        which: Its id, or its name where that is unique.
    """
    gone = _tokens(common).revoke(which)
    say(f"revoked {gone.name} ({gone.id})")
    return Exit.OK


def _tokens(common: Common) -> Tokens:
    from jobs.web.tokens import Tokens, web_folder
    from store.clock import system_clock

    return Tokens(web_folder(common.load().store_path), system_clock)
