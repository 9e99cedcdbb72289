"""The way out: the resolver, the lists, port 25, ICMP.

Nobody is asked but the configured resolver and hosts that the admin named.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from botmilter.cli.doctor.findings import Finding, Findings, ok, unchecked, wrong
from botmilter.clock import Deadline
from botmilter.config import Settings
from botmilter.errors import SetupError
from botmilter.lookup import LookupTrouble, Resolver
from botmilter.model import IPAddress
from botmilter.net import dnsbl_name, parse_ip, printable
from botmilter.probes.dnsbl import Zone
from botmilter.probes.ping import echo

_LIMIT_S = 8.0
#: Listed in every list, and listed in none (RFC 5782, section 5).
_LISTED, _UNLISTED = ip_address("127.0.0.2"), ip_address("127.0.0.1")

_NAME_A_HOST = (
    "name a mail server of yours or your provider's: --port25-host, or [probe] control_hosts"
)


def resolver(asked: Resolver, own: Iterable[IPAddress]) -> Findings:
    """Whether the resolver answers, by the name of an address of this machine's."""
    ip = min(own, key=lambda ip: (not ip.is_global, ip.is_loopback, str(ip)), default=_UNLISTED)
    try:
        asked.pointers(ip, Deadline.after(_LIMIT_S))
    except LookupTrouble as trouble:
        yield wrong(
            "resolver",
            f"does not answer: {trouble}",
            "run a caching resolver on this machine, such as unbound, and name it in"
            " /etc/resolv.conf or [probe] nameservers",
        )
    else:
        yield ok("resolver", "answers")


def zones(asked: Resolver, chosen: Settings) -> Findings:
    """Whether each configured list tells our resolver what it knows (RFC 5782)."""
    for configured in chosen.probe.dnsbl.zones:
        zone = Zone(configured.name, configured.welcome, configured.codes)
        try:
            listed = _codes(asked, _LISTED, zone.name)
            unlisted = _codes(asked, _UNLISTED, zone.name)
        except LookupTrouble as trouble:
            yield wrong("dnsbl", f"{zone.name}: {trouble}", "look whether the list still exists")
        else:
            yield judged(zone, listed, unlisted)


def judged(zone: Zone, listed: Sequence[str], unlisted: Sequence[str]) -> Finding:
    """What *zone*'s answers about the two test addresses mean."""
    if any(zone.refuses(code) for code in listed):
        return wrong(
            "dnsbl",
            f"{zone.name} refuses our resolver ({', '.join(listed)})",
            "ask through a resolver of your own, not a public or a provider's one; or get a key"
            " from the list",
        )
    if unlisted:
        return wrong(
            "dnsbl",
            f"{zone.name} lists 127.0.0.1, so it lists everybody",
            "take it out of [probe.dnsbl] zones",
        )
    if not listed:
        return wrong(
            "dnsbl",
            f"{zone.name} does not list its test address 127.0.0.2",
            "look whether the name is right, the list still exists and serves your resolver",
        )
    return ok("dnsbl", f"{zone.name} answers")


def _codes(asked: Resolver, ip: IPAddress, zone: str) -> tuple[str, ...]:
    return asked.ask(dnsbl_name(ip, zone), "A", Deadline.after(_LIMIT_S)).texts


def port_25(chosen: Settings, hosts: Sequence[str]) -> Findings:
    """Whether one of *hosts* greets us on port 25."""
    if not chosen.probe.smtp.enabled:
        yield unchecked("port25", "[probe.smtp] is switched off")
    elif not hosts:
        yield unchecked("port25", "nobody is contacted unasked", _NAME_A_HOST)
    else:
        troubles = []
        for host in hosts:
            trouble = _greeting_trouble(host)
            if trouble is None:
                yield ok("port25", f"{host} greets")
                return
            troubles.append(f"{host}: {trouble}")
        yield wrong(
            "port25",
            "; ".join(troubles),
            "if your provider blocks port 25, switch [probe.smtp] off: it only costs time, and no"
            " host becomes a bot either way but by a DNSBL",
        )


def _greeting_trouble(host: str) -> str | None:
    try:
        with socket.create_connection((host, 25), _LIMIT_S) as connection:
            connection.settimeout(_LIMIT_S)
            greeting = connection.recv(512)
            connection.sendall(b"QUIT\r\n")
    except (OSError, UnicodeError) as error:
        return str(error) or type(error).__name__
    return None if greeting[:3].isdigit() else f"no mail server: {printable(greeting, 60)}"


def icmp(chosen: Settings, hosts: Sequence[str], may_ask: bool) -> Findings:
    """Whether one of *hosts* answers to a ping."""
    addresses = [ip for ip in map(parse_ip, hosts) if ip is not None]
    if not chosen.probe.ping.enabled:
        return
    if not addresses or not may_ask:
        why = "nobody is contacted unasked" if may_ask else "only root can tell"
        yield unchecked("icmp", why, "name addresses in [probe] control_hosts" if may_ask else "")
        return
    for ip in addresses:
        try:
            if echo(ip, _LIMIT_S / 2)["rtt_s"] is not None:
                yield ok("icmp", f"{ip} answers to ping")
                return
        except SetupError:
            continue
    yield wrong(
        "icmp",
        f"no answer to ping from {', '.join(map(str, addresses))}",
        "let ICMP echo out and its answers in, or switch [probe.ping] off",
    )
