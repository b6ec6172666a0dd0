"""E-mail by SMTP, encrypted unless the host is this machine and says otherwise."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from jobs.alerts.message import Message, Secret
from jobs.errors import AlertNotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Sends messages as plain text."""

    host: str
    port: int
    encryption: Literal["starttls", "tls", "none"]
    user: str | None
    secret: Secret
    sender: str
    to: tuple[str, ...]
    timeout_s: float

    def send(self, message: Message) -> None:
        password = self.secret.read() if self.user is not None else None
        try:
            with self._connected() as server:
                if self.user is not None and password is not None:
                    server.login(self.user, password)
                refused = server.send_message(self.mail(message), self.sender, list(self.to))
        except smtplib.SMTPAuthenticationError as error:
            # What the server answers may repeat what it was sent.
            raise AlertNotSent(f"{self.host}: {self.user} was not let in ({error.smtp_code})") from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise AlertNotSent(f"{self.host}: {type(error).__name__}: {error}") from error
        if refused:
            raise AlertNotSent(f"{self.host} refused {', '.join(refused)}", hint="mend the address")

    def _connected(self) -> smtplib.SMTP:
        if self.encryption == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=ssl.create_default_context())
        server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        if self.encryption == "starttls":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server

    def mail(self, message: Message) -> EmailMessage:
        """The mail; its id is that of the notification, so that one sent twice shows as one."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.title, self.sender, ", ".join(self.to)
        mail["Date"] = format_datetime(message.at)
        number = hashlib.sha256(message.notification_id.encode()).hexdigest()[:32]
        mail["Message-ID"] = f"<{number}@tsfleet.invalid>"
        mail.set_content(message.plain_text())
        return mail
