"""``python -m botmilter`` and the ``botmilter`` command."""

from __future__ import annotations

from botmilter.cli import botmilter, output


def main() -> None:
    output.guard()
    botmilter(prog_name="botmilter")


if __name__ == "__main__":
    main()
