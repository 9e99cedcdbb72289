"""The ``Received:`` chain of a mail: who handed it to whom, whom to believe, who sent it.

:func:`parse` makes hops of lines, :func:`origin.find <botmilter.received.origin.find>` applies
trust, :func:`forgery.signals <botmilter.received.forgery.signals>` says what contradicts itself.
All of it is pure and never raises, whatever the mail holds.
"""

from botmilter.received.chain import parse, parse_line

__all__ = ["parse", "parse_line"]
