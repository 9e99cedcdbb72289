"""The kinds of values a configuration has: each check takes what the file says and gives it back in
the form we use, or raises ValueError saying what was expected.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from botmilter.model import IPNetwork
from botmilter.signals import DEFAULT_WEIGHTS

#: IPv4 in IPv6 (RFC 4291 section 2.5.5.2).  We fold such addresses, so networks are folded too.
_MAPPED = IPv6Network("::ffff:0:0/96")


def network(given: object) -> IPNetwork:
    try:
        found = ip_network(given if isinstance(given, str) else "")
    except ValueError:
        raise ValueError(
            f"a network such as 192.0.2.0/24 or 2001:db8::/32{_repair(given)}"
        ) from None
    return _folded(found) if isinstance(found, IPv6Network) else found


def _folded(found: IPv6Network) -> IPNetwork:
    if found.subnet_of(_MAPPED):
        first = int(found.network_address) & 0xFFFFFFFF
        return IPv4Network((first, found.prefixlen - _MAPPED.prefixlen))
    # ::/0 is all IPv6 to everybody; a narrower one was meant for the IPv4 in it
    if found.prefixlen and found.supernet_of(_MAPPED):
        raise ValueError("a network of IPv4 or of IPv6 alone, IPv4 as 192.0.2.0/24")
    return found


#: No site has more addresses than the largest private networks (RFC 1918, RFC 4193); what is
#: broader holds strangers, and a stranger who is believed names whom he likes as the origin.
_BROADEST_SITE = {4: 8, 6: 7}


def relays(given: object) -> IPNetwork:
    """A network whose lines are believed."""
    found = network(given)
    broadest = _BROADEST_SITE[found.version]
    if found.prefixlen < broadest:
        raise ValueError(
            f"a network of your own relays, /{broadest} or smaller: with a broader one nearly"
            " every host is believed, and no mail is judged"
        )
    return found


def own_name(given: str) -> str:
    """A host's name, lower case without the dot at its end, or all names below one."""
    name = given.lower().rstrip(".")
    if re.fullmatch(r"[^\s*]+", name):
        return name
    raise ValueError('a host name such as "mx.example.org", or ".example.org" for all names below')


def _repair(given: object) -> str:
    """The network that *given* may have meant, as a suggestion; empty where nothing is near."""
    text = given if isinstance(given, str) else ""
    address, _, size = text.partition("/")
    for near in (text, f"{address.strip().rstrip('.')}/{size}", address, _padded(address, size)):
        try:
            return f" (did you mean {ip_network(near, strict=False)}?)"
        except ValueError:
            continue
    return ""


def _padded(address: str, size: str) -> str:
    """``10.1/16`` and ``10.1.`` as Postfix' mynetworks and tcpserver write them."""
    octets = [octet for octet in address.split(".") if octet] or ["none"]
    return ".".join([*octets, *["0"] * (4 - len(octets))]) + f"/{size or 8 * len(octets)}"


def address(given: str) -> str:
    try:
        return str(ip_address(given))
    except ValueError:
        raise ValueError("an address such as 192.0.2.53") from None


def host_address(given: object) -> object:
    """An address as an object, for what gets packets."""
    try:
        return ip_address(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError("an address such as 192.0.2.25") from None


def socket(given: str) -> str:
    found = re.fullmatch(r"unix:/.+|inet6?:([0-9]{1,5})@[^@\s]+", given)
    if found and 0 < int(found[1] or 1) < 65536:
        return given
    raise ValueError("unix:/PATH, inet:PORT@HOST or inet6:PORT@HOST, PORT from 1 to 65535")


def query_socket(given: str) -> str:
    if re.fullmatch(r"(unix:/.+)?", given):
        return given
    raise ValueError("unix:/PATH, or nothing")


def local_listener(given: str) -> str:
    """Empty, ``unix:/PATH``, or a loopback address and a port."""
    host, _, port = given.rpartition(":")
    if not given or re.fullmatch(r"unix:/.+", given):
        return given
    try:
        if port.isdecimal() and 0 < int(port) < 65536 and ip_address(host.strip("[]")).is_loopback:
            return given
    except ValueError:
        pass
    raise ValueError(
        "127.0.0.1:PORT, [::1]:PORT or unix:/PATH (there is no password, so only this machine"
        " gets to it)"
    )


def listen_address(given: str) -> str:
    """A :func:`local_listener` as MTAs write it: ``inet:PORT@HOST``."""
    host, _, port = given.rpartition(":")
    if given.startswith("unix:"):
        return given
    bare = host.strip("[]")
    return f"{'inet6' if ':' in bare else 'inet'}:{port}@{bare}"


def mode(given: str) -> str:
    if re.fullmatch(r"0?[0-7]{3}", given):
        return given
    raise ValueError('an octal mode in quotes, such as "0660"')


def workers(given: object) -> object:
    is_number = isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= 256
    if given == "auto" or is_number:
        return given
    raise ValueError('"auto" or a whole number from 1 to 256')


def prefix(given: str) -> str:
    """RFC 5322 section 3.6.8: a field name is printable ASCII without a colon."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,39}-", given):
        return given
    raise ValueError('letters, digits and hyphens, ending in a hyphen, such as "X-Bot-"')


def host(given: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{0,255}", given):
        return given
    raise ValueError("a host name")


#: As much as an SMTP reply line holds beside the rest (RFC 5321, 4.5.3.1.5); libmilter takes a
#: percent sign for something of its own.
_REPLY = r"{first}[0-9]{{2}} {first}\.[0-9]{{1,3}}\.[0-9]{{1,3}} (?:[ -$&-z|~]|\{{ip\}}){{1,300}}"


def reject_reply(given: str) -> str:
    return _reply(given, "5", "550 5.7.1")


def tempfail_reply(given: str) -> str:
    return _reply(given, "4", "451 4.7.1")


def _reply(given: str, first: str, example: str) -> str:
    # 421 means that the server closes the connection, which it does not (RFC 5321, 3.8)
    if re.fullmatch(_REPLY.format(first=first), given) and not given.startswith("421"):
        return given
    raise ValueError(
        f'"{example} TEXT": two codes, then up to 300 characters of printable ASCII without %;'
        " {ip} stands for the address"
    )


def by_name(given: Any) -> Any:
    """``{"os": {"client": 3}}`` as ``{"os.client": 3}``."""
    if not isinstance(given, Mapping):
        return given
    flat: dict[str, Any] = {}
    for topic, inside in given.items():
        if isinstance(inside, Mapping):
            flat.update({f"{topic}.{name}": weight for name, weight in inside.items()})
        else:
            flat[topic] = inside
    return flat


def signal(given: str) -> str:
    return one_of("signal", given, DEFAULT_WEIGHTS)


def one_of(what: str, given: str, known: Collection[str]) -> str:
    """*given*, the name of a *what*, of which those in *known* exist."""
    if given in known:
        return given
    raise ValueError(f"the name of a {what}{suggest(given, known)}")


def suggest(given: str, known: Iterable[str]) -> str:
    near = get_close_matches(given, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""
