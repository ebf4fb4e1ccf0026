"""Writes the generated pages of ``docs/reference``.

python scripts/write_reference.py           write them
python scripts/write_reference.py --check   write nothing; exit with 1 if a page is stale
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reference_pages import command_line, errors, python_api, routes, settings, websocket

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

PAGES = {
    "settings.md": settings.page,
    "command-line.md": command_line.page,
    "errors.md": errors.page,
    "routes.md": routes.page,
    "websocket.md": websocket.page,
    "python.md": python_api.page,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say which pages are stale")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, "utf-8")
    if stale and check:
        print(f"Stale: {', '.join(stale)}. Run `make docs`, commit the pages.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
