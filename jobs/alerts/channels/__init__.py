"""Ways to tell somebody. Each sends one message or raises `AlertNotSent`; none knows of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.alerts.message import Channel, Secret

if TYPE_CHECKING:
    from fleet.config import ChannelSection


def made(section: ChannelSection, folder: Path, environment: Mapping[str, str]) -> Channel:
    """The channel that a section of the configuration describes.

    Args:
        folder: of fleet.toml; files in the section are beside it.
        environment: where secrets named by ``secret_env`` are looked up, when something is sent.
    """
    secret = Secret(name=section.secret_env, file=section.secret_file, folder=folder, environment=environment)
    timeout_s = section.timeout.total_seconds()
    match section.kind:
        case "log":
            from jobs.alerts.channels.log import Log

            return Log(file=None if section.file is None else folder / section.file)
        case "webhook":
            from jobs.alerts.channels.webhook import Webhook

            return Webhook(url=section.url or "", secret=secret, timeout_s=timeout_s)
        case "email":
            from jobs.alerts.channels.email import Email

            return Email(
                host=section.host or "",
                port=section.port,
                encryption=section.encryption,
                user=section.user,
                secret=secret,
                sender=section.sender or "",
                to=section.to,
                timeout_s=timeout_s,
            )
        case "command":
            from jobs.alerts.channels.command import Command

            return Command(words=section.command, folder=folder, timeout_s=timeout_s)
