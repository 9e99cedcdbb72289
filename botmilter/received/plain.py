"""Lines of the commonest shape, read by one expression.  Pure, linear, never raises.

A quarter of all lines look just like this, nearly all of them Postfix' and sendmail's::

    from helo (rdns [192.0.2.7]) by mx (Postfix) with ESMTP id 4A for <u@example.org>; date

Here they take a third of the time that :mod:`~botmilter.received.grammar` and
:mod:`~botmilter.received.peer` need, which is a seventh of what a known host's mail takes in all.
Nothing that could mean something else gets through: names have the characters of host names and a
dot, so there is no parenthesis, quotation mark or keyword among them to be fooled by.  What is read
here is read there in the same way; tests hold that for whatever this expression takes.
"""

from __future__ import annotations

import re

from botmilter.model import Hop, HopKind, HopSource
from botmilter.received import dates, dialects, peer

_LABEL = r"[A-Za-z0-9_-]+"
_NAME = rf"{_LABEL}(?:\.{_LABEL})+"
_LINE = re.compile(
    rf"from (?P<helo>{_NAME}|{_LABEL}|\[[0-9.]+\])"
    rf" \((?P<rdns>{_NAME}|localhost|unknown) \[(?P<ip>(?:IPv6:)?[0-9A-Fa-f:.]+)\]\)"
    r"(?P<tls> \(using TLSv[0-9.]+ with cipher [A-Z0-9_-]+ \(\d+/\d+ bits\)\)"
    r"(?: \(No client certificate requested\))?)?"
    rf" by (?P<by>{_NAME})(?: \((?P<program>Postfix|[0-9./]+)\))?"
    r" with (?P<protocol>[A-Za-z]+) id (?P<id>[A-Za-z.-]*[0-9][A-Za-z0-9.-]*)"
    r"(?: for <(?P<envelope_for>[A-Za-z0-9_.+=-]+@[A-Za-z0-9.-]+)>)?"
    r"; [A-Z][a-z]{2}, (?P<day>[0-9]{1,2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4})"
    r" (?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) (?P<offset>[+-][0-9]{4})"
    r"(?: \([A-Z]{1,5}\))?"
)
_PROTOCOLS = {
    written: protocol
    for name, protocol in dialects.PROTOCOLS.items()
    if name.startswith(("SMTP", "ESMTP", "LMTP"))
    for written in (name, name.lower())
}


def read(text: str, index: int) -> Hop | None:
    """The hop that *text*, an unfolded line, tells of; None where it is of another shape."""
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    parts = found.groups()
    helo, rdns, address, tls, by, program, with_, id_, envelope_for = parts[:9]
    ip = peer.address(address)
    protocol = _PROTOCOLS.get(with_)
    at = dates.make(*parts[9:])
    dialect = dialects.POSTFIX
    if program != "Postfix":
        words = (by, program, "with", with_, "id", id_, "for" if envelope_for else None)
        dialect = dialects.recognise(" ".join(filter(None, words)), program or "")
    if ip is None or protocol is None or at.at is None:
        return None
    if dialect.is_local or dialect.id_is_version or dialect.name == "fetchmail":
        return None
    name = peer.clean_rdns(rdns)
    return Hop(
        index=index,
        source=HopSource.HEADER,
        kind=HopKind.RELAY,
        ip=ip,
        rdns=name,
        rdns_verified=None if name is None else dialect.verifies,
        helo=helo,
        by=by,
        protocol=protocol.name,
        authenticated=protocol.authenticated,
        tls=protocol.tls or tls is not None,
        id=id_,
        envelope_for=envelope_for,
        at=at.at,
        at_defect=at.defect,
        dialect=dialect.name,
        raw=text,
    )
