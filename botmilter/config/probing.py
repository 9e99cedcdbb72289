"""The table ``[probe]`` and those below it, one for each probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from botmilter import kinds
from botmilter.config.values import Addresses, AtOnce, Limit, Networks, PerTime, Table


class Probe(Table):
    """What every probe's table has."""

    enabled: bool = True
    """Whether the probe is used at all."""
    limit_s: Limit = 5.0
    at_once: AtOnce = 32


class Rdns(Probe):
    limit_s: Limit = 4.0
    neighbours: bool = True
    """Whether the names of the addresses beside it count."""


class Smtp(Probe):
    limit_s: Limit = 8.0
    ehlo_name: Annotated[str, AfterValidator(kinds.host)] = ""
    """The name we greet with; empty: this host's own."""


class Ping(Probe):
    limit_s: Limit = 2.0


class Osdetect(Probe):
    limit_s: Limit = 15.0
    at_once: AtOnce = 2
    ipv6: bool = False
    """Whether IPv6 hosts are fingerprinted too."""


class Senderhost(Probe):
    limit_s: Limit = 4.0


class P0f(Probe):
    limit_s: Limit = 0.5
    at_once: AtOnce = 16
    socket: str = ""
    """API socket of a running p0f 3; empty: the probe is off."""


class Zone(Table):
    """One list to ask; written as ``[[probe.dnsbl.zones]]``."""

    name: Annotated[str, Field(min_length=1), AfterValidator(kinds.host)]
    welcome: bool = False
    """Whether a listing speaks for the host."""
    codes: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Strength of each answer address, in which ``*`` stands for anything, the first that fits
    counts; empty: any answer within 127.0.0.0/8 counts fully."""


class Dnsbl(Probe):
    limit_s: Limit = 4.0
    zones: Annotated[tuple[Zone, ...], Strict(False)] = ()
    """Lists to ask: { name, welcome, codes }; none: the probe is off."""


class Probes(Table):
    allow_networks: Networks = ()
    """Reserved networks that may be probed after all: a laboratory's."""
    never_networks: Networks = ()
    """Networks that never get a packet from us."""
    nameservers: Annotated[
        tuple[Annotated[str, AfterValidator(kinds.address)], ...], Strict(False)
    ] = ()
    """Resolvers to ask; empty: those of /etc/resolv.conf."""
    control_hosts: Addresses = ()
    """Hosts known to answer, asked when all others look the same; none: the past decides."""
    settle_s: Annotated[float, Field(ge=0, le=60)] = 0.3
    """How long nmap waits for the cheap probes, or the MTA, to make it needless."""
    queue_limit: Annotated[int, Field(ge=0, le=100_000)] = 256
    """Measurements of one kind that may wait for a free thread."""
    in_all_per_minute: PerTime = 600
    """Measurements that send packets to a host, of all hosts together."""
    per_network_per_minute: PerTime = 60
    """The same for all hosts of one /24 (IPv6: /48)."""
    per_host_per_hour: PerTime = 30
    """The same for one host (IPv6: one /64)."""
    rdns: Rdns = Rdns()
    smtp: Smtp = Smtp()
    ping: Ping = Ping()
    osdetect: Osdetect = Osdetect()
    dnsbl: Dnsbl = Dnsbl()
    senderhost: Senderhost = Senderhost()
    p0f: P0f = P0f()
