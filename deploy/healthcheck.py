"""The health check of the image: exit code 0 if the service of this container is ready, else 1.

It needs the standard library only, so a check takes little time. The certificate is not verified:
it is made for the name that clients use, and the check asks the loopback address.
"""

import os
import ssl
import sys
import urllib.request

SECONDS_MAX = 4.0


def is_ready() -> bool:
    """Ask ``/readyz`` at the port of ``FDS_PORT``; no API key is needed."""
    scheme = "https" if os.environ.get("FDS_SSL_CERTFILE") else "http"
    url = f"{scheme}://127.0.0.1:{os.environ.get('FDS_PORT', '8000')}/readyz"
    context = ssl._create_unverified_context() if scheme == "https" else None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=SECONDS_MAX) as reply:
            return bool(reply.status == 200)
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(not is_ready())
