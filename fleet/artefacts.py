"""How a fitted model lies in the store: an envelope that says what wrote it, and around a pickle a signature.

An envelope is a line of magic, a header as JSON with its length before it, and the payload as the codec wrote it. The
codec decides who may open it: a native form any process whose library is not older, a pickle only who holds the key it
was signed with and said that the store is to be trusted. Blobs from before there were envelopes are payload alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from fleet import libraries
from fleet.errors import AdapterMissing, Untrusted, VersionMismatch
from store.errors import Damaged

MAGIC = b"tsfleet model 1\n"
TRAIN = "`tsfleet train` fits it again"
_SIZE = struct.Struct(">I")

Sign = Callable[[bytes], str]
Signed = Callable[[bytes, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """A form in which models are kept.

    Args:
        lasting: later releases of the library read it; else only the one that wrote it, by major and minor.
        code: opening it runs code, so it must be signed and the store trusted.
        partial: it cannot keep every model of its adapter, which is known when one is to be kept.
    """

    name: str
    lasting: bool = True
    code: bool = False
    partial: bool = False


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(name="none"),
        Codec(name="own"),
        Codec(name="lightgbm-text"),
        Codec(name="statsmodels-json"),
        Codec(name="statsforecast-json", lasting=False),
        Codec(name="regressor", lasting=False, partial=True),
        Codec(name="settings", partial=True),
        Codec(name="skops", lasting=False, partial=True),
        Codec(name="cloudpickle", lasting=False, code=True),
        Codec(name="source", code=True),
    )
}
PICKLE, SOURCE = "cloudpickle", "source"


def runs_code(codec: str) -> bool:
    """Whether opening what is kept in this form runs code, so that it takes a signature and trust.

    >>> runs_code("cloudpickle"), runs_code("lightgbm-text")
    (True, False)
    """
    return codec in CODECS and CODECS[codec].code


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an envelope says of its payload.

    Args:
        codec: the form of the payload.
        library, library_version: what fitted it, as in `runs`.
        recipe_hash: the recipe that it is of.
        python: major and minor of what pickled it; empty for other forms.
        mac: the signature over all the others and the payload; empty for what is not signed.
    """

    codec: str
    library: str = ""
    library_version: str = ""
    recipe_hash: str = ""
    python: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A payload that may be loaded, and its codec."""

    codec: str
    payload: bytes


def sealed(header: Header, payload: bytes, sign: Sign | None = None) -> bytes:
    """A payload in its envelope, signed where a key is given.

    >>> read(sealed(Header(codec="own"), b"what was learnt"))
    (Header(codec='own', library='', library_version='', recipe_hash='', python='', mac=''), b'what was learnt')
    """
    if sign is not None:
        header = replace(header, mac=sign(_covered(header, payload)))
    head = _told(header)
    return b"".join((MAGIC, _SIZE.pack(len(head)), head, payload))


@lru_cache(maxsize=256)
def _told(header: Header) -> bytes:
    """A header as text; what is not signed has the same one for all models of a recipe."""
    told = {name: value for name, value in asdict(header).items() if value}
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def signed(blob: bytes, sign: Sign) -> bytes:
    """An envelope with the signature of a key."""
    header, payload = read(blob)
    assert header is not None
    return sealed(header, payload, sign)


def read(blob: bytes) -> tuple[Header | None, bytes]:
    """What the envelope says, and the payload; nothing is checked. None and all of it where there is no envelope.

    Raises:
        Damaged: the envelope does not read.
    """
    if not blob.startswith(MAGIC):
        return None, blob
    start = len(MAGIC) + _SIZE.size
    if len(blob) < start:
        raise Damaged(f"a model of {len(blob)} bytes ends inside its envelope", hint=f"{TRAIN} with --force")
    (size,) = _SIZE.unpack_from(blob, len(MAGIC))
    return _header(blob[start : start + size]), blob[start + size :]


@lru_cache(maxsize=1024)
def _header(text: bytes) -> Header:
    """Versions of one recipe have one header but for signatures, so it is read once."""
    try:
        return Header(**{name: str(value) for name, value in json.loads(text).items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"the envelope of a model does not read: {error}", hint=f"{TRAIN} with --force") from error


def opened(
    blob: bytes,
    *,
    codec: str,
    recipe_hash: str,
    signed: Signed,
    trusting: bool,
    what: str = "the model is kept as a pickle",
) -> Opened:
    """The payload of a stored model, when it may be loaded here.

    Args:
        codec, recipe_hash: what the row of the version says.
        signed: whether a signature is the reader's.
        trusting: whether the reader trusts the store to hold pickles.
        what: the beginning of the message when it does not.

    Raises:
        Damaged: the row speaks of another model.
        Untrusted: it is a pickle, and the store is not trusted or the signature not the reader's.
        VersionMismatch: another release of the library wrote it than this one can read.
    """
    header, payload = read(blob)
    if header is None:
        header = Header(codec=codec, recipe_hash=recipe_hash)
    if (header.codec, header.recipe_hash) != (codec, recipe_hash):
        raise Damaged(
            f"the version is said to be {codec} of {recipe_hash}, its envelope says {header.codec} of "
            f"{header.recipe_hash}",
            hint="`tsfleet train --force` fits it again",
        )
    if runs_code(codec):
        check_trust(header, payload, what, signed=signed, trusting=trusting)
    if payload and (mismatch := _mismatch(replace(header, mac=""))):
        message, hint = mismatch
        raise VersionMismatch(message, hint=hint)
    return Opened(codec=codec, payload=payload)


def check_trust(header: Header, payload: bytes, what: str, *, signed: Signed, trusting: bool) -> None:
    """Refuses what would run code and is not this user's own.

    Args:
        what: the beginning of the message.
    """
    if not trusting:
        raise Untrusted(
            f"{what}, which runs only where [fleet] trust_pickles = true",
            hint="say so in fleet.toml, or Fleet.open(..., trust_pickles=True), if you trust who writes to the store",
        )
    if not header.mac:
        raise Untrusted(f"{what}, without a signature; {TRAIN}", hint="it was stored where no key could be had")
    if not signed(_covered(header, payload), header.mac):
        raise Untrusted(
            f"{what}, signed with another key than yours; {TRAIN}",
            hint="or let TSFLEET_KEY_FILE name the key of who trained it, if you trust them",
        )


def _covered(header: Header, payload: bytes) -> bytes:
    """All that a signature speaks of: each field with its length, so that none can grow into the next."""
    told = [value.encode() for name, value in asdict(header).items() if name != "mac"]
    return b"".join((MAGIC, *(_SIZE.pack(len(part)) + part for part in told), payload))


@lru_cache(maxsize=1024)
def _mismatch(header: Header) -> tuple[str, str] | None:
    """(message, hint) where what is installed cannot read what this header speaks of."""
    codec = CODECS.get(header.codec, Codec(name=header.codec))
    if header.python and header.python != libraries.python():
        return (
            f"the model was pickled by Python {header.python}, and this is Python {libraries.python()}; {TRAIN}",
            f"or run Python {header.python}",
        )
    for library, written in written_with(header):
        here = libraries.version_of(library)
        if not here:
            raise AdapterMissing(
                f"the model was written by {library} {written}, which is not installed", hint=f"pip install {library}"
            )
        old, new = libraries.release(written), libraries.release(here)
        if old > new or (old != new and not codec.lasting):
            return (
                f"the model was written by {library} {written}, and {here} is installed; {TRAIN}",
                f"or pip install '{library}=={old[0]}.{old[1]}.*'",
            )
    return None


def written_with(header: Header) -> list[tuple[str, str]]:
    """The libraries that a payload depends on, with their versions when it was written.

    >>> written_with(Header(codec="cloudpickle", library="custom", library_version="numpy 2.4, torch 2.9"))
    [('numpy', '2.4'), ('torch', '2.9')]
    """
    if header.library != "custom":
        return [(header.library, header.library_version)] if header.library and header.library_version else []
    pairs = (part.rpartition(" ") for part in header.library_version.split(", ") if part)
    return [(name, version) for name, _, version in pairs]
