"""A probe that answers, fails or hangs as told; sends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from click.testing import Result

from botmilter.clock import Deadline
from botmilter.model import Observation, Signal, Status, Target

#: As long as the DNS has them.
LONG_NAME = ".".join(["a-label-of-exactly-sixty-one-octets-as-providers-make-them-xx"] * 4)

#: botmilter with these arguments and the settings of the test.
Run = Callable[..., Result]


@dataclass
class FakeProbe:
    """Named as one of the real ones, because the configuration has a table for each."""

    name: str
    says: Iterable[Signal] = ()
    status: Status = Status.ANSWERED
    reason: str = ""
    takes_s: float = 0.0
    could_say: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    limit_s: float = 3.0
    shows_life: bool = False
    wants_life: bool = False
    sends_to_host: bool = True

    @property
    def signals(self) -> frozenset[str]:
        return self.could_say | {signal.name for signal in self.says}

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        self.asked.append(str(target.ip))
        time.sleep(self.takes_s)
        facts = {"said": [signal.name for signal in self.says]}
        return Observation(self.name, self.store_key(target), self.status, facts, self.reason)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        return self.says
