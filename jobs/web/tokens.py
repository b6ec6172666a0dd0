"""Who may do what: tokens with scopes and assets, kept beside the store in a file that only its owner reads.

A token is shown once, when it is made; the file holds its hash. The secret has 256 random bits, so a plain hash is
enough: there is nothing to guess. A running server sees what is added and revoked, for it reads the file anew when it
has changed.
"""

from __future__ import annotations

import fnmatch
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from jobs.errors import JobsError, UsageInvalid
from store.clock import Clock
from store.files import sync_folder
from store.lock import WriterLock

Scope = Literal["read", "operate", "approve", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: What a scope gives beside itself: who may operate may read; an admin may do all.
GIVES: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "operate": frozenset({"read", "operate"}),
    "approve": frozenset({"read", "approve"}),
    "admin": frozenset(SCOPES),
}
FILE = "tokens.json"
_PREFIX = "tsf"


class TokensUnsafe(JobsError):
    """Others can read or write the file of tokens; take that away from them, or make new tokens."""

    code = "tokens-unsafe"


def web_folder(store: Path) -> Path:
    """Where a server keeps what is its own: beside the store, as a backup of the store holds no hash of a token."""
    return store.with_name(store.name + ".web")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What the file knows of a token.

    Args:
        id: names it in lists and in the audit; no secret.
        assets: globs of the assets it is for; empty is all.
        digest: SHA-256 of its secret.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    assets: tuple[str, ...]
    created_at: str
    expires_at: str | None
    digest: str

    def alive(self, now: datetime) -> bool:
        """Whether it holds at an instant."""
        return self.expires_at is None or now < datetime.fromisoformat(self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks.

    Args:
        name: of the token; "local" for whoever is on this machine without one.
        assets: globs; None is all assets.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    assets: tuple[str, ...] | None = None

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope."""
        return scope in self.scopes

    def sees(self, asset_id: str) -> bool:
        """Whether an asset is one of its own.

        >>> me = Principal(id="", name="", scopes=frozenset(), assets=("north-*",))
        >>> me.sees("north-1"), me.sees("south-1")
        (True, False)
        """
        return self.assets is None or any(fnmatch.fnmatchcase(asset_id, glob) for glob in self.assets)


NOBODY = Principal(id="", name="", scopes=frozenset(), assets=())
LOCAL = Principal(id="local", name="local", scopes=frozenset({"read"}))


class Tokens:
    """The tokens of one store; a process that runs long sees what others change.

    Args:
        folder: as :func:`web_folder` names it; made when the first token is.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._file, self._clock = folder, folder / FILE, clock
        self._seen: tuple[int, int, int] | None = None
        self._held: dict[str, Token] = {}

    def all(self) -> tuple[Token, ...]:
        """All that there are, the oldest first.

        Raises:
            TokensUnsafe: others may read or write the file.
        """
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._seen, self._held = None, {}
            return ()
        if found.st_mode & 0o077:
            raise TokensUnsafe(f"others can read or write {self._file}", hint=f"chmod 600 {self._file}")
        now = (found.st_mtime_ns, found.st_ino, found.st_size)
        if now != self._seen:
            self._held = {one.id: one for one in _read(self._file)}
            self._seen = now
        return tuple(self._held.values())

    def add(
        self, name: str, scopes: Sequence[str], *, assets: Sequence[str] = (), lasts: timedelta | None = None
    ) -> tuple[Token, str]:
        """Make a token; the text to hand out, which is not kept, comes beside it."""
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise UsageInvalid(f"scope {', '.join(unknown) or 'none'}: accepted: {', '.join(SCOPES)}")
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise UsageInvalid("a token's name has 1 to 100 printable characters")
        now, secret = self._clock.now(), secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(4),
            name=name.strip(),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            assets=tuple(assets),
            created_at=now.isoformat(),
            expires_at=None if lasts is None else (now + lasts).isoformat(),
            digest=_digest(secret),
        )
        with self._changing() as tokens:
            tokens.append(token)
        return token, f"{_PREFIX}_{token.id}_{secret}"

    def revoke(self, which: str) -> Token:
        """Take a token away, by its id, or by its name where that is unique."""
        with self._changing() as tokens:
            found = [one for one in tokens if which in (one.id, one.name)]
            if len(found) != 1:
                told = "several tokens have" if found else "no token has"
                raise UsageInvalid(f"{told} the id or name {which!r}", hint="tsfleet ui token ls shows the ids")
            tokens.remove(found[0])
        return found[0]

    def principal(self, text: str) -> Principal | None:
        """Who a token's text speaks for; None when it is no token, an old one, or a revoked one."""
        parts = text.split("_", 2)
        known = {one.id: one for one in self.all()}
        token = known.get(parts[1]) if len(parts) == 3 and parts[0] == _PREFIX else None
        # Compared in any case, so that the time taken does not tell whether there is such an id.
        same = hmac.compare_digest(_digest(parts[-1]), token.digest if token else "0" * 64)
        return self.principal_of(token.id) if token and same else None

    def principal_of(self, token_id: str) -> Principal | None:
        """Who the token of an id speaks for, as long as it holds."""
        token = next((one for one in self.all() if one.id == token_id), None)
        if token is None or not token.alive(self._clock.now()):
            return None
        scopes = frozenset[Scope]().union(*(GIVES[scope] for scope in token.scopes))
        return Principal(id=token.id, name=token.name, scopes=scopes, assets=token.assets or None)

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens as a list to change; written whole, or not at all."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lock = WriterLock(self._folder / "lock")
        try:
            with lock.held():
                tokens = list(self.all())
                yield tokens
                _write(self._file, tokens)
        finally:
            lock.close()


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _read(file: Path) -> Iterator[Token]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["tokens"]
        for row in rows:
            yield Token(**{**row, "scopes": tuple(row["scopes"]), "assets": tuple(row["assets"])})
    except (ValueError, KeyError, TypeError) as error:
        raise TokensUnsafe(f"{file} is no file of tokens", hint="delete it and make new ones") from error


def _write(file: Path, tokens: Iterable[Token]) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".tokens-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as new:
            json.dump({"tokens": [asdict(token) for token in tokens]}, new, indent=1)
            new.flush()
            os.fsync(new.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(file.parent)
