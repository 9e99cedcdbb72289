"""Sets of weights: whole ways to judge, as data.

``modern`` is the default: the table of :mod:`botmilter.signals`.  ``study-2009`` judges by the
study's definition and by nothing else: a host on the path that runs a Windows client system and
offers no service is a bot; what may be client or server is a suspect; Linux and everything else
never is a bot, whatever its name, its listing or its header say.  (The study looked at every host
on the path; we judge the origin, the only one that is proved.)  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from botmilter.signals import DEFAULT_WEIGHTS

#: What the study measured: system and service.
_STUDIED = frozenset(
    {
        *("os.client", "os.both", "os.unix", "os.server", "pair.client_no_service"),
        *("smtp.refused", "smtp.filtered", "smtp.banner", "smtp.rejecting", "smtp.slow"),
    }
)

PROFILES: dict[str, Mapping[str, float]] = {
    "modern": DEFAULT_WEIGHTS,
    "study-2009": {
        name: weight if name in _STUDIED else 0.0 for name, weight in DEFAULT_WEIGHTS.items()
    },
}
