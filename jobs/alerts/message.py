"""What a channel is given: one message about one alert; and the secret that it may need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from fleet.html import plain
from jobs.errors import AlertNotSent

Event = Literal["opened", "worse", "reminder", "closed"]
_SAID: Mapping[str, str] = {"opened": "", "worse": "worse: ", "reminder": "still: ", "closed": "closed: "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell.

    Args:
        notification_id: the same when it is sent again, so that a receiver can drop what it has.
        fleet: its name.
        examples: some of the assets, those that weigh most.
    """

    notification_id: str
    event: Event
    fleet: str
    alert_id: str
    rule: str
    cause: str
    severity: str
    text: str
    assets: int
    impact: float
    opened_at: datetime
    at: datetime
    examples: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """One line, for a subject."""
        return plain(f"[{self.fleet}] {self.severity}: {_SAID[self.event]}{self.text}", 150)

    def plain_text(self) -> str:
        """The whole, for people."""
        lines = [
            f"{_SAID[self.event]}{plain(self.text, 1000)}",
            "",
            f"fleet     {plain(self.fleet, 100)}",
            f"severity  {self.severity}",
            f"rule      {plain(self.rule, 200)}",
            f"assets    {self.assets}",
            f"impact    {self.impact:.4g}",
            f"opened    {self.opened_at:%Y-%m-%d %H:%M} UTC",
            f"alert     {self.alert_id}",
        ]
        if self.examples:
            lines += ["", "the gravest: " + ", ".join(plain(one, 100) for one in self.examples)]
        lines += ["", f"tsfleet alerts ack {self.alert_id}"] if self.event != "closed" else []
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """The whole, for programs; instants are ISO 8601 with Z."""
        names = ("notification_id", "event", "fleet", "alert_id", "rule", "cause", "severity", "text", "assets")
        told = {name: getattr(self, name) for name in names}
        told |= {"impact": self.impact, "opened_at": _instant(self.opened_at), "at": _instant(self.at)}
        return json.dumps({**told, "examples": list(self.examples)}, ensure_ascii=False, allow_nan=False)


def _instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


class Channel(Protocol):
    """Tells somebody."""

    def send(self, message: Message) -> None:
        """Sends one message.

        Raises:
            AlertNotSent: it did not arrive, or that is not known; sending it again is right.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret is; it is read when it is needed, and is in no message, error or repr."""

    name: str | None
    file: str | None
    folder: Path
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Secret({self.name or self.file or 'none'})"

    def read(self) -> str | None:
        """The secret; None where none is configured.

        Raises:
            AlertNotSent: the variable is not set, or the file cannot be read.
        """
        if self.name is not None:
            found = self.environment.get(self.name)
            if not found:
                raise AlertNotSent(f"the environment has no {self.name}", hint="set it where the job runs")
            return found
        if self.file is None:
            return None
        path = self.folder / self.file
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AlertNotSent(f"{path}: the secret cannot be read: {type(error).__name__}") from error
        if not lines or not lines[0].strip():
            raise AlertNotSent(f"{path}: the secret is empty", hint="it is the first line of the file")
        return lines[0].strip()
