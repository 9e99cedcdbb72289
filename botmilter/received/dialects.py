"""Who wrote a ``Received:`` line, and what that program means by it.

One row per program.  A row is chosen by what stands *behind* the ``by`` keyword, which the
receiver wrote; the HELO name, which the client chose, is never looked at.  Rows differ in one
question only: where the receiver noted nothing but an address beside the first name, is that name
the HELO, the looked-up name, or both (qmail and Exim leave the HELO out where it equals the
name)?  Where a line answers that itself, with ``(name [address])`` or ``(HELO name)``, the row is
not asked.

Most are read from the programs' sources or manuals (Postfix ``smtpd.c``, Exim's
``received_header_text``, qmail's ``received.c``), the closed ones from their mail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum


class First(Enum):
    """What the first name is where nothing else is noted beside it but the address."""

    HELO = "helo"
    BOTH = "both"
    """The receiver leaves the HELO out where it equals the looked-up name."""
    RDNS = "rdns"
    NEITHER = "neither"
    """A webmail: its client is a browser."""


@dataclass(frozen=True, slots=True)
class Dialect:
    name: str
    marks: tuple[str, ...] = ()
    """Any of these in the text behind ``by``, case as written."""
    bracketed: First = First.HELO
    """``name ([192.0.2.7])`` and ``name [192.0.2.7]``"""
    bare: First = First.BOTH
    """``name (192.0.2.7)``"""
    verifies: bool | None = None
    """Whether it notes only names that lead back to the address; None: not known."""
    is_http_login: bool = True
    """Whether ``with HTTP`` means that a user of a webmail was logged in (SpamAssassin's view)."""
    is_local: bool = False
    """Whether it only repeats a handover that another line tells of."""
    id_is_version: bool = False
    """Whether ``id`` names the program's version: no id at all."""
    may_hide_client: bool = False
    """Whether a line without an address may tell of a mail that came over the network: as some
    sites run it, it notes what the client called itself and no more."""

    @property
    def puts_helo_first(self) -> bool:
        """Whether all that stands left of the address is the HELO."""
        return self.verifies is True and self.bracketed is First.HELO


POSTFIX = Dialect("postfix", ("Postfix",), verifies=True)

#: The first row whose mark is found counts; the commonest stand on top.
DIALECTS: tuple[Dialect, ...] = (
    POSTFIX,
    Dialect(
        "exchange",
        (
            "Microsoft SMTP Server",
            " with mapi id",
            " with ShadowRedundancy id",
            ".outlook.com with HTTPS",
            ".OUTLOOK.COM with HTTPS",
            ".exchangelabs.com with HTTPS",
        ),
        bare=First.HELO,
        is_http_login=False,
        id_is_version=True,
    ),
    Dialect("google", ("google.com with", "gmail.com with", "googlemail.com with")),
    Dialect(
        "fetchmail",
        ("fetchmail-", " getmail", "POP3 Connector", "pop3connector"),
        bare=First.RDNS,
        bracketed=First.RDNS,
    ),
    Dialect("exim", ("Exim",), bracketed=First.BOTH, verifies=True),
    Dialect("smtpsvc", ("Microsoft SMTPSVC",), bare=First.HELO),
    Dialect("exchange-5", ("Internet Mail Service", "Microsoft Exchange"), bare=First.HELO),
    Dialect("communigate", ("CommuniGate Pro",), bracketed=First.BOTH, verifies=True),
    Dialect("qmail-scanner", ("with qmail-scanner",), is_local=True),
    Dialect("qmail", ("qmail-ldap", "qpsmtpd", "qp ", "invoked ")),
    Dialect("lmtp", (" with LMTP",)),
    Dialect("amavis", ("amavisd",)),
    Dialect("iplanet", ("iPlanet Messaging", "Sun Java System", "Oracle Communications Messaging")),
    Dialect("sendgrid", ("(SG)", "SG with", "ismtpd", "recvd-"), bare=First.HELO),
    Dialect("powermta", ("PowerMTA",), bare=First.HELO),
    Dialect("coremail", ("Coremail",)),
    Dialect("yandex", ("Yandex with", "/Yandex")),
    Dialect("momentum", ("ecelerity",), bracketed=First.RDNS),
    Dialect("ses", ("SimpleEmailService",), bare=First.HELO),
    Dialect("mdaemon", ("MDaemon",), bare=First.HELO, may_hide_client=True),
    Dialect("mercury", ("Mercury",), bare=First.HELO),
    Dialect("imail", ("SMTPD32", "IMail"), bare=First.HELO),
    Dialect("xmail", ("[XMail",), bare=First.HELO),
    Dialect("nemesis", ("Nemesis",)),
    Dialect("gmx", ("mail.gmx.net", "mail.gmx.com")),
    Dialect("domino", ("Lotus Domino", "IBM Domino", "HCL Domino"), bare=First.HELO),
    Dialect("os400", ("IBM OS/400",)),
    Dialect("smail", ("Smail",), bare=First.HELO),
    Dialect("lsmtp", ("LSMTP",), bare=First.HELO, may_hide_client=True),
    Dialect("vpop3", ("running VPOP3",), bare=First.HELO),
    Dialect("scalix", ("Scalix",), bare=First.HELO),
    Dialect("haraka", ("Haraka",)),
    Dialect("halon", ("Halon",)),
    Dialect("opensmtpd", ("OpenSMTPD",)),
    Dialect("hmailserver", ("hMailServer",), bare=First.HELO),
    Dialect("mailenable", ("MailEnable",), bare=First.HELO),
    Dialect("navgw", ("NAVGW",)),
    Dialect("smap", (" via smap", " via csmap"), bare=First.RDNS),
    Dialect("obtuse", (" id smtpd",), bare=First.RDNS),
    Dialect("courier", ("courier",)),
    Dialect(
        "yahoo",
        (
            *("NNFMP", "yahoo.com with", "yahoo.co.jp with", "yahoodns.net with"),
            "Hermes SMTP Server",
        ),
    ),
    Dialect("aliyun", ("aliyun", "alibaba")),
)

_ROWS = tuple((mark, dialect) for dialect in DIALECTS for mark in dialect.marks)

#: ``(8.14.4/8.14.4)``, ``(8.11.6/8.11.6/Debian 8.11.6-2)``, ``(SGI-8.9.3/8.8.7)``, ``(8.12.1/)``,
#: ``(AIX4.3/8.9.3/8.9.3)``, ``(8.9.3 (PHNE_18546)/8.8.6)``, ``(Sentrion-MTA-4.2.2/4.2.2)``
_SENDMAIL = re.compile(
    r"(?!NTMail )(?:AIX\d[\d.]*/|Sentrion-MTA-|[A-Za-z]+[- ])?\d+\.\d+[\w.+-]*(?: \(\w+\))?/"
)
SENDMAIL = Dialect("sendmail", verifies=True)

#: qmail-smtpd itself signs nothing; it is known by how it names the peer.
QMAIL = Dialect("qmail")

UNKNOWN = Dialect("", may_hide_client=True)


def recognise(tail: str, first_comment: str) -> Dialect:
    """The row for a line whose text from the ``by`` name on is *tail*."""
    if _SENDMAIL.match(first_comment) is not None:
        return SENDMAIL
    for mark, dialect in _ROWS:
        if mark in tail:
            return dialect
    return UNKNOWN


@dataclass(frozen=True, slots=True)
class Protocol:
    """A ``with`` type: RFC 3848, RFC 6531, and what programs write instead."""

    name: str
    authenticated: bool = False
    tls: bool = False
    is_fetch: bool = False


PROTOCOLS: dict[str, Protocol] = {
    row.name: row
    for row in (
        Protocol("SMTP"),
        Protocol("ESMTP"),
        Protocol("ESMTPA", authenticated=True),
        Protocol("ESMTPS", tls=True),
        Protocol("ESMTPSA", authenticated=True, tls=True),
        Protocol("LMTP"),
        Protocol("LMTPA", authenticated=True),
        Protocol("LMTPS", tls=True),
        Protocol("LMTPSA", authenticated=True, tls=True),
        Protocol("UTF8SMTP"),
        Protocol("UTF8SMTPA", authenticated=True),
        Protocol("UTF8SMTPS", tls=True),
        Protocol("UTF8SMTPSA", authenticated=True, tls=True),
        Protocol("UTF8LMTP"),
        Protocol("UTF8LMTPA", authenticated=True),
        Protocol("UTF8LMTPS", tls=True),
        Protocol("UTF8LMTPSA", authenticated=True, tls=True),
        Protocol("ASMTP", authenticated=True),  # Exim before 4.40
        Protocol("SSMTP", tls=True),
        Protocol("SMTPS", tls=True),  # Yahoo, Zoho
        Protocol("HTTP"),  # a login as well, unless the dialect says otherwise
        Protocol("HTTPS", tls=True),
        Protocol("HTTPU"),
        Protocol("QMQP"),
        Protocol("LOCAL"),
        Protocol("POP3", is_fetch=True),
        Protocol("POP3S", is_fetch=True, tls=True),
        Protocol("IMAP", is_fetch=True),
        Protocol("IMAPS", is_fetch=True, tls=True),
        Protocol("IMAP4", is_fetch=True),
    )
}


def is_smtp(protocol: Protocol | None) -> bool:
    """Whether the mail came by SMTP in any of its forms, over the network as a rule."""
    return protocol is not None and protocol.name in PROTOCOLS and "SMTP" in protocol.name


def protocol(words: list[str]) -> Protocol | None:
    """The meaning of a ``with`` clause; None where there is none."""
    if not words:
        return None
    known = PROTOCOLS.get(words[0].upper().rstrip(",;"))
    if known is not None:
        return known
    text = " ".join(words).rstrip(",;")
    upper = text.upper()
    if upper.startswith(("POP3", "IMAP")):  # POP3-SSL, IMAP4-SSL: getmail
        return Protocol(upper, is_fetch=True, tls="SSL" in upper)
    base, _, rest = upper.partition("/")
    if rest and base in PROTOCOLS:  # HTTP/1.1, IronPort's ESMTP/TLS/ECDHE-RSA-AES256-GCM-SHA384
        return replace(PROTOCOLS[base], tls=PROTOCOLS[base].tls or "TLS" in rest)
    if upper.startswith("LOCAL"):  # Exim's local-smtp, local-esmtp, local-bsmtp
        return Protocol(upper)
    if upper.startswith("MICROSOFT") or len(words) == 1:
        return Protocol(text)
    # "RC4-SHA encrypted SMTP", "[XMail 1.20 ESMTP Server]", "MailEnable ESMTP"
    for word in words:
        if word.upper() in ("SMTP", "ESMTP"):
            return Protocol(word.upper(), tls="encrypted" in text)
    return Protocol(text)
