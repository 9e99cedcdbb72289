"""What nmap's classes mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from botmilter.probes.oses import (
    DEVICES,
    FAMILIES,
    GENERAL_PURPOSE,
    WINDOWS,
    Kind,
    OsClass,
    kind_of,
    kind_of_all,
)

DATABASE = Path("/usr/share/nmap/nmap-os-db")


def os_class(text: str) -> OsClass:
    vendor, family, generation, kind = (part.strip() for part in text.split("|"))
    return OsClass(kind, vendor, family, generation, 100)


def database() -> Iterator[OsClass]:
    for line in DATABASE.read_text(encoding="utf-8").splitlines():
        if line.startswith("Class "):
            yield os_class(line.removeprefix("Class "))


def test_every_device_type_of_the_database_has_its_row() -> None:
    types = {one.type for one in database()} - {"general purpose"}
    assert types - DEVICES.keys() == set()


def test_every_generation_of_windows_in_the_database_has_its_row() -> None:
    generations = {one.generation for one in database() if one.family == "Windows"}
    assert generations - WINDOWS.keys() == set()


#: Systems nobody sends mail from, or nobody has heard of: they say nothing, on purpose.
EXOTIC = frozenset(
    {"VxWorks", "lwIP", "RTOS", "embedded", "RSX-11M-PLUS", "TOPS-20", "QEMU", "Nut/OS", "JRockit",
     "Desktop", "DECserver", "Bluebottle", "Barrelfish"}
)  # fmt: skip


def test_every_common_general_purpose_family_has_its_row() -> None:
    families = {one.family for one in database() if one.type == "general purpose"}
    known = GENERAL_PURPOSE.keys() | FAMILIES.keys() | EXOTIC | {"Windows"}
    rare = families - known
    counted = [one.family for one in database() if one.family in rare]
    assert len(counted) <= 10, sorted(rare)  # newer databases add a rarity now and then


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Microsoft | Windows | XP | general purpose", Kind.CLIENT),
        ("Microsoft | Windows | 98 | general purpose", Kind.CLIENT),
        ("Microsoft | Windows | 10 | general purpose", Kind.CLIENT),
        ("Microsoft | Windows | 2003 | general purpose", Kind.SERVER),
        ("Microsoft | Windows | 2016 | general purpose", Kind.SERVER),
        ("Microsoft | Windows | 2000 | general purpose", Kind.BOTH),
        ("Microsoft | Windows | XP | storage-misc", Kind.CLIENT),
        ("Microsoft | Windows | PocketPC/CE | PDA", Kind.APPLIANCE),
        ("Linux | Linux | 4.X | general purpose", Kind.UNIX),
        ("Linux | Linux | 2.6.X | WAP", Kind.APPLIANCE),
        ("AXIS | Linux | 2.6.X | webcam", Kind.APPLIANCE),
        ("HP | embedded || printer", Kind.APPLIANCE),
        ("Cisco | IOS | 12.X | router", Kind.APPLIANCE),
        ("F5 Networks | TMOS | 11.X | load balancer", Kind.OTHER),
        ("FreeBSD | FreeBSD | 12.X | general purpose", Kind.UNIX),
        ("Apple | macOS | 10.14.X | general purpose", Kind.BOTH),
        ("Nobody | NewOS || new kind of device", Kind.OTHER),
        ("Microsoft | Windows | 3000 | general purpose", Kind.BOTH),
    ],
)
def test_one_class(text: str, kind: Kind) -> None:
    assert kind_of(os_class(text)) is kind


XP = "Microsoft | Windows | XP | general purpose"
VISTA = "Microsoft | Windows | Vista | general purpose"
SERVER = "Microsoft | Windows | 2008 | general purpose"
LINUX = "Linux | Linux | 4.X | general purpose"
ROUTER = "Linux | Linux | 2.6.X | broadband router"
FIREWALL = "Nobody | embedded || firewall"


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([XP, VISTA], Kind.CLIENT),
        ([VISTA, SERVER], Kind.BOTH),  # the study's own error
        ([XP, LINUX], Kind.BOTH),
        ([LINUX, ROUTER], Kind.UNIX),
        ([SERVER, LINUX], Kind.UNIX),
        ([ROUTER, FIREWALL], Kind.APPLIANCE),
        ([FIREWALL], Kind.OTHER),
        ([], Kind.OTHER),
    ],
)
def test_equally_good_matches(texts: list[str], kind: Kind) -> None:
    assert kind_of_all(map(os_class, texts)) is kind
