"""From signals to a verdict: the only place that adds numbers.  Pure.

The rules, each with its reason:

* Signals of one group are different views of one fact, so a group is not a plain sum: of the
  operating system and of the service only the strongest counts, of the names the strongest and
  half of the rest.
* A *ceiling*: without a fact that convicts, the total stays below the threshold for ``bot``,
  however many small doubts add up.  Mail from an odd but honest server is at worst ``suspect``.
* What weighs nothing decides nothing: neither the pair, nor proof, nor what another signal
  counts.  Without that the label would depend on which answer came first.
* *Unknown* is a result: where nothing was seen that speaks of the host itself, no number is
  given, neither for nor against it.

``docs/scoring.md`` has the same with worked cases.  Points are on SpamAssassin's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from botmilter import signals as table
from botmilter.model import Label, Reason, Signal
from botmilter.signals import Group

#: Why so much and no more: a name says who rents the line, not what runs on the machine.
NAMES_AT_MOST = 3.0
DNSBL_AT_MOST = 3.0
#: Forged lines are the sender's, who may be the user of an honest but open relay.
CHAIN_AT_MOST = 2.0
#: Date, Message-ID and lists: easily forged to look right, seldom wrong where all is well.
PATH_AT_MOST = 2.0
#: How far below the threshold for ``bot`` the ceiling is.
CEILING_GAP = 0.1

NO_SERVICE = frozenset({"smtp.refused", "smtp.filtered"})
SERVICE = frozenset({"smtp.banner", "smtp.rejecting", "smtp.slow"})
CLIENT_OS = frozenset({"os.client", "p0f.client"})
POOL_NAME = frozenset({"rdns.dynamic", "rdns.pool"})
#: An address record for oneself is free with any dynamic DNS; MX and SPF take intent.
CLEARS_A_POOL_NAME = frozenset({"host.mx", "host.spf"})
PAIR = "pair.client_no_service"
DISAGREEMENT = "os.disagreement"
#: What p0f says against what nmap says: two machines behind one address, or a proxy.
_CONTRARY = {
    "p0f.unix": frozenset({"os.client", "os.both", "os.server"}),
    "p0f.client": frozenset({"os.unix", "os.appliance", "os.server"}),
    "p0f.both": frozenset({"os.unix", "os.appliance"}),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the admin configured: points by signal name and the two thresholds."""

    weights: Mapping[str, float]
    bot: float
    suspect: float

    def weight(self, name: str) -> float:
        return self.weights.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Label and score with what led to them."""

    label: Label
    score: float
    reasons: tuple[Reason, ...]
    """All signals, largest contribution first."""
    why: str = ""
    """Set where a rule other than addition decided: the ceiling, or too little evidence."""


def judge(signals: Iterable[Signal], rules: Rules) -> Judgement:
    """Weigh *signals*; of the same name the strongest counts, unknown names count as notes."""
    found = _strongest_by_name(signals, rules)
    reasons = tuple(sorted(_reasons(found, rules), key=_rank))
    total = round(sum(reason.points for reason in reasons), 2)
    if total < rules.suspect and not _speaks_of_host(found):
        return Judgement(Label.UNKNOWN, total, reasons, "nothing was seen of the host itself")
    ceiling = round(rules.bot - CEILING_GAP, 2)
    if total > ceiling and not _convicts(found, rules):
        return Judgement(
            _label(ceiling, rules), ceiling, reasons, f"{total:g} held at {ceiling:g}: no proof"
        )
    return Judgement(_label(total, rules), total, reasons)


def can_change(known: Sequence[Signal], possible: Collection[str], rules: Rules) -> bool:
    """Whether any of the signals named in *possible*, still to come, could change the label.

    Tries the worst and the best.  That is enough: the score grows with each positive signal and
    falls with each negative one, so a label that both leave as it is holds for everything in
    between.  But for ``unknown``, which any signal that speaks of the host ends, whatever it
    weighs.
    """
    now = judge(known, rules).label
    if now is Label.UNKNOWN and any(_speaks(name) for name in possible):
        return True
    worst = [Signal(name) for name in possible if rules.weight(name) > 0]
    best = [Signal(name) for name in possible if rules.weight(name) < 0]
    return any(judge([*known, *more], rules).label != now for more in (worst, best))


def _strongest_by_name(signals: Iterable[Signal], rules: Rules) -> dict[str, Signal]:
    found: dict[str, Signal] = {}
    for signal in signals:
        if signal.name not in found or signal.strength > found[signal.name].strength:
            found[signal.name] = signal
    weighing = _weighing(found, rules)
    strengths = [
        max((found[name].strength for name in names & weighing), default=0.0)
        for names in (CLIENT_OS, NO_SERVICE)
    ]
    if all(strengths) and not SERVICE & weighing:
        found[PAIR] = Signal(PAIR, min(strengths), "a client system, and nothing on port 25")
    for name, contrary in _CONTRARY.items():
        if name in found and (other := contrary & found.keys()):
            text = f"{name} against {', '.join(sorted(other))}"
            found[DISAGREEMENT] = Signal(DISAGREEMENT, 1.0, text)
    return found


def _weighing(found: Iterable[str], rules: Rules) -> frozenset[str]:
    return frozenset(name for name in found if rules.weight(name))


def _rank(reason: Reason) -> tuple[float, int, str]:
    """Largest contribution first; equal ones in the order of the table, system before names."""
    return -reason.points, _PLACES.get(reason.signal.name, len(_PLACES)), reason.signal.name


_PLACES = {row.name: place for place, row in enumerate(table.TABLE)}


def _label(score: float, rules: Rules) -> Label:
    if score >= rules.bot:
        return Label.BOT
    return Label.SUSPECT if score >= rules.suspect else Label.CLEAN


# -- the groups ---------------------------------------------------------------------------------


def _reasons(found: Mapping[str, Signal], rules: Rules) -> Iterable[Reason]:
    groups: dict[Group, list[Reason]] = {}
    for name, signal in found.items():
        weight = rules.weight(name)
        groups.setdefault(group_of(name), []).append(
            Reason(signal, weight, weight * signal.strength)
        )
    weighing = _weighing(found, rules)
    for group, reasons in groups.items():
        yield from _GROUP_RULES[group](reasons, weighing)


def group_of(name: str) -> Group:
    """The group of a signal; a name this version does not know is a note."""
    row = table.BY_NAME.get(name)
    return row.group if row else Group.NOTE


def _with_points(reason: Reason, points: float) -> Reason:
    return Reason(reason.signal, reason.weight, round(points, 4))


def _strongest(reasons: list[Reason], weighing: Collection[str]) -> list[Reason]:
    first = max(reasons, key=lambda reason: (abs(reason.points), reason.points))
    return [r if r is first else _with_points(r, 0.0) for r in reasons]


def _all(reasons: list[Reason], weighing: Collection[str]) -> list[Reason]:
    return reasons


def _names(reasons: list[Reason], weighing: Collection[str]) -> list[Reason]:
    """Strongest and half the rest; halved once a DNSBL, which knows the same pools, has spoken."""
    ordered = sorted(reasons, key=lambda reason: -reason.points)
    listed = any(group_of(name) is Group.DNSBL for name in weighing)
    shares = [
        _with_points(
            reason, reason.points * (1.0 if place == 0 else 0.5) * (0.5 if listed else 1.0)
        )
        for place, reason in enumerate(ordered)
    ]
    return _at_most(NAMES_AT_MOST)(shares, weighing)


def _clear(reasons: list[Reason], weighing: Collection[str]) -> list[Reason]:
    """Once; a pool's name is not cleared by what anybody in the pool can set up."""
    usable = reasons
    if not POOL_NAME.isdisjoint(weighing):
        usable = [r for r in reasons if r.signal.name in CLEARS_A_POOL_NAME]
    first = min(usable, key=lambda reason: reason.points, default=None)
    return [r if r is first else _with_points(r, 0.0) for r in reasons]


