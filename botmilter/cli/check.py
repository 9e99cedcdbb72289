"""``botmilter check``: what the milter would say of a saved mail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from botmilter import header
from botmilter.cli import explain, judging
from botmilter.cli.common import (
    config_options,
    console,
    json_option,
    mails,
    print_json,
    settings,
    trust_option,
)
from botmilter.cli.judging import Judge
from botmilter.config import Settings
from botmilter.mailbox import Mail
from botmilter.model import IPNetwork, OriginWhy, Status, Verdict
from botmilter.net import printable
from botmilter.plan import NO_LIFE, NOT_NEEDED

#: Why a probe did not run where all is well.
_USUAL = frozenset({NO_LIFE, NOT_NEEDED})


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@config_options
@trust_option
@click.option("--budget", type=click.FloatRange(0, 3600), help="Seconds to wait for a mail.")
@click.option("--offline", is_flag=True, help="By the mail alone: no packet, no look-up.")
@click.option("--from-store", is_flag=True, help="By what the store remembers: no packet.")
@click.option("--explain", "explained", is_flag=True, help="Every signal, and what is missing.")
@json_option
def command(
    files: tuple[str, ...],
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust: tuple[IPNetwork, ...],
    budget: float | None,
    offline: bool,
    from_store: bool,
    explained: bool,
    as_json: bool,
) -> None:
    """Judge saved mails and print the header the milter would add.

    FILE is a mail, an mbox, a Maildir, a directory of mails, or - for standard input.  The hosts
    the mails came from are probed, as the milter would do it.  What could not be asked, and why,
    goes to standard error.

    Exit code 0: judged, whatever the verdict; 66: a FILE cannot be read; 78: the configuration.

    \b
    Examples:
      $ botmilter check --trust 192.0.2.0/24 spam.eml
      $ botmilter check --explain --set weights.os.client=4 spam.eml
      $ botmilter check --offline --json Maildir/ > verdicts.jsonl
    """
    chosen = settings(config_file, overrides)
    if offline and from_store:
        raise click.UsageError("--offline and --from-store exclude each other")
    judge = judging.judge(
        chosen, trust, budget, by_header=offline, probing=not offline, from_store=from_store
    )
    for mail in mails(files):
        _show(mail, judge, chosen, as_json, explained)


def _show(mail: Mail, judge: Judge, chosen: Settings, as_json: bool, explained: bool) -> None:
    verdict = judge.verdict(mail)
    fields = header.render(verdict, chosen.header.prefix, chosen.header.host)
    missing = explain.gaps(verdict, judge.machine.probes, judge.machine.rules)
    if as_json:
        plain = explain.to_json(verdict, missing)
        print_json({"file": mail.name, **plain, "header": [list(field) for field in fields]})
        return
    for name, value in fields:
        click.echo(f"{name}: {value}")
    if explained:
        click.echo()
        explain.show(console(), verdict, missing)
        click.echo()
    else:
        for note in _notes(verdict):
            click.echo(f"{printable(mail.name)}: {printable(note, 400)}", err=True)


def _notes(verdict: Verdict) -> Iterator[str]:
    """What a reader should know beside the header: guesses, rules, and what did not work."""
    if verdict.origin.why in (OriginWhy.ASSUMED, OriginWhy.UNREADABLE, OriginWhy.NO_HEADER):
        yield verdict.origin.note
    if verdict.why and verdict.why != verdict.origin.note:
        yield f"{verdict.label}: {verdict.why}"
    for seen in verdict.missing:
        if seen.status is not Status.SKIPPED or seen.reason not in _USUAL:
            yield f"{seen.probe} {seen.status}: {seen.reason}"
