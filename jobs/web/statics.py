"""The files that pages need, held in memory under names that change with their content: kept by browsers for ever.

What is asked for is looked up in a table and never on disk, so no path can lead out of it. Plotly's script is the one
of the installed package.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from jobs.web.problems import Refused

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
PLOTLY = "plotly.js"
#: Browsers ask for a thing of this name at most once a year.
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Static:
    """A file as it is served."""

    body: bytes
    zipped: bytes
    media: str
    tag: str


@cache
def files() -> Mapping[str, Path]:
    """By name each file that there is."""
    found = {path.name: path for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
    spec = find_spec("plotly")
    if spec is not None and spec.origin is not None:
        found[PLOTLY] = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return found


@cache
def static(name: str) -> Static:
    """A file by its name.

    Raises:
        Refused: there is no such file.
    """
    path = files().get(name)
    if path is None:
        raise Refused(404, "there is no such file")
    body = path.read_bytes()
    return Static(body, gzip.compress(body, 6, mtime=0), TYPES[path.suffix], sha256(body).hexdigest()[:16])


@cache
def url(name: str) -> str:
    """Where a file is found, its content's hash in the path.

    >>> url("app.css").startswith("/static/")
    True
    """
    return f"/static/{static(name).tag}/{name}"


@cache
def plotly_mark() -> str:
    """The id by which Plotly's script finds the style of its maps; empty where it has none.

    The script would write that style into the page, which the policy forbids and the console tells as an error.
    """
    found = re.search(rb'getElementById\("([0-9a-f]{64})"\)', static(PLOTLY).body)
    return found[1].decode() if found else ""
