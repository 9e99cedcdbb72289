"""What ``botmilter run`` shows of itself: metrics and the status page, where they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from botmilter import kinds
from botmilter.cli import build
from botmilter.cli.build import Machine
from botmilter.config import Settings
from botmilter.errors import SetupError, StoreError
from botmilter.inquiry import Policy
from botmilter.milter.loopback import Page
from botmilter.milter.observer import Observing, Totals
from botmilter.milter.status import StatusPage
from botmilter.store.tally import Tally


def wanted(chosen: Settings) -> Observing | None:
    """None where nothing is to be shown.  Raises SetupError where a package is missing."""
    if chosen.metrics.listen and find_spec("prometheus_client") is None:
        raise SetupError.without("metrics", "[metrics] listen needs prometheus_client")
    listen = {"metrics": chosen.metrics.listen, "web": chosen.web.listen}
    addresses = [(table, kinds.listen_address(at)) for table, at in listen.items() if at]
    if not addresses:
        return None
    return Observing(tuple(addresses), lambda totals: _pages(chosen, totals))


def _pages(chosen: Settings, totals: Totals) -> Mapping[str, Mapping[str, Page]]:
    """Called in the observer; the packages for it are imported there alone."""
    pages: dict[str, Mapping[str, Page]] = {}
    if chosen.metrics.listen:
        from botmilter.milter import metrics

        pages["metrics"] = {"/metrics": partial(metrics.page, totals)}
    if chosen.web.listen:
        pages["web"] = {"/": StatusPage(totals, partial(_tally, chosen))}
    return pages


def _tally(chosen: Settings) -> Tally | None:
    """Opened here anew: nothing of a store's may be used on both sides of a fork."""
    try:
        return build.tally(chosen.store, build.store(chosen.store))
    except SetupError as error:
        raise StoreError(str(error)) from None


def gauges(machine: Machine, policy: Policy) -> Mapping[str, float]:
    """How things stand in a worker, by the words of the metrics."""
    engine = machine.engine
    queued = {f"queue {name}": float(lane.queued) for name, lane in engine.lanes.items()}
    under_load = float(engine.is_under_load(policy))
    return {"waiting": float(engine.waiting), "under_load": under_load, **queued}


def totals(machine: Machine) -> Mapping[str, float]:
    """What is counted elsewhere, since the worker's start."""
    memory = machine.memory
    return {"store_errors": memory.errors, "rate_refusals": memory.refused_by_rate}
