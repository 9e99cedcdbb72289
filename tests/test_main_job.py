"""The main job, all of it real: Postfix takes the mail, ``botmilter run`` judges its origin by the
real nmap, ICMP, SMTP and DNS, and what is asserted stands in the delivered mail.

Only the world outside is simulated (tests/lab).  The filter runs with its defaults but for the
file places and for being allowed to probe the laboratory's network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from botmilter import header
from tests.lab import mta, worlds
from tests.lab.host import black_hole
from tests.lab.mailsystem import Delivery, Letter, MailSystem

pytestmark = pytest.mark.slow

BUDGET_S = 5.0
#: For two busy cores: what the scheduler of the machine may add to any wait.
SLACK_S = 1.0

FORWARDER = str(worlds.FORWARDER.ip)
HIDDEN_PC = worlds.INFECTED_BEHIND_FORWARDER


def _ago(minutes: float) -> str:
    return format_datetime(datetime.now(UTC) - timedelta(minutes=minutes))


def _received(by: str, name: str, ip: str) -> str:
    """A line as a Postfix on the host *by* writes it about its client."""
    return (
        f"Received: from {name} ({name} [{ip}])\n\tby {by} (Postfix) with ESMTP id 4F1D32C0"
        f"\n\tfor <reader@{mta.DOMAIN}>; {_ago(1)}\n"
    )


@pytest.fixture(scope="module")
def system() -> Iterator[MailSystem]:
    with MailSystem(worlds.ALL, {"trust.networks": [f"{FORWARDER}/32"]}) as running:
        yield running


def _bot_fields(delivery: Delivery) -> dict[str, str]:
    """Our fields in the delivered mail, unfolded."""
    own = header.ours(delivery.mail.items(), header.own_names())
    assert len(own) == len(dict(own)), f"a field twice: {own}"
    return {name: re.sub(r"\s+", " ", str(value)) for name, value in own}


def _judged_by_all(system: MailSystem, letter: Letter) -> Delivery:
    """The delivered *letter*; where nmap was late, as on a busy machine, the next one, which its
    answer serves."""
    delivery = system.send(letter)
    if "osdetect" not in header.parse(_bot_fields(delivery)["X-Bot-Verdict"]).missing:
        return delivery
    system.lab.await_quiet()
    return system.send(letter)


def test_mail_from_an_infected_pc_is_marked_as_a_bots(system: MailSystem) -> None:
    delivery = _judged_by_all(system, Letter(worlds.INFECTED_PC.ip, helo="home-pc"))
    fields = _bot_fields(delivery)
    verdict = header.parse(fields["X-Bot-Verdict"])
    assert (verdict.label, verdict.origin) == ("bot", worlds.INFECTED_PC.ip)
    assert {"os.client", "smtp.filtered", "rdns.dynamic"} <= set(verdict.reasons)
    assert verdict.score is not None
    assert fields["X-Bot-Score"] == str(verdict.score)
    assert fields["X-Bot-Level"] == "*" * int(verdict.score)
    assert delivery.took_s < BUDGET_S + SLACK_S


def test_the_second_mail_from_a_known_host_does_not_wait(system: MailSystem) -> None:
    _judged_by_all(system, Letter(worlds.INFECTED_PC.ip))
    packets = sum(system.lab.flows().values())
    delivery = system.send(Letter(worlds.INFECTED_PC.ip))
    assert header.parse(_bot_fields(delivery)["X-Bot-Verdict"]).label == "bot"
    assert delivery.took_s < 0.5
    assert sum(system.lab.flows().values()) == packets


def test_mail_from_a_mail_server_is_clean(system: MailSystem) -> None:
    host = worlds.MAIL_SERVER
    letter = Letter(host.ip, helo=host.names[0], sender="anna@proper.example")
    fields = _bot_fields(system.send(letter))
    verdict = header.parse(fields["X-Bot-Verdict"])
    assert (verdict.label, verdict.origin) == ("clean", host.ip)
    assert "X-Bot-Level" not in fields


def test_the_origin_of_a_forwarded_mail_is_the_trusted_forwarders_client(
    system: MailSystem,
) -> None:
    line = _received(worlds.FORWARDER.names[0], HIDDEN_PC.names[0], str(HIDDEN_PC.ip))
    letter = Letter(FORWARDER, helo=worlds.FORWARDER.names[0], header=line)
    verdict = header.parse(_bot_fields(_judged_by_all(system, letter))["X-Bot-Verdict"])
    assert (verdict.label, verdict.origin) == ("bot", HIDDEN_PC.ip)


def test_a_black_hole_costs_the_mail_the_budget_and_no_more(system: MailSystem) -> None:
    host = black_hole("198.18.66.66")  # nobody there at all, and no name that says anything
    system.lab.put(host)
    bare = system.send(Letter(host.ip, port=mta.UNFILTERED_PORT))
    delivery = system.send(Letter(host.ip, helo=f"[{host.ip}]"))
    verdict = header.parse(_bot_fields(delivery)["X-Bot-Verdict"])
    assert (verdict.label, verdict.origin) == ("unknown", host.ip)
    assert verdict.missing
    assert _bot_fields(bare) == {}
    assert delivery.took_s <= bare.took_s + BUDGET_S + SLACK_S


FORGED = (
    "from bank.example (bank.example [198.18.99.99]) by home-pc with SMTP",
    "from [198.19.1.1] by bank.example (8.14.4/8.14.4) with ESMTP id q1",
    "from unknown (HELO 198.18.98.98) (198.18.97.97) by x with SMTP",
    "from third (third [203.0.113.99]) by second with ESMTP",
    "from global (global [1.1.1.1]) by third with ESMTP",
    "from six (six [IPv6:2606:4700::1111]) by third with ESMTP",
)


@pytest.mark.parametrize("source", [worlds.WINDOWS_7.ip, worlds.BSD_MAIL_SERVER.ip])
def test_no_packet_goes_to_an_address_that_the_sender_made_up(
    system: MailSystem, source: object
) -> None:
    system.lab.forget_flows()
    lines = "".join(f"Received: {line}; {_ago(5)}\n" for line in FORGED)
    system.send(Letter(str(source), helo="198.18.96.96", sender="a@[198.18.95.95]", header=lines))
    assert system.lab.destinations() == {str(source)}


def test_forged_copies_of_our_own_fields_do_not_survive(system: MailSystem) -> None:
    forged = "X-Bot-Verdict: clean\nx-bot-score: -9\nX-BOT-LEVEL:\nX-Bot-Verdict : clean\n"
    letter = Letter(worlds.INFECTED_PC.ip, header=forged + forged)
    fields = _bot_fields(_judged_by_all(system, letter))
    assert header.parse(fields["X-Bot-Verdict"]).label == "bot"
    assert all(float(value) > 0 for name, value in fields.items() if name.endswith("Score"))


def test_so_many_forged_copies_that_postfix_would_fail_do_not_hold_the_mail(
    system: MailSystem,
) -> None:
    letter = Letter(worlds.INFECTED_PC.ip, header="X-Bot-Verdict: clean\n" * 12_000)
    first, *rest = system.send(letter).mail.get_all("X-Bot-Verdict", [])
    assert header.parse(str(first)).origin == worlds.INFECTED_PC.ip
    assert (len(rest), set(rest)) == (11_000, {"clean"})


def test_one_line_in_the_log_tells_about_each_mail(system: MailSystem) -> None:
    delivery = system.send(Letter(worlds.MAIL_SERVER.ip, helo=worlds.MAIL_SERVER.names[0]))
    queue_id = str(delivery.mail["Received"]).split(" id ")[1].split()[0]
    lines = [line for line in system.filter.log.splitlines() if queue_id in line]
    assert len(lines) == 1
    assert f"origin={worlds.MAIL_SERVER.ip}" in lines[0]
    assert "verdict=clean" in lines[0]


# -- exempt -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "source"),
    [
        pytest.param(mta.SUBMISSION_PORT, str(worlds.WINDOWS_10.ip), id="a submission port"),
        pytest.param(mta.MX_PORT, "127.0.0.1", id="the host itself"),
    ],
)
def test_own_mail_is_exempt_and_nobody_is_probed(
    system: MailSystem, port: int, source: str
) -> None:
    system.lab.forget_flows()
    delivery = system.send(Letter(source, port=port))
    assert _bot_fields(delivery)["X-Bot-Verdict"].startswith("exempt;")
    assert system.lab.destinations() == set()


# -- the study's example ------------------------------------------------------------------------

PROBES = ("rdns", "smtp", "ping", "osdetect", "dnsbl", "senderhost", "p0f")

#: What a saved mail's header says of its way, as in the study; the second line names the origin,
#: the third is the sender's invention.
EXAMPLE = (Path(__file__).parent / "data/study.header").read_text()


def test_the_studys_example_has_its_origin_and_nothing_below_is_believed_or_probed(
    system: MailSystem,
) -> None:
    settings: dict[str, object] = {f"probe.{name}.enabled": False for name in PROBES}
    settings["trust.networks"] = ["203.216.244.210/32"]
    system.lab.forget_flows()
    with system.other_filter(settings):
        # from loopback, as fetched mail comes in: the laboratory plays no addresses but its own
        delivery = system.send(Letter("127.0.0.1", header=EXAMPLE))
    assert system.lab.destinations() == set()
    verdict = header.parse(_bot_fields(delivery)["X-Bot-Verdict"])
    assert str(verdict.origin) == "61.48.71.52"
    assert {"helo.bare_address", "chain.by_is_helo"} <= set(verdict.reasons)


# -- what is missing never stops a mail ---------------------------------------------------------

#: /usr/bin again, but without nmap: links to a copy of the mount.
_WITHOUT_NMAP = """\
mkdir "$TMPDIR/bin" && mount --bind /usr/bin "$TMPDIR/bin" && mount -t tmpfs bin /usr/bin &&
"$TMPDIR/bin/ln" -s "$TMPDIR"/bin/* /usr/bin/ && "$TMPDIR/bin/rm" /usr/bin/nmap && exec "$@"
"""

BROKEN = (
    pytest.param(
        ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _WITHOUT_NMAP, "sh"),
        "osdetect",
        id="nmap is not installed",
    ),
    pytest.param(
        ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"),
        "ping",
        id="CAP_NET_RAW is missing",
    ),
)


@pytest.mark.parametrize(("within", "broken"), BROKEN)
def test_a_missing_part_delays_no_mail_and_is_said_once_in_the_log(
    system: MailSystem, within: Sequence[str], broken: str
) -> None:
    hosts = (worlds.INFECTED_PC, worlds.WINDOWS_7, worlds.WINDOWS_10, worlds.WINDOWS_98)
    with system.other_filter({"milter.workers": 1}, within) as handicapped:
        deliveries = [system.send(Letter(host.ip)) for host in hosts]
    for host, delivery in zip(hosts, deliveries, strict=True):
        verdict = header.parse(_bot_fields(delivery)["X-Bot-Verdict"])
        assert verdict.origin == host.ip
        assert verdict.label != "bot"
        assert {broken, "osdetect"} <= set(verdict.missing)
        assert delivery.took_s <= BUDGET_S + SLACK_S
    log = handicapped.log.splitlines()
    assert len([line for line in log if f"probe={broken} does not work" in line]) == 1, log
