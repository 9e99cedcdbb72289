"""What the MTA's configuration says of its filters, whichever MTA it is.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from botmilter.cli.doctor.findings import Findings, ok, unchecked, wrong
from botmilter.config import Settings

#: Shorter than a busy worker may take for a step that it need not wait for.
_STEP_AT_LEAST_S = 5.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Attached:
    """One filter as the MTA names it."""

    endpoint: str
    """``unix:/path``, ``inet:host:port``: see :func:`endpoint`."""
    passes_when_down: bool
    step_s: float | None
    """How long the MTA waits for an answer in the middle of a mail; None: what stands there is no
    time."""
    end_s: float | None
    """The same at the end of a mail, where the verdict comes."""


@dataclass(frozen=True, slots=True)
class Words:
    """How this MTA is told."""

    attach: str
    detach_local: str
    when_down: str
    step: str
    end: str


def seconds(text: str) -> float | None:
    """``300``, ``30s``, ``5m``, and Sendmail's ``1m30s``; None where *text* is no time."""
    written = text.strip().lower()
    if not written or not re.fullmatch(r"(\d+\s*[smhdw]\s*)*(\d+)?", written):
        return None
    parts = re.findall(r"(\d+)\s*([smhdw]?)", written)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def endpoint(address: str) -> str:
    """Our ``[milter] socket``, or Sendmail's ``S=``, in one spelling: ``unix:/path`` or
    ``inet:host:port``."""
    kind, _, where = address.partition(":")
    if kind in ("unix", "local"):  # which are the same to Sendmail
        return f"unix:{where}"
    port, _, host = where.partition("@")
    default = "::1" if kind == "inet6" else "127.0.0.1"
    return f"inet:{_host(host or default)}:{port}"


def _host(text: str) -> str:
    bare = text.strip("[]").lower().removeprefix("ipv6:")
    return {"localhost": "127.0.0.1"}.get(bare, bare)


def postfix_endpoint(text: str, queue_directory: str) -> str:
    """One entry of ``smtpd_milters``; a relative path is below the queue."""
    kind, _, where = text.partition(":")
    if kind == "unix":
        return f"unix:{where if where.startswith('/') else f'{queue_directory}/{where}'}"
    host, _, port = where.rpartition(":")
    return f"inet:{_host(host)}:{port}"


def judge(
    chosen: Settings, over_smtp: Sequence[Attached], local: Sequence[Attached], words: Words
) -> Findings:
    """What is wrong with where our filter stands among them, and with how it is waited for."""
    ours = endpoint(chosen.milter.socket)
    places = [one.endpoint for one in over_smtp]
    if ours not in places:
        others = f"only {', '.join(places)}" if places else "no filter"
        yield wrong("mta", f"the MTA asks {others}, not {ours}", words.attach)
        return
    yield ok("mta", f"the MTA asks {ours}")
    if ours in [one.endpoint for one in local]:
        yield wrong("mta", "mail without a sending host is filtered too", words.detach_local)
    before = places[: places.index(ours)]
    if before:
        yield wrong(
            "order",
            f"{', '.join(before)} before us: it does not see our header",
            "name botmilter first, then OpenDKIM, rspamd, SpamAssassin",
        )
    else:
        yield ok("order", "first of the MTA's filters")
    yield from _waiting(chosen, over_smtp[places.index(ours)], words)


def _waiting(chosen: Settings, us: Attached, words: Words) -> Findings:
    if us.passes_when_down:
        yield ok("absent", "mail passes while the filter is down")
    else:
        yield wrong("absent", "no mail passes while the filter is down", words.when_down)
    budget_s = chosen.budget.per_mail_s
    if us.end_s is None or us.step_s is None:
        wanted = f"{words.step}, {words.end}: a number and a unit each, such as 30s"
        yield unchecked("timeouts", "how long the MTA waits cannot be read", wanted)
    elif us.end_s <= budget_s:
        yield wrong(
            "timeouts",
            f"the MTA waits {us.end_s:g} s for a verdict that may take {budget_s:g} s",
            f"{words.end} above [budget] per_mail_s",
        )
    elif us.step_s < _STEP_AT_LEAST_S:
        yield wrong(
            "timeouts",
            f"the MTA waits only {us.step_s:g} s for an answer",
            f"{words.step} of {_STEP_AT_LEAST_S:g} s or more",
        )
    else:
        yield ok("timeouts", f"the MTA waits {us.end_s:g} s, a verdict takes at most {budget_s:g}")
