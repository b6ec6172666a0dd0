"""A command of the user's: words, never a shell; the text comes on stdin and no part of it becomes a word."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.alerts.message import Message
from jobs.errors import AlertNotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Runs a command for each message; it and what it started are killed at the deadline."""

    words: tuple[str, ...]
    folder: Path
    timeout_s: float

    def send(self, message: Message) -> None:
        facts = {
            "TSFLEET_EVENT": message.event,
            "TSFLEET_ALERT": message.alert_id,
            "TSFLEET_SEVERITY": message.severity,
        }
        try:
            process = subprocess.Popen(  # noqa: S603  words of the configuration, no shell, nothing of the message
                self.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env={**os.environ, **facts},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise AlertNotSent(f"{self.words[0]}: {getattr(error, 'strerror', None) or error}") from error
        try:
            _, told = process.communicate(message.plain_text().encode(), timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            raise AlertNotSent(f"{self.words[0]} took longer than {self.timeout_s:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
        if process.returncode != 0:
            last = told.decode(errors="replace").strip().splitlines()[-1:]
            raise AlertNotSent(
                f"{self.words[0]} ended with {process.returncode}{': ' if last else ''}{''.join(last)[:200]}"
            )
