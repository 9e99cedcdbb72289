"""Ready-made hosts: the demonstration's, the end-to-end tests', the benchmarks'.

Every address is in 198.18.0.0/15, every name below ``example``.  Where to look who is who:

* bots: INFECTED_PC (nothing on port 25), INFECTED_BEHIND_FORWARDER (port 25 refused), WINDOWS_7,
  WINDOWS_10, WINDOWS_98, CAMERA, HOME_ROUTER;
* suspects: VISTA_OR_2008;
* mail servers: MAIL_SERVER, BSD_MAIL_SERVER, EXCHANGE, FORWARDER, CLOUD_SENDER (does not listen);
* trouble: BLACK_HOLE, TARPITTED, GARRULOUS, SLOW_SERVER, REJECTING, NOT_SMTP; LYING_PING,
  PING_BY_ANOTHER, CUT_PING, CUT_PING_ERROR.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from tests.lab.dns import Record, txt
from tests.lab.host import (
    ENDLESS,
    FILTERED,
    OPEN,
    TARPIT,
    Does,
    Host,
    Ping,
    Port,
    banner,
    black_hole,
    smtp,
)

XP = "Microsoft Windows XP SP3"
W98 = "Microsoft Windows 98 SE"
W7 = "Microsoft Windows 7 SP0 - SP1"
W10 = "Microsoft Windows 10 1709 - 1909"
SERVER_2003 = "Microsoft Windows Server 2003 SP2"
SERVER_2008 = "Microsoft Windows Server 2008 R2 SP1"
SERVER_2012 = "Microsoft Windows Server 2012 R2"
SERVER_2016 = "Microsoft Windows Server 2016"
VISTA_7_2008 = "Microsoft Windows Vista SP1 - SP2, Windows Server 2008 SP2, or Windows 7"
LINUX = "Linux 4.15 - 5.6"
FREEBSD = "FreeBSD 12.0-RELEASE - 13.0-CURRENT"
ROUTER = "TP-LINK TL-R470T router"
WEBCAM = "AXIS 205 Network Camera, Buffalo TeraStation NAS device, Linksys WAP54G WAP, \
or Sony SNC-RZ50N network camera"
PRINTER = "HP LaserJet 4250 printer"

_WINDOWS = {135: OPEN, 139: OPEN, 445: OPEN}


def dynamic_name(ip: str, zone: str = "pool.isp.example") -> str:
    return f"{ip.replace('.', '-')}.{zone}"


def pc(ip: str, persona: str, at_25: Port = FILTERED) -> Host:
    """A Windows PC at home, with its provider's name."""
    return Host(IPv4Address(ip), persona, {**_WINDOWS, 25: at_25}, names=(dynamic_name(ip),))


def server(ip: str, persona: str, name: str, at_25: Port | None = None) -> Host:
    """A mail server with a confirmed name."""
    greeting = smtp(f"{name} ESMTP") if at_25 is None else at_25
    return Host(IPv4Address(ip), persona, {25: greeting, 22: OPEN}, names=(name,))


INFECTED_PC = pc("198.18.7.12", XP)
INFECTED_BEHIND_FORWARDER = replace(
    pc("198.18.9.77", XP), ports=_WINDOWS, names=(dynamic_name("198.18.9.77", "dsl.isp.example"),)
)
WINDOWS_98 = pc("198.18.7.98", W98)
WINDOWS_7 = pc("198.18.7.70", W7)
WINDOWS_10 = pc("198.18.7.100", W10)
VISTA_OR_2008 = pc("198.18.7.60", VISTA_7_2008)
HOME_ROUTER = Host(
    IPv4Address("198.18.8.20"), ROUTER, {80: OPEN}, names=(dynamic_name("198.18.8.20"),)
)
CAMERA = Host(IPv4Address("198.18.8.30"), WEBCAM, {80: OPEN}, names=(dynamic_name("198.18.8.30"),))
OFFICE_PRINTER = Host(IPv4Address("198.18.8.40"), PRINTER, {80: OPEN})

MAIL_SERVER = server("198.18.25.25", LINUX, "mail.proper.example")
BSD_MAIL_SERVER = server("198.18.25.26", FREEBSD, "mx.bsd.example")
EXCHANGE = replace(
    server(
        "198.18.25.30",
        SERVER_2016,
        "mail.office.example",
        smtp("mail.office.example Microsoft ESMTP MAIL Service ready"),
    ),
    other_ports=FILTERED,
)
FORWARDER = server("198.18.44.210", LINUX, "relay.forwarder.example")
CLOUD_SENDER = server("198.18.50.1", LINUX, "out-1.cloud.example", at_25=FILTERED)

BLACK_HOLE = black_hole("198.18.66.6", dynamic_name("198.18.66.6"))
TARPITTED = server("198.18.67.1", LINUX, "tarpit.example", TARPIT)
GARRULOUS = server("198.18.67.2", LINUX, "endless.example", ENDLESS)
SLOW_SERVER = server("198.18.67.3", LINUX, "slow.example", smtp("slow.example ESMTP", 6.0))
REJECTING = server("198.18.67.4", LINUX, "busy.example", banner("421 too busy"))
NOT_SMTP = server("198.18.67.5", LINUX, "shell.example", Port(Does.SAYS, "SSH-2.0-OpenSSH_9.2\r\n"))
LYING_PING = replace(pc("198.18.68.1", XP), ping=Ping.FALSE_TIME, names=())
PING_BY_ANOTHER = replace(LYING_PING, ip=IPv4Address("198.18.68.2"), ping=Ping.THIRD_HOST)
CUT_PING = replace(LYING_PING, ip=IPv4Address("198.18.68.3"), ping=Ping.CUT)
CUT_PING_ERROR = replace(LYING_PING, ip=IPv4Address("198.18.68.4"), ping=Ping.CUT_ERROR)

DEMO = (INFECTED_PC, INFECTED_BEHIND_FORWARDER, MAIL_SERVER, FORWARDER, BLACK_HOLE)

ALL = (
    *DEMO,
    *(WINDOWS_98, WINDOWS_7, WINDOWS_10, VISTA_OR_2008, HOME_ROUTER, CAMERA, OFFICE_PRINTER),
    *(BSD_MAIL_SERVER, EXCHANGE, CLOUD_SENDER),
    *(TARPITTED, GARRULOUS, SLOW_SERVER, REJECTING, NOT_SMTP),
    *(LYING_PING, PING_BY_ANOTHER, CUT_PING, CUT_PING_ERROR),
)

#: Beside the hosts' own names.
RECORDS = (
    Record("proper.example", "MX", "10 mail.proper.example."),
    Record("proper.example", "A", "198.18.25.80"),
    txt("proper.example", "v=spf1 mx -all"),
    Record("bsd.example", "MX", "10 mx.bsd.example."),
    Record("office.example", "MX", "10 mail.office.example."),
    txt("office.example", "v=spf1 ip4:198.18.25.30 -all"),
    txt("cloud.example", "v=spf1 include:_spf.cloud.example ~all"),
    txt("_spf.cloud.example", "v=spf1 ip4:198.18.50.0/24 ~all"),
    Record("forwarder.example", "MX", "10 relay.forwarder.example."),
    txt("forwarder.example", "v=spf1 mx -all"),
)
