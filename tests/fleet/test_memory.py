"""How much memory a worker may take: a share of what this process has, be it a machine or a container."""

from __future__ import annotations

import os
from pathlib import Path

from fleet.engines.local.memory import LEAST, SHARE, allowance, group_limits, machine_memory


def test_workers_share_what_there_is() -> None:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine_memory() <= installed
    for workers in (1, 2, 64):
        assert allowance("auto", workers) == max(round(SHARE * machine_memory() / workers), LEAST)


def test_the_limits_of_a_container_and_of_those_around_it_count(tmp_path: Path) -> None:
    inner = tmp_path / "system.slice" / "job"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.max").write_text("9000000000\n")
    assert sorted(group_limits("0::/system.slice/job\n", tmp_path)) == [4_000_000_000, 9_000_000_000]


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "memory" / "docker" / "abc").mkdir(parents=True)
    (tmp_path / "memory" / "docker" / "abc" / "memory.limit_in_bytes").write_text("2000000000\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "memory.limit_in_bytes").write_text("1\n")
    lines = "5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/\n"
    assert [*group_limits(lines, tmp_path)] == [2_000_000_000]


def test_groups_that_cannot_be_read_limit_nothing(tmp_path: Path) -> None:
    assert [*group_limits("0::/somewhere/else\n", tmp_path)] == []
