"""The command `tsfleet`: which commands there are, and what becomes of an error.

Commands import what is heavy inside their functions, so that help and usage errors come at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

from cyclopts import App, CycloptsError, Group

from jobs.cli import adjust, alerts, begin, deliver, demo, jobs, look, stored, ui, work
from jobs.cli.console import LOST, OutputLost, close_output, open_streams, say, say_error
from jobs.cli.exits import Exit, exit_of
from jobs.cli.options import BEGIN, LOOK, WORK
from jobs.cli.reports import INTERRUPTED
from store.errors import TsfleetError


def _version() -> str:
    from importlib.metadata import version

    return f"tsfleet {version('tsfleet')}"


app = App(
    name="tsfleet",
    help="Train, judge, promote, forecast and score a fleet of time-series models.\n\n"
    "A fleet is a folder with a fleet.toml. New here: `tsfleet demo`. Your own data: `tsfleet init`, then `ingest`, "
    "`train`, `forecast`, `score`, `leaderboard`.",
    help_format="markdown",
    version=_version,
    suppress_keyboard_interrupt=False,
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
)
_COMMANDS: dict[Group, tuple[Callable[..., int], ...]] = {
    BEGIN: (demo.demo, begin.init, begin.doctor),
    WORK: (work.ingest, work.backtest, work.train, work.forecast, work.score, work.promote, work.rollback),
    LOOK: (look.leaderboard, look.worst, look.status, look.runs, look.sql),
}
for group, commands in _COMMANDS.items():
    for place, command in enumerate(commands):
        app.command(command, group=group, sort_key=place)
app.command(begin.config)
app.command(adjust.adjust)
app.command(deliver.deliver)
app.command(stored.store)
app.command(jobs.jobs)
app.command(alerts.alerts)
app.command(ui.ui)


def main() -> None:
    """The console script: runs the command line and exits with its code."""
    sys.excepthook = _bug
    open_streams()
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Runs one command line in this process and gives its exit code; an error that nobody foresaw goes through."""
    try:
        return _done(words)
    except CycloptsError as error:
        say_error(
            str(error),
            hint=" ".join(["tsfleet", *error.command_chain, "--help"]) if error.command_chain else "tsfleet --help",
        )
        return Exit.USAGE
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output (head, less) has seen enough, which Rich turns into SystemExit(1). Nothing is wrong,
        # and Python shall not complain again when it closes stdout. Any other exit is somebody's own and stays one.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        close_output()
        return Exit.OK
    except (TsfleetError, PermissionError, KeyboardInterrupt, OutputLost) as error:
        if "--debug" in words:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            say(INTERRUPTED)
        else:
            say_error(str(error), hint=getattr(error, "hint", ""))
        return exit_of(error)


def _done(words: Sequence[str]) -> int:
    """The exit code of a command line whose output is out, or was lost."""
    try:
        code = int(app(list(words)) or Exit.OK)
        sys.stdout.flush()
        return code
    except OSError as error:
        if error.errno not in LOST or error.filename is not None:
            raise
        close_output()
        raise OutputLost(error) from error


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error that nobody foresaw ends as one line and exit code 70; with --debug also as a traceback."""
    if "--debug" in sys.argv:
        traceback.print_exception(kind, error, trace)
    say_error(f"{kind.__name__}: {error}", hint="this is a bug in tsfleet; the same command with --debug shows where")
    raise SystemExit(Exit.BUG)
