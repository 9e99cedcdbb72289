"""``botmilter tune``: weights fitted to one's own labelled mail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from botmilter import toml
from botmilter.cli import build, judging
from botmilter.cli.common import (
    begun,
    config_options,
    console,
    json_option,
    mails,
    print_json,
    settings,
    trust_option,
)
from botmilter.cli.judging import Judge
from botmilter.errors import InputError, SetupError
from botmilter.mailbox import UnreadableError
from botmilter.model import IPNetwork, Verdict
from botmilter.net import site_network
from botmilter.score import Rules

if TYPE_CHECKING:
    from botmilter.tuning import Case, Fit, Quality, Share


class _Command(click.Command):
    """Of ``--ham a b c`` all three are HAM, so that a shell's ``--ham ham/*`` means what it says:
    click alone would take ``b`` and ``c`` for SPAM."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_each_ham_named(args)))


def _each_ham_named(args: Iterable[str]) -> Iterator[str]:
    """*args* with ``--ham`` before each of the files that follow one, up to the next option."""
    is_ham = needs_value = False
    for arg in args:
        is_option = arg.startswith("-") and arg != "-"
        if is_option:
            is_ham = needs_value = arg == "--ham"
        elif is_ham and not needs_value:
            yield "--ham"
        else:
            needs_value = False
        yield arg


def _share(ctx: click.Context, param: click.Parameter, given: str) -> float:
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0.0001 <= value <= 0.5:
        raise click.BadParameter(f"expected a share from 0.01% to 50%, got {given!r}")
    return value


@click.command(cls=_Command)
@click.argument("spam", nargs=-1, required=True, metavar="SPAM...")
@click.option("--ham", multiple=True, required=True, metavar="HAM...", help="Wanted mail.")
@click.option(
    "--max-false-hits",
    default="1%",
    show_default=True,
    metavar="SHARE",
    callback=_share,
    help="Of the wanted mail at most so much may be marked.",
)
@click.option("--from-store", is_flag=True, help="Also by what the store remembers of the hosts.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a piece of configuration."
)
@config_options
@trust_option
@json_option
def command(
    spam: tuple[str, ...],
    ham: tuple[str, ...],
    max_false_hits: float,
    from_store: bool,
    out: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust: tuple[IPNetwork, ...],
    as_json: bool,
) -> None:
    """Fit the weights to labelled mail.

    SPAM and HAM are unwanted and wanted mails: files, mboxes, Maildirs, directories; everything
    after --ham, up to the next option, is HAM.  What the mails themselves say is the evidence, as
    in check --offline; no packet is sent and nothing is looked up.  Shows how well the present and
    the new weights tell them apart on mail they were not fitted to, and what each signal is worth;
    docs/tuning.md says how to go on.

    Exit code 0: fitted; 65: too few mails; 66: a file cannot be read, the fit is to the others, or
    written; 69: scikit-learn is missing; 78: the configuration.

    \b
    Examples:
      $ botmilter tune Maildir/.Spam --ham Maildir/.Archive --trust 192.0.2.0/24
      $ botmilter tune spam.mbox --ham *.mbox --max-false-hits 0.5% --out tuned.toml
    """
    fit = _fitter()
    chosen = settings(config_file, overrides)
    judge = judging.judge(chosen, trust, by_header=True, probing=False, from_store=from_store)
    sample = _read(judge, spam, ham)
    sample.tell()
    fitted = fit(sample.cases, build.rules(chosen), max_false_hits)
    if out is not None:
        _write(out, _fragment(fitted, chosen.score.profile, max_false_hits))
    _print(fitted, max_false_hits, as_json)
    if sample.unreadable:
        raise SystemExit(InputError.exit_code)


def _fitter() -> Callable[[Sequence[Case], Rules, float], Fit]:
    """What fits.  Asked for before the mails are read: raises SetupError without scikit-learn."""
    try:
        from botmilter import tuning
    except ImportError as error:
        problem = f"tune needs scikit-learn (no module {error.name})"
        raise SetupError.without("tune", problem) from error
    return tuning.fit


@dataclass(slots=True)
class _Sample:
    """What was read."""

    cases: list[Case] = field(default_factory=list)
    left_out: int = 0
    """Mails without an origin that may be judged."""
    unreadable: list[str] = field(default_factory=list)

    def tell(self) -> None:
        """Before the fit, which takes its time."""
        if self.left_out:
            click.echo(f"{self.left_out} mails left out: no origin that may be judged", err=True)
        for what in self.unreadable:
            click.echo(what, err=True)


def _read(judge: Judge, spam: Sequence[str], ham: Sequence[str]) -> _Sample:
    """Raises InputError where of SPAM or of HAM nothing can be read."""
    sample = _Sample()
    kinds = [(True, begun(mails(spam))), (False, begun(mails(ham)))]
    for unwanted, found in kinds:
        try:
            for mail in found:
                case = _case(judge.verdict(mail), unwanted)
                if case is None:
                    sample.left_out += 1
                else:
                    sample.cases.append(case)
        except UnreadableError as error:
            sample.unreadable.append(str(error))
    return sample


