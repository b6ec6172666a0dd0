"""The commit proper: what a transaction asks, done under the writers' lock, alone or together with what others ask.

Most of what a small commit costs is the same for ten. So whoever finds the lock taken leaves what it asks as a letter
(see ``letters``); the one who holds the lock does his own commit, then those of the letters, each with its own checks
and its own snapshot, and one COMMIT makes all of them durable. One that fails its checks leaves nothing and is
declined: its writer does it alone, and meets its error himself.

In the same transaction is written down which letters it does (``told``). So a letter that its leader, killed, could not
answer is not done again: the next leader answers it after his own COMMIT, and its writer looks there first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from store.catalog import Catalog, Columns, Segment, Writer
from store.catalog.hot import HotBatch, hot_batch
from store.errors import CommitConflict, Overtaken, StoreBusy, StoreError
from store.letters import Letter, Mailbox
from store.revising import last_of_each_key, replace_small
from store.schema import STORED, TABLES, Table

if TYPE_CHECKING:
    from store.packs import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A champion that was another one than the caller expected."""

    asset_id: str
    product: str
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit did: ``written`` counts the rows stored per table, ``repeated`` says that it was done before."""

    snapshot: int
    at: datetime
    repeated: bool = False
    conflicts: tuple[Conflict, ...] = ()
    written: Mapping[str, int] = field(default_factory=dict)


class Before(NamedTuple):
    """An earlier commit with the same id: its payload, its snapshot, and its answer as JSON."""

    payload: bytes
    snapshot: int
    answer: str


class Done(NamedTuple):
    """What became of a commit; ``wanting`` are the tables that want upkeep."""

    snapshot: int
    at: int
    written: Mapping[str, int]
    conflicts: Sequence[Conflict] = ()
    wanting: Sequence[str] = ()


#: From so many hot rows on, or hot rows that are older than so many microseconds, a table wants upkeep.
Swollen = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class Asked:
    """What one commit will write and what it relies on, decided before the lock."""

    note: str
    key: bytes | None
    payload: bytes
    expected: Sequence[tuple[str, str | None]]
    marks: Mapping[str, str]
    packs: Sequence[Pack] = ()
    promotions: Sequence[tuple[Columns, list[str | None], Columns]] = ()
    #: Blobs that were stored already, and the snapshot at which that was looked up.
    relied: set[str] = field(default_factory=set)
    seen_at: int | None = None
    segments: list[Segment] = field(default_factory=list)
    hot: list[HotBatch] = field(default_factory=list)
    small_replaces: list[tuple[Table, Columns, HotBatch]] = field(default_factory=list)
    looked_up: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    @property
    def says_nothing(self) -> bool:
        """Whether the commit would change nothing; then it makes no snapshot either."""
        rows = self.hot or self.small_replaces or self.segments
        return not (rows or self.packs or self.promotions or self.marks or self.key is not None)

    @property
    def travels(self) -> bool:
        """Whether another process may do it: it is small, and nothing was looked up for it."""
        heavy = self.segments or self.packs or self.promotions or self.relied or self.looked_up
        return not (heavy or self.says_nothing)

    def written_small(self) -> dict[str, int]:
        """The rows that are stored per table, promotions aside."""
        written = dict(self.written)
        for table, _, batch in self.small_replaces:
            written[table.name] = written.get(table.name, 0) + batch.rows
        return written

    def to_letter(self, since: int, at: int, swollen: Swollen | None) -> bytes:
        """As text that another process reads.

        Args:
            since: now, by the clock of the machine; looked at before the other, so that what passed is not too little.
            at: now, by the store's clock.
            swollen: see :func:`commit`.

        Raises:
            TypeError: a value is not what JSON keeps.
        """
        batches = [[_batch_told(one) for one in group] for group in (self.hot, [one[2] for one in self.small_replaces])]
        key = None if self.key is None else self.key.hex()
        about = [at, since, swollen, self.note, key, self.payload.hex(), self.expected, self.marks]
        return _ENCODER.encode([*about, self.written, *batches]).encode()

    @classmethod
    def from_letter(cls, told: Sequence[Any]) -> Self:
        """The commit that a letter asks for."""
        _, _, _, note, key, payload, expected, marks, written, hot, replaces = told
        made = [_batch_from(*one) for one in replaces]
        return cls(
            note=note,
            key=None if key is None else bytes.fromhex(key),
            payload=bytes.fromhex(payload),
            expected=expected,
            marks=marks,
            hot=[_batch_from(*one) for one in hot],
            small_replaces=[(STORED[one.table], _keys_of(one), one) for one in made],
            written=written,
        )


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _batch_told(one: HotBatch) -> list[Any]:
    return [one.table, one.names, one.values, one.rows, one.digest.hex(), one.brought]


def _batch_from(
    table: str, names: list[str], values: list[list[Any]], rows: int, digest: str, brought: list[str]
) -> HotBatch:
    return HotBatch(STORED[table].name, tuple(names), tuple(values), rows, bytes.fromhex(digest), tuple(brought))


def _keys_of(batch: HotBatch) -> Columns:
    """The columns of a batch that its keys are made of: no key has a number with a fraction, so they are as given."""
    key = STORED[batch.table].key
    return {name: values for name, values in zip(batch.names, batch.values, strict=True) if name in key}


def _monotonic() -> int:
    """Microseconds on a clock that all processes of a machine share."""
    return time.monotonic_ns() // 1_000


# ----------------------------------------------------------------------------------------------------------- one commit


def commit(
    catalog: Catalog,
    asked: Asked,
    now: Callable[[], int],
    renewed: Callable[[], Asked] | None,
    swollen: Swollen | None,
) -> Done | Before | None:
    """Do what a transaction asks; None when something was looked up that has changed since, and `renewed` is absent.

    Args:
        catalog: of the store.
        asked: by the transaction.
        now: microseconds, on the store's clock.
        renewed: looks up again, under the lock.
        swollen: when upkeep is wanted, None for never.

    Raises:
        Overtaken, CommitConflict, StoreBusy: see :meth:`store.writing.Transaction.commit`.
    """
    with catalog.lock.alone():
        waiting = _Waiting(catalog, asked, now, swollen) if asked.travels else None
        try:
            with catalog.lock.held_unless(None if waiting is None else waiting.over) as held:
                if held:
                    return _lead(catalog, asked, now, renewed, swollen, waiting)
        except StoreError:
            if waiting is not None and waiting.posted and waiting.given_up():
                return waiting.done
            raise
        except BaseException:
            # As by Ctrl-C: it may have been taken along, as it may be done when a COMMIT is interrupted.
            if waiting is not None and waiting.posted:
                catalog.mailbox.clear()
            raise
        assert waiting is not None
        return waiting.done


def _lead(
    catalog: Catalog,
    asked: Asked,
    now: Callable[[], int],
    renewed: Callable[[], Asked] | None,
    swollen: Swollen | None,
    waiting: _Waiting | None,
) -> Done | Before | None:
    """One's own commit, and those of who waits, while the lock is held."""
    box = catalog.mailbox
    with box.round():
        with catalog.writing() as writer:
            if waiting is not None and waiting.posted and waiting.stands(writer):
                return waiting.done
            if asked.key is not None and (before := writer.committed(asked.key)) is not None:
                return Before(*before)
            _check_expected(writer, asked)
            if any(writer.touched_after(name, seen) for name, seen in asked.looked_up.items()):
                if renewed is None:
                    return None
                asked = renewed()
            _check_blobs(writer, asked)
            at = now()
            if asked.says_nothing:
                return Done(writer.head, at, asked.written)
            done = _apply(writer, asked, at)
            answers, tender, limit = _join(writer, box, swollen)
            wanting = writer.swollen(limit[0], at - limit[1]) if limit is not None else []
        for letter, answer in answers:
            box.tell(letter, _ENCODER.encode([*answer, wanting if letter is tender else []] if answer else []).encode())
    wanting += [name for name in {one.table: None for one in asked.segments} if name not in wanting]
    return done._replace(wanting=wanting)


