"""JSON by HTTP POST, signed: the receiver knows who sent it, when, and that nobody changed it.

The header ``X-Tsfleet-Signature`` is ``sha256=`` and the HMAC of the timestamp header, a dot and the body, as hex. A
redirect is not followed: what is signed goes to the address that was configured, or nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

from jobs.alerts.message import Message, Secret
from jobs.errors import AlertNotSent

TIMESTAMP, SIGNATURE, NUMBER = "X-Tsfleet-Timestamp", "X-Tsfleet-Signature", "X-Tsfleet-Notification"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What the header says.

    >>> signature("key", "0", b"{}")[:20]
    'sha256=7314351dd949a'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Posts messages to an url."""

    url: str
    secret: Secret
    timeout_s: float

    def send(self, message: Message) -> None:
        body = message.json().encode()
        timestamp = str(int(message.at.timestamp()))
        # Header values are ASCII by the standard; the id may hold the name of a channel in any letters.
        number = hashlib.sha256(message.notification_id.encode()).hexdigest()[:32]
        headers = {"Content-Type": "application/json; charset=utf-8", TIMESTAMP: timestamp, NUMBER: number}
        secret = self.secret.read()
        if secret is not None:
            headers[SIGNATURE] = signature(secret, timestamp, body)
        found = urlsplit(self.url)
        kind = http.client.HTTPSConnection if found.scheme == "https" else http.client.HTTPConnection
        connection = kind(found.hostname or "", found.port, timeout=self.timeout_s)
        target = (found.path or "/") + (f"?{found.query}" if found.query else "")
        try:
            connection.request("POST", target, body=body, headers=headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AlertNotSent(f"{found.netloc}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise AlertNotSent(f"{found.netloc} answered {status}", hint="look at the receiver's log")
