"""``botmilter doctor`` beside the real Postfix, Sendmail, nmap and a name server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from botmilter.cli.doctor.findings import Finding, State
from tests.cli.test_doctor import doctor
from tests.lab import mta, net, worlds
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.lab import Lab
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def filter_() -> Iterator[Filter]:
    with ExitStack() as stack:
        stack.enter_context(Lab(worlds.DEMO))
        stack.enter_context(NameServer(worlds.DEMO, worlds.RECORDS))
        folder = stack.enter_context(mta.open_folder())
        yield stack.enter_context(Filter(folder / "milter", {}))


def _complaints(found: dict[str, Finding]) -> list[str]:
    return [name for name, one in found.items() if one.state is State.WRONG]


def _asked(filter_: Filter, place: Path, *more: str) -> dict[str, Finding]:
    return doctor("--config", str(filter_.config), "--mta-config", str(place), *more)


def test_all_is_well_with_the_laboratory(filter_: Filter) -> None:
    with mta.open_folder() as folder:
        Postfix(folder, milter=filter_.address).configure()
        found = _asked(filter_, folder / "conf", "--port25-host", str(worlds.MAIL_SERVER.ip))
        assert _complaints(found) == []
        assert found["osdetect"].state is found["icmp"].state is State.OK
        assert {"mta", "order", "absent", "timeouts", "socket", "forgery"} <= set(found)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"smtpd_milters": ""}, "mta"),
        ({"smtpd_milters": "inet:127.0.0.1:1, {address}"}, "order"),
        ({"non_smtpd_milters": "{address}"}, "mta"),
        ({"milter_default_action": "tempfail"}, "absent"),
        ({"milter_content_timeout": "4s"}, "timeouts"),
        ({"mail_owner": "nobody"}, "socket"),
    ],
)
def test_each_wrong_setting_of_postfix_is_found(
    filter_: Filter, options: dict[str, str], complaint: str
) -> None:
    filled = {key: value.format(address=filter_.address) for key, value in options.items()}
    with mta.open_folder() as folder:
        Postfix(folder, milter=filter_.address, options=filled).configure()
        quick = ("--set", "probe.osdetect.enabled=false")
        assert _complaints(_asked(filter_, folder / "conf", *quick)) == [complaint]


@pytest.mark.parametrize(
    ("equates", "complaints"),
    [("T=S:30s;R:30s", []), ("F=T", ["absent"]), ("T=R:30s;E:4s", ["timeouts"])],
)
def test_sendmails_own_file_is_understood(
    filter_: Filter, equates: str, complaints: list[str]
) -> None:
    with mta.open_folder() as folder:
        Sendmail(folder, [net.MTA], f"S={filter_.address}, {equates}").configure()
        quick = ("--set", "probe.osdetect.enabled=false")
        found = _asked(filter_, folder / "sendmail.cf", *quick)
        # the laboratory's socket is below /tmp, which is what Sendmail would complain of
        assert [name for name in _complaints(found) if name != "socket"] == complaints


def test_a_resolver_that_is_not_there_is_found(filter_: Filter) -> None:
    found = doctor(
        *("--config", str(filter_.config), "--set", "probe.osdetect.enabled=false"),
        *("--set", 'probe.nameservers=["127.0.0.9"]'),
        *("--set", 'probe.dnsbl.zones=[{name="list.example"}]'),
    )
    assert {"resolver", "dnsbl"} <= set(_complaints(found))


def test_a_provider_that_blocks_port_25_is_found(filter_: Filter) -> None:
    pc = str(worlds.INFECTED_PC.ip)  # drops what comes to its port 25
    quick = ("--set", "probe.osdetect.enabled=false")
    found = doctor("--config", str(filter_.config), "--port25-host", pc, *quick)
    assert "port25" in _complaints(found)
