"""What figures, cards and pages show, asked of one snapshot: sums and rows in NumPy, not yet drawn.

Each question costs a few queries whatever the size of the fleet, and sees one state of the store.
"""

from fleet.questions.curves import (
    Curve,
    Known,
    backtested,
    forecast_of,
    known_between,
    nearest_issue,
    newest_issue,
    since,
)
from fleet.questions.glance import Glance, Job, Ranked, Scored, Worst, glance, ranked, scored
from fleet.questions.life import Life, inputs, life
from fleet.questions.panel import Panel, panel
from fleet.questions.profiles import Profile, Reliability, profiles, reliability
from fleet.questions.ran import Ran, Work, became, causes, ran

__all__ = [
    "Curve",
    "Glance",
    "Job",
    "Known",
    "Life",
    "Panel",
    "Profile",
    "Ran",
    "Ranked",
    "Reliability",
    "Scored",
    "Work",
    "Worst",
    "backtested",
    "became",
    "causes",
    "forecast_of",
    "glance",
    "inputs",
    "known_between",
    "life",
    "nearest_issue",
    "newest_issue",
    "panel",
    "profiles",
    "ran",
    "ranked",
    "reliability",
    "scored",
    "since",
]
