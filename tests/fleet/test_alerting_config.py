"""``[[alerts]]`` and ``[channels.NAME]``: what holds, and one line for what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.config import parse
from fleet.errors import ConfigInvalid

RULE = '[[alerts]]\nname = "r"\n'
HOOK = '[channels.h]\nkind = "webhook"\n'
MAIL = '[channels.m]\nkind = "email"\nsender = "a@b"\nto = "c@d"\n'


def test_bounds_close_at_half_of_where_they_open_unless_told() -> None:
    text = (
        '[[alerts]]\nname = "a"\nkind = "metric"\nchange = 0.4\n'
        '[[alerts]]\nname = "b"\nkind = "readings"\nafter = "6h"\ncloses_after = "1h"\n'
    )
    first, second = parse(text, Path("fleet.toml")).alerts
    assert (first.opens_at, first.closes_at) == (0.4, 0.2)
    assert (second.opens_at, second.closes_at) == (6.0, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULE + 'kind = "metrc"\n', '[[alerts]] no. 1 kind = "metrc": accepted: "metric"'),
        (RULE + 'kind = "metric"\nchnage = 0.3\n', 'chnage: unknown key; did you mean "change"?'),
        (RULE + 'kind = "metric"\n', "nothing says when it opens"),
        (RULE + 'kind = "metric"\nabove = 1.0\nchange = 0.3\n', "accepted: one of above, change"),
        (RULE + 'kind = "metric"\nchange = 0.3\ncloses = 0.5\n', "closes = 0.5 lies beyond change = 0.3"),
        (RULE + 'kind = "metric"\nmetric = "wpae"\nabove = 1.0\n', "did you mean 'wape'?"),
        (RULE + 'kind = "metric"\nmetric = "mase_24"\nabove = 1.0\n', "needs a scale or a baseline"),
        (RULE + 'kind = "metric"\nabove = 1.0\nwindow = "36h"\n', "window counts whole days"),
        (RULE + 'kind = "readings"\n', "after says when it opens"),
        (RULE + 'kind = "readings"\nafter = "6h"\nchange = 0.3\n', "change is of another kind of rule; accepted: with"),
        (RULE + 'kind = "outcomes"\nchannels = "opps"\n[channels.ops]\nkind = "log"\n', 'did you mean "ops"?'),
        (RULE + 'kind = "outcomes"\nproduct = "no"\n', '[[alerts]] no. 1 product: no product "no"'),
        (RULE + 'kind = "jobs"\nonly = "scroe"\n[jobs.score]\nevery = "1h"\n', 'only: no job "scroe"; did you mean'),
        (RULE + 'kind = "jobs"\n' + RULE + 'kind = "jobs"\n', '[[alerts]] name: "r" stands twice'),
        ('[[alerts]]\nname = "a, b"\nkind = "jobs"\n', "accepted: a name without comma"),
        ('[alerts]\nname = "a"\n', "write [[alerts]]"),
        (HOOK, "needs url"),
        (HOOK + 'url = "http://example.org/"\n', "http only to this machine"),
        (HOOK + 'url = "https://me:word@example.org/"\n', "a secret does not stand in an url"),
        (HOOK + 'url = "ftp://localhost/"\n', 'accepted: "https://host/path"'),
        (HOOK + 'url = "https://example.org/"\nhost = "x"\n', "host is of another kind of channel"),
        (HOOK + 'url = "https://example.org/"\nsecret_env = "A"\nsecret_file = "b"\n', "accepted: one of them"),
        (MAIL + 'host = "mx"\nuser = "me"\n', "user needs a password"),
        (MAIL + 'host = "mx"\nuser = "me"\nsecret_env = "P"\nencryption = "none"\n', "in the clear"),
        ('[channels.c]\nkind = "command"\ncommand = []\n', "command is missing"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_right(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, Path("fleet.toml"))
    assert said in caught.value.message
    assert caught.value.message.startswith("fleet.toml: ")
    assert "\n" not in caught.value.message
