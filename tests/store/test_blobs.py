"""Blobs: written in packs, found by hash, read one by one, many at once, or by a process that has no store open."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from store import Store
from store.errors import Damaged, NotFound

PAYLOADS = [b"", b"a", b"model" * 1000, os.urandom(70_000)]


def stored(store: Store, payloads: list[bytes]) -> list[str]:
    transaction = store.begin()
    hashes = transaction.put_blobs(payloads)
    transaction.commit()
    return hashes


def test_many_blobs_are_those_read_one_by_one(store: Store) -> None:
    hashes = stored(store, PAYLOADS[:2]) + stored(store, PAYLOADS[2:])
    assert store.blobs(reversed(hashes)) == dict(zip(hashes, PAYLOADS, strict=True))
    assert [store.blob(digest) for digest in hashes] == PAYLOADS
    assert store.blobs([]) == {}


def test_a_blob_that_is_missing_or_damaged_costs_no_other(store: Store) -> None:
    whole, bad = stored(store, [b"whole", b"damaged"])
    (gone,) = stored(store, [b"in a pack that is gone"])
    places = store.places([whole, bad, gone])
    damage(places[bad].path, places[bad].start)
    Path(places[gone].path).unlink()
    unknown = sha256(b"never stored").hexdigest()
    assert store.blobs([bad, unknown, whole, gone]) == {whole: b"whole"}
    for digest in (bad, gone):
        with pytest.raises(Damaged):
            store.blob(digest)
    with pytest.raises(NotFound):
        store.blob(unknown)


def test_a_pack_that_was_cut_short_is_damaged(store: Store) -> None:
    (digest,) = stored(store, [b"x" * 5000])
    place = store.places([digest])[digest]
    os.truncate(place.path, place.start + 100)
    with pytest.raises(Damaged):
        place.read()


def test_another_process_reads_a_blob_by_its_place(store: Store, tmp_path: Path) -> None:
    (digest,) = stored(store, [b"what was learnt"])
    (tmp_path / "place").write_bytes(pickle.dumps(store.places([digest])[digest]))
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(open(sys.argv[1], 'rb')).read())"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "place"], capture_output=True, check=True)
    assert done.stdout == b"what was learnt"


def damage(path: str, at: int) -> None:
    with Path(path).open("r+b") as pack:
        pack.seek(at)
        byte = pack.read(1)[0]
        pack.seek(at)
        pack.write(bytes([byte ^ 1]))
