"""Inherited sockets, sd_notify, the watchdog, secrets: what systemd hands over, and the way back."""

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gitopsd import systemd
from gitopsd.model import Secret

# What systemd does between fork and exec: descriptors from 3 on, and the number of the process they are meant for.
_HAND_OVER = """
number=3
for fd in $PASSED; do eval "exec $number<&$fd"; number=$((number + 1)); done
unset PASSED number
[ "${LISTEN_PID-}" = self ] && export LISTEN_PID=$$
exec "$@"
"""
_TAKE_OVER = """
import json, os
from gitopsd.systemd import listen_sockets
found = listen_sockets(os.environ)
every = [each for sockets in found.values() for each in sockets]
print(json.dumps({
    "ports": {name: [each.getsockname()[1] for each in sockets] for name, sockets in found.items()},
    "inheritable": [each.fileno() for each in every if os.get_inheritable(each.fileno())],
    "variables": [name for name in os.environ if name.startswith("LISTEN_")],
}))
for each in every:
    each.close()
"""


def python(script: str, *, before: str = 'exec "$@"', fds: tuple[int, ...] = (), **environment: str) -> str:
    """What a Python process writes that has just this environment and inherits `fds`."""
    done = subprocess.run(
        ["bash", "-c", before, "bash", sys.executable, "-W", "error", "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), **environment},
        pass_fds=fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def hand_over(count: int, **variables: str) -> tuple[list[int], dict[str, Any]]:
    """The ports of `count` sockets that a child inherits, and what it makes of them."""
    with ExitStack() as open_sockets:
        listeners = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        # Numbers far from 3, so that none is overwritten when another is moved to its place.
        fds = [os.dup2(each.fileno(), 100 + index) for index, each in enumerate(listeners)]
        for fd in fds:
            open_sockets.callback(os.close, fd)
        passed = " ".join(map(str, fds))
        output = python(_TAKE_OVER, before=_HAND_OVER, fds=tuple(fds), PASSED=passed, **variables)
        found: dict[str, Any] = json.loads(output)
        return [each.getsockname()[1] for each in listeners], found


# Sockets


def test_inherited_sockets_come_by_name_and_in_order() -> None:
    ports, found = hand_over(3, LISTEN_PID="self", LISTEN_FDS="3", LISTEN_FDNAMES="webhook:metrics:webhook")

    assert found["ports"] == {"webhook": [ports[0], ports[2]], "metrics": [ports[1]]}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param({}, {"unknown": [0, 1]}, id="no names"),
        pytest.param({"LISTEN_FDNAMES": ""}, {"unknown": [0, 1]}, id="empty names"),
        pytest.param({"LISTEN_FDNAMES": "webhook"}, {"webhook": [0], "unknown": [1]}, id="too few names"),
        pytest.param({"LISTEN_FDNAMES": ":webhook"}, {"unknown": [0], "webhook": [1]}, id="one empty name"),
        pytest.param({"LISTEN_FDNAMES": "a:b:c"}, {"a": [0], "b": [1]}, id="too many names"),
    ],
)
def test_a_socket_without_a_name_is_unknown(names: dict[str, str], expected: dict[str, list[int]]) -> None:
    ports, found = hand_over(2, LISTEN_PID="self", LISTEN_FDS="2", **names)

    assert found["ports"] == {name: [ports[index] for index in indexes] for name, indexes in expected.items()}


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, id="for another process"),
        pytest.param({"LISTEN_FDS": "1"}, id="for nobody"),
        pytest.param({"LISTEN_PID": "self"}, id="no number"),
        pytest.param({"LISTEN_PID": "self", "LISTEN_FDS": "0"}, id="none"),
        pytest.param({"LISTEN_PID": "self", "LISTEN_FDS": "many"}, id="not a number"),
        pytest.param({"LISTEN_PID": "self", "LISTEN_FDS": "-1"}, id="a negative number"),
    ],
)
def test_sockets_that_are_not_meant_for_this_process_are_left_alone(variables: dict[str, str]) -> None:
    _, found = hand_over(1, LISTEN_FDNAMES="webhook", **variables)

    assert found["ports"] == {}
    assert found["variables"] == []


def test_no_child_of_ours_gets_the_sockets_or_the_variables() -> None:
    _, found = hand_over(2, LISTEN_PID="self", LISTEN_FDS="2", LISTEN_FDNAMES="a:b")

    assert found["inheritable"] == []
    assert found["variables"] == []


