"""``botmilter probe``: all that can be seen of an address."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from botmilter import cli
from botmilter.cli import build
from botmilter.config import Settings
from botmilter.model import Signal, Status
from tests.cli.fakes import LONG_NAME, FakeProbe

LAB = ("--set", 'probe.allow_networks=["198.18.0.0/15"]', "--set", 'store.kind="memory"')


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeProbe, FakeProbe]:
    """A banner that settles the matter, and an nmap that is asked all the same."""
    found = (
        FakeProbe("smtp", [Signal("smtp.banner")], shows_life=True),
        FakeProbe("osdetect", [Signal("os.unix", detail="Linux")], wants_life=True),
    )

    def fakes(settings: Settings) -> tuple[FakeProbe, ...]:
        return found

    monkeypatch.setattr(build, "probes", fakes)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.botmilter, ["probe", *arguments])


def test_every_probe_is_asked_even_where_the_label_is_settled(
    probes: tuple[FakeProbe, FakeProbe],
) -> None:
    result = run(*LAB, "198.18.7.12", "198.18.7.13")
    assert result.exit_code == 0, result.stderr
    assert [probe.asked for probe in probes] == [["198.18.7.12", "198.18.7.13"]] * 2
    assert "198.18.7.12" in result.stdout
    assert "smtp.banner" in result.stdout


def test_json_has_the_observations_and_the_verdict(probes: tuple[FakeProbe, FakeProbe]) -> None:
    said = json.loads(run(*LAB, "--json", "198.18.7.12").stdout)
    assert said["verdict"] == "clean"
    assert {one["probe"]: one["facts"] for one in said["observations"]} == {
        "smtp": {"said": ["smtp.banner"]},
        "osdetect": {"said": ["os.unix"]},
    }


def test_facts_are_shown_whole_where_the_output_is_no_terminal(
    probes: tuple[FakeProbe, FakeProbe],
) -> None:
    names = [Signal(LONG_NAME)] * 8  # a fake's facts are the names of its signals
    probes[0].says, probes[1].status = names, Status.FAILED
    text = "".join(run(*LAB, "198.18.7.12").stdout.split())
    assert text.count(LONG_NAME) >= len(names)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "198.18.7.12", "224.0.0.1", "::1"])
def test_an_address_of_no_public_host_is_refused(
    probes: tuple[FakeProbe, FakeProbe], address: str
) -> None:
    result = run("--set", 'store.kind="memory"', "--json", address)
    assert [probe.asked for probe in probes] == [[], []]
    assert {one["status"] for one in json.loads(result.stdout)["observations"]} == {"skipped"}


def test_what_is_no_address_is_named_and_the_hosts_beside_it_are_looked_at(
    probes: tuple[FakeProbe, FakeProbe],
) -> None:
    result = run(*LAB, "--json", "mail.example.org\x1b", "198.18.7.12", "198.18.7", "198.18.7.13")
    assert result.exit_code == 66
    assert result.stderr.splitlines() == [
        "mail.example.org?: expected an IPv4 or IPv6 address",
        "198.18.7: expected an IPv4 or IPv6 address",
    ]
    looked_at = [json.loads(line)["origin"]["ip"] for line in result.stdout.splitlines()]
    assert looked_at == probes[0].asked == ["198.18.7.12", "198.18.7.13"]
