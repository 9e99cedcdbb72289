"""Two filters on one Redis, all of it real, and a network whose owner complains."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from botmilter import header
from tests.fakes.mta import send_one
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import redis_server
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.host import CLOSED
from tests.lab.lab import Lab
from tests.lab.worlds import WINDOWS_98, pc

pytestmark = pytest.mark.slow

NETWORK = "198.18.77.0/24"
#: From the command's end until no packet goes there any more.
HEEDED_S = 2.0

THEIRS = [f"198.18.77.{number}" for number in range(1, 9)]
OTHERS = [f"198.18.76.{number}" for number in range(1, 9)]


@dataclass
class Site:
    lab: Lab
    redis_url: str
    filters: tuple[Filter, Filter]

    def botmilter(self, *arguments: str) -> str:
        store = f'store={{kind="redis", url="{self.redis_url}"}}'
        command = [sys.executable, "-m", "botmilter", *arguments, "--set", store]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def optouts(self) -> list[str]:
        lines = self.botmilter("optout", "list", "--json").splitlines()
        return [json.loads(line)["network"] for line in lines]

    def send(self, *ips: str) -> set[str]:
        """A mail from each of *ips* through each filter; who got packets for it."""
        self.lab.forget_flows()
        for ip in ips:
            for one in self.filters:
                delivery = send_one(one.address.removeprefix("unix:"), ip=ip)
                (value,) = delivery.values(b"X-Bot-Verdict")
                assert str(header.parse(value.decode()).origin) == ip
        return self.lab.destinations()


def redis(folder: Path, url: str) -> AbstractContextManager[object]:
    return redis_server(folder, int(url.rpartition(":")[2]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    url = f"redis://127.0.0.1:{free_port()}"
    hosts = [pc(ip, str(WINDOWS_98.persona), CLOSED) for ip in (*THEIRS, *OTHERS)]
    settings: dict[str, object] = {
        "milter.socket_group": "",
        "milter.workers": 1,
        "store.kind": "redis",
        "store.url": url,
        "budget.per_mail_s": 3.0,
    }
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(hosts))
        stack.enter_context(NameServer(hosts))
        one, other = (Filter(tmp_path / name, settings) for name in ("one", "other"))
        made = Site(lab, url, (one, other))
        with redis(tmp_path, url):
            for each in made.filters:
                stack.enter_context(each)
        yield made


def test_a_network_that_opts_out_gets_no_packet_by_any_filter_until_taken_off_again(
    site: Site, tmp_path: Path
) -> None:
    theirs, others = count(), count()

    def sent_to(number: int = 1) -> set[str]:
        """New hosts of both networks and an old one of theirs send mail; who of theirs got
        packets.  The others always do."""
        new = [THEIRS[next(theirs)] for _ in range(number)]
        other = OTHERS[next(others)]
        found = site.send(THEIRS[0], *new, other)
        assert found - set(THEIRS) == {other}
        return found & set(THEIRS)

    with redis(tmp_path, site.redis_url):
        time.sleep(HEEDED_S)
        assert sent_to() == {THEIRS[0]}
        site.botmilter("optout", "add", NETWORK, "--note", "ticket 7")
        time.sleep(HEEDED_S)
        assert sent_to(2) == set()
    assert site.send(THEIRS[next(theirs)]) == set(), "sent while the store is away"
    with redis(tmp_path, site.redis_url):  # it comes back empty
        end = time.monotonic() + 10
        while NETWORK not in site.optouts():
            assert time.monotonic() < end, "nobody gave the store its list back"
            time.sleep(0.2)
        assert site.send(THEIRS[next(theirs)]) == set()
        site.botmilter("optout", "remove", NETWORK)
        time.sleep(HEEDED_S)
        new = THEIRS[next(theirs)]
        assert site.send(new) == {new}
    assert [one.log.count("list of opt-outs is gone") for one in site.filters] != [0, 0]


def test_a_host_that_is_forgotten_is_looked_at_anew_by_every_filter(
    site: Site, tmp_path: Path
) -> None:
    ip = OTHERS[0]
    with redis(tmp_path, site.redis_url):
        time.sleep(HEEDED_S)
        assert site.send(ip) == {ip}
        assert site.send(ip) == set()
        assert site.botmilter("store", "forget", ip).startswith("forgotten: ")
        assert site.botmilter("store", "list").count("\n") == 1
        time.sleep(HEEDED_S)
        for one in reversed(site.filters):  # whoever is first measures
            delivery = send_one(one.address.removeprefix("unix:"), ip=ip)
            assert delivery.values(b"X-Bot-Verdict")
        assert site.lab.destinations() == {ip}
