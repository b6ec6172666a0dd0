"""Letters of those who wait: read whole or not at all, answered once, and gone with their writers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store
from store.letters import FOLDER, MOST_BYTES, Mailbox
from tests.store.rows import insert


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[tuple[Mailbox, Mailbox]]:
    waits, writes = Mailbox(tmp_path), Mailbox(tmp_path)
    yield waits, writes
    waits.close()
    writes.close()


def taken(box: Mailbox) -> list[bytes]:
    with box.round():
        return [letter.text for letter in box.letters()]


def test_a_letter_waits_until_it_is_answered(boxes: tuple[Mailbox, Mailbox]) -> None:
    waits, writes = boxes
    assert waits.post(b"first")
    assert (waits.answer(), taken(writes), taken(writes)) == (None, [b"first"], [b"first"])
    with writes.round():
        (letter,) = writes.letters()
        writes.tell(letter, b"done")
    assert (waits.answer(), taken(writes)) == (b"done", [])
    assert waits.post(b"second")
    assert (waits.answer(), taken(writes)) == (None, [b"second"])


def test_what_was_taken_back_is_not_found(boxes: tuple[Mailbox, Mailbox]) -> None:
    waits, writes = boxes
    waits.post(b"first")
    waits.clear()
    assert taken(writes) == []


@pytest.mark.parametrize("size", [0, 1, 12_288, 20_000, MOST_BYTES])
def test_a_letter_of_any_size_arrives_as_it_was_written(boxes: tuple[Mailbox, Mailbox], size: int) -> None:
    text = os.urandom(size)
    assert boxes[0].post(text)
    assert taken(boxes[1]) == [text]


def test_a_letter_that_is_too_long_is_not_left(boxes: tuple[Mailbox, Mailbox]) -> None:
    assert not boxes[0].post(b"x" * (MOST_BYTES + 1))
    assert taken(boxes[1]) == []


def test_no_bit_of_a_letter_can_change_unseen(boxes: tuple[Mailbox, Mailbox], tmp_path: Path) -> None:
    waits, writes = boxes
    waits.post(b"rows")
    path = tmp_path / FOLDER / waits.name
    whole = path.read_bytes()
    for bit in range(8 * 4_096, 8 * len(whole)):
        harmed = bytearray(whole)
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        assert taken(writes) in ([], [b"rows"]), bit  # "A" and "a" are the same number in hexadecimal
    path.write_bytes(whole)
    assert taken(writes) == [b"rows"]


def test_an_answer_that_is_torn_is_none_and_is_given_again(boxes: tuple[Mailbox, Mailbox], tmp_path: Path) -> None:
    waits, writes = boxes
    waits.post(b"rows")
    with writes.round():
        (letter,) = writes.letters()
        writes.tell(letter, b"[1, 2, []]")
    path = tmp_path / FOLDER / waits.name
    answered = path.read_bytes()
    path.write_bytes(answered[:40] + b"\0" * 10 + answered[50:])
    assert waits.answer() is None
    assert taken(writes) == [b"rows"]


def test_letters_of_the_dead_are_not_taken_and_go(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from store.letters import Mailbox
box = Mailbox(Path(sys.argv[1]))
assert box.post(b"mine")
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1, "who comes takes away what the dead left"
    box = Mailbox(tmp_path)
    assert taken(box) == []
    assert list((tmp_path / FOLDER).iterdir()) == []
    box.close()


def test_a_store_that_is_closed_leaves_no_box(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        insert(store, "alerts", [{"alert_id": "a"}])
        assert store._catalog.mailbox.post(b"[]")
        assert len(list((tmp_path / "s" / FOLDER).iterdir())) == 1
    assert list((tmp_path / "s" / FOLDER).iterdir()) == []


def test_who_gives_up_knows_whether_its_letter_was_taken(boxes: tuple[Mailbox, Mailbox]) -> None:
    waits, writes = boxes
    waits.post(b"rows")
    with waits.giving_up(0.0) as alone:
        assert alone
    with writes.round():
        assert len(writes.letters()) == 1
        with waits.giving_up(0.0) as alone:
            assert not alone
    with waits.giving_up(0.0) as alone:
        assert alone
