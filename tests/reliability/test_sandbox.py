"""With what the systemd unit leaves the daemon, as far as that can be had without systemd: another
user than root from the start, one capability, no new privileges, a file system it cannot write."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from botmilter import header
from tests.fakes.mta import Mail, send_one
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab
from tests.reliability.rig import Rig

pytestmark = pytest.mark.slow

USER = "games"
#: Read-only but for the two folders that the unit may write to, which are one here.  By another
#: root, for in a chroot "/" is no mount point.
_READ_ONLY = """\
root=$(mktemp -d) && mount --rbind / "$root" && mount -o remount,bind,ro "$root" &&
mount --bind "$0" "$root$0" && exec chroot "$root" env -C "$PWD" "$@"
"""


def test_all_probes_work_within_what_the_unit_leaves(tmp_path: Path) -> None:
    within = (
        *("env", f"TMPDIR={tmp_path}"),  # PrivateTmp=
        *("unshare", "--mount", "--propagation", "unchanged"),
        *("sh", "-c", _READ_ONLY, str(tmp_path)),
        *("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs"),
        *("--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"),
        "--bounding-set=-all,+net_raw",
    )
    settings = {"probe.nameservers": ["198.18.0.53"], "probe.osdetect.limit_s": 15.0}
    settings |= {"budget.per_mail_s": 15.0}
    with Lab(worlds.ALL), NameServer(worlds.ALL, worlds.RECORDS):
        rig = Rig(tmp_path, 0, settings, within)
        for path in (tmp_path, *tmp_path.rglob("*")):
            shutil.chown(path, USER)
        for path in tmp_path.parents[:3]:  # pytest's own, closed to others
            path.chmod(0o755)
        with rig:
            rig.wait_for("serving")
            for host in (worlds.INFECTED_PC, worlds.WINDOWS_7, worlds.HOME_ROUTER):
                got = send_one(str(tmp_path / "milter.sock"), Mail(), ip=str(host.ip))
                (verdict,) = got.values(b"X-Bot-Verdict")
                assert header.parse(verdict.decode()).label == "bot", verdict
                assert not {"ping", "osdetect"} & set(header.parse(verdict.decode()).missing)
            status = Path(f"/proc/{rig.workers[0]}/status").read_text()
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
        assert "does not work" not in rig.log
