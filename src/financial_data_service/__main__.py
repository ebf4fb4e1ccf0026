"""``python -m financial_data_service`` is the command ``fds``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