def _apply(writer: Writer, asked: Asked, at: int) -> Done:
    snapshot = writer.begin(at, asked.note)
    for batch in asked.hot:
        writer.add_batch(batch)
    for table, columns, batch in asked.small_replaces:
        replace_small(writer, table, columns, batch)
    for segment in asked.segments:
        writer.add_segment(segment._replace(v=snapshot, min_v=snapshot, max_v=snapshot))
    for name, value in asked.marks.items():
        writer.set_mark(name, value)
    for pack in asked.packs:
        writer.add_pack(pack)
    written = asked.written_small()
    conflicts = tuple(c for promotion in asked.promotions for c in _promote(writer, written, *promotion))
    if asked.key is not None:
        writer.remember(asked.key, asked.payload, _answer(written, conflicts))
    return Done(snapshot, at, written, conflicts)


def _check_expected(writer: Writer, asked: Asked) -> None:
    for name, value in asked.expected:
        if (found := writer.mark(name)) != value:
            raise Overtaken(
                f"the watermark {name!r} is {found!r}, this transaction relied on {value!r}",
                hint="another took the work over; leave it to them",
            )


def _check_blobs(writer: Writer, asked: Asked) -> None:
    if asked.relied and writer.lost_blobs(asked.relied, asked.seen_at or 0):
        told = "an asset was erased meanwhile, and with it blobs that this commit relies on"
        raise CommitConflict(told, hint="begin another transaction and put everything into it again")


