"""What everybody looks at first, made when the server starts: over a large fleet it takes seconds, and nobody waits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobs.web.pages import assets, fleet
from jobs.web.pages.figures import board_of, product_of

if TYPE_CHECKING:
    from jobs.web.desk import Desk

LOG = logging.getLogger("tsfleet.web")


def first_looks(desk: Desk) -> None:
    """Make the sums behind Fleet, Assets and Leaderboard; those of a small fleet are made when they are asked for.

    Who asks meanwhile waits for the answer that is being made, and no longer. An error is met again by who asks.
    """
    try:
        if desk.is_large:
            snapshot, name = desk.snapshot(), product_of(desk, None)
            _, _, days = fleet.looked(desk, snapshot)
            assets.errors_of(desk, snapshot, name, days, None)
            board_of(desk, snapshot, None, "backtest", None, "mean", None, None)
    except Exception:
        LOG.warning("the first pages could not be made beforehand", exc_info=True)
    finally:
        desk.warm.set()