# sd_notify


@contextmanager
def notifier(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[systemd.Notifier, socket.socket]]:
    """A notifier, and the socket of the systemd that it talks to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        ours = systemd.Notifier(os.environ)
        try:
            yield ours, listener
        finally:
            ours._notifier.socket.close()  # it is for life, and so has no close of its own


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "file" else f"@gitopsd-test-{uuid.uuid4()}"


def test_systemd_hears_of_readiness_status_and_the_end(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with notifier(address, monkeypatch) as (ours, listener):
        ours.ready()
        ours.status("waiting for deliveries")
        ours.stopping()

        assert [listener.recv(4096) for _ in range(3)] == [b"READY=1", b"STATUS=waiting for deliveries", b"STOPPING=1"]
        assert "NOTIFY_SOCKET" not in os.environ


def test_a_status_is_sent_only_when_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        for text in ("idle", "idle", "syncing blog", "syncing blog", "idle"):
            ours.status(text)
        ours.stopping()

        received = [listener.recv(4096) for _ in range(4)]
    assert received == [b"STATUS=idle", b"STATUS=syncing blog", b"STATUS=idle", b"STOPPING=1"]


def test_a_status_in_any_language_arrives_in_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "/srv/café: must be a mapping such as 'repos: …' → 設定"
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        ours.status(text)
        ours.stopping()

        assert listener.recv(4096) == f"STATUS={text}".encode()


def test_a_status_of_two_lines_cannot_say_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        ours.status("broken\nMAINPID=1")

        assert listener.recv(4096) == b"STATUS=broken MAINPID=1"


def test_the_watchdog_hears_of_us_only_if_everything_that_must_not_hang_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [
        ((1, 1), "told"),
        ((1, 1), ""),
        ((2, 1), ""),  # only one of the two
        ((9, 1), ""),
        ((9, 2), "told"),  # the first one has moved since it was last told, though not since the last look
        ((9, 3), ""),
        ((10, 3), "told"),
        ((11, 4), "told"),
    ]
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        for number, (moves, told) in enumerate(rounds):
            ours.watchdog(*moves)
            ours.status(str(number))
            heard = list(iter(lambda: listener.recv(4096), f"STATUS={number}".encode()))
            assert heard == [b"WATCHDOG=1"] * bool(told), number


def test_the_watchdog_hears_of_us_while_what_moves_is_only_coming_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        for moves in ((1,), (2,), (2, 0), (3, 0), (3, 1)):  # the second part begins with the configuration
            ours.watchdog(*moves)
        ours.stopping()
        received = list(iter(lambda: listener.recv(4096), b"STOPPING=1"))

    assert received == [b"WATCHDOG=1"] * 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sdnotify leaves its socket to the end
@pytest.mark.parametrize("place", [None, "", "/nonexistent/notify"])
def test_where_nobody_listens_nothing_is_said(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if place is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    ours = systemd.Notifier(os.environ)

    ours.ready()
    ours.status("fine")
    ours.watchdog(1)
    ours.stopping()

    assert "NOTIFY_SOCKET" not in os.environ


def test_a_systemd_that_went_away_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with notifier(str(tmp_path / "notify"), monkeypatch) as (ours, listener):
        listener.close()

        ours.status("still here")
        ours.stopping()


# Secrets


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_a_secret_comes_from_its_credential_without_the_line_end(credentials: Path, end: bytes) -> None:
    (credentials / "github-webhook-secret").write_bytes(b" s3cr\xffet \n more" + end)

    found = systemd.secret("github-webhook-secret", {"CREDENTIALS_DIRECTORY": str(credentials)})

    assert found == (Secret("github-webhook-secret", b" s3cr\xffet \n more"), "")


@pytest.mark.parametrize("directory", ["none", "there", "gone"])
def test_without_a_credential_it_comes_from_its_environment_variable(directory: str, credentials: Path) -> None:
    environment = {"GITHUB_WEBHOOK_SECRET": "s3cret\n"}
    if directory != "none":
        environment["CREDENTIALS_DIRECTORY"] = str(credentials if directory == "there" else credentials / "gone")

    assert systemd.secret("github-webhook-secret", environment) == (Secret("github-webhook-secret", b"s3cret"), "")


def test_a_credential_comes_before_the_environment_variable(credentials: Path) -> None:
    (credentials / "hook").write_bytes(b"credential")

    found, _ = systemd.secret("hook", {"CREDENTIALS_DIRECTORY": str(credentials), "HOOK": "variable"})

    assert found == Secret("hook", b"credential")


def test_a_secret_is_one_of_a_directory_of_secrets_that_was_loaded_as_a_whole(credentials: Path) -> None:
    (credentials / "secret_hook").write_bytes(b"one\n")
    (credentials / "secret_git-hook").write_bytes(b"another\n")
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "HOOK": "variable"}

    assert systemd.secret("hook", environment) == (Secret("hook", b"one"), "")
    assert systemd.secret("git-hook", environment) == (Secret("git-hook", b"another"), "")
    assert systemd.secret("git", environment)[0] is None


def test_a_credential_of_the_name_itself_comes_before_one_of_the_directory(credentials: Path) -> None:
    (credentials / "hook").write_bytes(b"itself")
    (credentials / "secret_hook").write_bytes(b"one of several")

    found, _ = systemd.secret("hook", {"CREDENTIALS_DIRECTORY": str(credentials)})

    assert found == Secret("hook", b"itself")


def test_an_empty_secret_in_the_directory_closes_it_too(credentials: Path) -> None:
    (credentials / "secret_hook").write_bytes(b"\n")

    found, problem = systemd.secret("hook", {"CREDENTIALS_DIRECTORY": str(credentials), "HOOK": "variable"})

    assert found is None
    assert problem.startswith(f"secret 'hook' is empty (credential {credentials}/secret_hook); put it into ")


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_credential_closes_the_secret_even_if_there_is_a_variable(credentials: Path, content: bytes) -> None:
    (credentials / "hook").write_bytes(content)

    found, problem = systemd.secret("hook", {"CREDENTIALS_DIRECTORY": str(credentials), "HOOK": "variable"})

    assert found is None
    assert problem.startswith(f"secret 'hook' is empty (credential {credentials}/hook); put it into ")


def test_an_unreadable_credential_closes_the_secret_even_if_there_is_a_variable(credentials: Path) -> None:
    (credentials / "hook").mkdir()

    found, problem = systemd.secret("hook", {"CREDENTIALS_DIRECTORY": str(credentials), "HOOK": "variable"})

    assert found is None
    assert problem == f"secret 'hook' cannot be read (credential {credentials}/hook: Is a directory)"


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        pytest.param(
            {},
            "secret 'git-hook' is missing (looked for environment variable GIT_HOOK); "
            "put it into /etc/gitopsd/secrets/git-hook and restart gitopsd, or export GIT_HOOK=…",
            id="missing",
        ),
        pytest.param(
            {"GIT_HOOK": "\n"},
            "secret 'git-hook' is empty (looked for environment variable GIT_HOOK); "
            "put it into /etc/gitopsd/secrets/git-hook and restart gitopsd, or export GIT_HOOK=…",
            id="empty",
        ),
        pytest.param(
            {"CREDENTIALS_DIRECTORY": "/nonexistent"},
            "secret 'git-hook' is missing (looked for credential /nonexistent/git-hook and environment variable "
            "GIT_HOOK); put it into /etc/gitopsd/secrets/git-hook and restart gitopsd, or export GIT_HOOK=…",
            id="in neither place",
        ),
    ],
)
def test_a_secret_that_is_not_there_says_where_it_was_looked_for(environment: dict[str, str], problem: str) -> None:
    assert systemd.secret("git-hook", environment) == (None, problem)


def test_a_secret_does_not_show_itself() -> None:
    found, _ = systemd.secret("hook", {"HOOK": "s3cret"})

    assert "s3cret" not in f"{found} {found!r}"


def test_a_child_gets_neither_what_is_ours_alone_nor_a_secret() -> None:
    environment = {
        "PATH": "/usr/bin",
        "GITHUB_WEBHOOK_SECRET": "s3cret",
        "GITLAB_HOOK": "s3cret",
        "GITHUB_WEBHOOK_SECRET_OLD": "not a secret of ours",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "LISTEN_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "webhook",
        "WATCHDOG_PID": "1",
        "WATCHDOG_USEC": "1",
        "STATE_DIRECTORY": "/var/lib/gitopsd",
    }

    child = systemd.child_environment(environment, frozenset({"github-webhook-secret", "gitlab-hook"}))

    assert child == {
        "PATH": "/usr/bin",
        "GITHUB_WEBHOOK_SECRET_OLD": "not a secret of ours",
        "STATE_DIRECTORY": "/var/lib/gitopsd",
    }
