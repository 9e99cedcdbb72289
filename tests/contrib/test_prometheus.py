"""The real Prometheus reads the metrics of a running filter as docs/operations.md sets it up, and
answers what the dashboard asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contrib.test_grafana import FILE, targets
from tests.fakes.mta import send_one
from tests.fakes.programs import find, free_port, listens, running

pytestmark = pytest.mark.slow

_LIMIT_S = 30.0
_SCRAPE_S = 1
_MAILS = 3

#: What Grafana puts in the place of its variables.
_VARIABLES = {"$instance": ".*", "$__rate_interval": f"{4 * _SCRAPE_S}s", "$__range": "1h"}


@pytest.fixture(scope="module")
def filter_socket(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("filter")
    address = str(folder / "milter.sock")
    (folder / "botmilter.toml").write_text(
        f'milter = {{ socket = "unix:{address}", workers = 2 }}\nstore.kind = "memory"\n'
        'probe = { allow_networks = ["198.18.0.0/15"], nameservers = ["127.0.0.1"] }\n'
        f'metrics.listen = "127.0.0.1:{port}"\n'
    )
    command = [sys.executable, "-m", "botmilter", "run", "--config", str(folder / "botmilter.toml")]
    with running(command, lambda: listens(port) and Path(address).exists(), folder):
        yield address


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def ask(filter_socket: str, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder, own = tmp_path_factory.mktemp("prometheus"), free_port()
    jobs = [{"job_name": "botmilter", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
    every = {"scrape_interval": f"{_SCRAPE_S}s"}
    # JSON is YAML
    (folder / "prometheus.yml").write_text(json.dumps({"global": every, "scrape_configs": jobs}))
    command = [
        find("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]

    def query(expression: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": expression})
        place = f"http://127.0.0.1:{own}/api/v1/query?{asked}"
        with urllib.request.urlopen(place, timeout=10) as answer:
            said = json.load(answer)
        assert said["status"] == "success"
        found: list[dict[str, Any]] = said["data"]["result"]
        return found

    with ExitStack() as stack:
        stack.enter_context(running(command, lambda: _is_ready(own), folder, _LIMIT_S))
        _wait_for(lambda: query("botmilter_workers"))
        for _ in range(_MAILS):
            send_one(filter_socket, None, ip="198.18.0.1")
        _wait_for(lambda: _total(query("sum(botmilter_mails_total)")) == _MAILS)
        time.sleep(2 * _SCRAPE_S)  # a rate takes two values
        yield query


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
            return True
    except OSError:
        return False


def _wait_for(what: Any) -> None:
    until = time.monotonic() + _LIMIT_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.2)


def _total(found: list[dict[str, Any]]) -> float:
    return sum(float(one["value"][1]) for one in found)


def test_it_takes_every_line_that_is_exposed(ask: Any, port: int) -> None:
    assert _total(ask('up{job="botmilter"}')) == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read()
    checked = subprocess.run(
        [find("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=30
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_dashboard_s_questions_are_answered(ask: Any) -> None:
    found = {}
    for one in targets(json.loads(FILE.read_text())):
        expression = one["expr"]
        for variable, value in _VARIABLES.items():
            expression = re.sub(re.escape(variable) + r"\b", value, expression)
        found[one["expr"]] = ask(expression)
    mails = next(name for name in found if name.startswith("sum by (verdict)"))
    assert {"bot", "clean", "unknown"} <= {one["metric"]["verdict"] for one in found[mails]}
    workers = next(name for name in found if name.startswith("sum by (state)"))
    states = {one["metric"]["state"]: one["value"][1] for one in found[workers]}
    assert states == {"serving": "2", "draining": "0"}
