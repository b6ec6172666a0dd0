"""The attic: when things happen, who is told, how people look in. Imports fleet and store; neither imports it."""

from pathlib import Path

from store import check_siblings

check_siblings(Path(__file__).resolve().parent.parent, ("store", "fleet"))
