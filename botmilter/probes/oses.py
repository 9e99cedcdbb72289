"""What kind of machine nmap's classes mean.  Pure; tables only.

nmap gives each match one or more classes: device type, vendor, family, generation.  What matters
here is whether people sit at such a machine (``client``), mail is served from it (``server``,
``unix``), or nobody does either (``appliance``: what IoT bots live on).  A generation that nmap
cannot tell from its server sibling is ``both``: the study's own error was to read Vista as
Windows Server.  Every device type and family of nmap's database has its row; a test walks the
installed file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"
    """Client and server editions share the network stack."""
    UNIX = "unix"
    """General-purpose Unix or Linux: what mail servers run on."""
    APPLIANCE = "appliance"
    """Router, camera, printer: no one at it, nobody patches it."""
    OTHER = "other"
    """Says nothing: a firewall or load balancer stands in front of others; exotic systems."""


@dataclass(frozen=True, slots=True)
class OsClass:
    """A ``Class`` line of nmap's database (nmap-os-db(5)), as its XML repeats it."""

    type: str
    vendor: str
    family: str
    generation: str
    accuracy: int
    """Percent."""


#: Generations of family Windows.  The study's clients are 95, 98, ME and XP.
WINDOWS: dict[str, Kind] = {
    "3.X": Kind.CLIENT,
    "95": Kind.CLIENT,
    "98": Kind.CLIENT,
    "Me": Kind.CLIENT,
    "XP": Kind.CLIENT,
    "Vista": Kind.CLIENT,
    "7": Kind.CLIENT,
    "8": Kind.CLIENT,
    "8.1": Kind.CLIENT,
    "10": Kind.CLIENT,
    "11": Kind.CLIENT,
    "NT": Kind.BOTH,  # Workstation and Server
    "2000": Kind.BOTH,  # Professional and Server
    "Longhorn": Kind.BOTH,  # what became Vista and Server 2008
    "2003": Kind.SERVER,
    "2008": Kind.SERVER,
    "2012": Kind.SERVER,
    "2016": Kind.SERVER,
    "2019": Kind.SERVER,
    "2022": Kind.SERVER,
    "PocketPC/CE": Kind.APPLIANCE,
    "Embedded Compact 7": Kind.APPLIANCE,
    "Phone": Kind.APPLIANCE,
}

#: Families whatever the device type says.
FAMILIES: dict[str, Kind] = {
    "Windows Mobile": Kind.APPLIANCE,
    "MS-DOS": Kind.CLIENT,
}

#: Families of general-purpose machines.  Apple sells one system for desk and rack.
GENERAL_PURPOSE: dict[str, Kind] = {
    **dict.fromkeys(("Mac OS X", "OS X", "macOS", "Mac OS"), Kind.BOTH),
    **dict.fromkeys(
        ("Linux", "FreeBSD", "OpenBSD", "NetBSD", "DragonFly BSD", "BSD", "PC-BSD", "BSD/OS",
         "Solaris", "OpenSolaris", "OpenIndiana", "SmartOS", "Nexenta", "SunOS", "AIX", "HP-UX",
         "IRIX", "Tru64 UNIX", "Digital UNIX", "OSF/1", "Ultrix", "UnixWare", "OpenServer",
         "SCO UNIX", "Unix", "Open Unix", "A/UX", "DG/UX", "ReliantUNIX", "SINIX", "DYNIX",
         "UNICOS", "V/88", "Hurd", "Minix", "Plan 9", "NEXTSTEP", "OPENSTEP"),
        Kind.UNIX,
    ),
    **dict.fromkeys(
        ("OpenVMS", "OS/400", "i5/OS", "i", "z/OS", "z/VM", "OS/390", "BS2000/OSD", "MPE/iX",
         "NonStop OS", "Guardian", "NetWare"),
        Kind.SERVER,
    ),
    **dict.fromkeys(
        ("OS/2", "eComStation", "AmigaOS", "RISC OS", "Haiku", "BeOS", "ReactOS", "SuperDOS",
         "DESQview/X"),
        Kind.CLIENT,
    ),
    **dict.fromkeys(("iOS", "iPhone OS", "Android"), Kind.APPLIANCE),
}  # fmt: skip

#: Device types, as nmap's database has them.
DEVICES: dict[str, Kind] = {
    **dict.fromkeys(
        ("broadband router", "router", "WAP", "bridge", "webcam", "printer", "print server",
         "media device", "storage-misc", "phone", "PDA", "game console", "VoIP phone",
         "VoIP adapter", "power-device"),
        Kind.APPLIANCE,
    ),
    **dict.fromkeys(
        ("firewall", "load balancer", "proxy server", "security-misc", "switch", "hub",
         "remote management", "terminal", "terminal server", "telecom-misc", "PBX", "specialized"),
        Kind.OTHER,
    ),
}  # fmt: skip


def kind_of(one: OsClass) -> Kind:
    """The kind of machine that one class means."""
    if one.family == "Windows":
        return WINDOWS.get(one.generation, Kind.BOTH)
    if one.family in FAMILIES:
        return FAMILIES[one.family]
    if one.type == "general purpose":
        return GENERAL_PURPOSE.get(one.family, Kind.OTHER)
    return DEVICES.get(one.type, Kind.OTHER)


def kind_of_all(classes: Iterable[OsClass]) -> Kind:
    """The kind of machine that all of *classes*, equally good matches, leave open.

    What fits a client and something else alike is ``both``: a suspect, neither cleared nor
    convicted.  Cheap devices run Linux, so *appliance or Unix* is nothing that can be held
    against the host.
    """
    kinds = {kind_of(one) for one in classes} - {Kind.OTHER}
    if len(kinds) <= 1:
        return next(iter(kinds), Kind.OTHER)
    if kinds & {Kind.CLIENT, Kind.BOTH}:
        return Kind.BOTH
    return Kind.UNIX if Kind.UNIX in kinds else Kind.OTHER
