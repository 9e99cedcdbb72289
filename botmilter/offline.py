"""What a saved mail's own header says about its origin: no packet, no look-up.  Pure.

The host that received the mail noted what it saw: the client's greeting and the name it looked
up.  That is an old observation of ours, made by somebody else; :func:`border_signals` reads it as
the ``rdns`` probe would read a new one.  :func:`signals` adds what :mod:`botmilter.written` finds;
the chain's contradictions come from :mod:`botmilter.received.forgery`.

A receiver that notes no names (Exchange) leaves the question open: *no name noted* is then not
*no name*.
"""

from __future__ import annotations

from collections.abc import Iterator

from botmilter import names, written
from botmilter.model import Chain, Hop, Origin, Signal

#: Programs whose line has a place for the looked-up name, so that its absence means something.
#: Sources as in :mod:`botmilter.received.dialects`.
NOTES_NAMES = frozenset(
    {"postfix", "sendmail", "exim", "qmail", "courier", "google", "communigate", "opensmtpd"}
)

#: Of what the rdns probe makes of a confirmed name: the look-up is as old as the mail, what the
#: receiver's program calls confirmed is known from its manual only, and on real mail of one site
#: two of three wanted mails had it and one of four unwanted.
_CONFIRMED_BY_ANOTHER = 0.25


def signals(header: bytes, chain: Chain, origin: Origin) -> tuple[Signal, ...]:
    """All that *header* says of *origin*, but for the chain's own contradictions."""
    if origin.hop is None or origin.ip is None:
        return ()
    said = written.read(written.fields(header))
    return (*border_signals(origin.hop), *written.signals(said, chain, origin))


def border_signals(hop: Hop) -> tuple[Signal, ...]:
    """The names that the receiver of *hop* noted."""
    return (
        *_rdns_signals(hop),
        *names.helo_signals(hop.helo, hop.ip, hop.rdns),
        *_helo_against_no_name(hop),
        *_clear_signals(hop),
    )


def _rdns_signals(hop: Hop) -> Iterator[Signal]:
    if not hop.rdns:
        if hop.dialect in NOTES_NAMES:
            yield Signal("rdns.none", 1.0, "the receiver noted no name")
        return
    if hop.rdns_verified is False:
        yield Signal("rdns.unconfirmed", 1.0, hop.rdns)
    if dynamic := names.is_dynamic(hop.rdns, hop.ip):
        yield Signal("rdns.dynamic", dynamic.strength, f"{hop.rdns}: {dynamic.detail}")


def _helo_against_no_name(hop: Hop) -> Iterator[Signal]:
    if hop.helo and names.is_false_provider(hop.helo, hop.rdns):
        yield Signal("helo.provider", 1.0, hop.helo)


def _clear_signals(hop: Hop) -> Iterator[Signal]:
    """A confirmed name of public DNS that is not a pool's and that the client greets with."""
    if not hop.rdns or hop.rdns_verified is False or not hop.helo or not names.is_public(hop.rdns):
        return
    if names.clean(hop.rdns) == names.clean(hop.helo) and not names.is_dynamic(hop.rdns, hop.ip):
        yield Signal("host.confirmed", _CONFIRMED_BY_ANOTHER, hop.rdns)
