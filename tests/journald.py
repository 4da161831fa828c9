"""A stand-in for systemd-journald: its socket, and how it reads what comes there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def journald(path: Path) -> Iterator[socket.socket]:
    """The socket of a journald at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        yield listener


def read_entry(message: bytes) -> dict[str, bytes]:
    """One entry of the native protocol, as journald reads it."""
    entry = {}
    while message:
        line, _, message = message.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(message[:8], "little")
            value, message = message[8 : 8 + size], message[8 + size + 1 :]
        entry[key.decode()] = value
    return entry
