"""``[[alerts]]`` and ``[channels.NAME]``: what is worth telling, and who is told how.

A rule opens for an asset at one bound and closes at a lower one, so that a value that wavers around a bound does not
ring twice. Secrets are named here and never stand here: an environment variable or a file holds them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from fleet.config.sections import Section
from fleet.config.values import Count, PositiveDuration, Real, Text, Texts, wrong
from fleet.errors import MetricUnknown

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
DAY = timedelta(days=1)

#: What a rule of each kind may say, beside what all may.
_OF_KIND: Mapping[str, frozenset[str]] = {
    "metric": frozenset({"metric", "window", "history", "above", "change", "closes", "least_points"}),
    "readings": frozenset({"after", "closes_after"}),
    "inputs": frozenset({"after", "closes_after", "only"}),
    "outcomes": frozenset({"verb"}),
    "jobs": frozenset({"after", "only"}),
}
_ALL = frozenset().union(*_OF_KIND.values())


class AlertSection(Section):
    """``[[alerts]]``: one rule.

    ``kind`` is what it looks at. ``metric``: live forecasts of the last ``window`` days, either ``above`` a value, or
    worse by the fraction ``change`` than in the ``history`` days before; it ``closes`` at half of that unless told.
    ``readings``: an asset without a reading for ``after``. ``inputs``: a covariate that does not reach as far as
    forecasts need it, for longer than ``after``; ``only`` names some. Both close at half of ``after``, or at
    ``closes_after``. ``outcomes``: assets whose last ``verb`` failed or fell back. ``jobs``: jobs that failed, or had
    no success for ``after``; ``only`` names some.

    ``select`` and ``where`` choose assets, ``group`` is a register column whose values are told apart, ``assets`` how
    many have to be concerned before it opens. ``channels`` are those that are told, all of them when left out; again
    every ``remind`` while nobody acknowledges.
    """

    name: Text
    kind: Literal["metric", "readings", "inputs", "outcomes", "jobs"]
    metric: Text = "mae"
    window: PositiveDuration = timedelta(days=7)
    history: PositiveDuration = timedelta(days=28)
    above: Real | None = None
    change: Real | None = None
    closes: Real | None = None
    least_points: Count = 24
    after: PositiveDuration | None = None
    closes_after: PositiveDuration | None = None
    only: Texts = ()
    verb: Literal["train", "forecast"] = "forecast"
    product: Text | None = None
    select: Texts = ()
    where: Text | None = None
    group: Text | None = None
    assets: Count = 1
    severity: Severity = "warning"
    channels: Texts | None = None
    remind: PositiveDuration | None = None

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        for key in sorted(self.model_fields_set & _ALL - _OF_KIND[self.kind]):
            kinds = " or ".join(f'"{kind}"' for kind, keys in _OF_KIND.items() if key in keys)
            raise wrong(f'{key} is of another kind of rule; accepted: with kind = {kinds}, here kind = "{self.kind}"')
        return self

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.kind == "metric":
            given = [key for key in ("above", "change") if getattr(self, key) is not None]
            if len(given) != 1:
                raise wrong(f"{' and '.join(given) or 'nothing'} says when it opens; accepted: one of above, change")
            bound = self.above if self.change is None else self.change
            assert bound is not None
            if self.change is not None and bound <= 0:
                raise wrong(f"change = {bound:g}: accepted: a fraction above 0, such as 0.3 for 30 % worse")
            if self.closes is not None and self.closes > bound:
                raise wrong(f"closes = {self.closes:g} lies beyond {given[0]} = {bound:g}; accepted: at most that")
            for key in ("window", "history"):
                if getattr(self, key) % DAY:
                    raise wrong(f'{key} counts whole days; accepted: "7d", "2w"')
        elif self.kind in ("readings", "inputs"):
            if self.after is None:
                raise wrong('after says when it opens; accepted: a length of time, such as after = "6h"')
            if self.closes_after is not None and self.closes_after > self.after:
                raise wrong("closes_after is longer than after; accepted: at most that")
        return self

    @model_validator(mode="after")
    def _a_name(self) -> Self:
        if "," in self.name or not self.name.isprintable() or self.name != self.name.strip():
            raise wrong(f'name = "{self.name}": accepted: a name without comma')
        return self

    @model_validator(mode="after")
    def _a_metric(self) -> Self:
        from fleet.metrics import parse

        try:
            metric = parse(self.metric)
        except MetricUnknown as error:
            raise wrong(f'metric = "{self.metric}": {error.message}; {error.hint}') from error
        if metric.season or metric.recipe:
            raise wrong(
                f'metric = "{self.metric}" needs a scale or a baseline; accepted: such as mae, wape, coverage_80'
            )
        return self

    @property
    def opens_at(self) -> float:
        """The bound of a metric, or of an age in hours; from where on it opens."""
        if self.kind == "metric":
            bound = self.above if self.change is None else self.change
            return 0.0 if bound is None else bound
        return 0.0 if self.after is None else self.after.total_seconds() / 3600

    @property
    def closes_at(self) -> float:
        """The bound below which it closes."""
        if self.kind == "metric":
            return self.opens_at / 2 if self.closes is None else self.closes
        return self.opens_at / 2 if self.closes_after is None else self.closes_after.total_seconds() / 3600


_OF_CHANNEL: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    # needs, may have
    "log": (frozenset(), frozenset({"file"})),
    "webhook": (frozenset({"url"}), frozenset({"secret_env", "secret_file"})),
    "email": (
        frozenset({"host", "sender", "to"}),
        frozenset({"port", "encryption", "user", "secret_env", "secret_file"}),
    ),
    "command": (frozenset({"command"}), frozenset()),
}
_EVERY = frozenset({"kind", "least", "timeout"})


class ChannelSection(Section):
    """``[channels.NAME]``: a way to tell somebody; told are alerts of the severity ``least`` or above.

    ``log`` writes a line to the program's log, or to ``file``. ``webhook`` posts JSON to ``url``, over https unless it
    is this machine, signed with the secret where there is one. ``email`` goes through ``host``, with ``encryption``
    starttls, tls or none, as ``user`` with the secret as password. ``command`` is a list of words, run without a shell,
    with the text on stdin. The secret is the value of ``secret_env`` or the first line of ``secret_file``.
    """

    kind: Literal["log", "webhook", "email", "command"]
    least: Severity = "info"
    timeout: PositiveDuration = timedelta(seconds=10)
    file: Text | None = None
    url: Text | None = None
    host: Text | None = None
    port: Count = 587
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    user: Text | None = None
    sender: Text | None = None
    to: Texts = ()
    command: tuple[Text, ...] = ()
    secret_env: Text | None = None
    secret_file: Text | None = None

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        needed, allowed = _OF_CHANNEL[self.kind]
        for key in sorted(needed):
            if not getattr(self, key):
                raise wrong(f'a channel of kind = "{self.kind}" needs {", ".join(sorted(needed))}; {key} is missing')
        for key in sorted(self.model_fields_set - needed - allowed - _EVERY):
            listed = ", ".join(sorted(_EVERY | needed | allowed))
            raise wrong(f'{key} is of another kind of channel; accepted with kind = "{self.kind}": {listed}')
        if self.secret_env is not None and self.secret_file is not None:
            raise wrong("secret_env and secret_file both say where the secret is; accepted: one of them")
        if self.user is not None and self.secret_env is None and self.secret_file is None:
            raise wrong("user needs a password; accepted: with secret_env or secret_file")
        if self.user is not None and self.encryption == "none" and not is_loopback(self.host or ""):
            raise wrong(
                'a password does not go over the network in the clear; accepted: encryption = "starttls", "tls"'
            )
        return self

    @model_validator(mode="after")
    def _an_address(self) -> Self:
        if self.url is None:
            return self
        try:
            found = urlsplit(self.url)
            _ = found.port
        except ValueError as error:
            raise wrong(f'url = "{self.url}": {error}; accepted: "https://host/path"') from error
        if found.username or found.password:
            raise wrong('a secret does not stand in an url; accepted: "https://host/path", and secret_env')
        plain = found.scheme == "http" and is_loopback(found.hostname or "")
        if not found.hostname or (found.scheme != "https" and not plain):
            raise wrong(f'url = "{self.url}": accepted: "https://host/path"; http only to this machine')
        return self


def is_loopback(host: str) -> bool:
    """Whether a host is this machine.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
