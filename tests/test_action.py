"""What becomes of a mail by its verdict and the configuration: tables, no mail."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from botmilter import plan
from botmilter.action import Action, Kind, Reply, Rules, decide, independent_reasons
from botmilter.cli import build
from botmilter.config import Settings
from botmilter.model import (
    IPAddress,
    Label,
    Observation,
    Origin,
    OriginWhy,
    Reason,
    Signal,
    Status,
    Verdict,
)
from botmilter.net import parse_ip

IP = parse_ip("198.18.7.12")
TWO = ("os.client", "smtp.filtered")
MEASURING = Observation("osdetect", "", Status.LATE, reason=plan.MEASURING)
ALL = dict.fromkeys((Label.BOT, Label.SUSPECT, Label.UNKNOWN), Kind.TAG)


def verdict(
    label: Label = Label.BOT,
    signals: Iterable[str] = TWO,
    missing: tuple[Observation, ...] = (),
    why: OriginWhy = OriginWhy.CLIENT,
) -> Verdict:
    reasons = tuple(Reason(Signal(name), 1.0, 1.0) for name in signals)
    return Verdict(label, 8.0, Origin(why, IP), reasons, missing)


def act(said: Verdict, tempfails: int = 1, **rules: object) -> Action:
    by_label = {**ALL, said.label: Kind(str(rules.pop("kind")))}
    chosen = Rules(by_label, **rules)  # type: ignore[arg-type] # a table of keywords
    return decide(said, chosen, lambda _: tempfails)


@pytest.mark.parametrize("label", Label)
def test_nothing_but_marking_unless_it_is_configured(label: Label) -> None:
    rules = build.actions(Settings())
    said = decide(verdict(label, missing=(MEASURING,)), rules, _never)
    assert said == Action()
    assert said.log == {}
    assert not rules.may_quarantine


@pytest.mark.parametrize("kind", ["reject", "discard", "quarantine"])
def test_what_is_configured_for_a_label_is_done_and_logged(kind: str) -> None:
    said = act(verdict(), kind=kind)
    assert said.kind == kind
    assert said.log == {"action": kind}
    other = decide(verdict(Label.SUSPECT), Rules({Label.BOT: Kind(kind)}), _never)
    assert other == Action()


@pytest.mark.parametrize("kind", ["reject", "discard", "quarantine", "tempfail"])
@pytest.mark.parametrize("label", [Label.EXEMPT, Label.CLEAN])
def test_the_exempt_and_the_clean_are_never_acted_on(label: Label, kind: str) -> None:
    all_of_them = {"action": {"bot": kind, "suspect": kind, "unknown": "tempfail"}}
    rules = build.actions(Settings.model_validate(all_of_them))
    assert decide(verdict(label, missing=(MEASURING,)), rules, _never) == Action()


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        ((), 0),
        (("os.client",), 1),
        (("os.client", "p0f.client"), 1),
        (("os.client", "smtp.filtered", "pair.client_no_service"), 2),
        (("rdns.dynamic", "helo.no_dot", "rdns.none"), 1),
        (("os.client", "rdns.dynamic", "dnsbl.listed", "chain.bad_zone"), 4),
        (("os.client", "of.a_later_version"), 1),
    ],
)
def test_signals_of_one_group_are_one_reason(signals: tuple[str, ...], count: int) -> None:
    assert independent_reasons(verdict(signals=signals)) == count


def test_what_speaks_for_the_host_is_no_reason() -> None:
    clears = Reason(Signal("smtp.banner"), -3.0, -3.0)
    assert independent_reasons(Verdict(Label.BOT, 5.0, Origin(OriginWhy.CLIENT), (clears,))) == 0


@pytest.mark.parametrize("kind", ["reject", "discard"])
def test_refusing_for_good_takes_enough_reasons(kind: str) -> None:
    said = act(verdict(signals=("dnsbl.listed",)), kind=kind)
    assert said.kind is Kind.TAG
    assert said.log == {"action": "tag", "would": kind, "but": "reasons_1_of_2"}
    assert act(verdict(signals=("dnsbl.listed",)), kind=kind, min_reasons=1).kind == kind
    assert act(verdict(), kind=kind, min_reasons=3).kind is Kind.TAG


@pytest.mark.parametrize("kind", ["reject", "tempfail"])
@pytest.mark.parametrize("why", [OriginWhy.RELAY, OriginWhy.UNREADABLE])
def test_a_refusal_never_meets_a_trusted_relay(kind: str, why: OriginWhy) -> None:
    """It would send a bounce to whoever the sender claims to be."""
    said = act(verdict(missing=(MEASURING,), why=why), kind=kind)
    assert (said.kind, said.held_by) == (Kind.TAG, "came_through_a_relay")


@pytest.mark.parametrize(
    ("missing", "is_put_off"),
    [
        ((), False),
        ((MEASURING,), True),
        ((Observation("smtp", "", Status.LATE, reason=plan.ELSEWHERE),), True),
        ((Observation("smtp", "", Status.LATE, reason="not started in time"),), False),
        ((Observation("smtp", "", Status.FAILED, reason="internal error"),), False),
        ((Observation("smtp", "", Status.FAILED, reason=plan.MEASURING),), False),
        ((Observation("osdetect", "", Status.SKIPPED, reason=plan.NO_LIFE),), False),
        ((Observation("smtp", "", Status.FAILED), MEASURING), True),
    ],
)
def test_a_mail_is_put_off_only_while_a_measurement_is_under_way(
    missing: tuple[Observation, ...], is_put_off: bool
) -> None:
    said = act(verdict(Label.UNKNOWN, (), missing), kind="tempfail")
    assert (said.kind is Kind.TEMPFAIL) is is_put_off
    if not is_put_off:
        assert said.log["but"] == "nothing_to_wait_for"


def test_a_network_is_put_off_so_often_and_no_more() -> None:
    unknown = verdict(Label.UNKNOWN, (), (MEASURING,))
    kinds = [
        act(unknown, tempfails=n, kind="tempfail", tempfails_a_day=3).kind for n in range(1, 6)
    ]
    assert kinds == [Kind.TEMPFAIL] * 3 + [Kind.TAG] * 2
    assert act(unknown, tempfails=9, kind="tempfail").log["but"] == "put_off_often_enough"


@pytest.mark.parametrize("kind", ["reject", "discard", "quarantine", "tempfail"])
def test_a_dry_run_says_what_it_would_have_done(kind: str) -> None:
    said = decide(
        verdict(missing=(MEASURING,)), Rules({Label.BOT: Kind(kind)}, dry_run=True), _never
    )
    assert said.kind is Kind.TAG
    assert said.log == {"action": "tag", "would": kind, "but": "dry_run"}
    assert not Rules({Label.BOT: Kind.QUARANTINE}, dry_run=True).may_quarantine
    assert Rules({Label.BOT: Kind.QUARANTINE}).may_quarantine


def test_the_reply_names_the_address_where_the_admin_wants_it() -> None:
    reply = Reply.parse("554 5.7.0 no mail from {ip} {ip}")
    said = act(verdict(), kind="reject", reject=reply)
    assert (said.code, said.enhanced, said.text) == (
        "554",
        "5.7.0",
        "no mail from 198.18.7.12 198.18.7.12",
    )


def _never(ip: IPAddress) -> int:
    raise AssertionError("counted, though nothing is put off")
