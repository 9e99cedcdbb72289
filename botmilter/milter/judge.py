"""The milter's judge: from one mail to chain, origin, evidence, verdict and header fields."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from botmilter import action, header, plan, received, seal
from botmilter.engine import Engine
from botmilter.inquiry import Policy, Ticket, target_of
from botmilter.milter.base import Begun, Judgement, LogFields
from botmilter.milter.session import Session, Transaction
from botmilter.model import Chain, IPAddress, Label, Origin, OriginWhy, Target, Trust, Verdict
from botmilter.net import LOOPBACK, is_in
from botmilter.notices import NOT_READ, OPTED_OUT
from botmilter.received import forgery, origin
from botmilter.standing import Standing

#: Header fields, and what the log says.
_Written = tuple[tuple[tuple[str, str], ...], LogFields]


class MailJudge:
    """Judges by the engine.  Safe for many threads."""

    def __init__(
        self,
        engine: Engine,
        trust: Trust,
        policy: Policy,
        prefix: str,
        host: str = "",
        key: bytes | None = None,
        rules: action.Rules | None = None,
        count_tempfail: Callable[[IPAddress], int] = lambda _: 1,
        keep_sealed: bool = True,
    ) -> None:
        self._engine = engine
        self._trust = trust
        self._policy = policy
        self._prefix = prefix
        self._host = host
        self._key = key
        self._keep_sealed = keep_sealed
        self._rules = rules or action.Rules()
        self._count_tempfail = count_tempfail
        self._of_standing: WeakKeyDictionary[Standing, _Written] = WeakKeyDictionary()
        self.may_quarantine = self._rules.may_quarantine
        self.failed = _failed(prefix, host)

    @property
    def own_names(self) -> frozenset[str]:
        return header.own_names(self._prefix)

    def knows(self, session: Session) -> bool:
        ip = session.client.ip
        if ip is None:
            return False
        target = Target(ip, session.helo, session.sender_domain)
        return self._engine.knows(target, self._policy)

    def begin(self, mail: Transaction) -> Ticket | None:
        """None unless the origin is certain by now: before the header is there, it is only where
        the client itself is the origin."""
        _, found = self._origin(mail)
        if found.ip is None or found.why.is_exempt or self._kept(mail) is not None:
            return None
        return self._engine.begin(found, self._policy, mail.sender_domain)

    def judge(
        self,
        mail: Transaction,
        begun: Begun | None,
        while_waiting: Callable[[], None] | None = None,
    ) -> Judgement:
        if (kept := self._kept(mail)) is not None:
            if begun is not None:
                begun.abandon()
            return kept
        chain, found = self._origin(mail)
        signals = forgery.signals(chain, found, self._trust)
        standing = None
        if begun is None:
            standing = self._engine.standing(found, self._policy, mail.sender_domain, signals)
        if standing is not None:
            verdict = standing.verdict.of(found)
            fields, log = self._written(standing)
        else:
            ticket = self._ticket(mail, found, begun)
            verdict = self._engine.result(ticket, signals, while_waiting)
            fields, log = self._write(verdict)
        if self._key is not None:
            fields += (self._seal(self._key, fields[0][1], mail),)
        acted = action.decide(verdict, self._rules, self._count_tempfail)
        if acted.log:
            log = LogFields({**log, **acted.log})
        return Judgement(fields, log, acted, verdict)

    def close(self) -> None:
        """What was learnt is in the store by now."""

    def _written(self, standing: Standing) -> _Written:
        """What header and log say of a verdict; found out once for as long as it stands."""
        written = self._of_standing.get(standing)
        if written is None:
            written = self._of_standing[standing] = self._write(standing.verdict)
        return written

    def _write(self, verdict: Verdict) -> _Written:
        return header.render(verdict, self._prefix, self._host), log_fields(verdict)

    def _seal(self, key: bytes, verdict: str, mail: Transaction) -> tuple[str, str]:
        message_id = next(iter(_values(mail, "Message-ID")), "")
        sealed = seal.seal(key, verdict, mail.hop.id or "", message_id)
        return f"{self._prefix}{header.SEAL}", sealed

    def _kept(self, mail: Transaction) -> Judgement | None:
        """The verdict that another host of ours gave this mail, where a trusted relay hands it
        on, the seal holds and this version would write it the same way.

        Not without a Message-ID: the seal would fit any other such mail.
        """
        ip = mail.hop.ip
        if self._key is None or not self._keep_sealed or ip is None:
            return None
        if not is_in(ip, (*LOOPBACK, *self._trust.networks)):
            return None
        names = (f"{self._prefix}{header.VERDICT}", f"{self._prefix}{header.SEAL}", "Message-ID")
        values = [_values(mail, name) for name in names]
        if any(len(found) != 1 for found in values):
            return None
        (verdict,), (sealed,), (message_id,) = values
        if not message_id or not seal.holds(self._key, sealed, verdict, message_id):
            return None
        try:
            said = header.parse(verdict)
        except ValueError:  # another version's
            return None
        fields = header.fields_of(said, self._prefix)
        if "".join(fields[0][1].split()) != "".join(verdict.split()):
            return None
        *words, mac = sealed.split()
        fields += ((names[1], f"{' '.join(words)}\n\t{mac}"),)
        log = {"origin": str(said.origin or "none"), "verdict": said.label.value, "why": "sealed"}
        return Judgement(fields, LogFields(log))

    def _origin(self, mail: Transaction) -> tuple[Chain, Origin]:
        chain = received.parse(mail.headers, mail.hop)
        return chain, origin.find(chain, self._trust)

    def _ticket(self, mail: Transaction, found: Origin, begun: Begun | None) -> Ticket:
        """The ticket begun before, if it is for this origin and all that the mail says of it: at
        connect neither HELO nor sender were known.  A new one joins what that one started."""
        before = begun if isinstance(begun, Ticket) else None
        if before is not None and before.target == target_of(found, mail.sender_domain) is not None:
            return before
        return self._engine.begin(found, self._policy, mail.sender_domain, before)


def _values(mail: Transaction, name: str) -> list[str]:
    """The values of the fields called *name*."""
    same = name.lower()
    return [v.decode("latin-1").strip() for n, v in mail.headers if n.strip().lower() == same]


def _failed(prefix: str, host: str) -> Judgement:
    """Without a seal: what failed may have been the sealing."""
    verdict = Verdict(Label.UNKNOWN, 0.0, Origin(OriginWhy.UNREADABLE), why="internal error")
    return Judgement(header.render(verdict, prefix, host), log_fields(verdict))


def log_fields(verdict: Verdict) -> LogFields:
    """``origin=… verdict=… score=… rdns=answered smtp=late`` and why, where that needs saying."""
    fields = {
        "origin": str(verdict.origin.ip or "none"),
        "verdict": verdict.label.value,
    }
    if verdict.label.is_judged:
        fields["score"] = f"{verdict.score:.1f}"
    if why := _forbidden(verdict) or verdict.why:
        fields["why"] = why
    return LogFields(fields | {seen.probe: seen.status.value for seen in verdict.missing})


#: What keeps a probe from looking at a host of which it might have told something.
_FORBIDS = (plan.RATE_LIMIT, OPTED_OUT, NOT_READ)


def _forbidden(verdict: Verdict) -> str:
    """The first such reason where nothing came of it, or nothing."""
    if verdict.label is not Label.UNKNOWN:
        return ""
    reasons = (seen.reason for seen in verdict.missing)
    return next((reason for reason in reasons if reason.startswith(_FORBIDS)), "")
