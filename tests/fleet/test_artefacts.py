"""Envelopes, signatures, the guard against other releases, and the key."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from fleet import libraries
from fleet.artefacts import CODECS, MAGIC, Header, opened, read, sealed, signed
from fleet.errors import AdapterMissing, ModelError, Unsaveable, Untrusted, VersionMismatch
from fleet.keys import Keyring
from fleet.outcome import Cause, cause_of, failure_of
from fleet.own import check_keepable, kept, restored
from fleet.pickles import readings_held
from fleet.registry import build
from store.errors import Damaged, TsfleetError
from tests.contracts.test_adapters import LEARNT_UNTIL, RECIPES, adapter_of, question

PAYLOAD = bytes(range(256))
HERE = libraries.version_of("lightgbm")
MAJOR, MINOR = libraries.release(HERE)
TEXT = Header(codec="lightgbm-text", library="lightgbm", library_version=HERE, recipe_hash="abc")
PICKLE = Header(codec="cloudpickle", library="custom", recipe_hash="abc", python=libraries.python())


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "mine" / "key")


def look(blob: bytes, keyring: Keyring, *, codec: str = "cloudpickle", trusting: bool = True, **others: Any) -> bytes:
    asked = {"codec": codec, "recipe_hash": "abc", "signed": keyring.signed, "trusting": trusting, **others}
    return opened(blob, **asked).payload


# -- envelopes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", PAYLOAD, MAGIC])
def test_what_is_sealed_comes_out_as_it_was(payload: bytes, keyring: Keyring) -> None:
    assert read(sealed(TEXT, payload)) == (TEXT, payload)
    assert look(sealed(TEXT, payload), keyring, codec="lightgbm-text", trusting=False) == payload


def test_a_blob_from_before_there_were_envelopes_is_its_payload(keyring: Keyring) -> None:
    assert look(PAYLOAD, keyring, codec="lightgbm-text", trusting=False) == PAYLOAD
    with pytest.raises(Untrusted, match="without a signature"):
        look(PAYLOAD, keyring, codec="cloudpickle")


def test_an_envelope_that_does_not_read_is_damaged(keyring: Keyring) -> None:
    whole = sealed(TEXT, PAYLOAD)
    for broken in (MAGIC, whole[: len(MAGIC) + 2], whole[:40], whole.replace(b'"codec"', b'"cedoc"')):
        with pytest.raises(Damaged):
            look(broken, keyring, codec="lightgbm-text")


@pytest.mark.parametrize("row", [{"codec": "skops"}, {"codec": "cloudpickle"}, {"recipe_hash": "abd"}])
def test_a_row_that_speaks_of_another_model_is_damaged(row: dict[str, str], keyring: Keyring) -> None:
    with pytest.raises(Damaged, match="its envelope says lightgbm-text of abc"):
        look(sealed(TEXT, PAYLOAD), keyring, **{"codec": "lightgbm-text", **row})


# -- signatures ----------------------------------------------------------------------------------------------------


def test_a_pickle_needs_its_signature_and_trust(keyring: Keyring, tmp_path: Path) -> None:
    blob = sealed(PICKLE, PAYLOAD, keyring.sign)
    assert look(blob, keyring) == PAYLOAD
    with pytest.raises(Untrusted, match="trust_pickles = true"):
        look(blob, keyring, trusting=False)
    with pytest.raises(Untrusted, match="another key than yours"):
        look(blob, Keyring(tmp_path / "theirs"))
    other = Keyring(tmp_path / "others")
    assert other.sign(b"") != ""
    with pytest.raises(Untrusted, match="another key than yours"):
        look(blob, other)
    with pytest.raises(Untrusted, match="without a signature"):
        look(sealed(PICKLE, PAYLOAD), keyring)


def test_a_signature_is_put_on_what_was_sealed_without(keyring: Keyring) -> None:
    assert signed(sealed(PICKLE, PAYLOAD), keyring.sign) == sealed(PICKLE, PAYLOAD, keyring.sign)


def test_no_bit_of_a_signed_envelope_can_change(keyring: Keyring) -> None:
    blob = sealed(PICKLE, PAYLOAD, keyring.sign)
    for place in range(len(blob)):
        for bit in range(8):
            changed = bytearray(blob)
            changed[place] ^= 1 << bit
            with pytest.raises((Untrusted, Damaged)):
                look(bytes(changed), keyring)


@pytest.mark.parametrize("name", ["codec", "library", "library_version", "recipe_hash", "python"])
def test_the_signature_speaks_of_every_field(name: str, keyring: Keyring) -> None:
    header, payload = read(sealed(PICKLE, PAYLOAD, keyring.sign))
    assert header is not None
    forged = replace(header, **{name: "source" if name == "codec" else "0"})
    with pytest.raises(Untrusted):
        look(sealed(forged, payload), keyring, codec=forged.codec, recipe_hash=forged.recipe_hash)


def test_fields_cannot_grow_into_one_another(keyring: Keyring) -> None:
    one = replace(PICKLE, library="ab", library_version="c")
    other = replace(PICKLE, library="a", library_version="bc")
    macs = [read(sealed(header, PAYLOAD, keyring.sign))[0] for header in (one, other)]
    assert macs[0] is not None
    assert macs[1] is not None
    assert macs[0].mac != macs[1].mac


# -- other releases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [f"{MAJOR}.{MINOR}.999", f"{MAJOR - 1}.99.0", "0.1", HERE])
def test_a_native_form_opens_when_it_is_no_newer(version: str, keyring: Keyring) -> None:
    blob = sealed(replace(TEXT, library_version=version), PAYLOAD)
    assert look(blob, keyring, codec="lightgbm-text") == PAYLOAD


@pytest.mark.parametrize("version", [f"{MAJOR}.{MINOR + 1}.0", f"{MAJOR + 1}.0.0"])
def test_a_native_form_of_a_newer_release_is_refused(version: str, keyring: Keyring) -> None:
    blob = sealed(replace(TEXT, library_version=version), PAYLOAD)
    with pytest.raises(VersionMismatch) as caught:
        look(blob, keyring, codec="lightgbm-text")
    assert caught.value.message == (
        f"the model was written by lightgbm {version}, and {HERE} is installed; `tsfleet train` fits it again"
    )


@pytest.mark.parametrize("codec", ["skops", "cloudpickle"])
def test_other_forms_open_with_the_release_that_wrote_them_only(codec: str, keyring: Keyring) -> None:
    header = replace(TEXT, codec=codec)

    def written_by(version: str) -> bytes:
        return sealed(replace(header, library_version=version), PAYLOAD, keyring.sign)

    assert look(written_by(f"{MAJOR}.{MINOR}.999"), keyring, codec=codec) == PAYLOAD
    for other in (f"{MAJOR - 1}.{MINOR}.0", f"{MAJOR}.{MINOR + 1}.0"):
        with pytest.raises(VersionMismatch, match=rf"lightgbm {other}, and {HERE} is installed"):
            look(written_by(other), keyring, codec=codec)


def test_a_pickle_of_another_python_is_refused(keyring: Keyring) -> None:
    with pytest.raises(VersionMismatch, match=rf"Python 3\.10, and this is Python {libraries.python()}"):
        look(sealed(replace(PICKLE, python="3.10"), PAYLOAD, keyring.sign), keyring)


def test_each_library_of_a_model_of_ones_own_is_looked_at(keyring: Keyring) -> None:
    numpy = ".".join(map(str, libraries.release(np.__version__)))
    both = replace(PICKLE, library_version=f"lightgbm {MAJOR}.{MINOR}, numpy {numpy}")
    assert look(sealed(both, PAYLOAD, keyring.sign), keyring) == PAYLOAD
    with pytest.raises(VersionMismatch, match=r"numpy 1\.2, and"):
        look(sealed(replace(PICKLE, library_version="numpy 1.2"), PAYLOAD, keyring.sign), keyring)
    gone = replace(PICKLE, library_version=f"numpy {numpy}, a-library-that-is-nowhere 1.0")
    with pytest.raises(AdapterMissing, match=r"a-library-that-is-nowhere 1\.0, which is not installed"):
        look(sealed(gone, PAYLOAD, keyring.sign), keyring)


def test_a_signature_is_looked_at_before_a_release(keyring: Keyring) -> None:
    """Who may not open a pickle is told so, whatever is installed."""
    with pytest.raises(Untrusted):
        look(sealed(replace(PICKLE, python="3.10"), PAYLOAD), keyring)


@pytest.mark.parametrize(("kind", "code"), [(VersionMismatch, "version-mismatch"), (Untrusted, "untrusted")])
def test_what_may_not_be_opened_is_the_outcome_of_a_model(kind: type[TsfleetError], code: str) -> None:
    assert issubclass(kind, ModelError)
    failed = failure_of(pickle.loads(pickle.dumps(kind("why", hint="what to do"))))  # noqa: S301  our own bytes
    assert (failed.code, failed.cause, failed.error) == (code, Cause.EXCEPTION, "why")
    assert cause_of(code) is Cause.EXCEPTION


def test_only_forms_that_run_no_code_are_trusted() -> None:
    assert {name for name, codec in CODECS.items() if codec.code} == {"cloudpickle", "source"}
    bound = {"skops", "regressor", "statsforecast-json", "cloudpickle"}
    assert {name for name, codec in CODECS.items() if not codec.lasting} == bound


# -- what a blob never holds ---------------------------------------------------------------------------------------


def unpacked(data: bytes) -> Iterator[bytes]:
    """The bytes, and what any archive inside them holds."""
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
    for place in (at.start() for at in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data)):
        with contextlib.suppress(zlib.error):
            yield from unpacked(zlib.decompressobj().decompress(data[place:]))
    for place in (at.start() for at in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), data)):
        with contextlib.suppress(OSError):
            yield from unpacked(pa.CompressedInputStream(pa.BufferReader(data[place:]), "zstd").read())


def held(blob: bytes, y: pd.Series) -> int:
    """The readings that can be found in a blob, as binary numbers in a row or anywhere as text."""
    wanted = set(y.to_list())
    found: set[float] = set()
    for part in unpacked(blob):
        if readings_held(part, y.to_numpy()):
            return len(y)
        found |= {float(number) for number in re.findall(rb"-?\d+\.\d{4,}(?:[eE][-+]?\d+)?", part)} & wanted
    return len(found)


@pytest.mark.parametrize("name", [*RECIPES])
def test_a_blob_of_an_adapter_holds_none_of_its_training_data(name: str) -> None:
    y, X, task = question(LEARNT_UNTIL, with_x=RECIPES[name].covariates)
    for plain in (y.to_numpy().tobytes(), json.dumps(y.to_list()).encode()):
        assert held(zlib.compress(plain), y) == len(y), "it would be found"
    with threadpool_limits(1):
        made = kept(adapter_of(name), adapter_of(name).fit(y, X, task), y)
    # A state after the last readings, a leaf of few, or a threshold may be one of them; a history is none of these.
    assert held(made.payload, y) <= 3
    assert made.codec == adapter_of(name).codec
    assert not CODECS[made.codec].code


def test_an_estimator_that_skops_does_not_know_is_a_pickle_unless_it_holds_what_it_saw() -> None:
    y, _, task = question(LEARNT_UNTIL)
    trees = build("sklearn", {"estimator": "lightgbm.LGBMRegressor", "params": {"n_estimators": 3, "verbose": -1}})
    fitted = trees.fit(y, None, task)
    made = kept(trees, fitted, y)
    assert made.codec == "cloudpickle"
    again = restored(trees, made.codec, made.payload)
    pd.testing.assert_frame_equal(again.predict(y, None, task), fitted.predict(y, None, task))
    neighbours = build("sklearn", {"estimator": "sklearn.neighbors.KNeighborsRegressor"})
    with pytest.raises(Unsaveable, match="holds its training data"):
        check_keepable(neighbours, neighbours.fit(y, None, task), y)


# -- the key -------------------------------------------------------------------------------------------------------


def test_a_key_is_made_on_first_need_for_its_user_alone(tmp_path: Path) -> None:
    keyring = Keyring.of_user({"XDG_CONFIG_HOME": str(tmp_path / "settings"), "HOME": "/nowhere"})
    file = tmp_path / "settings" / "tsfleet" / "key"
    assert keyring.name == ""
    assert not keyring.signed(b"x", "")
    assert not file.exists()
    signature = keyring.sign(b"x")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(file.read_bytes()) == 32
    assert [path.name for path in file.parent.iterdir()] == ["key"]
    again = Keyring(file)
    assert again.signed(b"x", signature)
    assert not again.signed(b"y", signature)
    assert again.name == keyring.name != ""


def test_where_a_key_lies() -> None:
    assert repr(Keyring.of_user({"TSFLEET_KEY_FILE": "/a/b", "XDG_CONFIG_HOME": "/c"})) == "Keyring(/a/b)"
    assert repr(Keyring.of_user({"XDG_CONFIG_HOME": "/c", "HOME": "/d"})) == "Keyring(/c/tsfleet/key)"
    assert repr(Keyring.of_user({"HOME": "/d"})) == "Keyring(/d/.config/tsfleet/key)"


def test_processes_that_come_at_once_have_one_key(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom fleet.keys import Keyring\nkeyring = Keyring(Path(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\nprint(keyring.sign(b'x'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "key")]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(4)
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    signatures = {process.communicate(timeout=60)[0] for process in crowd}
    assert len(signatures) == 1
    assert signatures != {"\n"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["key"]


def test_a_key_shows_nowhere_and_leaves_its_process_never(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "key")
    keyring.sign(b"x")
    key = (tmp_path / "key").read_bytes()
    for text in (repr(keyring), str(keyring), f"{keyring}", keyring.name, repr([keyring])):
        assert key.hex() not in text
        assert repr(key) not in text
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(keyring)


@pytest.mark.parametrize("size", [0, 31])
def test_a_key_that_is_too_short_signs_nothing(size: int, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * size)
    keyring = Keyring(tmp_path / "key")
    assert keyring.sign(b"x") == ""
    assert "shorter than 32 bytes" in keyring.trouble()
    assert (tmp_path / "key").read_bytes() == b"k" * size


def test_where_no_key_can_be_had_nothing_is_signed_and_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for keyring, reason in (
        (Keyring(None), "no home folder"),
        (Keyring(tmp_path / "file" / "key"), "cannot be made or read"),
        (Keyring(tmp_path / "a.store" / "key", tmp_path / "a.store"), "lies in the store"),
    ):
        assert keyring.sign(b"x") == ""
        assert reason in keyring.trouble()
        assert not keyring.signed(b"x", "")
        assert keyring.name == ""
    assert not (tmp_path / "a.store").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "key").chmod(0)
    assert "cannot be made or read" in Keyring(tmp_path / "key").trouble()
    assert not Keyring(tmp_path / "key").signed(b"x", "")
