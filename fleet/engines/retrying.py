"""What becomes of a lost item: tried again where the cause can pass, else it goes on without the part that is to blame.

So an item loses its parts one by one at most, and comes back once, with what it lost and why. It holds for any engine
and any kind of part: the recipes that are judged on an asset, the links of its chain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

from fleet.engines import Backlog, Engine, Item, Lost, Result, Work, never, unmarked
from fleet.outcome import Failed, attempt

LONGEST_WAIT_S = 300.0

Charges = Mapping[int, Mapping[int, Failed]]
"""By the place of an item in its chunk, and of a part in that item: what the part was lost to."""


class Parts(Protocol[Item]):
    """How an item is made of parts."""

    def count(self, item: Item) -> int:
        """How many parts it has."""
        ...

    def only(self, item: Item, places: Sequence[int]) -> Item:
        """The item with these of its parts, in order."""
        ...

    def safe(self, item: Item) -> bool:
        """Whether the item can neither hang nor crash, so that it needs no process of its own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often is worth trying.

    Args:
        timeout_s: for one part of one item.
        retries: of a part whose failure can pass.
        backoff_s: before the first of them; twice as long before each further one.
    """

    timeout_s: float
    retries: int = 0
    backoff_s: float = 0.0

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures.

        >>> [Patience(timeout_s=60, retries=3, backoff_s=1.0).wait_s(failures) for failures in (1, 2, 3)]
        [1.0, 2.0, 4.0]
        """
        return min(self.backoff_s * 2.0 ** (failures - 1), LONGEST_WAIT_S)


@dataclass(kw_only=True)
class _Case(Generic[Item]):
    """An item that was lost at least once.

    Args:
        given: the item as it came.
        now: as it is with the engine; the case keeps it alive, so that its identity is nobody else's.
        left: places of the parts that it still has.
        failures: by place, what may have passed.
        charged: by place, what a part was lost to.
    """

    given: Item
    now: Item
    left: list[int]
    failures: Counter[int] = field(default_factory=Counter)
    charged: dict[int, Failed] = field(default_factory=dict)


def seen_through(
    engine: Engine,
    work: Work[Item, Result],
    items: Iterable[Item],
    parts: Parts[Item],
    patience: Patience,
    *,
    stop: Callable[[], bool],
    cut: Callable[[], bool] = never,
    here: Work[Item, Result] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Sequence[Item], Result | None, Charges]]:
    """Yield (items, result, charges) until every item is through.

    The result is of what is left of the items, None where nothing is. To wait before another try holds up no other
    work.

    Args:
        work: see `Engine.map_chunks`, as `stop` and `cut`.
        here: the work as this process does it, for what is left of an item when that is safe; None is the same.
        clock: seconds that only go forward.
    """
    backlog = Backlog(items, clock)
    cases: dict[int, _Case[Item]] = {}
    for chunk, result in engine.map_chunks(work, backlog, timeout_s=patience.timeout_s, stop=stop, cut=cut):
        if not isinstance(result, Lost):
            known = {place: cases.pop(id(item)) for place, item in enumerate(chunk) if id(item) in cases}
            given = [known[place].given if place in known else item for place, item in enumerate(chunk)]
            yield given, result, {place: case.charged for place, case in known.items() if case.charged}
            continue
        item = chunk[0]
        case = cases.pop(id(item), None)
        if case is None:
            case = _Case(given=item, now=item, left=[*range(parts.count(item))])
        place = case.left[result.part or 0]
        case.failures[place] += 1
        if result.failed.passing and case.failures[place] <= patience.retries:
            cases[id(item)] = case
            backlog.put([item], wait_s=patience.wait_s(case.failures[place]))
            continue
        case.charged[place] = result.failed
        case.left.remove(place)
        if case.left:
            case.now = parts.only(case.given, case.left)
            if not parts.safe(case.now):
                cases[id(case.now)] = case
                backlog.put([case.now])
                continue
        rest = attempt(here or work, [case.now], unmarked) if case.left else None
        if isinstance(rest, Failed):
            case.charged.update(dict.fromkeys(case.left, rest))
        yield [case.given], None if isinstance(rest, Failed) else rest, {0: case.charged}
