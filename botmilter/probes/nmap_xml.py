"""nmap's XML (nmap.dtd) as plain facts.  Pure.

Read by our own code because python-nmap 0.7.1 overwrites a match's accuracy with that of its last
class (93 became 85).  Texts in it may be the target's, so all go through ``printable``.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from botmilter.net import printable

#: nmap lists up to 36 near matches; those at the top decide, a few more are for the reader.
_MATCHES_AT_MOST = 10


def facts(xml: bytes) -> dict[str, Any]:
    """What the scan of one host says: ``state``, ``timed_out``, ``ports`` (state by number) and
    ``matches`` (name, accuracy in percent, classes), best first.

    *xml* comes from our own nmap, which writes no DTD entities of its own; a document with an
    entity declaration is refused.  Raises ValueError where it is cut or not nmap's.
    """
    if b"<!ENTITY" in xml:
        raise ValueError("nmap's output declares entities")
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"nmap's output is not XML: {error}") from None
    host = root.find("host")
    if root.tag != "nmaprun" or root.find("runstats") is None:
        raise ValueError("nmap's output is cut short")
    if host is None:
        return {"state": "down", "timed_out": False, "ports": {}, "matches": []}
    return {
        "state": _text(host.find("status"), "state"),
        "timed_out": host.get("timedout") == "true",
        "ports": {
            _text(port, "portid"): _text(port.find("state"), "state")
            for port in host.iterfind("ports/port")
        },
        "matches": [_match(one) for one in host.findall("os/osmatch")[:_MATCHES_AT_MOST]],
    }


def _match(one: ElementTree.Element) -> dict[str, Any]:
    return {
        "name": _text(one, "name"),
        "accuracy": _percent(one, "accuracy"),
        "classes": [
            {
                "type": _text(found, "type"),
                "vendor": _text(found, "vendor"),
                "family": _text(found, "osfamily"),
                "generation": _text(found, "osgen"),
                "accuracy": _percent(found, "accuracy"),
            }
            for found in one.iterfind("osclass")
        ],
    }


def _text(element: ElementTree.Element | None, name: str) -> str:
    return printable(element.get(name, "") if element is not None else "", 100)


def _percent(element: ElementTree.Element, name: str) -> int:
    """0 where nmap gave no number."""
    text = element.get(name, "")
    return min(100, int(text)) if text.isascii() and text.isdigit() else 0
