"""The fleet compared with its own past and within itself; `Fleet.compare` is the way in."""

from fleet.review.report import Review, review

__all__ = ["Review", "review"]
