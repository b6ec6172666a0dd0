"""Letters of writers who wait to the one who writes: what they ask for, each in a file of its own beside the lock.

Whoever finds the writers' lock taken leaves a letter; the one who holds the lock may take it, does in one transaction
what all of them ask, and answers. A letter waits until it has an answer or its writer clears it. Nothing here is
durable and nothing has to be: what is stored, the catalog says, and a letter or an answer that is lost, torn or refused
by the disk means only that its writer takes the lock itself.

A writer holds a lock on its file as long as it lives, so nobody takes letters of the dead. Who takes letters holds a
lock on the folder until they are answered, so a writer who gives up knows whether its letter has been taken.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from store.files import told
from store.ids import new_id

FOLDER = "waiting"
#: A longer one would take the leader more time than it saves.
MOST_BYTES = 128 << 10
_LETTER_AT = 4_096
_ANSWER_BYTES = 2_048
_HEAD = 35  # bytes: check sum, length, number
_FIRST_READ = _LETTER_AT + 12_288
_PAUSE_S = 0.001
_ATTEMPTS = 3
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR)


class Letter(NamedTuple):
    """What a writer asks for: whose it is, which of his, and the text."""

    box: str
    number: int
    text: bytes


class Mailbox:
    """The letters of one open store, and its way to those of others; used under the store's own thread lock."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.name = folder / FOLDER, new_id()
        self._file: int | None = None
        self._refused = False
        self.number = 0
        self._others: dict[str, int] = {}
        self._around: int | None = None
        self._taking = False
        #: Boxes that were there at the last look and could not be read.
        self.unreadable: set[str] = set()

    # ---------------------------------------------------------------- of the one who waits

    def post(self, text: bytes) -> bool:
        """Leave a letter; False where that cannot be."""
        if self._refused or len(text) > MOST_BYTES or (self._file is None and not self._open()):
            return False
        assert self._file is not None
        self.number += 1
        try:
            os.pwrite(self._file, _sealed(self.number, text), _LETTER_AT)
        except OSError:
            return False
        return True

    def answer(self) -> bytes | None:
        """What was answered to the letter that was posted last, if it was."""
        assert self._file is not None
        try:
            number, text = _opened(os.pread(self._file, _ANSWER_BYTES, 0))
        except OSError:
            return None
        return text if number == self.number else None

    def clear(self) -> None:
        """Take the letter back; by who holds the writers' lock, or gives up: nobody else has it then."""
        assert self._file is not None
        try:
            os.pwrite(self._file, _sealed(0, b""), _LETTER_AT)
        except OSError:
            with told(self._folder / self.name):
                (self._folder / self.name).unlink(missing_ok=True)  # what has no name is not looked at
            self._refused = True

    @contextmanager
    def giving_up(self, wait_s: float) -> Iterator[bool]:
        """A time in which nobody takes letters; False when whoever has taken them does not come to an end."""
        held = self._take(wait_s)
        try:
            yield held
        finally:
            if held:
                fcntl.flock(self._around, fcntl.LOCK_UN)  # type: ignore[arg-type]  # it is open: it was locked

    # ---------------------------------------------------------------- of the one who writes

    @contextmanager
    def round(self) -> Iterator[None]:
        """The time from taking letters to the last answer; whoever gives up meanwhile has to wait for its end."""
        try:
            yield
        finally:
            if self._taking:
                self._taking = False
                fcntl.flock(self._around, fcntl.LOCK_UN)  # type: ignore[arg-type]  # it is open: they were taken

    def letters(self) -> list[Letter]:
        """Take the letters that wait, those of the living; within a :meth:`round`."""
        try:
            there = os.listdir(self._folder)  # noqa: PTH208 - only names are wanted, at every commit
        except OSError:
            return []
        if not there or there == [self.name] or not (self._taking or self._take(None)):
            return []
        self._taking = True
        self.unreadable.clear()
        found = [letter for name in there if name != self.name and (letter := self._letter(name)) is not None]
        if len(self._others) >= len(there):
            self._forget(self._others.keys() - set(there))
        return found

    def tell(self, letter: Letter, text: bytes) -> None:
        """Answer a letter."""
        with suppress(OSError):  # then its writer looks into the catalog
            os.pwrite(self._others[letter.box], _sealed(letter.number, text), 0)

    def close(self) -> None:
        """Take one's own file away."""
        self._forget(list(self._others))
        if self._file is not None:
            with suppress(OSError):
                (self._folder / self.name).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
        if self._around is not None:
            os.close(self._around)
            self._around = None

    # ---------------------------------------------------------------- files

    def _letter(self, name: str) -> Letter | None:
        file = self._others.get(name)
        try:
            if file is None:
                file = self._others[name] = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
            data = os.pread(file, _FIRST_READ, 0)
            number, text = _opened(data[_LETTER_AT:])
            if number and text is None:
                number, text = _opened(os.pread(file, _HEAD + MOST_BYTES, _LETTER_AT))
        except OSError:
            self.unreadable.add(name)
            return None
        if not number or text is None:
            return None
        answered, answer = _opened(data[:_LETTER_AT])
        if number == answered and answer is not None:
            return None
        if not _alive(file):
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
            return None
        return Letter(name, number, text)

    def _open(self) -> bool:
        for _ in range(_ATTEMPTS):
            file = -1
            try:
                self._folder.mkdir(exist_ok=True)
                tidy(self._folder)
                file = os.open(self._folder / self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_nlink:
                    self._file = file
                    return True
            except OSError as cause:
                if cause.errno not in _TAKEN:
                    break
            # Somebody who tidied took it for a dead one's.
            os.close(file)
            self.name = new_id()
        if file >= 0:
            os.close(file)
        self._refused = True
        return False

    def _take(self, wait_s: float | None) -> bool:
        """Lock the folder; without a time limit whoever holds it is about to give up, and lets go at once."""
        try:
            if self._around is None:
                self._around = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if wait_s is None:
                fcntl.flock(self._around, fcntl.LOCK_EX)
                return True
        except OSError:
            return False
        stop_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._around, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as cause:
                if cause.errno not in _TAKEN:
                    raise
            if time.monotonic() >= stop_at:
                return False
            time.sleep(_PAUSE_S)

    def _forget(self, names: list[str] | set[str]) -> None:
        for name in names:
            os.close(self._others.pop(name))


def tidy(folder: Path) -> None:
    """Take away the files of the dead."""
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if not _alive(file):
                        path.unlink(missing_ok=True)
                finally:
                    os.close(file)


def _alive(file: int) -> bool:
    """Whether the one whose file this is holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _sealed(number: int, text: bytes) -> bytes:
    head = b"%08x %016x " % (len(text), number)
    return b"%08x %s" % (crc32(text, crc32(head)), head) + text


def _opened(data: bytes) -> tuple[int, bytes | None]:
    """Number and text; the text is None where not all of it, or another, is there."""
    try:
        size, number = int(data[9:17], 16), int(data[18:34], 16)
        check = int(data[:8], 16)
    except ValueError:
        return 0, None
    text = data[_HEAD : _HEAD + size]
    whole = len(text) == size and crc32(text, crc32(data[9:_HEAD])) == check
    return number, text if whole else None
