"""The milter's judge over the real engine, without any network."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from botmilter import header, plan, seal
from botmilter.action import MARK, Kind
from botmilter.cli import build
from botmilter.clock import Deadline
from botmilter.config import Settings
from botmilter.inquiry import Policy, Ticket
from botmilter.milter.judge import MailJudge, log_fields
from botmilter.milter.session import Field, Session, Transaction
from botmilter.model import (
    Hop,
    HopKind,
    HopSource,
    Label,
    Observation,
    Origin,
    OriginWhy,
    Signal,
    Status,
    Target,
    Verdict,
)
from botmilter.net import parse_ip
from botmilter.notices import NOT_READ, OPTED_OUT

BUDGET_S = 0.2


class Probe:
    """A probe that answers when it is let go, and remembers whom it was asked about."""

    name = "osdetect"
    limit_s = 5.0
    signals = frozenset({"os.client", "smtp.refused", "rdns.dynamic"})
    shows_life = wants_life = sends_to_host = False

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked: list[str] = []
        self.understood_of: Target | None = None

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        self.asked.append(str(target.ip))
        self.may_answer.wait(deadline.left())
        return Observation(self.name, self.store_key(target), Status.ANSWERED)

    def interpret(self, seen: Observation, target: Target) -> Sequence[Signal]:
        self.understood_of = target
        return tuple(Signal(name) for name in sorted(self.signals))


@pytest.fixture
def probe() -> Iterator[Probe]:
    one = Probe()
    yield one
    one.may_answer.set()


def judge(
    probe: Probe | None = None,
    action: Mapping[str, object] | None = None,
    budget_s: float = BUDGET_S,
    **trust: object,
) -> MailJudge:
    settings = Settings.model_validate(
        {
            "store": {"kind": "memory"},
            "probe": {"allow_networks": ["198.18.0.0/15"]},
            "trust": trust,
            "action": action or {},
        }
    )
    probes = () if probe is None else (probe,)
    machine = build.machine(settings, probes)
    policy = Policy(budget_s, frozenset(one.name for one in probes))
    return MailJudge(
        machine.engine,
        settings.trust,
        policy,
        "X-Bot-",
        "mx",
        None,
        build.actions(settings),
        machine.memory.count_tempfail,
    )


def mail(ip: str | None, *headers: Field, authenticated: bool = False) -> Transaction:
    address = parse_ip(ip) if ip else None
    kind = HopKind.RELAY if address else HopKind.LOCAL
    hop = Hop(0, HopSource.CONNECTION, kind, address, authenticated=authenticated)
    return Transaction(hop, "example.com", headers)


def received(peer: str, by: str) -> Field:
    line = f"from x.example (x.example [{peer}])\n\tby {by} (Postfix) with ESMTP id 1"
    return ("Received", f"{line}; Sun, 1 Mar 2009 12:00:00 +0000".encode())


def test_the_connecting_client_is_judged_and_the_verdict_rendered(probe: Probe) -> None:
    probe.may_answer.set()
    judgement = judge(probe).judge(mail("198.18.0.1"), None)
    said = header.parse(dict(judgement.headers)["X-Bot-Verdict"])
    assert said.origin == parse_ip("198.18.0.1")
    assert probe.asked == ["198.18.0.1"]
    assert judgement.log["origin"] == "198.18.0.1"
    assert judgement.log["verdict"] == said.label.value == "bot"


def test_behind_a_trusted_relay_the_host_it_recorded_is_judged_and_nothing_below(
    probe: Probe,
) -> None:
    chain = received("198.18.0.7", "relay.example"), received("198.18.0.66", "forged.example")
    judgement = judge(probe, networks=["192.0.2.0/24"]).judge(mail("192.0.2.1", *chain), None)
    assert judgement.log["origin"] == "198.18.0.7"
    assert probe.asked == ["198.18.0.7"]


@pytest.mark.parametrize(
    "exempt",
    [mail("198.18.0.1", authenticated=True), mail(None), mail("127.0.0.1")],
    ids=["authenticated", "no address", "loopback"],
)
def test_our_own_mail_is_exempt_and_never_probed(probe: Probe, exempt: Transaction) -> None:
    one = judge(probe)
    assert one.begin(exempt) is None
    judgement = one.judge(exempt, None)
    assert header.parse(dict(judgement.headers)["X-Bot-Verdict"]).label is Label.EXEMPT
    assert "score" not in judgement.log
    assert probe.asked == []


def test_a_hanging_probe_holds_the_mail_for_the_budget_and_no_longer(probe: Probe) -> None:
    began = time.monotonic()
    judgement = judge(probe).judge(mail("198.18.0.1"), None)
    # A hundredth of the budget is for the judgement after the wait.
    assert 0.99 * BUDGET_S <= time.monotonic() - began < BUDGET_S + 0.15
    assert judgement.log["verdict"] == "unknown"
    assert judgement.log["osdetect"] == "late"


def test_what_was_begun_early_is_used_for_the_same_host(probe: Probe) -> None:
    one = judge(probe)
    begun = one.begin(mail("198.18.0.1"))
    assert isinstance(begun, Ticket)
    probe.may_answer.set()
    judgement = one.judge(mail("198.18.0.1"), begun)
    assert not begun.abandoned
    assert probe.asked == ["198.18.0.1"]
    assert "osdetect" not in judgement.log


def test_what_was_begun_before_the_greeting_is_joined_and_the_greeting_counts(
    probe: Probe,
) -> None:
    one = judge(probe)
    whole = mail("198.18.0.1")
    begun = one.begin(whole._replace(sender_domain=None))
    assert isinstance(begun, Ticket)
    probe.may_answer.set()
    greeted = whole._replace(hop=whole.hop._replace(helo="pc.example"))
    judgement = one.judge(greeted, begun)
    assert probe.asked == ["198.18.0.1"]
    assert "osdetect" not in judgement.log
    assert probe.understood_of is not None
    assert probe.understood_of.helo == "pc.example"
    assert probe.understood_of.sender_domain == "example.com"


def test_what_was_begun_for_a_host_that_is_not_the_origin_is_abandoned(probe: Probe) -> None:
    probe.may_answer.set()
    one = judge(probe)
    begun = one.begin(mail("198.18.0.1"))
    assert begun is not None
    one.judge(mail("198.18.0.2"), begun)
    assert begun.abandoned


def test_a_client_is_known_while_its_verdict_stands(probe: Probe) -> None:
    probe.may_answer.set()
    one = judge(probe)
    session = Session()
    assert not one.knows(session)
    session.connected("pc.example", ("198.18.0.1", 25))
    session.helo = "pc.example"
    session.begin_mail(b"<a@example.com>")
    assert not one.knows(session)
    one.judge(session.transaction(lambda _: None), None)
    assert one.knows(session)
    session.connected("pc.example", ("198.18.0.2", 25))
    assert not one.knows(session)


def test_what_is_said_of_a_verdict_is_kept_while_it_stands_and_only_for_mail_like_it(
    probe: Probe,
) -> None:
    probe.may_answer.set()
    one, usual = judge(probe), mail("198.18.0.1")
    odd = mail("198.18.0.1", ("Received", b"from a by b with SMTP; not a date"))
    first, second = one.judge(usual, None), one.judge(usual, None)
    assert (second.headers, second.log) == (first.headers, first.log)
    assert one.judge(usual, None).headers is second.headers
    said = one.judge(odd, None)
    assert "chain.bad_date" in dict(said.headers)["X-Bot-Verdict"]
    assert "chain.bad_date" not in dict(one.judge(usual, None).headers)["X-Bot-Verdict"]


def test_a_trusted_client_is_not_the_origin_before_its_header_is_seen(probe: Probe) -> None:
    assert judge(probe, networks=["192.0.2.0/24"]).begin(mail("192.0.2.1")) is None
    assert probe.asked == []


def test_with_all_probes_off_the_studys_example_ends_at_its_origin() -> None:
    """The border is the trusted forwarder; below it stands what the sender made up."""
    chain = (
        received("61.48.71.52", "forwarder.example"),
        received("203.0.113.9", "203.216.244.210"),
    )
    judgement = judge(networks=["203.216.244.210/32"]).judge(mail("203.216.244.210", *chain), None)
    assert judgement.log["origin"] == "61.48.71.52"


def test_with_a_key_the_verdict_is_sealed_for_this_mail() -> None:
    one = judge()
    sealing = MailJudge(one._engine, one._trust, one._policy, "X-Bot-", "mx", b"sixteen octets!!")
    fields = dict(sealing.judge(mail(None, ("Message-Id", b" <1@x.example>")), None).headers)
    assert "x-bot-seal" in sealing.own_names
    sealed, verdict = fields["X-Bot-Seal"], fields["X-Bot-Verdict"]
    assert seal.holds(b"sixteen octets!!", sealed, verdict, "<1@x.example>")


def test_a_client_is_put_off_while_it_is_looked_at_and_then_judged(probe: Probe) -> None:
    one = judge(probe, {"unknown": "tempfail", "bot": "reject"})
    first = one.judge(mail("198.18.0.1"), None)
    assert (first.action.kind, first.log["action"]) == (Kind.TEMPFAIL, "tempfail")
    assert "198.18.0.1" in first.action.text
    probe.may_answer.set()
    second = one.judge(mail("198.18.0.1"), None)
    assert (second.action.kind, second.log["action"]) == (Kind.REJECT, "reject")


def test_a_verdict_that_stands_rejects_nobody_who_comes_through_a_relay(probe: Probe) -> None:
    probe.may_answer.set()
    one = judge(probe, {"bot": "reject"}, networks=["192.0.2.0/24"])
    direct = mail("198.18.0.1")
    direct = direct._replace(hop=direct.hop._replace(helo="x.example"))
    relayed = mail("192.0.2.1", received("198.18.0.1", "relay.example"))
    said = [one.judge(each, None) for each in (direct, direct, relayed, direct)]
    kinds = [judgement.action.kind for judgement in said]
    assert kinds == [Kind.REJECT, Kind.REJECT, Kind.TAG, Kind.REJECT]
    assert said[2].log["but"] == "came_through_a_relay"
    assert len(probe.asked) == 1


def test_a_probe_that_hangs_puts_a_network_off_twice_a_day_and_no_more(probe: Probe) -> None:
    one = judge(probe, {"unknown": "tempfail"})
    said = [one.judge(mail(ip), None) for ip in ("198.18.0.1", "198.18.0.2", "198.18.0.1")]
    assert [judgement.action.kind for judgement in said] == [Kind.TEMPFAIL, Kind.TEMPFAIL, Kind.TAG]
    assert said[2].log["but"] == "put_off_often_enough"
    elsewhere = one.judge(mail("198.19.0.1"), None)
    assert elsewhere.action.kind is Kind.TEMPFAIL


def test_what_never_started_puts_nobody_off() -> None:
    class Broken(Probe):
        def measure(self, target: Target, deadline: Deadline) -> Observation:
            raise OSError("no more sockets")

    one = judge(Broken(), {"unknown": "tempfail", "suspect": "reject", "bot": "reject"}, 10.0)
    for number in range(12):  # beyond the failures after which the probe pauses
        said = one.judge(mail(f"198.18.0.{number + 1}"), None)
        assert (said.log["verdict"], said.action.kind) == ("unknown", Kind.TAG)


def test_our_own_failure_is_unknown_and_only_marked() -> None:
    failed = judge(action={"unknown": "tempfail"}).failed
    said = header.parse(dict(failed.headers)["X-Bot-Verdict"])
    assert (said.label, said.origin, said.host) == (Label.UNKNOWN, None, "mx")
    assert failed.action == MARK
    assert failed.log["why"] == "internal error"


KEY = b"sixteen octets!!"
BACKUP_MX = "192.0.2.25"
ID = ("Message-ID", b" <1@x.example>")


def sealing(networks: Sequence[str], key: bytes = KEY, keep: bool = True) -> MailJudge:
    one = judge(networks=networks)
    return MailJudge(one._engine, one._trust, one._policy, "X-Bot-", "", key, keep_sealed=keep)


def handed_on(*more: Field, drop: str = "", ident: Field = ID) -> Transaction:
    """A mail as the backup MX hands it on, judged there as from 198.18.7.12."""
    made = sealing([]).judge(mail("198.18.7.12", ID), None).headers
    fields = [(name, f" {value}".encode()) for name, value in made if name != drop]
    return mail(BACKUP_MX, ident, *fields, *more)


def is_kept(seen: Transaction, one: MailJudge) -> bool:
    judgement = one.judge(seen, None)
    assert [name for name, _ in judgement.headers].count("X-Bot-Verdict") == 1
    return judgement.log.get("why") == "sealed"


def test_a_trusted_relays_sealed_verdict_stands_with_the_same_fields() -> None:
    made = sealing([]).judge(mail("198.18.7.12", ID), None).headers
    kept = sealing([BACKUP_MX]).judge(handed_on(), None)
    assert dict(kept.headers) == dict(made)
    assert kept.log["origin"] == "198.18.7.12"


def test_score_and_level_are_the_seals_whatever_stands_beside_it() -> None:
    forged = ("X-Bot-Score", b" -9.0"), ("X-Bot-Level", b" *")
    kept = sealing([BACKUP_MX]).judge(handed_on(*forged), None)
    assert kept.log["why"] == "sealed"
    assert dict(kept.headers).get("X-Bot-Score") != "-9.0"


@pytest.mark.parametrize(
    ("seen", "one"),
    [
        (handed_on(), sealing([])),
        (handed_on(), sealing([BACKUP_MX], b"another key of ours")),
        (handed_on(), sealing([BACKUP_MX], keep=False)),
        (handed_on(drop="X-Bot-Seal"), sealing([BACKUP_MX])),
        (handed_on(drop="X-Bot-Verdict"), sealing([BACKUP_MX])),
        (handed_on(("X-Bot-Verdict", b"clean; score=-9.0; origin=none")), sealing([BACKUP_MX])),
        (handed_on(("X-Bot-Seal", b"v=1; id=x; mac=" + b"0" * 64)), sealing([BACKUP_MX])),
        (handed_on(ident=("Message-ID", b"<2@x.example>")), sealing([BACKUP_MX])),
        (handed_on(ident=("Subject", b"no id")), sealing([BACKUP_MX])),
        (handed_on(("message-id", b"<2@x.example>")), sealing([BACKUP_MX])),
    ],
    ids=[
        *("not a trusted relay", "another key", "switched off", "no seal", "no verdict"),
        *("two verdicts", "two seals", "another mail's", "no Message-ID", "two Message-IDs"),
    ],
)
def test_no_other_verdict_stands(seen: Transaction, one: MailJudge) -> None:
    assert not is_kept(seen, one)


@pytest.mark.parametrize("reason", [f"{plan.RATE_LIMIT}: in all", OPTED_OUT, NOT_READ])
def test_the_log_says_why_an_unknown_host_was_not_looked_at(reason: str) -> None:
    skipped = Observation("smtp", "198.18.0.1", Status.SKIPPED, reason=reason)
    origin = Origin(OriginWhy.CLIENT, parse_ip("198.18.0.1"))
    unknown = Verdict(Label.UNKNOWN, 0.0, origin, missing=(skipped,), why="nothing was seen")
    assert log_fields(unknown)["why"] == reason
    assert log_fields(replace(unknown, label=Label.CLEAN))["why"] == "nothing was seen"
