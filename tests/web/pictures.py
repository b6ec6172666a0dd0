"""The pictures of the README: ``python -m tests.web.pictures [--fleet tsfleet-demo] [--into .pictures]``.

The pages Fleet, Asset and Leaderboard of the demo in Chromium, made small: a picture of more than 150 kB is an error,
as a clone carries it for ever. Without ``--fleet`` the demo is run first, which takes a minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet import Fleet
from tests.web import browser
from tests.web.conftest import Client, served

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 150_000
WIDTH = 1_180
#: Each is shown as far as the first of its figures goes.
PAGES = {"fleet": "/", "asset": "/asset?id={asset}", "leaderboard": "/leaderboard"}
END = "() => document.querySelector('.panel:has([data-figure]), .panel[data-figure]').getBoundingClientRect().bottom"


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.web.pictures")
    parser.add_argument("--fleet", type=Path, help="the folder of a demo that has run")
    parser.add_argument("--into", type=Path, default=ROOT / ".pictures")
    parser.add_argument("--asset", default="b20")
    asked = parser.parse_args(words)
    if told := browser.missing():
        sys.exit(told)
    asked.into.mkdir(exist_ok=True)
    with demo(asked.fleet) as folder, Fleet.open(folder / "fleet.toml") as fleet, served(fleet) as client:
        for file in photographed(client, asked.into, asked.asset):
            size = file.stat().st_size
            print(f"{file}: {size:,} bytes")
            if size > MOST_BYTES:
                sys.exit(f"{file} is larger than {MOST_BYTES:,} bytes")


@contextmanager
def demo(folder: Path | None) -> Iterator[Path]:
    """The folder of a demo, run for this where there is none."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "tsfleet-demo"
        subprocess.run([sys.executable, "-m", "jobs.cli", "demo", str(made)], check=True)
        yield made


def photographed(client: Client, into: Path, asset: str) -> Iterator[Path]:
    """Each page as a file, its figures drawn."""
    with browser.chromium() as chromium:
        context = chromium.new_context(color_scheme="light", viewport={"width": WIDTH, "height": 900})
        page = context.new_page()
        page.set_default_timeout(60_000)
        for name, address in PAGES.items():
            page.goto(f"http://127.0.0.1:{client.port}{address.format(asset=asset)}")
            browser.drawn(page)
            file = into / f"{name}.png"
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": page.evaluate(END) + 14}
            page.screenshot(path=file, full_page=True, clip=clip)  # type: ignore[arg-type]  a box, by its names
            yield file
        context.close()


if __name__ == "__main__":
    main(sys.argv[1:])
