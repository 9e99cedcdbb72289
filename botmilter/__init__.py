"""botmilter: tells whether the host that sent a mail is a bot.

The layers, bottom up, are in docs/architecture.md; a test holds them.
"""

__version__ = "0.1.0"
