"""The verb: everything that the configuration names, read, checked, and committed at once or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.config import FleetConfig, ForecastSection, Stamps
from fleet.config.messages import place
from fleet.ingest.actuals import Actuals
from fleet.ingest.covariates import Covariates, Links, write_links, write_series
from fleet.ingest.faults import BadRows
from fleet.ingest.forecasts import Forecasts
from fleet.ingest.masks import bring_masks
from fleet.ingest.register import Register, read, stored
from fleet.ingest.report import IngestReport, Tally, kept_aside, moment
from fleet.ingest.staged import Staged
from fleet.outcome import Progress, Show
from fleet.sources import Source, opened
from store.clock import Clock, system_clock, to_micros
from store.errors import SourceUnreadable
from store.lock import WriterLock

if TYPE_CHECKING:
    from store import Snapshot, Store

WAIT_S = 60.0


def ingest(
    store: Store,
    config: FleetConfig,
    *,
    clock: Clock = system_clock,
    source: object = None,
    forecasts: Sequence[ForecastSection] = (),
    on_progress: Show | None = None,
) -> IngestReport:
    """Bring assets, actuals, covariates and outside forecasts into the store, in one commit.

    What the store has already is left out, so a second run writes nothing. Two ingests into a store take turns.

    Args:
        source: actuals from memory instead of those that ``[data]`` names: a DataFrame, an Arrow table, several of
            them, or a function that returns one. Then the register and the covariates are left alone.
        forecasts: only these outside forecasts, of which each says where it is; all else is left alone.
        on_progress: told of the rows read.

    Raises:
        SourceUnreadable: a source is missing, empty or broken; the store is as before.
        SeriesInvalid: rows break a rule and are not kept aside, or a column is missing; the store is as before.
        StoreBusy: another ingest into the store went on too long.
    """
    lock = WriterLock(store.path / "ingest.lock", wait_s=WAIT_S)
    try:
        with lock.held():
            outside = tuple(forecasts)
            made = _Ingest(store=store, config=config, clock=clock, source=source, show=on_progress, outside=outside)
            return made.run()
    finally:
        lock.close()


@dataclass(kw_only=True)
class _Ingest:
    """One run of the verb."""

    store: Store
    config: FleetConfig
    clock: Clock
    source: object
    show: Show | None
    outside: tuple[ForecastSection, ...] = ()
    bad: list[BadRows] = field(default_factory=list)

    def run(self) -> IngestReport:
        started = self.clock.now()
        told = self.config.data.given or self.config.covariates or self.config.assets or self.config.forecasts
        if self.source is None and not (told or self.config.masks) and not self.outside:
            raise SourceUnreadable(
                f"{self.config.file.name}: [data] does not say where the actuals are",
                hint='such as path = "data/*.parquet"',
            )
        snapshot = self.store.snapshot()
        staged = Staged(self.store, "ingest")
        with ExitStack() as undo:
            undo.callback(staged.abort)
            register = self._register(snapshot)
            tally = self._actuals(snapshot, staged, register)
            notes: list[str] = []
            if self.source is None and not self.outside:
                notes += self._covariates(snapshot, staged, register)
            if self.source is None and not self.outside:
                notes += self._masks(snapshot, staged, register)
            if self.source is None:
                notes += self._forecasts(snapshot, staged, register)
            new_assets = register.write(staged)
            # Before the commit: a row kept aside is written down before the rest goes on without it.
            aside = tuple(path for bad in self.bad if (path := bad.write(self._aside_folder)) is not None)
            commit = staged.commit()
            undo.pop_all()
        return IngestReport(
            assets=tally.assets,
            new_assets=new_assets,
            rows=tally.rows,
            missing=tally.missing,
            first=moment(tally.first),
            last=moment(tally.last),
            written={} if commit is None else {table: rows for table, rows in commit.written.items() if rows},
            bad=sum(bad.total for bad in self.bad),
            aside=aside,
            findings=(*tally.findings, *(finding for bad in self.bad for finding in kept_aside(bad))),
            notes=tuple(notes),
            snapshot=None if commit is None else commit.snapshot,
            seconds=(self.clock.now() - started).total_seconds(),
        )

    @property
    def _aside_folder(self) -> Path:
        """Beside the store and not inside: what was refused is the user's to look at and to delete."""
        return self.store.path.with_name(self.store.path.name + ".aside")

    def _register(self, snapshot: Snapshot) -> Register:
        """What is known of the assets, the configured register taken over."""
        register = stored(snapshot, self.clock.now())
        if self.config.assets is not None and self.config.assets.given and self.source is None and not self.outside:
            register.bring(read(self.config.assets, self.config.folder, self.config.fleet.timezone))
        if register.assets:
            self.config.check_register(register.columns())
        return register

    def _actuals(self, snapshot: Snapshot, staged: Staged, register: Register) -> Tally:
        data = self.config.data
        if self.outside or (self.source is None and not data.given):
            return Tally()
        with opened(data, self.config.folder, section="[data]", given=self.source) as source:
            bad = self._collected(source, "[data]", data)
            reading = Actuals(
                config=self.config,
                snapshot=snapshot,
                transaction=staged,
                register=register,
                bad=bad,
                now=to_micros(self.clock.now()),
            )
            reading.bring(source, self._showing)
            if not reading.tally.rows:
                raise SourceUnreadable(f"{source.label}: holds no row", hint="is it the right file?")
            bad.refuse()
        return reading.tally

    def _covariates(self, snapshot: Snapshot, staged: Staged, register: Register) -> list[str]:
        """Bring in every ``[[covariates]]``; what the user should know."""
        links: Links = {}
        series: list[dict[str, Any]] = []
        notes: list[str] = []
        for number, section in enumerate(self.config.covariates):
            header = place(["covariates", number])
            with opened(section, self.config.folder, section=header) as source:
                bad = self._collected(source, header, section)
                reading = Covariates(
                    config=self.config,
                    section=section,
                    number=number,
                    snapshot=snapshot,
                    transaction=staged,
                    register=register,
                    bad=bad,
                    now=to_micros(self.clock.now()),
                )
                reading.bring(source)
                bad.refuse()
            found = reading.links()
            links |= found
            series += reading.series_rows()
            if not found:
                notes.append(f"{source.label}: no asset sees it")
            if section.known == "future" and section.available_at is None:
                names = ", ".join(section.columns)
                notes.append(
                    f"{source.label}: {names} without available_at: scores that use it count as perfect foresight"
                )
        write_series(snapshot, staged, series)
        write_links(snapshot, staged, links, self.clock.now())
        return notes

    def _masks(self, snapshot: Snapshot, staged: Staged, register: Register) -> list[str]:
        """Bring in every ``[[masks]]``; what the user should know."""
        notes: list[str] = []
        for number, section in enumerate(self.config.masks):
            header, zone = place(["masks", number]), self.config.fleet.timezone
            folder, now = self.config.folder, self.clock.now()
            notes += bring_masks(section, folder, snapshot, staged, register.assets, now, header, zone)
        return notes

    def _forecasts(self, snapshot: Snapshot, staged: Staged, register: Register) -> list[str]:
        """Bring in every ``[[forecasts]]``, or only those that were asked for; what the user should know."""
        notes: list[str] = []
        for number, section in enumerate(self.outside or self.config.forecasts):
            if not section.given:
                continue
            header = f"--forecasts {section.name}" if self.outside else place(["forecasts", number])
            with opened(section, self.config.folder, section=header) as source:
                bad = self._collected(source, header, section)
                reading = Forecasts(
                    config=self.config,
                    section=section,
                    snapshot=snapshot,
                    transaction=staged,
                    register=register,
                    bad=bad,
                    now=self.clock.now(),
                )
                reading.bring(source)
                bad.refuse()
            notes += reading.notes(source.label)
            if section.name not in {known.name for known in self.config.forecasts}:
                notes.append(
                    f"{source.label}: stored as {section.recipe}; to judge and promote it, name it in "
                    f'{self.config.file.name}: [[forecasts]] name = "{section.name}"'
                )
        return notes

    def _collected(self, source: Source, section: str, stamps: Stamps) -> BadRows:
        bad = BadRows(source=source, section=section, keep=stamps.on_bad == "keep_aside")
        self.bad.append(bad)
        return bad

    def _showing(self, done: int, total: int) -> None:
        if self.show is not None:
            self.show(Progress(done=done, total=total))