def _case(verdict: Verdict, unwanted: bool) -> Case | None:
    from botmilter.tuning import Case

    ip = verdict.origin.ip
    if ip is None or verdict.origin.why.is_exempt:
        return None
    signals = tuple(reason.signal for reason in verdict.reasons)
    return Case(unwanted, str(site_network(ip)), signals)


# -- the piece of configuration -----------------------------------------------------------------


def _fragment(fit: Fit, profile: str, max_false_hits: float) -> str:
    lines = [
        f"# Fitted by botmilter tune to {fit.mails[0]} unwanted and {fit.mails[1]} wanted mails",
        f"# of {fit.networks[0]} and {fit.networks[1]} networks",
        f"# False hits, asked for: at most {max_false_hits:.2%}",
        "[score]",
        f"profile = {toml.value(profile)}",
        f"bot = {toml.value(fit.rules.bot)}",
        f"suspect = {toml.value(fit.rules.suspect)}",
    ]
    for topic, names in groupby(sorted(fit.weights), key=lambda name: name.partition(".")[0]):
        lines += ["", f"[weights.{topic}]"]
        for name in names:
            lines.append(f"{name.partition('.')[2]} = {toml.value(fit.weights[name])}")
    return "\n".join([*lines, ""])


def _write(path: Path, text: str) -> None:
    """In whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"--out {path}: cannot be written: {error.strerror}") from None


# -- what is shown ------------------------------------------------------------------------------


def _print(fit: Fit, max_false_hits: float, as_json: bool) -> None:
    if as_json:
        print_json(_plain(fit))
    else:
        _show(fit, max_false_hits)


def _show(fit: Fit, max_false_hits: float) -> None:
    (spam, ham), (spam_nets, ham_nets) = fit.mails, fit.networks
    click.echo(f"{spam} unwanted mails of {spam_nets} networks, {ham} wanted of {ham_nets}\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("present", justify="right")
    table.add_column("new", justify="right")
    table.add_row("area under the curve", f"{fit.old.auc:.3f}", f"{fit.new.auc:.3f}")
    for name, old, new in zip(_SHARES, _shares(fit.old), _shares(fit.new), strict=True):
        table.add_row(name, _with_interval(old), _with_interval(new))
    console().print(table)
    click.echo(
        f"\nsuspect from {fit.rules.suspect:g} points, bot from {fit.rules.bot:g}; new is by "
        "cross-validation,\nno network in both halves; in brackets 95 %"
    )
    if not fit.weights:
        click.echo("the present weights were not beaten: they stay, only the threshold is new")
    if fit.new.false_marked.value > max_false_hits:
        click.echo(
            f"more than {max_false_hits:.2%} false hits on mail not fitted to: "
            "collect more wanted mail, or ask for less",
            err=True,
        )
    click.echo()
    console().print(_signal_table(fit))


def _signal_table(fit: Fit) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("signal, in networks")
    for title in ("unwanted", "wanted", "ratio", "95 %", "present", "new"):
        table.add_column(title, justify="right")
    for row in sorted(fit.evidence, key=lambda row: (-row.ratio, row.name)):
        table.add_row(
            row.name,
            str(row.unwanted.count),
            str(row.wanted.count),
            f"{row.ratio:.2f}",
            f"{row.low:.2f}-{row.high:.2f}",
            f"{row.old:g}",
            f"{row.new:g}" if row.name in fit.weights else "",
        )
    return table


def _with_interval(share: Share) -> str:
    low, high = share.interval
    return f"{share.value:.1%} ({100 * low:.1f}-{100 * high:.1f})"


def _plain(fit: Fit) -> Mapping[str, Any]:
    return {
        "mails": {"unwanted": fit.mails[0], "wanted": fit.mails[1]},
        "networks": {"unwanted": fit.networks[0], "wanted": fit.networks[1]},
        "present": _plain_quality(fit.old),
        "new": _plain_quality(fit.new),
        "score": {"bot": fit.rules.bot, "suspect": fit.rules.suspect},
        "weights": dict(fit.weights),
        "signals": [
            {
                "signal": row.name,
                "unwanted": row.unwanted.count,
                "wanted": row.wanted.count,
                "ratio": round(row.ratio, 3),
                "interval": [round(row.low, 3), round(row.high, 3)],
                "present": row.old,
                "new": row.new,
            }
            for row in fit.evidence
        ],
    }


#: Of unwanted mail: hits, among them labelled bot; and the same of wanted mail.
_SHARES = ("hits", "false hits", "as bot", "falsely as bot")


def _shares(quality: Quality) -> tuple[Share, ...]:
    return quality.marked, quality.false_marked, quality.bots, quality.false_bots


def _plain_quality(quality: Quality) -> Mapping[str, Any]:
    return {"auc": round(quality.auc, 4)} | {
        name.replace(" ", "_"): {"count": share.count, "of": share.of}
        for name, share in zip(_SHARES, _shares(quality), strict=True)
    }
