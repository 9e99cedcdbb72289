"""Settings become the engine's parts."""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from botmilter import config
from botmilter.cli import build
from botmilter.errors import ConfigError, SetupError
from botmilter.memory import Lifetimes
from botmilter.model import Observation, Status
from botmilter.probes.base import Operation
from botmilter.store.memory import MemoryStore
from botmilter.store.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("settings", "ip", "refused"),
    [
        ((), "192.0.2.1", True),
        ((), "8.8.4.4", False),
        (('trust.networks=["8.8.4.0/24"]',), "8.8.4.4", True),
        (('probe.never_networks=["8.8.4.0/24"]',), "8.8.4.4", True),
        ((), "198.18.0.7", True),
        (('probe.allow_networks=["198.18.0.0/15"]',), "198.18.0.7", False),
        (
            ('probe.allow_networks=["198.18.0.0/15"]', 'trust.networks=["198.18.0.7"]'),
            "198.18.0.7",
            True,
        ),
        ((), "127.0.0.1", True),
        (('probe.allow_networks=["127.0.0.0/8"]',), "127.0.0.1", False),
    ],
)
def test_trusted_own_and_reserved_addresses_are_never_probed(
    settings: tuple[str, ...], ip: str, refused: bool
) -> None:
    guard = build.guard(config.load(None, settings))
    assert (guard.refusal(ip_address(ip)) is not None) is refused


def test_our_own_public_address_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ip_address("8.8.4.4")
    monkeypatch.setattr(build, "own_addresses", lambda: frozenset({ours}))
    assert build.guard(config.load()).refusal(ours) == "trusted, own or opted out"


def test_without_a_place_sqlite_lives_in_systemds_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    store = build.store(config.load().store)
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "botmilter.sqlite"


def test_without_a_writable_place_memory_takes_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "nowhere"))
    assert isinstance(build.store(config.load().store), MemoryStore)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://x", r"\[store\] url: http://x: Redis URL must"),
        ("redis://[::1:6379/0", r"\[store\] url: redis://"),
        ("redis://127.0.0.1:66666", r"\[store\] url: redis://.*66666"),
    ],
)
def test_a_store_s_url_that_is_none_is_an_error_of_the_configuration(
    url: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build.store(config.load(None, ['store.kind="redis"', f'store.url="{url}"']).store)


def test_a_configured_store_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(SetupError, match=r"\[store\] path: .*/no/where/at\.all"):
        build.store(config.load(None, ['store.path="/no/where/at.all"']).store)


def test_without_its_package_redis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "botmilter.store.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    chosen = config.load(None, ('store.kind="redis"', 'store.url="redis://127.0.0.1"'))
    with pytest.raises(SetupError, match="contrib/install --with redis"):
        build.store(chosen.store)


def test_nothing_is_kept_longer_than_keep_days() -> None:
    usual = build.lifetimes(config.load().store)
    assert replace(usual, by_probe={}) == Lifetimes(
        3 * 86400.0, 45 * 60.0, 600.0, 30.0, 7 * 86400.0
    )
    seen = Observation("rdns", "198.18.7.12", Status.ANSWERED)
    assert usual.of(seen, -2.0) == 3 * 86400.0
    brief = build.lifetimes(config.load(None, ["store.keep_days=1.5"]).store)
    assert brief.of(seen, -2.0) == 1.5 * 86400.0


def test_what_a_probe_has_of_its_own_stands_in_for_the_stores() -> None:
    chosen = config.load(None, ["store.lifetimes={dnsbl={accuses_minutes=5}}", "store.failed_s=7"])
    listed = Observation("dnsbl", "198.18.7.12", Status.ANSWERED)
    lifetimes = build.lifetimes(chosen.store)
    assert (lifetimes.of(listed, 3.0), lifetimes.of(listed, -3.0)) == (300.0, 3 * 86400.0)
    assert lifetimes.of(replace(listed, status=Status.FAILED), 0.0) == 7.0
    assert lifetimes.of(replace(listed, probe="smtp"), 3.0) == 45 * 60.0


def test_nmap_is_not_asked_again_for_an_hour_about_whom_it_can_say_nothing() -> None:
    nothing = Observation("osdetect", "198.18.7.12", Status.SILENT)
    assert build.lifetimes(config.load().store).of(nothing, 0.0) == 3600.0


def test_the_policy_is_the_configured_budget_unless_the_command_has_its_own() -> None:
    settings = config.load(None, ["budget.per_mail_s=3", 'store.kind="memory"'])
    machine = build.machine(settings, ())
    assert machine.policy(settings).budget_s == 3.0
    assert machine.policy(settings).under_load_s == 1.0
    own = machine.policy(settings, 20.0)
    assert (own.budget_s, own.under_load_s) == (20.0, None)


def test_every_probe_can_be_switched_off_and_has_its_limit_from_the_configuration() -> None:
    made = build.probes(config.load())
    assert [probe.name for probe in made] == ["rdns", "senderhost", "smtp", "ping", "osdetect"]
    for probe in made:
        others = [f"probe.{one.name}.enabled=false" for one in made if one.name != probe.name]
        (alone,) = build.probes(config.load(None, [*others, f"probe.{probe.name}.limit_s=1.25"]))
        assert (alone.name, alone.limit_s) == (probe.name, 1.25)


def test_every_table_of_a_probe_makes_one_once_it_has_what_it_needs() -> None:
    given = ["probe.dnsbl.zones=[{name='list.test'}]", "probe.p0f.socket='/run/p0f.sock'"]
    made = {probe.name for probe in build.probes(config.load(None, given))}
    tables = {option.table for option in config.options() if option.key == "limit_s"}
    assert made == {table.removeprefix("probe.") for table in tables}


def test_what_needs_a_privilege_can_be_handed_to_another_process() -> None:
    asked: list[str] = []

    def operation(name: str) -> Operation:
        asked.append(name)
        return build.operations()[name]

    build.probes(config.load(), operation)
    assert set(asked) == set(build.operations())
