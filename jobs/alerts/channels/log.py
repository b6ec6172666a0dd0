"""The log of the program, or a file of one line a message."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from jobs.alerts.message import Message
from jobs.errors import AlertNotSent

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}
logger = logging.getLogger("tsfleet.alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Writes messages down; `file` gets JSON lines, without one they go to the logger ``tsfleet.alerts``."""

    file: Path | None

    def send(self, message: Message) -> None:
        if self.file is None:
            logger.log(LEVELS.get(message.severity, logging.WARNING), "%s", message.title)
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(message.json() + "\n")
        except OSError as error:
            raise AlertNotSent(f"{self.file}: {error.strerror}", hint="look at the folder and the disk") from error
