"""Metrics for Prometheus.  The only file that imports prometheus_client.

Its own counters are not used, neither is its multiprocess mode: that one costs a lock and a write
to a mapped file for each count, in the process that has a mail in hand, and leaves a file behind
for each worker that ever lived.  Here the workers' plain counts arrive in one process
(:mod:`botmilter.milter.observer`) and are laid out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from botmilter.counters import BEYOND, BUDGET_SHARE, LATENCY_S, TOOK_S
from botmilter.milter.observer import Totals
from botmilter.model import Label


@dataclass(frozen=True, slots=True)
class Plain:
    """A counter or gauge: its name without ``_total``, and the word it counts."""

    name: str
    word: str
    help: str
    labels: tuple[str, ...] = ()
    at_least: tuple[tuple[str, ...], ...] = ()
    """Label values that are there from the start: what appears later has no rate at first."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram: its words and bounds."""

    name: str
    word: str
    sum_word: str
    bounds: tuple[float, ...]
    help: str
    labels: tuple[str, ...] = ()


COUNTERS = (
    Plain(
        "botmilter_mails",
        "mails",
        "Mails judged, by verdict.",
        ("verdict",),
        tuple((label.value,) for label in Label),
    ),
    Plain("botmilter_sealed_mails", "sealed", "Mails whose sealed verdict was kept.", (), ((),)),
    Plain("botmilter_failures", "failures", "Mails that passed because of a bug.", (), ((),)),
    Plain(
        "botmilter_lookups",
        "lookups",
        "Look-ups of what is known of a host, one a probe, by where it was found.",
        ("found",),
        (("memory",), ("store",), ("nowhere",)),
    ),
    Plain(
        "botmilter_probes", "probes", "Measurements made, by probe and status.", ("probe", "status")
    ),
    Plain(
        "botmilter_missing_evidence",
        "missing",
        "Mails judged without a probe's evidence, and why.",
        ("probe", "why"),
    ),
    Plain(
        "botmilter_rate_refusals",
        "rate_refusals",
        "Measurements not made for a rate limit's sake.",
        (),
        ((),),
    ),
    Plain("botmilter_store_errors", "store_errors", "Failed calls of the store.", (), ((),)),
)

HISTOGRAMS = (
    Spread(
        "botmilter_latency_seconds",
        "latency",
        "latency_s",
        LATENCY_S,
        "How long the end of a mail waited for us.",
    ),
    Spread(
        "botmilter_budget_share",
        "budget",
        "budget_share",
        BUDGET_SHARE,
        "Share of the budget used by mails that had to wait.",
    ),
    Spread(
        "botmilter_probe_seconds",
        "took",
        "took_s",
        TOOK_S,
        "How long measurements took, by probe.",
        ("probe",),
    ),
)

GAUGES = (
    Plain("botmilter_waiting_mails", "waiting", "Mails that wait for a verdict now.", (), ((),)),
    Plain(
        "botmilter_workers_under_load",
        "under_load",
        "Workers in which the shorter budget holds.",
        (),
        ((),),
    ),
    Plain("botmilter_queue_depth", "queue", "Jobs that wait for a thread.", ("queue",)),
    Plain("botmilter_workers", "workers", "Worker processes, by state.", ("state",)),
)

#: Told by the parent, which counts them since its own start.
RESTARTS = "botmilter_worker_restarts"


class BotmilterCollector(Collector):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        counts, gauges, restarts = self._totals.now()
        for plain in COUNTERS:
            counter = CounterMetricFamily(plain.name, plain.help, labels=plain.labels)
            for values, counted in _values(plain, counts).items():
                counter.add_metric(values, counted)
            yield counter
        yield CounterMetricFamily(RESTARTS, "Workers that died and were replaced.", restarts)
        for plain in GAUGES:
            gauge = GaugeMetricFamily(plain.name, plain.help, labels=plain.labels)
            for values, now in _values(plain, gauges).items():
                gauge.add_metric(values, now)
            yield gauge
        for spread in HISTOGRAMS:
            yield _histogram(spread, counts)


def page(totals: Totals, accept: str) -> tuple[str, bytes]:
    """The metrics in the format that *accept* (an HTTP field) asks for: type and text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BotmilterCollector(totals))
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)


def _values(plain: Plain, counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    found = dict.fromkeys(plain.at_least, 0.0)
    for word, counted in counts.items():
        kind, *values = word.split(" ")
        if kind == plain.word and len(values) == len(plain.labels):
            found[tuple(values)] = counted
    return found


def _histogram(spread: Spread, counts: Mapping[str, float]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(spread.name, spread.help, labels=spread.labels)
    by_labels: dict[tuple[str, ...], dict[str, float]] = {} if spread.labels else {(): {}}
    for word, counted in counts.items():
        kind, *values = word.split(" ")
        if kind == spread.word and len(values) == len(spread.labels) + 1:
            by_labels.setdefault(tuple(values[:-1]), {})[values[-1]] = counted
    for values_, found in by_labels.items():
        total = counts.get(" ".join((spread.sum_word, *values_)), 0.0)
        family.add_metric(values_, _cumulative(spread.bounds, found), total)
    return family


def _cumulative(bounds: Sequence[float], found: Mapping[str, float]) -> list[tuple[str, float]]:
    buckets, so_far = [], 0.0
    for bound in bounds:
        so_far += found.get(str(bound), 0.0)
        buckets.append((str(bound), so_far))
    return [*buckets, ("+Inf", so_far + found.get(BEYOND, 0.0))]