#: Takes the group's reasons and the names of all signals that weigh something.
_GroupRule = Callable[[list[Reason], Collection[str]], list[Reason]]


def _at_most(limit: float) -> _GroupRule:
    def rule(reasons: list[Reason], weighing: Collection[str]) -> list[Reason]:
        total = sum(reason.points for reason in reasons)
        if abs(total) <= limit:
            return reasons
        return [_with_points(r, r.points * limit / abs(total)) for r in reasons]

    return rule


_GROUP_RULES: dict[Group, _GroupRule] = {
    Group.OS: _strongest,
    Group.SERVICE: _strongest,
    Group.PAIR: _all,
    Group.NAMES: _names,
    Group.CLEAR: _clear,
    Group.DNSBL: _at_most(DNSBL_AT_MOST),
    Group.CHAIN: _at_most(CHAIN_AT_MOST),
    Group.PATH: _at_most(PATH_AT_MOST),
    Group.NOTE: _all,
}


# -- enough to speak, enough to convict ---------------------------------------------------------

#: Groups of which any signal says something about this very host.  Not the chain: that a header
#: does not contradict itself much clears nobody.
_SPEAKING_GROUPS = frozenset({Group.OS, Group.CLEAR, Group.DNSBL})


def _speaks_of_host(found: Mapping[str, Signal]) -> bool:
    return any(_speaks(name) for name in found)


def _speaks(name: str) -> bool:
    return name in SERVICE or group_of(name) in _SPEAKING_GROUPS


def _convicts(found: Mapping[str, Signal], rules: Rules) -> bool:
    """Whether one of the facts is there without which nobody is called a bot."""
    names = _weighing(found, rules)
    no_service = bool(NO_SERVICE & names) and not SERVICE & names
    return (
        PAIR in found  # whatever it weighs: it is no signal, its parts are
        or ("os.appliance" in names and no_service and bool(POOL_NAME & names))
        or ("dnsbl.listed" in names)
        or (
            no_service
            and _sum(Group.CHAIN, found, rules) >= 1
            and _sum(Group.NAMES, found, rules) > 0
        )
    )


def _sum(group: Group, found: Mapping[str, Signal], rules: Rules) -> float:
    return sum(
        rules.weight(name) * signal.strength
        for name, signal in found.items()
        if group_of(name) is group
    )
