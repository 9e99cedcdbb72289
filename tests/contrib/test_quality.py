"""``contrib/bench quality``: its figures, and what they are on the real headers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from botmilter import score
from botmilter.model import Hop, HopKind, HopSource, Origin, OriginWhy
from botmilter.net import parse_ip

MODULE = Path(__file__).parents[2] / "contrib" / "benchmarks" / "quality.py"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_quality", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_quality"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cases(quality: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    if not quality.CORPUS.exists():
        pytest.skip("the corpus of real headers is not here")
    folder = tmp_path_factory.mktemp("corpus")
    subprocess.run(["tar", "-xzf", quality.CORPUS, "-C", folder], check=True)
    return list(quality.read(folder / "corpus"))


def case(quality: ModuleType, folder: str, receiver: str) -> Any:
    hop = Hop(0, HopSource.HEADER, HopKind.RELAY, parse_ip("192.0.2.7"), by=receiver)
    return quality.Case(folder, Path("x"), Origin(OriginWhy.RELAY, hop.ip, hop), ())


def points(quality: ModuleType, *rows: tuple[str, str, float]) -> list[tuple[Any, float]]:
    folder = {"wanted": quality.WANTED, "unwanted": quality.UNWANTED}
    return [(case(quality, folder[kind], receiver), value) for kind, receiver, value in rows]


def test_only_mails_of_one_receiving_host_are_compared(quality: ModuleType) -> None:
    rows = points(
        quality,
        ("wanted", "mx1", 1.0),
        ("unwanted", "mx1", 2.0),
        ("wanted", "mx2", 5.0),
        ("unwanted", "mx2", 5.0),
    )
    assert quality.auc_within(rows) == 0.75


def test_hits_are_counted_above_what_the_allowed_share_of_wanted_mail_has(
    quality: ModuleType,
) -> None:
    wanted = [("wanted", "mx", float(value)) for value in range(100)]
    unwanted = [("unwanted", "mx", value) for value in (98.5, 97.5, 97.0, 1.0)]
    rows = points(quality, *wanted, *unwanted)
    assert quality.hits(rows, 0.01) == 0.25
    assert quality.hits(rows, 0.02) == 0.5


def test_the_header_alone_tells_more_than_the_best_peer(
    quality: ModuleType, cases: list[Any]
) -> None:
    """The best of the peers had an area of 0.784, and hits of 9 % and 19 %, on other mail of
    this kind."""
    rules = quality.default_rules()
    rows = [(one, score.judge(one.signals, rules).score) for one in quality.of_one_site(cases)]
    assert quality.auc_within(rows) >= 0.85
    assert quality.hits(rows, 0.01) >= 0.5
    assert quality.hits(rows, 0.05) >= 0.7


def test_nobody_is_suspected_for_sending_through_a_provider_of_today(
    quality: ModuleType, cases: list[Any]
) -> None:
    rules = quality.default_rules()
    labels = Counter(
        score.judge(one.signals, rules).label.value for one in cases if one.folder == quality.MODERN
    )
    assert labels.keys() <= {"clean", "unknown"}
    assert labels.total() == 150
