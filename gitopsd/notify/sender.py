"""One message to one URL, by Apprise (only here), in a process of its own: whatever it does there, it can be ended.

Its only argument is a file with {url, message: {kind, title, body} or null}; without one it only looks at the URL.
It ends with 0, or with 1 and a last line of output that says why, without any part of the URL.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

WHY = "why: "
"""What the line begins with."""

_SHORTEST_SECRET = 4
_TYPES = {"failure": "failure", "refusal": "warning", "trial": "info"}


def main() -> None:
    """Do what the file says."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    words = _Words()
    try:
        is_done = _do(order["url"], order["message"], words)
        why = words.first or ("it was not taken" if order["message"] else "it is no URL that Apprise knows")
    except Exception as error:  # noqa: BLE001 - other people's code, on other people's text
        is_done, why = False, f"{type(error).__name__}: {error}"
    if not is_done:
        print(f"\n{WHY}{without(' '.join(why.split()), order['url'])}", flush=True)  # noqa: T201 - to whoever has started us
    # Not by way of threads that Apprise may have left, which Python would wait for.
    os._exit(0 if is_done else 1)


def _do(url: str, message: Mapping[str, str] | None, words: "_Words") -> bool:
    import apprise  # noqa: PLC0415 - slow, and not everywhere

    logger = logging.getLogger("apprise")
    logger.addHandler(words)
    asset = apprise.AppriseAsset(app_id="gitopsd", app_desc="gitopsd", async_mode=False, secure_logging=True)
    service: Any = apprise.Apprise.instantiate(url, asset=asset)
    if service is None or message is None:
        return service is not None
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    kind, text = _TYPES.get(message["kind"], "success"), apprise.NotifyFormat.TEXT
    return bool(sender.notify(body=message["body"], title=message["title"], notify_type=kind, body_format=text))


class _Words(logging.Handler):
    """What Apprise complains of: its only word on why something failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def without(text: str, url: str) -> str:
    """`text` without any part of `url` but what it begins with: tokens may be anywhere in it."""
    hidden = url.partition("://")[2] or url  # with no scheme it may be a bare token
    parts = {part for form in (hidden, unquote(hidden)) for part in re.split(r"[^\w.-]+", form)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "***")
    return text
