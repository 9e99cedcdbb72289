"""A seal over a verdict, so that a later host can tell ours from a forged one.  Pure.

``X-Bot-Seal: v=1; id=QUEUE-ID; mac=HEX`` is HMAC-SHA-256 (RFC 2104) under a key that the hosts of
a site share, over the version, the verdict field's value, the queue id and the Message-ID: a seal
cannot be moved to another verdict or another mail.  Relays fold anew, so the value counts without
its white space, and in the Message-ID a run of white space counts as one blank.  Whoever can send
the very same mail with the same Message-ID again can repeat its verdict with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re

#: Shorter keys are guessed (RFC 2104 section 3: no shorter than the hash is what it should be; a
#: line of text from an admin's hand may be half of that).
KEY_AT_LEAST = 16

_VERSION = "1"
_SEAL = re.compile(r"v=1;id=([^;=]{0,100});mac=([0-9a-f]{64})")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]")


def seal(key: bytes, verdict: str, queue_id: str, message_id: str) -> str:
    """The value of the seal field for the verdict field's value *verdict*; printable ASCII."""
    queue_id = _NOT_ID.sub("_", queue_id[:100])
    return f"v={_VERSION}; id={queue_id};\n\tmac={_mac(key, verdict, queue_id, message_id)}"


def holds(key: bytes, sealed: str, verdict: str, message_id: str) -> bool:
    """Whether *sealed*, the value of a seal field, was made with *key* for *verdict* on the mail
    with *message_id*.  Never raises; takes the same time for every wrong seal."""
    found = _SEAL.fullmatch("".join(sealed.split()))
    if found is None:
        return False
    return hmac.compare_digest(_mac(key, verdict, found[1], message_id), found[2])


def _mac(key: bytes, verdict: str, queue_id: str, message_id: str) -> str:
    parts = (_VERSION, "".join(verdict.split()), queue_id, " ".join(message_id.split()))
    return hmac.new(
        key, "\n".join(parts).encode("utf-8", "surrogateescape"), hashlib.sha256
    ).hexdigest()