def _answer(written: Mapping[str, int], conflicts: Iterable[Conflict]) -> str:
    names = ("asset_id", "product", "expected", "found")
    return json.dumps({"written": written, "conflicts": [{n: getattr(c, n) for n in names} for c in conflicts]})


def _promote(
    writer: Writer, written: dict[str, int], champions: Columns, expected: list[str | None], decisions: Columns
) -> list[Conflict]:
    table = TABLES["champions"]
    conflicts = []
    keep = []
    versions = champions.get("version_id", [None] * len(expected))
    for i, (asset, product) in enumerate(zip(champions["asset_id"], champions["product"], strict=True)):
        found = writer.champion(asset, product)
        if found == expected[i]:
            writer.set_champion(asset, product, versions[i])
            keep.append(i)
        else:
            conflicts.append(Conflict(asset_id=asset, product=product, expected=expected[i], found=found))
    if keep:
        kept, rows = last_of_each_key(table, {name: [values[i] for i in keep] for name, values in champions.items()})
        batch = hot_batch(table.name, kept, rows)
        written["champions"] = written.get("champions", 0) + replace_small(writer, table, kept, batch)
    rows = len(decisions["asset_id"])
    if rows:
        lost = {(c.asset_id, c.product) for c in conflicts}
        verdicts = decisions.get("verdict") or [None] * rows
        told = zip(decisions["asset_id"], decisions["product"], verdicts, strict=True)
        decisions = decisions | {"verdict": ["conflict" if (a, p) in lost else verdict for a, p, verdict in told]}
        writer.add_hot("decisions", decisions, rows)
        written["decisions"] = written.get("decisions", 0) + rows
    return conflicts


# ------------------------------------------------------------------------------------------------------------- together


