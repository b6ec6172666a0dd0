"""Questions that are kept under a name: for all to see, by who may operate, text wherever they stand."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from fleet import Fleet
from jobs.web.problems import Refused
from jobs.web.saved import FILE, MOST, Saved
from jobs.web.tokens import web_folder
from tests.web.conftest import NASTY, Answer, Client, served

QUESTION = "select recipe, count(*) as n\nfrom champions group by all -- <b>"


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Iterator[Client]:
    shutil.copytree(built, tmp_path / "f")
    with Fleet.open(tmp_path / "f" / "fleet.toml") as fleet, served(fleet) as client:
        yield client


def send(ask: Client, token: str, **fields: str) -> Answer:
    return ask("/sql/saved", method="POST", token=token, body=urlencode(fields), Origin=f"http://127.0.0.1:{ask.port}")


def test_a_question_is_kept_for_everybody_and_leads_back_to_itself(own: Client) -> None:
    before = own.fleet.store.head()
    found = send(own, own.token("operate"), name=f"by recipe {NASTY}", q=QUESTION, do="keep")
    assert found.status == 303
    page = own("/sql").text
    assert f">{html.escape('by recipe ' + NASTY)}</a>" in page
    assert "<img" not in page
    assert html.escape("/sql?" + urlencode({"q": QUESTION})) in page
    assert html.escape(QUESTION) in own(found.headers["location"]).text
    assert own.fleet.store.head() == before  # no snapshot, and so nobody's answers end
    lines = own("/api/v1/audit", token=own.token("admin")).json["rows"]
    assert {"act": "query-kept", "actor": "test", "sql": QUESTION}.items() <= lines[0].items()


def test_the_same_name_is_replaced_and_can_be_forgotten(own: Client) -> None:
    token, saved = own.token("operate"), Saved(web_folder(own.fleet.store.path))
    for text in ("select 1", "select 2"):
        send(own, token, name="one", q=text, do="keep")
    assert saved.all() == {"one": "select 2"}
    send(own, token, name="one", do="forget")
    assert saved.all() == {}


def test_who_may_only_read_or_sees_some_assets_keeps_nothing(own: Client) -> None:
    for token in (own.token("read"), own.token("operate", assets=("north-*",))):
        assert send(own, token, name="one", q="select 1", do="keep").status == 403
        assert "Keep this question" not in own("/sql", token=own.token("read")).text
    assert Saved(web_folder(own.fleet.store.path)).all() == {}


def test_what_does_not_hold_is_refused(own: Client) -> None:
    token = own.token("operate")
    for name, text in (
        ("", "select 1"),
        ("x" * 81, "select 1"),
        ("a\x00b", "select 1"),
        ("a", " "),
        ("a", "x" * 20_001),
    ):
        assert send(own, token, name=name, q=text, do="keep").status == 400, name


def test_many_at_once_lose_none_and_there_is_a_bound(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "w")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: saved.keep(f"q{k:03d}", "select 1"), range(MOST)))
    assert len(saved.all()) == MOST
    with pytest.raises(Refused):
        saved.keep("one more", "select 1")
    saved.keep("q000", "select 2")
    assert saved.all()["q000"] == "select 2"


def test_a_file_that_is_broken_is_as_none(tmp_path: Path) -> None:
    for text in ("{", "[1]", '{"a": 1}'):
        (tmp_path / FILE).write_text(text, encoding="utf-8")
        assert Saved(tmp_path).all() == {}
