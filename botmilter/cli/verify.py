"""``botmilter verify``: whether the verdicts in saved mails are ours."""

from __future__ import annotations

from pathlib import Path

import click

from botmilter import header, seal, written
from botmilter.cli import build
from botmilter.cli.common import config_options, json_option, mails, print_json, settings
from botmilter.config import Settings
from botmilter.errors import ConfigError
from botmilter.mailbox import Mail
from botmilter.net import printable

#: Exit code where a mail's verdict is missing, forged or altered.
NOT_OURS = 1


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@config_options
@json_option
def command(
    files: tuple[str, ...], config_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Check the seals of verdicts in saved mails.

    FILE is a mail, an mbox, a Maildir, a directory of mails, or - for standard input. The key is
    that of [header] key_file.

    Exit code 0: every mail has a verdict and its seal holds; 1: not every; 66: a FILE cannot be
    read; 78: the configuration, or no key.

    \b
    Example:
      $ botmilter verify --set header.key_file=\'"/etc/botmilter/key"\' mail.eml
    """
    chosen = settings(config_file, overrides)
    key = build.key(chosen)
    if key is None:
        where = str(config_file) if config_file is not None else "configuration"
        raise ConfigError(where, ["[header] key_file: expected a file with the key, got none"])
    all_hold = True
    for mail in mails(files):
        said = _said(mail, key, chosen)
        all_hold = all_hold and said == "ours"
        if as_json:
            print_json({"file": printable(mail.name), "seal": said})
        else:
            click.echo(f"{printable(mail.name)}: {said}")
    if not all_hold:
        raise SystemExit(NOT_OURS)


def _said(mail: Mail, key: bytes, chosen: Settings) -> str:
    """``ours``, ``forged``, ``no seal`` or ``no verdict``; the topmost field of a name counts."""
    found: dict[str, str] = {}
    for name, value in written.fields(mail.header):
        found.setdefault(name.strip().lower(), value)
    prefix = chosen.header.prefix.lower()
    verdict = found.get(f"{prefix}{header.VERDICT}".lower())
    sealed = found.get(f"{prefix}{header.SEAL}".lower())
    if verdict is None:
        return "no verdict"
    if sealed is None:
        return "no seal"
    return "ours" if seal.holds(key, sealed, verdict, found.get("message-id", "")) else "forged"
