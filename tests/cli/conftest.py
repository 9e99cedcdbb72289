"""Commands on a bare machine, and a store as they find it: SQLite and Redis in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter import config
from botmilter.cli import botmilter, build
from tests.cli.fakes import Run
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import redis_cli, redis_cluster, redis_server


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's configuration nor its store, for commands run in this process."""
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "none.toml")
    monkeypatch.setattr(build, "STATE_DIRECTORY", tmp_path / "nowhere")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ports = [free_port() for _ in range(3)]
    with redis_cluster(tmp_path_factory.mktemp("cluster"), ports):
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """What says which store it is, an empty one."""
    if request.param == "sqlite":
        return ["--set", f'store.path="{tmp_path / "s.sqlite"}"']
    url: str = request.getfixturevalue(f"{request.param}_url")
    for place in url.rpartition("/")[2].split(","):
        redis_cli(int(place.rpartition(":")[2]), "flushall")
    return ["--set", f'store={{kind="redis", url="{url}"}}']


@pytest.fixture
def run(chosen: list[str]) -> Run:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(botmilter, [*arguments, *chosen])

    return run
