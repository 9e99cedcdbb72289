"""Country and network of an address, from local MaxMind files.  The one importer of maxminddb.

Reads ``country.iso_code`` (GeoLite2 Country and City, DB-IP Lite, …) of one file and
``autonomous_system_number`` and ``_organization`` (GeoLite2 ASN, …) of another.  Sends nothing.
Format: https://maxmind.github.io/MaxMind-DB/
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import maxminddb

from botmilter.errors import ConfigError
from botmilter.model import IPAddress
from botmilter.net import printable

UNKNOWN = "unknown"


class Atlas:
    """Open until the end of ``with``.  An empty path: that question has no answer."""

    def __init__(self, country_database: str, network_database: str) -> None:
        """Raises ConfigError where a file cannot be used."""
        self._open = ExitStack()
        self._countries = self._reader("country_database", country_database, "country")
        self._networks = self._reader("network_database", network_database, "ASN")

    def country(self, ip: IPAddress) -> str:
        """``DE``; ``unknown``; empty without a file."""
        if self._countries is None:
            return ""
        country = _entry(self._countries, ip).get("country")
        code = country.get("iso_code") if isinstance(country, Mapping) else None
        return printable(str(code), 20) if code else UNKNOWN

    def network(self, ip: IPAddress) -> str:
        """``AS3320 Deutsche Telekom AG``; ``unknown``; empty without a file."""
        if self._networks is None:
            return ""
        entry = _entry(self._networks, ip)
        number = entry.get("autonomous_system_number")
        owner = entry.get("autonomous_system_organization") or ""
        return printable(f"AS{number} {owner}".rstrip(), 60) if number else UNKNOWN

    def _reader(self, key: str, path: str, holds: str) -> maxminddb.Reader | None:
        if not path:
            return None
        try:
            reader = maxminddb.open_database(path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            said = getattr(error, "strerror", None) or error
            raise ConfigError(
                path, [f"[survey] {key}: expected a MaxMind file ({holds}), got: {said}"]
            ) from None
        return self._open.enter_context(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()


def _entry(reader: maxminddb.Reader, ip: IPAddress) -> Mapping[str, Any]:
    try:
        found = reader.get(ip)
    except (ValueError, maxminddb.InvalidDatabaseError):
        return {}  # an IPv6 address, and a file that knows IPv4 only
    return found if isinstance(found, Mapping) else {}
