"""The command ``fds``, also as ``python -m financial_data_service``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command. Ctrl-C during the imports ends it without a traceback."""
    try:
        from financial_data_service import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
