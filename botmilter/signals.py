"""Every signal: its public name, its group, its default weight, its meaning and where that
comes from.

Names are promises: configurations, SpamAssassin rules and Sieve scripts are written against them.
The groups' rules are in :mod:`botmilter.score`.  ``docs/signals.md`` is compared with this table
by a test.  Weights are points on SpamAssassin's scale; the reasoning behind them is in
``docs/scoring.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    OS = "os"
    """What the host runs: the strongest alone counts."""
    SERVICE = "service"
    """What answers on port 25: one of them."""
    PAIR = "pair"
    """Facts that weigh more together than apart; never emitted by a probe, found in the score."""
    NAMES = "names"
    """What the host is called and calls itself: they are correlated and do not simply add."""
    CLEAR = "clear"
    """Speaks for a mail server: counts once."""
    DNSBL = "dnsbl"
    CHAIN = "chain"
    """The mail's header contradicts itself."""
    PATH = "path"
    """What the mail program wrote of time and place, held against how the mail came."""
    NOTE = "note"
    """Said for the reader; no points by default."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    group: Group
    weight: float
    meaning: str
    source: str = ""


_STUDY = "the 2009 study's definition of a bot"
_BOTNET = "SpamAssassin RDNS_*, Botnet plugin, rspamd hfilter"

TABLE: tuple[Row, ...] = (
    # os
    Row("os.client", Group.OS, 3.0, "every best match of nmap is a client system", _STUDY),
    Row("os.both", Group.OS, 2.0, "matches fit a client and a server system alike", _STUDY),
    Row("os.appliance", Group.OS, 2.0, "router, camera, printer and the like", "IoT botnets"),
    Row("os.unix", Group.OS, -1.0, "a general-purpose Unix", _STUDY),
    Row("os.server", Group.OS, 0.0, "a server system that no client system looks like", _STUDY),
    Row("p0f.client", Group.OS, 2.0, "p0f names a client-only system", "amavis with p0f"),
    Row("p0f.both", Group.OS, 1.0, "p0f says 'Windows NT kernel'", "amavis with p0f"),
    Row("p0f.unix", Group.OS, -0.5, "p0f names a Unix", "amavis with p0f"),
    Row("os.disagreement", Group.NOTE, 0.0, "p0f and nmap differ: NAT or a proxy"),
    # service
    Row("smtp.refused", Group.SERVICE, 1.5, "port 25 answers with a reset", _STUDY),
    Row("smtp.filtered", Group.SERVICE, 1.5, "nothing answers on port 25", _STUDY),
    Row("smtp.banner", Group.SERVICE, -3.0, "a 220 greeting", _STUDY),
    Row(
        "smtp.rejecting",
        Group.SERVICE,
        -3.0,
        "a 4xx or 5xx greeting: a server all the same",
        "RFC 5321, 3.1",
    ),
    Row("smtp.slow", Group.SERVICE, -3.0, "connected, no greeting yet", "postscreen waits 6 s"),
    Row("smtp.other", Group.SERVICE, 0.0, "something that is not SMTP listens on port 25"),
    Row("smtp.ehlo_match", Group.NOTE, 0.0, "names itself as in its PTR record or its HELO"),
    # pair
    Row("pair.client_no_service", Group.PAIR, 2.5, "a client system that offers no mail", _STUDY),
    # names
    Row("rdns.none", Group.NAMES, 1.0, "the address has no name", _BOTNET),
    Row("rdns.unconfirmed", Group.NAMES, 0.5, "the name does not lead back", _BOTNET),
    Row("rdns.dynamic", Group.NAMES, 1.5, "the name looks like a customer pool's", _BOTNET),
    Row(
        "rdns.pool",
        Group.NAMES,
        1.5,
        "the neighbours' names are one numbered template",
        "our own: a pool is named by a program",
    ),
    Row(
        "helo.own_name",
        Group.NAMES,
        1.5,
        "greets with our own or a trusted name or address",
        "the study's example header",
    ),
    Row(
        "helo.bare_address",
        Group.NAMES,
        1.0,
        "greets with an address outside brackets",
        "RFC 5321, 4.1.3",
    ),
    Row("helo.mismatch", Group.NAMES, 0.5, "greets with another name than its own", _BOTNET),
    Row("helo.no_dot", Group.NAMES, 0.5, "greets with a name of one label", _BOTNET),
    Row(
        "helo.literal_mismatch",
        Group.NAMES,
        0.5,
        "its address literal is not its address",
        "RFC 5321, 4.1.3",
    ),
    Row("helo.dynamic", Group.NAMES, 1.0, "greets with a customer pool's name", _BOTNET),
    Row("helo.unresolved", Group.NAMES, 0.5, "greets with a name that does not exist", _BOTNET),
    Row(
        "helo.no_tld",
        Group.NAMES,
        0.5,
        "greets under a top-level domain that is none",
        "RFC 5321, 2.3.5",
    ),
    Row(
        "helo.provider",
        Group.NAMES,
        1.5,
        "greets as a large mail provider it is no host of",
        "SpamAssassin FAKE_HELO_*",
    ),
    # clear
    Row(
        "host.confirmed",
        Group.CLEAR,
        -2.0,
        "confirmed server-like name, equal to its HELO",
        "RFC 8501; what every large receiver asks of servers",
    ),
    Row(
        "host.mx",
        Group.CLEAR,
        -2.0,
        "an MX host of the sender's domain",
        "Botnet plugin's users lost mail of small offices",
    ),
    Row(
        "host.a",
        Group.CLEAR,
        -2.0,
        "an A host of the sender's domain",
        "Botnet plugin's users lost mail of small offices",
    ),
    Row("host.spf", Group.CLEAR, -2.0, "named by address in the sender's SPF record", "RFC 7208"),
    # dnsbl
    Row("dnsbl.listed", Group.DNSBL, 3.0, "listed by a configured DNSBL", "RFC 5782"),
    Row("dnsbl.welcome", Group.DNSBL, -3.0, "listed by a configured DNSWL", "RFC 5782"),
    # chain
    Row(
        "chain.by_is_helo",
        Group.CHAIN,
        1.0,
        "a line below claims the greeting's name as its by",
        "the study's example header",
    ),
    Row(
        "chain.broken_link",
        Group.CHAIN,
        0.5,
        "a line's by is not the next line's from",
        "RFC 5321, 4.4",
    ),
    Row(
        "chain.time_backwards",
        Group.CHAIN,
        0.5,
        "a lower line is later than the one above it",
        "the study's example header",
    ),
    Row("chain.bad_zone", Group.CHAIN, 0.5, "a time zone that does not exist", "RFC 5322, 3.3"),
    Row(
        "chain.bad_date", Group.CHAIN, 0.5, "a date far from the receipt, or none", "RFC 5322, 3.3"
    ),
    Row(
        "chain.date_in_address",
        Group.CHAIN,
        1.0,
        "a date where an address belongs",
        "ratware of the 2000s",
    ),
    Row(
        "chain.false_by",
        Group.CHAIN,
        1.0,
        "claims a by whose hosts never write such a line",
        "SpamAssassin FORGED_*_RCVD",
    ),
    # path
    Row("mail.date_ahead", Group.PATH, 1.0, "Date: is later than the receipt", "servers keep time"),
    Row(
        "mail.date_behind",
        Group.PATH,
        0.7,
        "Date: is hours before the receipt",
        "RFC 5322, 3.6.1; MTAs warn after 4 hours",
    ),
    Row(
        "mail.bad_zone",
        Group.PATH,
        1.5,
        "Date: in a time zone that does not exist",
        "RFC 5322, 3.3",
    ),
    Row("mail.no_date", Group.PATH, 0.5, "no Date:, or none that can be read", "RFC 5322, 3.6.1"),
    Row("mail.no_id", Group.PATH, 0.5, "no Message-ID:", "RFC 5322, 3.6.4"),
    Row("mail.bad_id", Group.PATH, 0.5, "a Message-ID: without a host", "RFC 5322, 3.6.4"),
    Row(
        "mail.false_id",
        Group.PATH,
        2.0,
        "an Outlook Message-ID: whose time is not the mail's",
        "SpamAssassin MSGID_OUTLOOK_INVALID",
    ),
    Row(
        "mail.id_ours",
        Group.PATH,
        1.0,
        "the receiving host had to add the Message-ID:",
        "RFC 5321, 6.4: added for a client that lacks it",
    ),
    Row(
        "mail.false_sender",
        Group.PATH,
        1.0,
        "a large provider's sender, no host of it on the way",
        "SPF and DMARC policies of these providers",
    ),
    Row(
        "path.direct",
        Group.PATH,
        0.7,
        "nothing below the border: made on the spot",
        "RFC 5321, 4.4",
    ),
    Row(
        "path.relayed",
        Group.PATH,
        -0.5,
        "the line below names the origin as it names itself",
        "RFC 5321, 4.4",
    ),
    Row(
        "path.own_bounce",
        Group.PATH,
        -0.5,
        "wants its errors back in its own domain",
        "RFC 5321, 4.4: whom to tell",
    ),
    Row(
        "path.list",
        Group.PATH,
        -1.0,
        "list fields of the bounce's or the origin's domain",
        "RFC 2369, RFC 2919",
    ),
    # ping
    Row("ping.answered", Group.NOTE, 0.0, "answers to ICMP echo"),
    Row("ping.silent", Group.NOTE, 0.0, "no answer to ICMP echo; means nothing by itself"),
)

BY_NAME: dict[str, Row] = {row.name: row for row in TABLE}

DEFAULT_WEIGHTS: dict[str, float] = {row.name: row.weight for row in TABLE}
