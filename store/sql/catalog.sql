-- The catalog of a store, format 1. Instants are microseconds since 1970, UTC. Hot rows live in one table per logical table
-- (hot_<name>, made from store/schema.py), whose primary key is (snapshot << 20) | place, so that it carries _v.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE snapshots (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, note TEXT NOT NULL DEFAULT '');

CREATE TABLE commits (
    key BLOB PRIMARY KEY, payload BLOB NOT NULL, snapshot INTEGER NOT NULL, answer TEXT NOT NULL
) WITHOUT ROWID;

-- v: the commit of a level-0 segment, whose rows do not hold _v; NULL where the rows hold it themselves.
CREATE TABLE segments (
    id        TEXT PRIMARY KEY,
    tbl       TEXT NOT NULL,
    level     INTEGER NOT NULL,
    v         INTEGER,
    min_v     INTEGER NOT NULL,
    max_v     INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    sha256    TEXT NOT NULL,
    columns   TEXT NOT NULL,
    min_asset TEXT,
    max_asset TEXT,
    min_time  INTEGER,
    max_time  INTEGER
) WITHOUT ROWID;

CREATE TABLE packs (id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, v INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY,
    pack   TEXT NOT NULL,
    start  INTEGER NOT NULL,
    length INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE champions (
    asset_id TEXT NOT NULL, product TEXT NOT NULL, version_id TEXT, PRIMARY KEY (asset_id, product)
) WITHOUT ROWID;

-- Watermarks of upper floors, committed together with the rows they speak of.
CREATE TABLE marks (name TEXT NOT NULL, v INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name, v)) WITHOUT ROWID;

CREATE TABLE dynamic_columns (tbl TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (tbl, name)) WITHOUT ROWID;

-- Files that no question will be planned over any more. generation is the sum of tables.files just after they went: a
-- reader whose plan has seen at least so many changes does not stand on them.
CREATE TABLE retired (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, tbl TEXT NOT NULL, at INTEGER NOT NULL, generation INTEGER NOT NULL
) WITHOUT ROWID;

-- hot: rows now in hot_<name>, the oldest of them committed at since; rewritten moves when hot rows leave or get a column,
-- files when segments change; touched is the newest commit that wrote the table.
CREATE TABLE tables (
    name      TEXT PRIMARY KEY,
    hot       INTEGER NOT NULL DEFAULT 0,
    rewritten INTEGER NOT NULL DEFAULT 0,
    files     INTEGER NOT NULL DEFAULT 0,
    touched   INTEGER NOT NULL DEFAULT 0,
    since     INTEGER
) WITHOUT ROWID;

-- Digests, for SQLite's pages have no checksums: of each batch of hot rows, whose first primary key is n, and over all rows
-- of each other table (see store/catalog/sums.py).
CREATE TABLE hot_batches (
    tbl TEXT NOT NULL, n INTEGER NOT NULL, rows INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (tbl, n)
) WITHOUT ROWID;

CREATE TABLE sums (tbl TEXT PRIMARY KEY, sum INTEGER NOT NULL) WITHOUT ROWID;
