"""Channels against real servers on loopback and real processes: what arrives, and what a failure leaves."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import select
import socketserver
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fleet.config import ChannelSection
from jobs.alerts.channels import made
from jobs.alerts.message import Channel, Message
from jobs.errors import AlertNotSent
from tests.jobs.watched import NOW, Watched

MESSAGE = Message(
    notification_id="01a/opened/ops", event="opened", fleet="campus", alert_id="01a", rule="weather",
    cause="inputs of north", severity="critical", text="feed north late: 41 assets\r\nBcc: all@example.org",
    assets=41, impact=12.5, opened_at=datetime(2024, 6, 10, tzinfo=UTC), at=datetime(2024, 6, 10, 1, tzinfo=UTC),
    examples=("plant-é", "<b>"),
)  # fmt: skip


KEY, FILE = {"secret_env": "KEY"}, {"secret_file": "key"}


class Receiver(HTTPServer):
    """Keeps what is posted; answers with the next of its statuses, the last one for ever."""

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses, self.got = list(statuses), list[tuple[str, dict[str, str], bytes]]()
        super().__init__(("127.0.0.1", 0), _Posted)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?team=ops"


class _Posted(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers.items()), body))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the standard library calls it
        pass


class Post(socketserver.ThreadingTCPServer):
    """A mail server in forty lines: takes any mail, refuses addresses that begin with ``no``."""

    daemon_threads = True

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], str]] = []
        super().__init__(("127.0.0.1", 0), _Line)


class _Line(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        sender, to, lines = "", list[str](), list[str]()
        self._say("220 ready")
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            word = line.upper().partition(" ")[0]
            if word in ("EHLO", "HELO"):
                self._say("250-here", "250 AUTH PLAIN")
            elif word == "AUTH":
                self._say("535 not with that password")
            elif line.upper().startswith("MAIL FROM:"):
                sender = line[10:].split()[0]
                self._say("250 ok")
            elif line.upper().startswith("RCPT TO:"):
                refused = line[8:].strip().startswith("<no")
                to += [] if refused else [line[8:].strip()]
                self._say("550 nobody" if refused else "250 ok")
            elif word == "DATA":
                self._say("354 go on")
                for part in self.rfile:
                    if part == b".\r\n":
                        break
                    lines.append(part.decode())
                self.server.mails.append((sender, to, "".join(lines)))
                self._say("250 taken")
            elif word == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def channel(folder: Path, environment: dict[str, str] | None = None, **keys: object) -> Channel:
    return made(ChannelSection.model_validate(keys), folder, environment or {})


def test_a_webhook_is_json_that_its_receiver_can_check(tmp_path: Path) -> None:
    with running(receiver := Receiver([204])):
        channel(tmp_path, {"KEY": "s3cret"}, kind="webhook", url=receiver.url, **KEY).send(MESSAGE)
    ((path, headers, body),) = receiver.got
    assert path == "/hook?team=ops"
    told = json.loads(body)
    assert (told["event"], told["assets"], told["examples"]) == ("opened", 41, ["plant-é", "<b>"])
    assert told["opened_at"] == "2024-06-10T00:00:00Z"
    signed = headers["X-Tsfleet-Timestamp"].encode() + b"." + body
    assert headers["X-Tsfleet-Signature"] == "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


def test_a_webhook_without_a_secret_is_not_signed(tmp_path: Path) -> None:
    with running(receiver := Receiver([200])):
        channel(tmp_path, kind="webhook", url=receiver.url).send(MESSAGE)
    assert "X-Tsfleet-Signature" not in receiver.got[0][1]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_an_answer_that_is_no_success_is_a_failure_and_no_redirect_is_followed(tmp_path: Path, status: int) -> None:
    with running(receiver := Receiver([status])), pytest.raises(AlertNotSent, match=str(status)):
        channel(tmp_path, kind="webhook", url=receiver.url).send(MESSAGE)


def test_an_address_where_nobody_listens_is_a_failure(tmp_path: Path) -> None:
    with running(receiver := Receiver([200])):
        url = receiver.url
    with pytest.raises(AlertNotSent):
        channel(tmp_path, kind="webhook", url=url).send(MESSAGE)


def test_a_secret_that_is_missing_is_told_by_its_name_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n", encoding="utf-8")
    url = "http://127.0.0.1:9/"
    with pytest.raises(AlertNotSent, match="no KEY"):
        channel(tmp_path, kind="webhook", url=url, **KEY).send(MESSAGE)
    with pytest.raises(AlertNotSent, match="empty"):
        channel(tmp_path, kind="webhook", url=url, **FILE).send(MESSAGE)
    held = channel(tmp_path, {"KEY": "s3cret"}, kind="webhook", url=url, **KEY)
    with pytest.raises(AlertNotSent) as caught:
        held.send(MESSAGE)
    assert "s3cret" not in f"{held!r} {caught.value} {caught.value.hint}"


def test_a_mail_arrives_with_one_subject_line_whatever_the_text_holds(tmp_path: Path) -> None:
    with running(post := Post()):
        channel(
            tmp_path, kind="email", host="127.0.0.1", port=post.server_address[1], encryption="none",
            sender="fleet@example.org", to=["a@example.org", "b@example.org"],
        ).send(MESSAGE)  # fmt: skip
    ((sender, to, text),) = post.mails
    assert sender == "<fleet@example.org>"
    assert to == ["<a@example.org>", "<b@example.org>"]
    head, _, _ = text.partition("\r\n\r\n")
    names = [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith(" ")]
    assert names.count("Subject") == 1
    assert "Bcc" not in names


def test_a_mail_that_one_address_refuses_or_whose_password_is_wrong_is_a_failure(tmp_path: Path) -> None:
    with running(post := Post()):
        keys = {"kind": "email", "host": "127.0.0.1", "port": post.server_address[1], "encryption": "none"}
        people = {"sender": "f@example.org", "to": ["a@example.org", "no@example.org"]}
        with pytest.raises(AlertNotSent, match="refused"):
            channel(tmp_path, **keys, **people).send(MESSAGE)
        with pytest.raises(AlertNotSent) as caught:
            channel(tmp_path, {"KEY": "s3cret"}, **keys, **people, user="me", **KEY).send(MESSAGE)
        assert "s3cret" not in str(caught.value)
        with pytest.raises(AlertNotSent):
            channel(tmp_path, **{**keys, "encryption": "starttls"}, **people).send(MESSAGE)


def test_a_command_gets_the_text_on_stdin_and_no_shell_reads_it(tmp_path: Path) -> None:
    script = "import os, sys; open('out', 'w').write(os.environ['TSFLEET_EVENT'] + ' ' + sys.stdin.read())"
    channel(tmp_path, kind="command", command=[sys.executable, "-c", script]).send(MESSAGE)
    told = (tmp_path / "out").read_text(encoding="utf-8")
    assert told.startswith("opened feed north late: 41 assets Bcc: all@example.org\n")
    channel(tmp_path, kind="command", command=["touch", "$(touch pwned)"]).send(MESSAGE)
    assert not (tmp_path / "pwned").exists()


def test_a_command_that_fails_is_told_and_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(AlertNotSent, match="ended with 3: no luck"):
        channel(tmp_path, kind="command", command=["sh", "-c", "echo no luck >&2; exit 3"]).send(MESSAGE)
    with pytest.raises(AlertNotSent):
        channel(tmp_path, kind="command", command=["no-such-command-anywhere"]).send(MESSAGE)
    hang = ["sh", "-c", "sleep 1000 & echo $! > child; wait"]
    with pytest.raises(AlertNotSent, match="longer than 1 s"):
        channel(tmp_path, kind="command", command=hang, timeout="1s").send(MESSAGE)
    with suppress(ProcessLookupError):  # it is gone already
        child = os.pidfd_open(int((tmp_path / "child").read_text(encoding="utf-8")))
        ended, _, _ = select.select([child], [], [], 60.0)
        os.close(child)
        assert ended


def test_the_log_gets_a_line_of_the_right_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tsfleet.alerts"):
        channel(tmp_path, kind="log").send(MESSAGE)
    assert caplog.record_tuples[0][1] == logging.CRITICAL
    assert "\n" not in caplog.messages[0]


RULE = """
[[alerts]]
name = "failing"
kind = "outcomes"
"""


def test_a_channel_that_fails_stops_nothing_and_is_tried_again(tmp_path: Path) -> None:
    with running(receiver := Receiver([503, 503, 200])):
        hook = f'[channels.hook]\nkind = "webhook"\nurl = "{receiver.url}"\n'
        book = '[channels.book]\nkind = "log"\nfile = "told.jsonl"\n'
        world = Watched(tmp_path, RULE + hook + book)
        world.outcomes({"a": ("failed", "timeout"), "b": ("failed", "memory")})
        first = world.run()
        assert first.status == "ok"
        assert any("503" in note for note in first.notes)
        assert len(receiver.got) == 1  # left alone for the rest of the run
        states = world.rows("select channel, status, count(*) as n from notifications group by all order by all")
        assert [(row["channel"], row["status"], row["n"]) for row in states] == [
            ("book", "sent", 2),
            ("hook", "failed", 1),
            ("hook", "waiting", 1),
        ]
        world.run(NOW + timedelta(hours=1))
        world.run(NOW + timedelta(hours=2))
        world.run(NOW + timedelta(hours=3))
    assert {row["status"] for row in world.rows("select status from notifications")} == {"sent"}
    told = [json.loads(body)["notification_id"] for _, _, body in receiver.got]
    assert len(told) == 4
    assert len(set(told)) == 2
    assert len((tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_what_nobody_was_told_of_and_is_over_is_not_told_any_more(tmp_path: Path) -> None:
    with running(receiver := Receiver([503])):
        world = Watched(tmp_path, RULE + f'[channels.hook]\nkind = "webhook"\nurl = "{receiver.url}"\n')
        world.outcomes({"a": ("failed", "timeout")})
        world.run()
        world.clock.set(NOW + timedelta(hours=1))
        world.outcomes({"a": ("ok", None)})
        receiver.statuses = [200]
        world.run()
    assert len(receiver.got) == 1
    assert [row["status"] for row in world.rows("select status from notifications order by all")] == ["dropped"]


def test_a_rule_tells_its_own_channels_and_a_channel_what_is_grave_enough(tmp_path: Path) -> None:
    rules = """
    [[alerts]]
    name = "failing"
    kind = "outcomes"
    channels = ["one", "grave"]
    [channels.one]
    kind = "log"
    file = "one"
    [channels.other]
    kind = "log"
    file = "other"
    [channels.grave]
    kind = "log"
    file = "grave"
    least = "critical"
    """
    world = Watched(tmp_path, rules)
    world.outcomes({"a": ("failed", "timeout")})
    world.run()
    assert [name for name in ("one", "other", "grave") if (tmp_path / name).exists()] == ["one"]
