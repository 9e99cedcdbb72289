"""What ``postconf`` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from botmilter.cli.doctor.findings import Findings, wrong
from botmilter.cli.doctor.mta import Attached, Words, judge, postfix_endpoint, seconds
from botmilter.cli.programs import output_of
from botmilter.config import Settings

_ASKED = (
    *("smtpd_milters", "non_smtpd_milters", "milter_default_action", "milter_command_timeout"),
    *("milter_content_timeout", "queue_directory", "mail_owner"),
)

#: ``{ unix:/path, default_action=accept }``, or a bare address
_ENTRY = re.compile(r"\{([^}]*)\}|([^\s,{}]+)")


@dataclass(frozen=True, slots=True)
class Postfix:
    settings: Mapping[str, str]
    is_chrooted: bool

    @property
    def user(self) -> str:
        """Who connects to the filter."""
        return self.settings["mail_owner"]


def gather(folder: Path | None) -> Postfix | None:
    """None: there is no Postfix, or it cannot be asked."""
    where = ("-c", str(folder)) if folder else ()
    printed = output_of("postconf", *where, "-x", *_ASKED)
    if printed is None:
        return None
    pairs = (line.partition("=") for line in printed.splitlines())
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    chroot = output_of("postconf", *where, "-F", "*/inet/chroot") or ""
    services = [line.rpartition("=")[2].strip() for line in chroot.splitlines()]
    return Postfix(settings, "y" in services) if set(_ASKED) <= set(settings) else None


def check(chosen: Settings, found: Postfix) -> Findings:
    over_smtp = attached(found.settings, "smtpd_milters")
    words = _words(chosen, found.settings["queue_directory"])
    yield from judge(chosen, over_smtp, attached(found.settings, "non_smtpd_milters"), words)
    kind, _, path = chosen.milter.socket.partition(":")
    queue = found.settings["queue_directory"]
    is_below = Path(path).is_relative_to(queue)
    if kind == "unix" and found.is_chrooted and not is_below:
        yield wrong(
            "chroot",
            f"smtpd runs in a chroot and cannot see {path}",
            f'set [milter] socket = "unix:{queue}/botmilter/socket"',
        )


def attached(settings: Mapping[str, str], key: str) -> list[Attached]:
    """The filters that *key* names, in order."""
    return [_attached(settings, entry) for entry in _entries(settings[key])]


def _entries(text: str) -> list[list[str]]:
    """Each an address and its options."""
    return [
        [part.strip() for part in inner.split(",")] if inner else [bare]
        for inner, bare in _ENTRY.findall(text)
    ]


def _attached(settings: Mapping[str, str], entry: list[str]) -> Attached:
    own = {key.strip(): value.strip() for key, _, value in (o.partition("=") for o in entry[1:])}

    def of(name: str) -> str:
        return own.get(name, settings[f"milter_{name}"])

    return Attached(
        postfix_endpoint(entry[0], settings["queue_directory"]),
        of("default_action") == "accept",
        seconds(of("command_timeout")),
        seconds(of("content_timeout")),
    )


def _words(chosen: Settings, queue: str) -> Words:
    kind, _, where = chosen.milter.socket.partition(":")
    if kind == "unix":
        inside = Path(where).is_relative_to(queue)
        place = f"unix:{Path(where).relative_to(queue) if inside else where}"
    else:
        port, _, host = where.partition("@")
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        place = f"inet:{host or 'localhost'}:{port}"
    # braces: others stay as milter_default_action has them (Postfix 3.0 and newer)
    entry = f"{{ {place}, default_action=accept }}"
    return Words(
        attach=f'postconf -e "smtpd_milters={entry}, $(postconf -h smtpd_milters)"; postfix reload',
        detach_local="take it out of non_smtpd_milters",
        when_down=f"name it as {entry} in smtpd_milters; postfix reload",
        step="milter_command_timeout",
        end="milter_content_timeout",
    )
