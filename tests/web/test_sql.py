"""Questions in SQL: what is answered, and what comes back of attacks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.web import Settings
from jobs.web.problems import Refused
from jobs.web.sandbox import Sandbox
from tests.web.conftest import Answer, Client

ATTACKS = {
    "read a file": "select * from read_csv('/etc/passwd')",
    "read a file as text": "select * from read_text('/etc/passwd')",
    "a file as a table": "select * from '/etc/passwd'",
    "look for files": "select * from glob('/**')",
    "the store's own files": "select * from read_parquet('segments/*/*.parquet')",
    "the tokens": "select * from read_json('../fleet.store.web/tokens.json')",
    "write a file": "copy (select 1) to '/tmp/tsfleet-attack'",
    "attach": "attach '/tmp/tsfleet-attack.db'",
    "install": "install httpfs",
    "load": "load httpfs",
    "a setting": "set memory_limit = '100GB'",
    "a pragma": "pragma database_list",
    "several statements": "select 1; select 2",
    "several, hidden": "select 1; -- \n copy (select 1) to '/tmp/tsfleet-attack'",
    "a write in a with": "with x as (delete from assets returning *) select * from x",
    "a copy in a with": "with x as (copy (select 1) to '/tmp/tsfleet-attack') select * from x",
    "create": "create table t as select 1",
    "drop": "drop view assets",
    "a call": "call pragma_version()",
    "export": "export database '/tmp/tsfleet-attack'",
    "SQL out of a text": "select * from query('select 1')",
    "a raw pointer": "select * from arrow_scan(1, 2, 3)",
    "an environment": "select getenv('HOME')",
    "another's frame": "select * from request",
    "a catalog's secrets": "select * from duckdb_secrets()",
    "the catalog": "select * from sqlite_scan('catalog.sqlite', 'rows')",
}


def asked(ask: Client, sql: str, *, form: str = "", token: str | None = None) -> Answer:
    body = json.dumps({"sql": sql})
    token = token or ask.token("read")
    return ask(f"/api/v1/sql{form}", method="POST", body=body, token=token, Content_Type="application/json")


@pytest.fixture(scope="module")
def boxed(built: Path) -> Sandbox:
    return Sandbox(built / "small.store", memory=1_500_000_000, deadline_s=60, rows=1_000, waiting_s=60)


def test_a_question_is_answered_in_the_form_that_is_asked_for(ask: Client) -> None:
    found = asked(ask, "select asset_id, count(*) as n from actuals group by all order by all")
    assert found.json["rows"][0] == {"asset_id": "north-1", "n": 672}
    table = pq.read_table(io.BytesIO(asked(ask, "from range(3)", form="?format=parquet").body))
    assert table.column(0).to_pylist() == [0, 1, 2]


#: Each starts a process: some of the kinds by default, all of them among the slow tests.
FEW = ("read a file", "several, hidden", "a copy in a with", "the tokens")
SLOW = [pytest.param(name, marks=pytest.mark.slow if name not in FEW else ()) for name in ATTACKS]


@pytest.mark.parametrize("name", SLOW)
def test_what_is_more_than_a_question_is_refused(boxed: Sandbox, name: str) -> None:
    """Asked of what stands behind the route, whose answer the next test shows."""
    sql = ATTACKS[name]
    with pytest.raises(Refused) as refused:
        boxed.ask(sql, 1)
    assert refused.value.status == 400
    assert not Path("/tmp/tsfleet-attack").exists()  # noqa: S108  what the attacks would have made


def test_a_refusal_is_a_problem_that_says_why(ask: Client) -> None:
    found = asked(ask, ATTACKS["read a file"])
    assert (found.status, found.problem) == (400, "query-invalid")


def test_a_question_that_takes_too_much_memory_ends_alone(built: Path) -> None:
    small = Sandbox(built / "small.store", memory=300_000_000, deadline_s=60, rows=10, waiting_s=60)
    for bomb in (
        "select list(a.range) from range(100000000) a, range(10) b",
        "select string_agg(repeat('x', 1000000), '') from range(10000)",
    ):
        with pytest.raises(Refused) as refused:
            small.ask(bomb, 1)
        assert (refused.value.status, refused.value.kind) == (422, "memory")
    assert small.ask("select 1 as one", 1).table.to_pylist() == [{"one": 1}]


@pytest.mark.parametrize(
    "endless",
    [
        "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))",  # DuckDB's own interrupt does not end it
        pytest.param("select count(*) from range(1000000000000000) where hash(range) % 7 = 3", marks=pytest.mark.slow),
    ],
)
def test_a_question_that_does_not_end_is_ended(built: Path, endless: str) -> None:
    quick = Sandbox(built / "small.store", memory=1_500_000_000, deadline_s=3, rows=10, waiting_s=60)
    with pytest.raises(Refused) as refused:
        quick.ask(endless, 1)
    assert (refused.value.status, refused.value.kind) == (504, "deadline")


def test_an_answer_that_is_cut_says_how_much_there_was(boxed: Sandbox) -> None:
    found = boxed.ask("from range(5000)", 1)
    assert (found.table.num_rows, found.rows) == (1_000, 5_000)


def test_a_question_needs_a_token_for_all_assets_where_one_is_needed(serving: Callable[[Settings], Client]) -> None:
    ask = serving(Settings(port=0, require_token=True))
    body = json.dumps({"sql": "select 1"})
    assert ask("/api/v1/sql", method="POST", body=body, Origin=f"http://127.0.0.1:{ask.port}").status == 401
    assert asked(ask, "select 1", token=ask.token("read", assets=("north-*",))).problem == "assets-missing"
    assert ask("/sql", token=ask.token("read", assets=("north-*",))).status == 403


def test_questions_stand_in_the_audit(ask: Client) -> None:
    asked(ask, "select 42 as answer")
    lines = ask("/api/v1/audit", token=ask.token("admin")).json["rows"]
    assert any(line["act"] == "sql" and line["sql"] == "select 42 as answer" for line in lines)


def test_the_page_asks_nothing_until_somebody_presses_the_button(ask: Client) -> None:
    shown = ask("/sql?q=select+'<b>'+as+x")
    assert "select &#39;&lt;b&gt;&#39; as x" in shown.text
    assert "rows" not in shown.text.partition("</form>")[2].partition("Views")[2]
    own = {"Origin": f"http://127.0.0.1:{ask.port}"}
    found = ask("/sql", method="POST", body="q=select+'<b>'+as+x&as=", **own)
    assert "<td>&lt;b&gt;</td>" in found.text
    assert ask("/sql", method="POST", body="q=select+1+as+x&as=csv", **own).text == '"x"\n1\n'
    assert ask("/sql", method="POST", body="q=drop+view+assets&as=csv", **own).status == 400
