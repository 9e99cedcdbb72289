"""How many verdicts stand, and that no more do."""

from __future__ import annotations

from ipaddress import ip_address

from botmilter.model import Label, Origin, OriginWhy, Target, Verdict
from botmilter.standing import Basis, Standing, Standings

VERDICT = Verdict(Label.CLEAN, 0.0, Origin(OriginWhy.CLIENT))


def test_what_is_kept_is_bounded() -> None:
    standings, policy = Standings(lambda *_: True, 3), object()
    targets = [Target(ip_address(f"198.18.0.{number}")) for number in range(10)]
    for target in targets:
        standings.keep(target, Standing(VERDICT, policy, (), Basis(())))
        assert standings.find(target, policy) is not None
        assert sum(standings.find(one, policy) is not None for one in targets) <= 3


def test_another_policy_is_another_question() -> None:
    standings, target = Standings(lambda *_: True, 3), Target(ip_address("198.18.0.1"))
    standings.keep(target, Standing(VERDICT, object(), (), Basis(())))
    assert standings.find(target, object()) is None
    assert not standings.has(target, object())


def test_one_whose_facts_have_gone_is_there_until_it_is_looked_for() -> None:
    standings, policy = Standings(lambda *_: False, 3), object()
    target = Target(ip_address("198.18.0.1"))
    assert not standings.has(target, policy)
    standings.keep(target, Standing(VERDICT, policy, (), Basis(())))
    assert standings.has(target, policy)
    assert standings.find(target, policy) is None
    assert not standings.has(target, policy)
