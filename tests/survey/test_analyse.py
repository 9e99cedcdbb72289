"""The tables, from records as plain data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from botmilter.survey import analyse
from botmilter.survey.analyse import Seen


def record(
    systems: tuple[str, ...] = (),
    kind: str = "other",
    ping: str = "answered",
    label: str = "clean",
    ip: str = "192.0.2.1",
) -> dict[str, Any]:
    return {
        "ip": ip,
        "role": "origin",
        "mail_count": 1,
        "mails": [{"arrived": "2009-08-03T23:11:22+09:00"}],
        "observations": [
            {"probe": "ping", "status": ping, "facts": {}},
            {"probe": "smtp", "status": "silent", "facts": {"outcome": "filtered"}},
            {"probe": "rdns", "status": "answered", "facts": {"names": [], "confirmed": []}},
        ],
        "os": {"kind": kind, "systems": list(systems), "accuracy": 100, "name": "a name"},
        "verdict": {"label": label, "score": 1.0},
    }


@pytest.mark.parametrize(
    ("kind", "systems", "row"),
    [
        ("client", ("Windows XP",), analyse.OLD_CLIENT),
        ("both", ("Windows 2000", "Windows XP"), analyse.OLD_CLIENT),
        ("client", ("Windows 7",), analyse.NEW_CLIENT),
        ("client", ("Windows XP", "Windows 7"), analyse.NEW_CLIENT),
        ("both", ("Windows Vista", "Windows 2008"), analyse.EITHER),
        ("server", ("Windows 2016",), analyse.SERVER),
        ("server", ("z/OS",), analyse.OTHER),
        ("unix", ("Linux 4.X", "Linux 5.X"), analyse.LINUX),
        ("unix", ("FreeBSD 12.X",), analyse.UNIX),
        ("appliance", ("embedded",), analyse.APPLIANCE),
        ("both", ("OS X 10.4.X",), analyse.OTHER),
    ],
)
def test_every_system_has_its_row(kind: str, systems: tuple[str, ...], row: str) -> None:
    assert analyse.seen(record(systems, kind)).os_row == row


@pytest.mark.parametrize(
    ("ping", "row"), [("answered", analyse.UNNAMED), ("silent", analyse.NO_ANSWER)]
)
def test_a_host_without_a_match_is_unnamed_or_dead(ping: str, row: str) -> None:
    assert analyse.seen(record(ping=ping)).os_row == row


@pytest.mark.parametrize(
    ("ports", "row"),
    [
        ({"25": "filtered", "445": "closed"}, analyse.UNNAMED),
        ({"25": "filtered", "445": "filtered"}, analyse.NO_ANSWER),
        ({}, analyse.NO_ANSWER),
    ],
)
def test_a_port_that_only_nmap_found_is_life(ports: dict[str, str], row: str) -> None:
    plain = record(ping="silent")
    nmap = {"probe": "osdetect", "status": "answered", "facts": {"ports": ports, "matches": []}}
    plain["observations"].append(nmap)
    assert analyse.seen(plain).os_row == row


def test_a_host_that_nobody_asked_is_no_dead_host() -> None:
    plain = record()
    plain["observations"] = [{"probe": "ping", "status": "skipped", "facts": {}}]
    assert analyse.seen(plain).os_row == analyse.NOT_PROBED


def test_a_time_out_that_nobody_believes_is_not_counted() -> None:
    plain = record()
    plain["observations"][1]["status"] = "failed"
    assert analyse.seen(plain).smtp == "not asked"


def test_a_seen_host_carries_what_the_study_noted() -> None:
    host = analyse.seen(record())
    assert (host.ping, host.smtp, host.name_row, host.hours) == (
        "yes",
        "time-out",
        "no name",
        (23,),
    )


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # worked by the formula's other form, p +- z ... in R's prop.test(correct=FALSE)
    [(2, 69, 0.0080, 0.0997), (0, 44, 0.0, 0.0803), (44, 44, 0.9197, 1.0), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_wilsons(count: int, total: int, low: float, high: float) -> None:
    assert analyse.wilson(count, total) == pytest.approx((low, high), abs=5e-4)


def _hosts(rows: dict[str, str], label: str = "bot") -> list[Seen]:
    plain = {
        "xp": (("Windows XP",), "client", "answered"),
        "linux": (("Linux 4.X",), "unix", "answered"),
        "dead": ((), "other", "silent"),
    }
    return [
        analyse.seen(record(plain[what][0], plain[what][1], plain[what][2], label, ip))
        for ip, what in rows.items()
    ]


def test_churn_tells_who_stayed_changed_went_and_came_back() -> None:
    first = {"192.0.2.1": "xp", "192.0.2.2": "xp", "192.0.2.3": "linux", "192.0.2.4": "dead"}
    second = {"192.0.2.1": "xp", "192.0.2.2": "linux", "192.0.2.3": "dead", "192.0.2.4": "xp"}
    first["192.0.2.5"] = "xp"
    moves = analyse.churn(_hosts(first), _hosts(second))
    assert moves[analyse.OLD_CLIENT, analyse.LINUX] == 1
    assert set(analyse.churn_summary(moves).values()) == {1}


def test_every_flagged_host_stands_side_by_side_with_its_other_runs() -> None:
    first, second = _hosts({"192.0.2.1": "xp"}), _hosts({"192.0.2.1": "dead"}, "unknown")
    ((ip, seen),) = analyse.flagged([first, second, []])
    assert ip == "192.0.2.1"
    assert [one.ping if one else None for one in seen] == ["yes", "no", None]


def test_of_many_places_the_rest_is_one_row() -> None:
    hosts = [replace(one, country=f"C{n:02}", mails=2) for n in range(30)
             for one in [analyse.seen(record(ip=f"198.18.0.{n}"))] * (40 - n)]  # fmt: skip
    table = analyse.place_table([hosts, hosts[:1]], lambda host: host.country)
    assert table[0] == ("C00", (40, 80, 1, 2))
    assert table[-1] == ("10 others", (155, 310, 0, 0))
    assert len(table) == 21
    assert analyse.place_table([hosts], lambda host: host.network) == []
