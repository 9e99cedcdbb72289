"""``botmilter query``: ask the running filter about an address."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import click

from botmilter.cli.common import config_options, json_option, print_json, settings
from botmilter.clock import Deadline
from botmilter.config import Settings
from botmilter.errors import ConfigError, InputError, SetupError
from botmilter.net import parse_ip, printable

#: What the answer may take beyond a mail's budget.
_GRACE_S = 5.0
_ANSWER_AT_MOST = 1024 * 1024


@click.command()
@click.argument("address")
@click.option("--helo", help="What the host called itself.")
@click.option("--sender", help="The envelope sender.")
@config_options
@json_option
def command(
    address: str,
    helo: str | None,
    sender: str | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask the running filter about ADDRESS, over [query] socket.

    Prints the header it would add for a mail from there. What it does not know it looks at, which
    sends packets to that host, as for a mail.

    Exit code 0: answered; 66: ADDRESS is none; 69: no filter listens there, or it refused;
    78: the configuration, or no [query] socket in it.

    \b
    Examples:
      $ botmilter query 198.18.7.12
      $ botmilter query --helo home-pc --json 198.18.7.12
    """
    chosen = settings(config_file, overrides)
    if not chosen.query.socket:
        where = str(config_file) if config_file is not None else "configuration"
        raise ConfigError(where, ["[query] socket: expected unix:/PATH, got none"])
    ip = parse_ip(address)
    if ip is None:
        raise InputError(f"expected an IPv4 or IPv6 address, got {printable(address, 60)}")
    given = {"ip": str(ip), "helo": helo, "sender": sender}
    answer = _answer(chosen, {key: value for key, value in given.items() if value is not None})
    if as_json:
        print_json(answer)
        return
    for name, value in answer.get("header", ()):
        click.echo(f"{name}: {value}")


def _answer(chosen: Settings, question: dict[str, str]) -> dict[str, Any]:
    path = chosen.query.socket.partition(":")[2]
    deadline = Deadline.after(chosen.budget.per_mail_s + _GRACE_S)
    try:
        line = _exchange(path, json.dumps(question).encode() + b"\n", deadline)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror or error}: is botmilter running?") from None
    try:
        answer = json.loads(line)
    except ValueError:
        raise SetupError(f"{path}: expected a line of JSON, got {printable(line, 60)!r}") from None
    if not isinstance(answer, dict) or "error" in answer:
        why = answer.get("error") if isinstance(answer, dict) else "no object"
        raise SetupError(f"{path}: refused: {printable(str(why))}")
    return answer


def _exchange(path: str, question: bytes, deadline: Deadline) -> bytes:
    """What is answered; raises OSError, as TimeoutError where nothing comes in time."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(deadline.left())
        client.connect(path)
        client.sendall(question)
        line = b""
        while b"\n" not in line and len(line) < _ANSWER_AT_MOST:
            client.settimeout(max(0.001, deadline.left()))
            chunk = client.recv(65536)
            if not chunk:
                break
            line += chunk
    return line
