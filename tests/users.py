"""Real users, as root can be any: for what one may do to the files of another."""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ALICE, BOB, STRANGER = 60001, 60002, 60003
GROUP = 60010
"""Alice and Bob are in it, the stranger is not."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can be several users")

_UMASK = 0o077


def act_as(user: int, action: Callable[[], object]) -> str:
    """Do something in a process of that user's that ends at once, as if it were killed; what it raised, or ""."""
    reader, writer = os.pipe()
    child = os.fork()  # and nothing is executed: another user may not be able to enter where Python and we are
    if child == 0:
        try:
            os.setgroups([] if user == STRANGER else [GROUP])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.umask(_UMASK)
            action()
        except BaseException as error:  # noqa: BLE001 - the parent has to hear of it, whatever it is
            told = "".join(traceback.format_exception_only(error)).strip() or "?"
            os.write(writer, told.encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@contextmanager
def shared_directory(mode: int) -> Iterator[Path]:
    """A directory of the group, in a place that everybody can get to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name) / "shared"
        directory.mkdir()
        os.chown(directory, ALICE, GROUP)
        directory.chmod(mode)
        yield directory
