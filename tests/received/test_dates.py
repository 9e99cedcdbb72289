"""Dates of trace lines become aware datetimes, or the reason why not."""

from __future__ import annotations

import pytest

from botmilter.received import dates


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        (" Tue, 02 Jan 2024 03:04:05 +0100 (CET)", "2024-01-02T03:04:05+01:00"),
        (" 2 Jan 2024 03:04:05 -0000", "2024-01-02T03:04:05+00:00"),
        (" Tue, 2 Jan 24 03:04 EDT", "2024-01-02T03:04:00-04:00"),
        (" 2 Jan 99 03:04:05 GMT", "1999-01-02T03:04:05+00:00"),
        (" Tue, 2 Jan 100 03:04:05 +0000", "2000-01-02T03:04:05+00:00"),
        (" Tue, 02 Jan 2024 03:04:05.678 +0000 (UTC)", "2024-01-02T03:04:05+00:00"),
        ("2024-01-02 03:04:05.123456789 +0000 UTC m=+12.3", "2024-01-02T03:04:05+00:00"),
        (" Sun Nov 13 14:50:12 2005 +0100", "2005-11-13T14:50:12+01:00"),
        (" Fri Sep 14 14:36:56 EDT 2018", "2018-09-14T14:36:56-04:00"),
        (" Thu, 6 May 2004 17:40:44-0500", "2004-05-06T17:40:44-05:00"),
        (" Mon, 02 Sep 2002 01:07:29 -08:00", "2002-09-02T01:07:29-08:00"),
        (" Tue, 31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59+00:00"),
        (" 2 Jan 2024 03:04:05 +1400", "2024-01-02T03:04:05+14:00"),
        (" 2 Jan 2024 03:04:05 -1200", "2024-01-02T03:04:05-12:00"),
        (" 2 Jan 2024 03:04:05 +0545", "2024-01-02T03:04:05+05:45"),
    ],
)
def test_is_read(text: str, iso: str) -> None:
    reading = dates.read(text)
    assert reading.at is not None
    assert (reading.at.isoformat(), reading.defect) == (iso, None)


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        ("", dates.MISSING),
        (" next Tuesday", dates.UNREADABLE),
        (" 31 Feb 2024 03:04:05 +0000", dates.IMPOSSIBLE),
        (" 2 Jan 2024 25:04:05 +0000", dates.IMPOSSIBLE),
        (" 1 Jan 0001 00:00:00 +1400", dates.IMPOSSIBLE),
        (" 2 Jan 2024 03:04:05 -1300", dates.BAD_ZONE),
        (" 2 Jan 2024 0\u0663:04:05 +0100", dates.UNREADABLE),
        (" \u0662 Jan 2024 03:04:05 +0100", dates.UNREADABLE),
        (" 2 Jan 2024 03:04:05 +1401", dates.BAD_ZONE),
        (" 2 Jan 2024 03:04:05 +9999", dates.BAD_ZONE),
        (" 2 Jan 2024 03:04:05 +0199", dates.BAD_ZONE),
    ],
)
def test_is_refused_with_its_reason(text: str, defect: str) -> None:
    reading = dates.read(text)
    assert (reading.at, reading.defect) == (None, defect)


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        (" Sun Nov 13 14:50:12 2005", dates.NO_ZONE),
        (" 2 Jan 2024 03:04:05 XYZ", dates.UNKNOWN_ZONE),
    ],
)
def test_is_read_as_utc_and_marked(text: str, defect: str) -> None:
    reading = dates.read(text)
    assert reading.at is not None
    assert (reading.at.utcoffset().__str__(), reading.defect) == ("0:00:00", defect)
