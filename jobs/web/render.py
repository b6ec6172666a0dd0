"""Pages from templates. What is put into one is text and is escaped, unless our own code made it as markup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fleet.html import Html, plain, shown
from jobs.web import statics

#: In the order of the bar at the top: address, name.
PAGES = (
    ("/", "Fleet"),
    ("/assets", "Assets"),
    ("/leaderboard", "Leaderboard"),
    ("/degradation", "Degradation"),
    ("/runs", "Runs"),
    ("/jobs", "Jobs"),
    ("/alerts", "Alerts"),
    ("/sql", "SQL"),
    ("/about", "About"),
)


@cache
def environment() -> Environment:
    """Autoescape everywhere; a name that a template does not get is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "shown": marked,
        "asset": asset_url,
        "query": query,
        "moment": moment,
        "cut": plain,
        "coded": coded,
    }
    made.globals |= {"static": statics.url, "plotly_mark": statics.plotly_mark, "pages": PAGES}
    return made


def marked(value: object) -> Markup:
    """A value as a person reads it; `fleet.html.shown` escapes what is text.

    >>> marked("<b>"), marked(None)
    (Markup('&lt;b&gt;'), Markup('–'))
    """
    return Markup(shown(value))  # noqa: S704  escaped there


def coded(text: str) -> Markup:
    """A sentence whose parts between backticks are commands.

    >>> coded("`tsfleet ui` looks <in>")
    Markup('<code>tsfleet ui</code> looks &lt;in&gt;')
    """
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else p for k, p in enumerate(parts))


def drawn(picture: Html) -> Markup:
    """A small picture made by `fleet.html`, as a template puts it."""
    return Markup(picture)  # noqa: S704  its texts were escaped when it was drawn


def asset_url(asset_id: str) -> str:
    """Where an asset's page is; the name stands in the query, since a path would swallow dots and slashes.

    >>> asset_url("a/../b c")
    '/asset?id=a%2F..%2Fb%20c'
    """
    return f"/asset?id={quote(asset_id, safe='')}"


def query(values: Mapping[str, object], **changed: object) -> str:
    """Parameters as a URL has them, with some changed; what is None or empty is left out.

    >>> query({"q": "b1", "page": 3}, page=None)
    '?q=b1'
    """
    merged = {name: value for name, value in {**values, **changed}.items() if value not in (None, "", ())}
    return "?" + urlencode(merged, doseq=True)


def moment(value: object) -> str:
    """An instant or a day as text, in UTC.

    >>> moment(datetime(2024, 6, 10, 7, tzinfo=UTC)), moment(None)
    ('2024-06-10 07:00Z', '–')
    """
    match value:
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%MZ}"
        case date():
            return value.isoformat()
    return "–"


def page(
    request: Request, name: str, headers: Mapping[str, str] | None = None, /, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page from its template."""
    text = (
        environment()
        .get_template(name)
        .render(
            request=request,
            path=request.url.path,
            principal=request.state.principal,
            large=request.app.state.desk.is_large,
            **values,
        )
    )
    # What a name holds that is no character becomes a mark in place of it.
    return HTMLResponse(text.encode("utf-8", "replace"), status, dict(headers or {}))
