"""``botmilter worker``: measures hosts for a survey that runs on another machine."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import FrameType

import click

from botmilter.cli import surveyor
from botmilter.cli.common import config_options, settings
from botmilter.config import Settings
from botmilter.errors import ConfigError, SetupError, StoreError


@click.command()
@click.option("--queue", required=True, metavar="URL", help="Redis: where the survey's hosts are.")
@config_options
@surveyor.at_once_option
@click.option(
    "--dead-after",
    "dead_after_s",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Take over the hosts of a worker not heard of for so long.",
)
def command(
    queue: str,
    config_file: Path | None,
    overrides: tuple[str, ...],
    at_once: int,
    dead_after_s: float,
) -> None:
    """Measure hosts for botmilter survey --queue, in the foreground, until told to stop.

    Start as many as there are machines, before or after the survey; a worker serves one survey
    after the other. [store] has to name the Redis that all of them share: by it no host is
    measured twice and the rate limits hold for all together. SIGTERM stops when the hosts under
    way are done; what a killed worker had is done by the others.

    Exit code 0: stopped; 69: the queue cannot be reached, or its packages are missing
    (contrib/install --with queue); 78: the configuration.

    \b
    Examples:
      $ botmilter worker --queue redis://:secret@queue.example/0
      $ botmilter worker --queue redis://127.0.0.1/0 --set store.kind=redis
    """
    chosen = settings(config_file, (*surveyor.overriding(at_once), *overrides))
    if chosen.store.kind != "redis":
        raise ConfigError(
            str(config_file or "settings"),
            [f'[store] kind: workers share a store, expected "redis", got "{chosen.store.kind}"'],
        )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    _serve(queue, chosen, at_once, dead_after_s)


def _serve(queue: str, chosen: Settings, at_once: int, dead_after_s: float) -> None:
    dispatch = surveyor.dispatch()
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    longest_s = surveyor.make(chosen, 0.0).policy.budget_s
    try:
        with closing(dispatch.Link(queue, dead_after_s)) as link:
            worker = dispatch.Worker(
                link, lambda since: surveyor.make(chosen, since), at_once * surveyor.HOSTS_PER_NMAP
            )
            worker.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop)
            click.echo(f"waiting for hosts at {link.shown_url}, {at_once} nmaps at once", err=True)
            stopping.wait()
            worker.stop(longest_s)
    except StoreError as error:
        raise SetupError(str(error)) from None
