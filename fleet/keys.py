"""The key of this user, which signs what only this user may have stored: pickles and the source of models.

It lies outside the store, so that who can write to a store cannot sign for its readers. It is read, or made, when it is
first needed, stays inside the keyring, and goes to no worker, log or message.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from store.files import sync_folder

KEY_BYTES = 32


class Keyring:
    """Signs and compares with one key.

    Args:
        file: where the key lies; None where there is no place for one.
        store: the folder that it must lie outside of.
    """

    def __init__(self, file: Path | None, store: Path | None = None) -> None:
        self._file, self._store = file, store
        self._key: bytes | None = None

    @classmethod
    def of_user(cls, environment: Mapping[str, str], store: Path | None = None) -> Keyring:
        """The keyring of who runs this process: TSFLEET_KEY_FILE, or ``tsfleet/key`` in the folder of settings.

        >>> Keyring.of_user({"XDG_CONFIG_HOME": "/settings"})
        Keyring(/settings/tsfleet/key)
        """
        if named := environment.get("TSFLEET_KEY_FILE"):
            return cls(Path(named), store)
        if settings := environment.get("XDG_CONFIG_HOME"):
            return cls(Path(settings, "tsfleet", "key"), store)
        home = environment.get("HOME")
        return cls(Path(home, ".config", "tsfleet", "key") if home else None, store)

    def __repr__(self) -> str:
        return f"Keyring({self._file})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring stays in its process")

    @property
    def name(self) -> str:
        """A few digits that tell one key from another and nothing else; empty while there is none."""
        key = self._found()
        return "" if key is None else _mac(key, b"name of this key")[:8]

    def sign(self, data: bytes) -> str:
        """The signature of some bytes, made with a new key where there is none yet; empty where none can be had."""
        if not self.trouble():
            assert self._key is not None
            return _mac(self._key, data)
        return ""

    def signed(self, data: bytes, signature: str) -> bool:
        """Whether a signature is this key's, of these bytes."""
        key = self._found()
        return key is not None and hmac.compare_digest(_mac(key, data).encode(), signature.encode())

    def trouble(self) -> str:
        """Why nothing can be signed; empty where it can, after a key was made if there was none."""
        if self._key is not None:
            return ""
        if self._file is None:
            return "this user has no home folder; TSFLEET_KEY_FILE names a place for the key"
        if self._inside():
            return f"the key {self._file} lies in the store, whose readers it protects; move it"
        try:
            if not self._file.exists():
                _make(self._file)
            self._read()
        except OSError as error:
            return f"the key {self._file} cannot be made or read: {error.strerror}"
        return "" if self._found() else f"the key {self._file} is shorter than {KEY_BYTES} bytes"

    def _found(self) -> bytes | None:
        """The key, if there is one that may be used; none is made."""
        if self._key is None and not self._inside():
            with suppress(OSError):
                self._read()
        return self._key

    def _read(self) -> None:
        if self._file is not None:
            key = self._file.read_bytes()
            self._key = key if len(key) >= KEY_BYTES else None

    def _inside(self) -> bool:
        if self._file is None or self._store is None:
            return False
        return self._file.resolve().is_relative_to(self._store.resolve())


def _mac(key: bytes, data: bytes) -> str:
    return hmac.new(key, data, sha256).hexdigest()


def _make(file: Path) -> None:
    """Make a key unless another process is faster: it appears whole or not at all, and never replaces one."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".key-")
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(os.urandom(KEY_BYTES))
            new.flush()
            os.fsync(new.fileno())
        os.link(temporary, file)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
    sync_folder(file.parent)
