"""Search for a delivery that is answered with a fault: every provider's parser, and the HTTP surface around it.

    python -m tests.fuzz [SECONDS | FILE]

Needs atheris (the extra `fuzz`), which follows the branches that a body takes. docs/testing.md tells more.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["gitopsd"]):
    from gitopsd.errors import PayloadError
    from gitopsd.model import Request
    from gitopsd.providers import PROVIDERS, Provider
    from gitopsd.settings import Repo
    from tests.endpoint import Endpoint
    from tests.integration.test_providers import EVENTS, PUSHES, assert_usable
    from tests.senders import FORM, JSON, Sender

_SECONDS = 300
_MAX_BYTES = 4096
_ANSWERS = frozenset((200, 202, 400, 401, 404, 405, 413, 415))


@dataclass(frozen=True)
class Door:
    """One provider, a receiver of it, and a sender for each of its ways in."""

    provider: Provider
    endpoint: Endpoint
    senders: tuple[Sender, ...]


def open_doors(root: Path) -> list[Door]:
    """A door for each provider, in the order of the registry: the first byte of an input chooses one."""
    repo = Repo(name="blog", url="https://example.org/me/blog", ref="main", path=Path("/srv/blog"), images=("**",))
    doors = []
    for provider in PROVIDERS.values():
        senders = tuple(Sender(scheme, b"secret-%d" % number) for number, scheme in enumerate(provider.schemes))
        secrets = [sender.secret.value.decode() for sender in senders]
        doors.append(Door(provider, Endpoint(root / provider.name, provider.name, repo, *secrets), senders))
    return doors


def try_one(doors: list[Door], data: bytes) -> None:
    """One input: which provider, how it is sent, a header, and the body."""
    given = atheris.FuzzedDataProvider(data)
    door = doors[given.ConsumeIntInRange(0, len(doors) - 1)]
    choice = given.ConsumeIntInRange(0, 15)
    header = given.ConsumeUnicodeNoSurrogates(20) if choice & 1 else EVENTS.get(door.provider.event_header, "")
    body = given.ConsumeBytes(_MAX_BYTES)
    parse(door.provider, {door.provider.event_header: header}, body)
    deliver(door, header, body, FORM if choice & 2 else JSON, is_signed=bool(choice & 12))


def parse(provider: Provider, headers: Mapping[str, str], body: bytes) -> None:
    """Whatever the body is, it is an Event or a PayloadError, fit for a log and a terminal."""
    try:
        payload: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    if not isinstance(payload, dict):
        return
    provider.delivery_id(headers, payload)
    try:
        assert_usable(provider.parse(headers, payload))
    except PayloadError as error:
        assert_usable(error)


def deliver(door: Door, header: str, body: bytes, media_type: str, *, is_signed: bool) -> None:
    """Whatever is sent is answered, and not with a fault of ours."""
    header = header.encode("ascii", "replace").decode() if header.isprintable() else ""
    headers = {door.provider.event_header: header} if door.provider.event_header and header else {}
    request = Request(headers=headers, body=body, media_type=media_type)
    if is_signed:
        request = door.senders[len(body) % len(door.senders)].request(body, media_type, headers)
    path = f"/hook/here/{request.token}" if request.token else "/hook/here"
    answer = door.endpoint.post(request.body, {**request.headers, "Content-Type": media_type}, path)
    assert answer.status_code in _ANSWERS, f"{door.provider.name}: {answer.status}: {answer.text}"


def seeds(folder: Path) -> None:
    """The pushes of every sender, for each provider, so that the search begins inside the parsers."""
    for number in range(len(PROVIDERS)):
        for name, push in PUSHES.items():
            text = json.dumps(push).encode()
            # FuzzedDataProvider takes numbers from the end.
            (folder / f"{number}-{name.replace('/', '-')}").write_bytes(text + bytes((4, number)))


def main() -> None:
    """Search for so many seconds, or until something is found; atheris then writes the input to a file.

    Such a file as the argument is tried once more.
    """
    logging.disable()
    told = sys.argv[1] if len(sys.argv) > 1 else str(_SECONDS)
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "corpus")
        corpus.mkdir()
        seeds(corpus)
        doors = open_doors(Path(name))
        search = [f"-max_total_time={told}", f"-max_len={_MAX_BYTES}", "-rss_limit_mb=1024", str(corpus)]
        atheris.Setup([sys.argv[0], *(search if told.isdecimal() else [told])], lambda data: try_one(doors, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
