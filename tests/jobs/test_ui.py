"""`tsfleet ui`: tokens are made, listed and revoked; nobody is let in from outside without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.exits import Exit
from jobs.web.tokens import Tokens, web_folder
from store import Store
from store.clock import system_clock
from tests.jobs.typed import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    Store.open(folder / "small.store").close()
    return Typed(capsys)


def test_a_token_is_shown_once_and_kept_as_its_hash(folder: Path, typed: Typed) -> None:
    typed("ui", "token", "add", "meters", "--scope", "operate", "--assets", "north-*", "--json")
    text = typed.out.split('"token": "')[1].partition('"')[0]
    (row,) = typed.json("ui", "token", "ls")
    assert (row["name"], row["scopes"], row["assets"]) == ("meters", "operate", "north-*")
    kept = (web_folder(folder / "small.store") / "tokens.json").read_text()
    assert text.split("_", 2)[2] not in kept + typed.out
    found = Tokens(web_folder(folder / "small.store"), system_clock).principal(text)
    assert found is not None
    assert found.scopes == {"read", "operate"}
    typed("ui", "token", "revoke", "meters")
    assert typed.json("ui", "token", "ls") == []
    assert Tokens(web_folder(folder / "small.store"), system_clock).principal(text) is None


def test_a_token_without_a_known_scope_is_none(typed: Typed) -> None:
    typed("ui", "token", "add", "x", "--scope", "everything", code=Exit.USAGE)
    typed("ui", "token", "revoke", "x", code=Exit.USAGE)
    assert typed.json("ui", "token", "ls") == []


def test_an_address_of_the_network_is_not_served_without_a_token(typed: Typed) -> None:
    typed("ui", "--host", "0.0.0.0", "--port", "0", code=Exit.USAGE)  # noqa: S104  refused before it is bound
    assert "tsfleet ui token add" in typed.err
    typed("ui", "--require-token", "--port", "0", code=Exit.USAGE)
