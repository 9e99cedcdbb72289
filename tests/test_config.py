"""The configuration: what is refused and how it is said, and that the documents tell the truth."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import config, toml
from botmilter.config.tables import Budget
from botmilter.errors import ConfigError
from botmilter.signals import DEFAULT_WEIGHTS

ROOT = Path(__file__).parent.parent


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What loading *text* complains of."""
    path = tmp_path / "botmilter.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.exit_code == 78
    return list(caught.value.problems)


def test_without_a_file_the_defaults_hold() -> None:
    settings = config.load()
    assert settings.budget.per_mail_s == 5.0
    assert settings.weights == DEFAULT_WEIGHTS
    assert not settings.trust.is_configured


def test_what_a_file_sets_is_set_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[trust]\nnetworks = ["192.0.2.0/24", "2001:db8::1"]\nown_names = ["MX.Example.org."]\n'
        "[weights.os]\nclient = 4\n[budget]\nper_mail_s = 3\n"
    )
    settings = config.load(path)
    assert settings.trust.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1"))
    assert settings.trust.own_names == ("mx.example.org",)
    assert settings.weights == {**DEFAULT_WEIGHTS, "os.client": 4.0}
    assert settings.budget == Budget(per_mail_s=3.0)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:198.51.100.0/120", "198.51.100.0/24"),
        ("::ffff:c633:6407", "198.51.100.7"),
        ("::/0", "::/0"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_ipv4_in_ipv6_is_the_ipv4_network(text: str, network: str) -> None:
    settings = config.load(None, (f"probe.never_networks = ['{text}']",))
    assert settings.probe.never_networks == (ip_network(network),)


def test_all_problems_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    text = """
[budget]
per_mail = 3
under_load_s = "soon"
[trust]
networks = ["10.0.0.0/8", "192.0.2.1/24"]
"""
    assert problems(tmp_path, text) == [
        "line 3: [budget] per_mail: unknown key (did you mean per_mail_s?)",
        'line 4: [budget] under_load_s: expected a number, got "soon"',
        (
            "line 6: [trust] networks, item 2: expected a network such as 192.0.2.0/24 or"
            ' 2001:db8::/32 (did you mean 192.0.2.0/24?), got "192.0.2.1/24"'
        ),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("stroe.kind = 'sqlite'", "line 1: [stroe]: unknown key (did you mean store?)"),
        ("budget = 3", "line 1: [budget]: expected a table"),
        ("budget.per_mail_s = 0", "expected a number greater than 0, got 0"),
        ("budget.per_mail_s = nan", "expected a finite number"),
        ("budget.per_mail_s = true", "expected a number, got true"),
        ("budget.per_mail_s = '5'", 'expected a number, got "5"'),
        ("budget.per_mail_s = 0.5", "under_load_s no longer than per_mail_s"),
        ("milter.start = 'begin'", "expected 'connect', 'data' or 'headers', got \"begin\""),
        ("milter.workers = true", 'expected "auto" or a whole number from 1 to 256, got true'),
        ("milter.workers = 0", 'expected "auto" or a whole number from 1 to 256, got 0'),
        ("milter.socket = '/run/x'", "expected unix:/PATH, inet:PORT@HOST or inet6:PORT@HOST"),
        ("milter.socket = 'inet:70000@127.0.0.1'", "PORT from 1 to 65535"),
        ("milter.socket_mode = '999'", "expected an octal mode"),
        ("milter.socket_mode = 660", "expected text in quotes, got 660"),
        ("trust.networks = '10.0.0.0/8'", "expected a list, in brackets"),
        ("trust.networks = ['10.1/16']", "(did you mean 10.1.0.0/16?)"),
        ("trust.networks = ['10.']", "(did you mean 10.0.0.0/8?)"),
        ("trust.networks = [7]", "expected a network such as 192.0.2.0/24 or 2001:db8::/32, got 7"),
        ("trust.networks = ['here']", '2001:db8::/32, got "here"'),
        ("trust.networks = ['0.0.0.0/0']", "relays, /8 or smaller"),
        ("trust.networks = ['::ffff:0.0.0.0/96']", "relays, /8 or smaller"),
        ("trust.networks = ['::/0']", "relays, /7 or smaller"),
        ("probe.never_networks = ['::fffe:0:0/95']", "a network of IPv4 or of IPv6 alone"),
        ("probe.never_networks = ['::/64']", "a network of IPv4 or of IPv6 alone"),
        ("trust.own_names = ['*.example.org']", 'or ".example.org" for all names below'),
        ("trust.own_names = ['']", 'expected a host name such as "mx.example.org"'),
        ("trust.own_names = ['.']", 'expected a host name such as "mx.example.org"'),
        ("trust.own_relays = 1.5", "expected a whole number"),
        ("action.bot = 'drop'", "expected 'tag', 'quarantine', 'tempfail', 'reject' or 'discard'"),
        ("action.unknown = 'reject'", "expected 'tag' or 'tempfail', got \"reject\""),
        ("action.exempt = 'reject'", "exempt: unknown key"),
        ("action.min_reasons = 0", "expected a number of at least 1"),
        ("action.reject_reply = 'no'", 'expected "550 5.7.1 TEXT"'),
        ("action.reject_reply = '450 4.7.1 no'", 'expected "550 5.7.1 TEXT"'),
        ("action.reject_reply = '550 4.7.1 no'", 'expected "550 5.7.1 TEXT"'),
        ('action.reject_reply = "550 5.7.1 a\\r\\nb"', "printable ASCII"),
        ("action.reject_reply = '550 5.7.1 100 %'", "printable ASCII without %"),
        ("action.reject_reply = '550 5.7.1 {helo}'", "{ip} stands for the address"),
        ("action.tempfail_reply = '421 4.7.1 no'", 'expected "451 4.7.1 TEXT"'),
        ("probe.nameservers = ['dns']", "expected an address such as 192.0.2.53"),
        ("probe.smtp.enabled = 1", "[probe.smtp] enabled: expected true or false, got 1"),
        ("probe.smpt.enabled = true", "[probe] smpt: unknown key (did you mean smtp?)"),
        ("[[probe.dnsbl.zones]]", "[probe.dnsbl.zones] name, item 1: expected this key"),
        ("weights.os.cleint = 1", "[weights.os] cleint: expected the name of a signal (did you"),
        ("weights.os.client = 'x'", '[weights.os] client: expected a number, got "x"'),
        ("weights.os = 3", "[weights] os: expected the name of a signal"),
        ("weights = 3", "line 1: [weights]: expected a table"),
        ("store.accuses_minutes = 61", "expected a number of at most 60, got 61"),
        ("store.lifetimes.smpt = {}", "expected the name of a probe (did you mean smtp?)"),
        ("store.lifetimes = { smtp = { accuses_minutes = 61 } }", "line 1: [store.lifetimes.smtp]"),
        ("store.lifetimes = { smtp = { days = 3 } }", "[store.lifetimes.smtp] days: unknown key"),
        ("store.url = 'redis://x'", 'together with kind = "redis"'),
        ("store.kind = 'redis'", 'together with kind = "redis"'),
        ("score.suspect = 5", "[score]: expected suspect below bot"),
        ("header.prefix = 'X-Bot:'", "ending in a hyphen"),
        ("header.prefix = 'X-Bot'", "ending in a hyphen"),
        ("header.host = 'mx 1'", "expected a host name"),
        (f"header.host = '{'x' * 61}'", "expected at most 60 characters"),
        ("log.level = 2024-01-01", 'got "2024-01-01"'),
        ("log.level = '\\u001b[31m'", '"\\\\u001b[31m"'),
        ("'\\u001b' = 1", "unknown key"),
        ("budget =", "is not TOML"),
        ("a = " + "[" * 3000, "too many brackets"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    tmp_path: Path, line: str | bytes, complaint: str
) -> None:
    (problem,) = problems(tmp_path, line)
    assert complaint in problem
    assert problem.isprintable()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.toml")


def test_overrides_beat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[weights.os]\nclient = 1\nboth = 1\n")
    weights = config.load(path, ["weights.os.client=4", "header.host='mx1'"]).weights
    assert (weights["os.client"], weights["os.both"]) == (4.0, 1.0)


def test_a_bad_override_is_named_as_one() -> None:
    with pytest.raises(ConfigError, match=r"--set nonsense: is not TOML"):
        config.load(None, ["nonsense"])
    with pytest.raises(ConfigError, match=r"\[weights\.os\] clint: expected the name of a signal"):
        config.load(None, ["weights.os.clint = 1"])


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load().budget.per_mail_s = 1.0


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    overrides = [
        "trust.networks=['2001:db8::/32']",
        "header.host='mx1.example.org'",
        "probe.dnsbl.zones=[{name='x.test', codes={'127.0.0.2'=0.5}}]",
        "weights.os.client=4",
        "milter.workers=3",
        "store.lifetimes={dnsbl={accuses_minutes=5}}",
    ]
    settings = config.load(None, overrides)
    path = tmp_path / "shown.toml"
    path.write_text(config.to_toml(settings))
    assert config.load(path) == settings


# -- the documents ------------------------------------------------------------------------------

DEFAULTS = {(option.table, option.key): option.value for option in config.options()}


def flat(tables: dict[str, Any], known: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """Nested tables by (table, key)."""

    def walk(table: str, inside: dict[str, Any]) -> None:
        for key, value in inside.items():
            if isinstance(value, dict) and (table, key) not in known:
                walk(f"{table}.{key}".lstrip("."), value)
            else:
                found[table, key] = value

    found: dict[tuple[str, str], Any] = {}
    walk("", tables)
    return found


def test_the_example_file_has_every_option_at_its_default_and_no_other() -> None:
    example = tomllib.loads((ROOT / "etc/botmilter.toml").read_text())
    assert flat(example, DEFAULTS) == DEFAULTS


def test_the_example_file_explains_every_option() -> None:
    lines = (ROOT / "etc/botmilter.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\w+ = ", line):
            assert before.startswith("# "), line


def test_the_reference_has_every_option_with_its_default_and_meaning() -> None:
    rows: dict[tuple[str, str], tuple[str, str]] = {}
    table = ""
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        if heading := re.match(r"### \[(.+)\]$", line):
            table = heading[1]
        elif row := re.match(r"\| `(\w+)` \| `(.*)` \| (.+) \|$", line):
            rows[table, row[1]] = (row[2], row[3])
    assert rows == {
        (option.table, option.key): (toml.value(option.value), sentence(option.meaning))
        for option in config.options()
    }


def sentence(meaning: str) -> str:
    return meaning[0].upper() + meaning[1:].rstrip(".")


def test_every_option_has_a_meaning() -> None:
    assert [option for option in config.options() if not option.meaning] == []


# -- TOML as text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ["a"], 1),
        ("[t]\n\na = 1", ["t", "a"], 3),
        ("[ t . u ] # c\na.b = 1", ["t", "u", "a", "b"], 2),
        ("[t]\n'a' = 1", ["t", "a"], 2),
        ('[t]\n"a" . b = 1', ["t", "a", "b"], 2),
        ("[[t]]\na = 1", ["t", "a"], 2),
        ("[t]\na = 1", ["t"], 1),
        ("[t]\na = {b = {c = 1}}", ["t", "a", "b", "c"], 2),
        ("[t]\na = 1", ["t", "b"], None),
        ("[t]\na = 1", ["a"], None),
        ("# a = 1", ["a"], None),
    ],
)
def test_the_line_of_a_key_is_found(text: str, path: list[str], line: int | None) -> None:
    assert toml.line_of(text, path) == line


_plain = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab-. \"'", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(_plain)
def test_a_value_written_reads_back(plain: Any) -> None:
    assert tomllib.loads(f"x = {toml.value(plain)}") == {"x": plain}
