#!/usr/bin/env python3
"""Deliver a push as GitHub would: signed with the secret in $GITHUB_WEBHOOK_SECRET. Needs nothing but Python.

Prints the answer; exit 0 for 202, else 1.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import sys
import uuid
from urllib.parse import urlsplit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hook", help="http://HOST:PORT/PATH of the receiver")
    parser.add_argument("--url", required=True, help="the URL of the remote, as the provider would give it")
    parser.add_argument("--name", required=True, help="the full name of the remote: owner/name")
    parser.add_argument("--revision", required=True, help="the full commit id that was pushed")
    parser.add_argument("--ref", default="refs/heads/main", help="the full ref (default: %(default)s)")
    arguments = parser.parse_args()
    body = json.dumps(
        {
            "ref": arguments.ref,
            "before": "0" * 40,
            "after": arguments.revision,
            "deleted": False,
            "forced": False,
            "repository": {"full_name": arguments.name, "clone_url": arguments.url},
        }
    ).encode()
    secret = os.environ.get("GITHUB_WEBHOOK_SECRET", "")
    if not secret:
        sys.exit("deliver.py: set GITHUB_WEBHOOK_SECRET to the secret of the receiver")
    if not arguments.hook.startswith("http://"):
        sys.exit(f"deliver.py: {arguments.hook}: give http://HOST:PORT/PATH")
    try:
        status, answer = post(arguments.hook, body, secret.encode())
    except OSError as error:
        sys.exit(f"deliver.py: {arguments.hook}: {error}; is gitopsd there?")
    print(f"{status} {answer}")
    return 0 if status == http.client.ACCEPTED else 1


def post(hook: str, body: bytes, secret: bytes) -> tuple[int, str]:
    """POST `body` with GitHub's headers; the status and the body of the answer."""
    place = urlsplit(hook)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=10)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/quickstart",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}",
    }
    connection.request("POST", place.path, body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


if __name__ == "__main__":
    sys.exit(main())