def _join(
    writer: Writer, box: Mailbox, swollen: Swollen | None
) -> tuple[list[tuple[Letter, list[int]]], Letter | None, Swollen | None]:
    """Do what waits within the commit that is open: to each letter (snapshot, at), empty where it is declined.

    Then who is to see to upkeep, for one is enough, and when: the leader (None) if his own commit does (``swollen``),
    else the first who may.
    """
    letters = box.letters()
    told = writer.told() if letters else {}
    if not letters or not box.unreadable.isdisjoint(told):
        # Of a box that cannot be read nobody knows whether it was answered: `told` has to stay.
        return [], None, swollen
    answers: list[tuple[Letter, list[int]]] = []
    record: dict[str, list[int]] = {}
    tender: Letter | None = None
    for letter in letters:
        known = told.get(letter.box)
        if known is not None and known[0] == letter.number:
            record[letter.box] = known  # done by a leader who was killed before he could say so
        else:
            found = writer.attempt(partial(_follow, writer, letter))
            if found is not None:
                record[letter.box] = [letter.number, *found[0]]
                if swollen is None and found[1] is not None:
                    tender, swollen = letter, found[1]
        answers.append((letter, record.get(letter.box, [])[1:]))
    if record:
        writer.set_told(record)
    return answers, tender, swollen


def _follow(writer: Writer, letter: Letter) -> tuple[tuple[int, int], Swollen | None]:
    """The commit of one letter: (snapshot, at), and when its writer wants upkeep.

    Raises:
        ValueError: its commit id was used before.
        Overtaken: a watermark is not what was expected.
    """
    told = json.loads(letter.text)
    own, since, swollen = told[:3]
    asked = Asked.from_letter(told)
    if asked.key is not None and writer.committed(asked.key) is not None:
        raise ValueError("the commit id was used")
    _check_expected(writer, asked)
    # Its own clock tells the time, but not one before the commit it follows, as far as that lies in its waiting.
    at = max(own, min(writer.at, own + _monotonic() - since))
    done = _apply(writer, asked, at)
    return (done.snapshot, done.at), None if swollen is None else (swollen[0], swollen[1])


class _Waiting:
    """A commit whose writer waits for the lock: left as a letter, and what became of it."""

    def __init__(self, catalog: Catalog, asked: Asked, now: Callable[[], int], swollen: Swollen | None) -> None:
        self._catalog, self._asked, self._now, self._swollen = catalog, asked, now, swollen
        self._tried = False
        self.posted = False
        self.done: Done | None = None

    def over(self) -> bool:
        """Whether another did it; the first call leaves the letter."""
        if not self._tried:
            self._tried = True
            self._post()
            return False
        answer = self._catalog.mailbox.answer() if self.posted else None
        if answer is None:
            return False
        self.posted = False
        told = json.loads(answer)
        if told:  # else it was declined
            snapshot, at, wanting = told
            wanting = wanting if self._swollen is not None else []
            self.done = Done(snapshot, at, self._asked.written_small(), (), wanting)
        return self.done is not None

    def stands(self, writer: Writer) -> bool:
        """Whether another did it, and was killed before he said so; by the one who has the lock now."""
        if self.over():
            return True
        if self.posted:
            self._look(writer.told())
            self._catalog.mailbox.clear()
            self.posted = False
        return self.done is not None

    def given_up(self) -> bool:
        """Whether another did it before it could be taken back.

        Raises:
            StoreBusy: nobody can know, for the one who took it neither goes on nor ends.
        """
        box = self._catalog.mailbox
        with box.giving_up(self._catalog.lock.wait_s) as alone:
            if not alone:
                raise StoreBusy(
                    "another writer took this commit along and has not come to an end since",
                    hint="it may be stored later; look whether it is there, or give commits an id",
                )
            if not self.over():
                if self.posted:
                    self._look(self._catalog.told())
                box.clear()
        self.posted = False
        return self.done is not None

    def _post(self) -> None:
        try:
            text = self._asked.to_letter(_monotonic(), self._now(), self._swollen)
        except TypeError:
            return
        self.posted = self._catalog.mailbox.post(text)

    def _look(self, told: Mapping[str, Sequence[int]]) -> None:
        """Look whether the catalog says that it is done."""
        box = self._catalog.mailbox
        number, snapshot, at = told.get(box.name, (0, 0, 0))
        if number == box.number:
            self._catalog.sync_log()
            self.done = Done(snapshot, at, self._asked.written_small())
