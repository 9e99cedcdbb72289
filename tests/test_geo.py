"""Countries and networks out of MaxMind files that the test itself makes."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from botmilter.errors import ConfigError
from botmilter.geo import UNKNOWN, Atlas


def countries(path: Path, ip_version: int = 6) -> str:
    return _written(
        path,
        "GeoLite2-Country",
        {
            "198.18.101.0/24": {"country": {"iso_code": "JP", "names": {"en": "Japan"}}},
            "198.18.102.0/24": {"country": {"iso_code": "N\x1bO"}},
            "198.18.103.0/24": {"registered_country": {"iso_code": "SE"}},
        },
        ip_version,
    )


def networks(path: Path) -> str:
    return _written(
        path,
        "GeoLite2-ASN",
        {
            "198.18.101.0/24": {
                "autonomous_system_number": 64496,
                "autonomous_system_organization": "Kikuchi Net",
            },
            "198.18.102.0/24": {"autonomous_system_number": 64497},
        },
    )


def _written(path: Path, kind: str, entries: dict[str, Any], ip_version: int = 6) -> str:
    writer = MMDBWriter(ip_version, kind, languages=["en"], description="made up",
                        ipv4_compatible=ip_version == 6)  # fmt: skip
    for network, entry in entries.items():
        writer.insert_network(IPSet([network]), entry)
    writer.to_db_file(str(path))
    return str(path)


@pytest.mark.parametrize(
    ("ip", "country", "network"),
    [
        ("198.18.101.7", "JP", "AS64496 Kikuchi Net"),
        ("198.18.102.7", "N?O", "AS64497"),
        ("198.18.103.7", UNKNOWN, UNKNOWN),
        ("198.19.0.1", UNKNOWN, UNKNOWN),
        ("2001:db8::1", UNKNOWN, UNKNOWN),
    ],
)
def test_an_address_has_its_place(tmp_path: Path, ip: str, country: str, network: str) -> None:
    with Atlas(countries(tmp_path / "c.mmdb"), networks(tmp_path / "n.mmdb")) as atlas:
        address = ip_address(ip)
        assert (atlas.country(address), atlas.network(address)) == (country, network)


def test_a_file_of_ipv4_alone_knows_no_ipv6(tmp_path: Path) -> None:
    with Atlas(countries(tmp_path / "c.mmdb", 4), "") as atlas:
        assert atlas.country(ip_address("198.18.101.7")) == "JP"
        assert atlas.country(ip_address("2001:db8::1")) == UNKNOWN


def test_without_a_file_nothing_is_told() -> None:
    with Atlas("", "") as atlas:
        assert atlas.country(ip_address("198.18.101.7")) == ""
        assert atlas.network(ip_address("198.18.101.7")) == ""


@pytest.mark.parametrize("content", [None, b"", b"no MaxMind file"])
def test_a_file_that_cannot_be_used_is_named_with_its_key(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "c.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.mmdb: \[survey\] network_database: expected"):
        Atlas("", str(path))
