"""What all sections of ``fleet.toml`` have in common: each is a frozen model whose attributes are its keys.

A key that is not there is an error; a key left out has the default that stands in its section. What one asset gets in
the end, after overrides, is in ``fleet.config.resolving``.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from fleet.config.values import Text, Texts, wrong


class Section(BaseModel):
    """A table of the file: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(Section):
    """Where a table comes from: files, a DuckDB query, or a Python function. At most one of the three."""

    path: Texts | None = None
    sql: Text | None = None
    python: Text | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("path", "sql", "python") if getattr(self, key) is not None]
        if len(given) > 1:
            raise wrong(f"{given[0]} and {given[1]} both say where the data are; accepted: one of path, sql, python")
        if self.python is not None and not all(part.strip() for part in self.python.partition(":")):
            raise wrong(f'python = "{self.python}": accepted: "module:function"')
        return self

    @property
    def given(self) -> bool:
        """Whether the section says where its data are."""
        return self.path is not None or self.sql is not None or self.python is not None
