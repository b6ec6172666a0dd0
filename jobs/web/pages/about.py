"""The About page: which fleet, which store, which release."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from jobs.web.desk import AtDesk, Reader
from jobs.web.render import page
from store.environment import version_of

router = APIRouter(include_in_schema=False)


@router.get("/about")
def about(request: Request, desk: AtDesk, who: Reader) -> Response:
    """What this is."""
    config, head = desk.fleet.config, desk.fleet.store.head()
    facts = [
        ("fleet", config.fleet.name),
        ("snapshot", head),
        ("committed", desk.fleet.store.committed_at(head) if head else None),
        ("products", ", ".join(config.product_names)),
        ("recipes", ", ".join(config.recipes)),
        ("time zone", config.fleet.timezone),
        ("tsfleet", version_of("tsfleet")),
        ("you are", who.name),
        ("you may", ", ".join(sorted(who.scopes))),
        ("your assets", "all" if who.assets is None else ", ".join(who.assets)),
    ]
    return page(request, "about.html", facts=facts)
