"""``botmilter doctor`` without an MTA: what each answer means, and the running filter."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from botmilter import config
from botmilter.cli import build
from botmilter.cli.doctor import machine, mta, network, postfix, reach, sendmail
from botmilter.cli.doctor.findings import Finding, State
from botmilter.probes.dnsbl import Zone
from tests.cli.test_reload import Running, needs_root

SOCKET = "/var/spool/postfix/botmilter/socket"
CHOSEN = config.load(None, (f'milter.socket="unix:{SOCKET}"',))

POSTFIX = {
    "smtpd_milters": "unix:botmilter/socket, inet:localhost:8891",
    "non_smtpd_milters": "inet:localhost:8891",
    "milter_default_action": "accept",
    "milter_command_timeout": "30s",
    "milter_content_timeout": "300s",
    "queue_directory": "/var/spool/postfix",
    "mail_owner": "postfix",
}

SENDMAIL = """\
O InputMailFilters=botmilter,other
Xother, S=inet:8891@localhost
Xbotmilter, S=unix:/var/spool/postfix/botmilter/socket, T=S:30s;R:30s
"""


#: Nobody listens there, which is known at once.
QUICK = ("--set", 'probe.nameservers=["127.0.0.9"]', "--set", "probe.osdetect.enabled=false")


def _wrong(found: Iterator[Finding]) -> list[str]:
    return [one.check for one in found if one.state is State.WRONG]


def doctor(*arguments: str) -> dict[str, Finding]:
    """What the command finds, by check; of several the worst."""
    done = subprocess.run(
        [sys.executable, "-m", "botmilter", "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(said["wrong"])
    rows = [Finding(**{**row, "state": State(row["state"])}) for row in said["findings"]]
    rows.sort(key=lambda row: row.state is State.WRONG)
    assert all(row.do for row in rows if row.state is State.WRONG)
    return {row.check: row for row in rows}


# -- what MTAs are configured to do -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({}, []),
        ({"smtpd_milters": ""}, ["mta"]),
        ({"smtpd_milters": "unix:/elsewhere"}, ["mta"]),
        ({"smtpd_milters": "inet:localhost:8891 unix:botmilter/socket"}, ["order"]),
        ({"non_smtpd_milters": "unix:botmilter/socket"}, ["mta"]),
        ({"milter_default_action": "tempfail"}, ["absent"]),
        ({"milter_content_timeout": "5s"}, ["timeouts"]),
        ({"milter_content_timeout": "5m"}, []),
        ({"milter_command_timeout": "1s"}, ["timeouts"]),
        ({"smtpd_milters": "{ unix:botmilter/socket, default_action=reject }"}, ["absent"]),
        (
            {
                "smtpd_milters": "{unix:botmilter/socket,default_action=accept}",
                "milter_default_action": "reject",
            },
            [],
        ),
    ],
)
def test_postfix_settings_are_judged(changed: dict[str, str], complaint: list[str]) -> None:
    found = postfix.Postfix({**POSTFIX, **changed}, is_chrooted=True)
    assert _wrong(postfix.check(CHOSEN, found)) == complaint


@pytest.mark.parametrize(
    ("socket_", "place"),
    [
        (f"unix:{SOCKET}", "unix:botmilter/socket"),
        ("unix:/run/botmilter/socket", "unix:/run/botmilter/socket"),
        ("inet:8892@127.0.0.1", "inet:127.0.0.1:8892"),
        ("inet6:8892@::1", "inet:[::1]:8892"),
    ],
)
def test_what_to_type_for_postfix_leaves_the_other_filters_alone(socket_: str, place: str) -> None:
    chosen = config.load(None, (f'milter.socket="{socket_}"',))
    found = postfix.Postfix({**POSTFIX, "smtpd_milters": "inet:localhost:8891"}, is_chrooted=False)
    (todo,) = [one.do for one in postfix.check(chosen, found) if one.check == "mta"]
    entry = f"{{ {place}, default_action=accept }}"
    assert f'"smtpd_milters={entry}, $(postconf -h smtpd_milters)"' in todo
    assert "milter_default_action" not in todo


def test_a_socket_outside_the_chroot_is_found() -> None:
    chosen = config.load(None, ('milter.socket="unix:/run/botmilter/socket"',))
    settings = {**POSTFIX, "smtpd_milters": "unix:/run/botmilter/socket"}
    assert _wrong(postfix.check(chosen, postfix.Postfix(settings, True))) == ["chroot"]
    assert _wrong(postfix.check(chosen, postfix.Postfix(settings, False))) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("", "", []),
        ("=botmilter,other", "=other", ["mta"]),
        ("=botmilter,other", "=other,botmilter", ["order"]),
        ("R:30s", "R:30s;E:4s", ["timeouts"]),
        ("R:30s", "R:2s", ["timeouts"]),
        ("R:30s", "R:1m30s", []),
        ("R:30s", "R:", []),
        ("socket, T", "socket, F=T, T", ["absent"]),
    ],
)
def test_sendmail_settings_are_judged(old: str, new: str, complaint: list[str]) -> None:
    found = sendmail.Sendmail(SENDMAIL.replace(old, new))
    assert _wrong(sendmail.check(CHOSEN, found)) == complaint


@pytest.mark.parametrize(
    ("written", "said_s"),
    [
        *(("300", 300), ("30s", 30), ("5 M", 300), ("1m30s", 90), ("1h 5", 3605), ("2d", 172_800)),
        *(
            ("", None),
            ("s", None),
            ("soon", None),
            ("1y", None),
            ("-5s", None),
            ("1" * 99 + "x", None),
        ),
    ],
)
def test_times_as_mtas_write_them(written: str, said_s: float | None) -> None:
    assert mta.seconds(written) == said_s


def test_a_time_that_is_none_is_no_reason_to_stop() -> None:
    found = postfix.Postfix({**POSTFIX, "milter_content_timeout": "$mine"}, is_chrooted=True)
    (told,) = [one for one in postfix.check(CHOSEN, found) if one.check == "timeouts"]
    assert (told.state, "milter_content_timeout" in told.do) == (State.UNCHECKED, True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("inet:8891@127.0.0.1", "inet:127.0.0.1:8891"),
        ("inet:8891", "inet:localhost:8891"),
        ("inet6:8891@::1", "inet:[::1]:8891"),
        ("inet6:8891", "inet:[ipv6:::1]:8891"),
        ("local:/run/b", "unix:/run/b"),
    ],
)
def test_both_sides_spell_an_address_in_their_own_way(ours: str, theirs: str) -> None:
    assert mta.endpoint(ours) == mta.postfix_endpoint(theirs, "/var/spool/postfix")


# -- the network --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "unlisted", "state", "word"),
    [
        (["127.0.0.2"], [], State.OK, "answers"),
        (["127.255.255.254"], [], State.WRONG, "refuses"),
        ([], [], State.WRONG, "test address"),
        (["127.0.0.2"], ["127.0.0.2"], State.WRONG, "everybody"),
    ],
)
def test_a_list_is_judged_by_its_test_entries(
    listed: list[str], unlisted: list[str], state: State, word: str
) -> None:
    finding = network.judged(Zone("list.example", False, {}), listed, unlisted)
    assert finding.state is state
    assert word in finding.found


def test_nobody_is_contacted_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(socket, "create_connection", connect)
    assert [one.state for one in network.port_25(CHOSEN, ())] == [State.UNCHECKED]
    assert [one.state for one in network.icmp(CHOSEN, (), True)] == [State.UNCHECKED]


def test_a_closed_port_25_is_found() -> None:
    (finding,) = network.port_25(CHOSEN, ("127.0.0.1",))
    assert (finding.state, finding.check) == (State.WRONG, "port25")


# -- the machine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "own", "state"),
    [
        ('"203.0.113.25"', "8.8.8.8", State.OK),
        ('"80.0.0.0/8"', "8.8.8.8", State.WRONG),
        ('"10.0.0.0/8"', "10.0.0.1", State.OK),
        ('"2000::/16"', "8.8.8.8", State.WRONG),
        ("", "8.8.8.8", State.OK),
        ("", "10.0.0.1", State.UNCHECKED),
    ],
)
def test_trust_is_judged(networks: str, own: str, state: State) -> None:
    chosen = config.load(None, (f"trust.networks=[{networks}]",))
    (finding,) = machine.trust(chosen, [ip_address(own)])
    assert finding.state is state


def test_a_key_that_the_service_cannot_read_is_found(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n")
    chosen = config.load(None, (f'header.key_file="{key}"',))
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    service = reach.User("botmilter", 54322, frozenset({os.getgid()}))
    for mode, said in ((0o640, None), (0o600, "may not use"), (0o644, "has mode 0644")):
        key.chmod(mode)
        (finding,) = machine.key(chosen, service)
        assert finding.state is (State.WRONG if said else State.OK)
        assert said is None or said in finding.found


def test_what_a_user_may_not_reach_is_named(tmp_path: Path) -> None:
    stranger = reach.User("stranger", 54321, frozenset({54321}))
    friend = reach.User("friend", 54322, frozenset({os.getgid()}))
    place = tmp_path / "inner" / "file"
    place.parent.mkdir()
    place.touch()
    for folder in (*tmp_path.parents[:2], tmp_path, place.parent):
        folder.chmod(0o755)
    place.chmod(0o660)
    assert "may not use" in (reach.obstacle(stranger, place, reach.WRITE) or "")
    assert reach.obstacle(friend, place, reach.WRITE) is None
    place.parent.chmod(0o700)
    assert "may not enter" in (reach.obstacle(friend, place, reach.WRITE) or "")
    assert "No such file" in (reach.obstacle(friend, tmp_path / "none" / "x", 1) or "")


def test_a_store_that_another_user_made_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "STATE_DIRECTORY", tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    tmp_path.chmod(0o777)
    service = reach.User("botmilter", 54322, frozenset())
    for overrides in ((), (f'store.path="{tmp_path}/own.sqlite"',)):
        chosen = config.load(None, overrides)
        assert [one.state for one in machine.store(chosen, service)] == [State.OK]
        made = build.store(chosen.store)
        made.notices()
        made.close()
        (finding,) = machine.store(chosen, service)
        assert (finding.state, "may not use" in finding.found) == (State.WRONG, True)
        assert finding.do.startswith("chown botmilter ")


# -- the command --------------------------------------------------------------------------------


def test_a_wrong_configuration_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "botmilter.toml"
    file.write_text("[milter]\nworker = 1\n")
    assert "worker" in doctor("--config", str(file))["config"].found


def test_the_running_filter_is_shown_a_forgery(tmp_path: Path) -> None:
    one = Running(tmp_path)
    try:
        found = doctor("--config", str(one.config), *QUICK)
        assert found["forgery"].state is found["running"].state is State.OK
        other = ("--set", 'header.prefix="X-Other-"')
        found = doctor("--config", str(one.config), *QUICK, *other)
        assert found["forgery"].state is State.WRONG
    finally:
        one.stop()
    assert doctor("--config", str(one.config), *QUICK)["running"].state is State.WRONG


@needs_root
def test_a_missing_privilege_is_found() -> None:
    assert doctor(*QUICK)["ping"].state is State.OK
    drop = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    done = subprocess.run(
        [*drop, sys.executable, "-m", "botmilter", "doctor", "--json", *QUICK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (ping,) = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "ping"]
    assert ping["state"] == "wrong"
    assert "CAP_NET_RAW" in ping["found"]
