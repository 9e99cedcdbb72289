"""What the tally's counts say of a span of time: for ``botmilter stats`` and the status page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from botmilter.model import Label
from botmilter.store.tally import ORIGIN, SLOT_S, SYSTEM, Row

#: Rows that tables have at most.
ORIGINS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of mails, unless said otherwise."""

    mails: Counter[str] = field(default_factory=Counter)
    """By label."""
    origins: Mapping[str, Counter[str]] = field(default_factory=dict)
    """By address (an IPv6 host is its /64), then by label."""
    systems: Counter[str] = field(default_factory=Counter)
    """Of bots, by operating system."""
    lookups: Counter[str] = field(default_factory=Counter)
    """Look-ups of what is known of a host, by where it was found."""
    by_slot: Mapping[int, Counter[str]] = field(default_factory=dict)
    """By the slot of ``SLOT_S`` they came in, then by label."""

    @property
    def total(self) -> int:
        return self.mails.total()

    @property
    def known_share(self) -> float | None:
        """Share of look-ups that needed no measurement; None where there were none."""
        total = self.lookups.total()
        return 1 - self.lookups["nowhere"] / total if total else None

    @property
    def busiest(self) -> Sequence[tuple[str, Counter[str]]]:
        """The origins with the most mails, of these with the most bots first."""
        ranked = sorted(
            self.origins.items(), key=lambda one: (-one[1].total(), -one[1][Label.BOT], one[0])
        )
        return ranked[:ORIGINS_SHOWN]


def summarise(rows: Iterable[Row], since: float) -> Summary:
    """What *rows* tell of the time from *since* (Unix time) on; to the slot, not to the second."""
    mails, systems, lookups = Counter[str](), Counter[str](), Counter[str]()
    origins: dict[str, Counter[str]] = {}
    by_slot: dict[int, Counter[str]] = {}
    for row in rows:
        kind, _, rest = row.word.partition(" ")
        if row.slot < since // SLOT_S:
            continue
        if kind == "mails":
            mails[rest] += row.counted
            by_slot.setdefault(row.slot, Counter())[rest] += row.counted
        elif kind == ORIGIN:
            host, _, label = rest.rpartition(" ")
            origins.setdefault(host, Counter())[label] += row.counted
        elif kind == SYSTEM:
            systems[rest] += row.counted
        elif kind == "lookups":
            lookups[rest] += row.counted
    return Summary(mails, origins, systems, lookups, by_slot)
