"""Figures for notebooks and pages: values in NumPy go in, a Plotly figure comes out; the one place that knows Plotly.

Nothing here asks the store: `fleet.questions` does. Every text that a user can choose passes through `literal`.
"""

from fleet.figures.course import Course, changed, course
from fleet.figures.fan import Scene, extremes, fan
from fleet.figures.jobs import durations, standing, timeline
from fleet.figures.life import life
from fleet.figures.look import embedded, literal, nothing, number, page, page_of
from fleet.figures.panels import density, heat, spread
from fleet.figures.profiles import calibration, errors
from fleet.figures.ranking import Entry, along, distribution, ranking
from fleet.figures.tabled import tabled

__all__ = [
    "Course",
    "Entry",
    "Scene",
    "along",
    "calibration",
    "changed",
    "course",
    "density",
    "distribution",
    "durations",
    "embedded",
    "errors",
    "extremes",
    "fan",
    "heat",
    "life",
    "literal",
    "nothing",
    "number",
    "page",
    "page_of",
    "ranking",
    "spread",
    "standing",
    "tabled",
    "timeline",
]
