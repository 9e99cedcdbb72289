"""Two hosts of one site: what the backup MX has judged and sealed, the other lets stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.mta import Mail, send_one
from tests.reliability.rig import Rig, hosts

pytestmark = pytest.mark.slow

BACKUP_MX = "198.18.3.1"
CLIENT = "198.18.3.77"


def test_a_sealed_verdict_of_the_backup_mx_stands(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("one key for both hosts\n")
    settings = {"header.key_file": str(key), "probe.osdetect.enabled": False}
    settings |= {"probe.nameservers": ["127.0.0.1"]}
    for name in ("backup", "main"):
        (tmp_path / name).mkdir()
    with (
        hosts(),
        Rig(tmp_path / "backup", 0, settings),
        Rig(tmp_path / "main", 1, settings | {"trust.networks": [BACKUP_MX]}) as main,
    ):
        mail = Mail([(b"Message-ID", b"<1@x.example>"), (b"X-Bot-Verdict", b"clean")])
        first = send_one(str(tmp_path / "backup" / "milter.sock"), mail, ip=CLIENT)
        second = send_one(str(tmp_path / "main" / "milter.sock"), Mail(first.headers), ip=BACKUP_MX)
        assert sorted(second.headers) == sorted(first.headers)
        (verdict,) = second.values(b"X-Bot-Verdict")
        assert f"origin={CLIENT}".encode() in verdict
        main.wait_for("why=sealed")
