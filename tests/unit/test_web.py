"""The HTTP loop on real sockets: who is answered, how much is read, and how it stops."""

import functools
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gitopsd import web
from gitopsd.rounds import Rounds
from gitopsd.settings import Limits
from gitopsd.web import WebServer, Works, channel
from gitopsd.web.channel import Channel
from tests.site import WAIT_SEC, wait_for

LIMIT = 1000
PATIENT = Limits()


LARGE = 8 * 1024 * 1024


class Application:
    """Answers with the length of what it read. A request for /wait is answered when the gate opens.

    The answer to /large is more than the system takes for who does not read.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.begun.set()
            self.gate.wait(WAIT_SEC)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answer = b"x" * LARGE if environ["PATH_INFO"] == "/large" else f"read {len(body)}".encode()
        start_response("200 OK", [("Content-Length", str(len(answer))), ("Content-Type", "text/plain")])
        return [answer]


@contextmanager
def served(
    app: Application,
    *listeners: socket.socket,
    limits: Limits = PATIENT,
    serve: Callable[[Works], None] | None = None,
) -> Iterator[WebServer]:
    with ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        server = WebServer(app, listeners, LIMIT, limits, serve=serve or Rounds().run, answered=lambda: None)
        server.start()
        try:
            yield server
        finally:
            app.gate.set()
            if server.is_alive():
                server.stop()


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


def connect(listener: socket.socket) -> socket.socket:
    client = socket.socket(listener.family, socket.SOCK_STREAM)
    client.settimeout(WAIT_SEC)
    client.connect(listener.getsockname())
    return client


def post(length: int, path: str = "/") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    chunks = []
    while chunk := client.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def ask(listener: socket.socket, request: bytes) -> bytes:
    """What the server says to a request that ends the connection, or that it ends it for."""
    with connect(listener) as client:
        client.sendall(request)
        return read_all(client)


def closing(request: bytes) -> bytes:
    return request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")


@pytest.mark.parametrize(
    ("tcp", "unix"),
    [
        (2, 0),
        (0, 2),
        (1, 1),
    ],
)
def test_it_answers_on_every_socket_that_it_is_handed(tcp: int, unix: int, tmp_path: Path) -> None:
    listeners = [listen() for _ in range(tcp)] + [listen_unix(tmp_path / f"socket-{number}") for number in range(unix)]
    with served(Application(), *listeners):
        answers = [ask(listener, closing(post(3)) + b"abc") for listener in listeners]
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"read 3") for answer in answers)


@pytest.mark.parametrize("count", [1, 2])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(count: int) -> None:
    listeners = [listen() for _ in range(count)]
    with served(Application(), *listeners) as server:
        for listener in listeners:
            assert ask(listener, closing(post(LIMIT)) + b"x" * LIMIT).endswith(f"read {LIMIT}".encode())
            assert ask(listener, post(LIMIT + 1)).startswith(b"HTTP/1.1 413 ")
        server.set_limits(LIMIT + 1, PATIENT)
        for listener in listeners:
            assert ask(listener, closing(post(LIMIT + 1)) + b"x" * (LIMIT + 1)).endswith(f"read {LIMIT + 1}".encode())
            assert ask(listener, post(LIMIT + 2)).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_cut_at_the_limit() -> None:
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    listener = listen()
    with served(Application(), listener):
        small = ask(listener, closing(start) + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        large = ask(listener, start + b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512)
    assert small.endswith(b"read 5")
    assert large.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"1" * 10_000, id="the length of a chunk"),
        pytest.param(b"1;" + b"a" * 10_000, id="what stands behind it"),
        pytest.param(b"0\r\nX-A: " + b"a" * 10_000, id="what follows the last one"),
        pytest.param(b"1\r\na\r\n" * 5_000, id="chunks of a byte"),
        pytest.param(b"20000\r\n" + b"x" * 0x20000 + b"\r\n" + b"1" * 70_000, id="a long line after a long chunk"),
    ],
)
def test_a_chunked_body_that_is_mostly_lines_is_refused(rest: bytes) -> None:
    listener = listen()
    with served(Application(), listener) as server:
        server.set_limits(10 * LARGE, PATIENT)
        assert is_refused(listener, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + rest, 400)


def is_refused(listener: socket.socket, request: bytes, status: int) -> bool:
    """Whether the answer has this status. It may not come: what the server has not read ends the connection first."""
    try:
        return ask(listener, request).split(b" ")[1] == str(status).encode()
    except ConnectionError:
        return True


def test_a_body_in_small_chunks_is_read() -> None:
    listener = listen()
    start = closing(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    with served(Application(), listener) as server:
        server.set_limits(10 * LARGE, PATIENT)
        answer = ask(listener, start + b"8\r\n12345678\r\n" * 5_000 + b"0\r\n\r\n")
    assert answer.endswith(b"read 40000")


def test_a_large_body_is_read_whole() -> None:
    listener = listen()
    with served(Application(), listener) as server:
        server.set_limits(10 * LARGE, PATIENT)
        assert ask(listener, closing(post(LARGE)) + b"x" * LARGE).endswith(f"read {LARGE}".encode())


def test_blank_lines_are_no_request() -> None:
    listener = listen()
    with served(Application(), listener):
        assert is_refused(listener, b"\r\n\r\n", 400)
        assert ask(listener, b"\r\n" + closing(post(3)) + b"abc").endswith(b"read 3")


def test_a_sender_that_asks_first_is_told_to_go_on() -> None:
    listener = listen()
    with served(Application(), listener), connect(listener) as client:
        client.sendall(closing(post(3)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert client.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n")
        client.sendall(b"abc")
        assert read_all(client).endswith(b"read 3")


@pytest.mark.parametrize(("length", "status"), [(LIMIT + 1, b"413"), (0, b"200")])
def test_a_sender_that_asks_first_is_not_told_to_go_on_where_nothing_is_to_come(length: int, status: bytes) -> None:
    listener = listen()
    with served(Application(), listener):
        answer = ask(listener, closing(post(length)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert answer.split(b" ")[1] == status


def test_stopping_waits_for_the_answer_to_a_request_that_is_worked_on() -> None:
    app, listener = Application(), listen()
    with served(app, listener) as server, connect(listener) as client:
        client.sendall(post(3, "/wait") + b"abc")
        assert app.begun.wait(WAIT_SEC)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        app.gate.set()
        answer = read_all(client)
        stopping.join(WAIT_SEC)
    assert answer.endswith(b"read 3")


def test_stopping_waits_for_the_rest_of_a_request_that_has_begun_to_arrive() -> None:
    app, listener = Application(), listen()
    with served(app, listener) as server, connect(listener) as client:
        client.sendall(post(6).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")  # so it has the headers
        client.sendall(b"abc")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        client.sendall(b"def")
        answer = read_all(client)
        stopping.join(WAIT_SEC)
    assert answer.endswith(b"read 6")


def test_stopping_waits_for_the_request_of_who_has_just_connected() -> None:
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        wait_for(server.has_connections, "the server to accept")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        moves = server.moves
        wait_for(lambda: server._draining.is_set() and server.moves > moves, "it to be stopping")
        client.sendall(post(3) + b"abc")
        answer = read_all(client)
        stopping.join(WAIT_SEC)
    assert answer.endswith(b"read 3")


def test_an_idle_connection_does_not_keep_it_from_stopping() -> None:
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        client.sendall(post(0))
        assert b"read 0" in client.recv(65536)
        server.stop()
        assert not server.is_alive()
        assert client.recv(1) == b""


def test_a_client_that_goes_away_leaves_nothing_open() -> None:
    listener = listen()
    with served(Application(), listener):
        for request in (b"", b"POST", post(10) + b"abc", post(3) + b"abc"):
            with connect(listener) as client:
                client.sendall(request)
        assert ask(listener, closing(post(1)) + b"x").endswith(b"read 1")

        def open_here() -> int:
            mine = listener.getsockname()[1]
            rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
            return sum(row[1].endswith(f":{mine:04X}") and row[3] in ("01", "08") for row in rows)  # ours: open, half

        wait_for(lambda: open_here() == 0, "the server to close its ends")


# Ending when nobody is there


def test_it_ends_by_itself_when_nobody_is_connected() -> None:
    with listen() as kept, served(Application(), kept.dup()) as server:
        assert server.stop_if_idle(server.connections)
        assert not server.is_alive()
        server.stop()


def test_it_stays_while_somebody_is_connected_and_goes_on_answering() -> None:
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        client.sendall(post(3) + b"abc")
        assert b"read 3" in client.recv(65536)
        assert not server.stop_if_idle(server.connections)
        assert server.is_alive()
        client.sendall(post(5) + b"abcde")  # over the same connection
        assert b"read 5" in client.recv(65536)
        assert ask(listener, closing(post(7)) + b"abcdefg").endswith(b"read 7")


def test_it_stays_for_who_has_connected_and_said_nothing_yet() -> None:
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        assert not server.stop_if_idle(server.connections)
        client.sendall(closing(post(3)) + b"abc")
        assert read_all(client).endswith(b"read 3")


def test_it_stays_while_an_answer_is_worked_on() -> None:
    app, listener = Application(), listen()
    with served(app, listener) as server, connect(listener) as client:
        client.sendall(closing(post(3, "/wait")) + b"abc")
        assert app.begun.wait(WAIT_SEC)
        stayed: list[bool] = []
        asking = threading.Thread(target=lambda: stayed.append(not server.stop_if_idle(server.connections)))
        asking.start()
        wait_for(server._asked_to_leave.is_set, "it to be asked")
        app.gate.set()
        assert read_all(client).endswith(b"read 3")
        asking.join()
        assert stayed == [True]


def test_it_ends_once_the_last_has_gone() -> None:
    with listen() as kept, served(Application(), kept.dup()) as server:
        with connect(kept) as client:
            assert not server.stop_if_idle(server.connections)
            client.sendall(closing(post(0)))
            assert read_all(client).endswith(b"read 0")
        wait_for(lambda: server.stop_if_idle(server.connections), "the end")
        server.stop()


def test_it_stays_if_somebody_has_come_and_gone_since_the_caller_looked() -> None:
    with listen() as kept, served(Application(), kept.dup()) as server:
        seen = server.connections
        ask(kept, closing(post(0)))
        wait_for(lambda: not server.has_connections(), "the server to close its end")
        assert not server.stop_if_idle(seen)
        assert ask(kept, closing(post(3)) + b"abc").endswith(b"read 3")
        wait_for(lambda: server.stop_if_idle(server.connections), "the end")
        server.stop()


def test_a_loop_that_met_a_fault_has_not_ended_for_want_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[object] = []
    monkeypatch.setattr(threading, "excepthook", met.append)
    with listen() as kept, served(Application(), kept.dup()) as server:
        monkeypatch.setattr(server, "_answer", "no function")
        wait_for(lambda: not server.is_alive(), "its end")
        assert not server.stop_if_idle(server.connections)
        server.stop()
    assert met


@pytest.mark.parametrize("unix", [False, True])
def test_who_connects_after_its_end_is_answered_by_the_next_on_the_same_socket(unix: bool, tmp_path: Path) -> None:
    with ExitStack() as stack:
        kept = stack.enter_context(listen_unix(tmp_path / "socket") if unix else listen())
        first = stack.enter_context(served(Application(), kept.dup()))
        assert first.stop_if_idle(first.connections)
        before = stack.enter_context(connect(kept))
        before.sendall(closing(post(3)) + b"abc")
        first.stop()
        after = stack.enter_context(connect(kept))
        after.sendall(closing(post(5)) + b"abcde")
        stack.enter_context(served(Application(), kept.dup()))
        assert read_all(before).endswith(b"read 3")
        assert read_all(after).endswith(b"read 5")


def test_whoever_connects_in_the_moment_of_its_end_is_answered_by_one_or_the_other() -> None:
    answers: list[bytes] = []

    def client() -> None:
        answers.append(ask(kept, closing(post(1)) + b"x"))

    with listen() as kept:
        for _ in range(8):
            asking = threading.Thread(target=client)
            with served(Application(), kept.dup()) as first:
                asking.start()
                if first.stop_if_idle(first.connections):
                    first.stop()
                    with served(Application(), kept.dup()):
                        asking.join()
                asking.join()
    assert [answer[-6:] for answer in answers] == [b"read 1"] * 8


def test_it_counts_the_connections_so_far() -> None:
    listener = listen()
    with served(Application(), listener) as server:
        assert server.connections == 0
        assert not server.has_connections()
        for count in (1, 2, 3):
            ask(listener, closing(post(0)))
            assert server.connections == count
        wait_for(lambda: not server.has_connections(), "the server to close its ends")
        with connect(listener):
            wait_for(server.has_connections, "the server to accept")
            assert server.connections == 4


def test_it_moves_as_long_as_it_lives_whether_or_not_somebody_comes() -> None:
    listener = listen()
    with served(Application(), listener) as server:
        for _ in range(2):
            moved = server.moves
            wait_for(functools.partial(has_moved, server, moved), "another round")
        server.stop()
        moved = server.moves
        assert not server.is_alive()
        assert server.moves == moved


def has_moved(server: WebServer, before: int) -> bool:
    return server.moves > before


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"POST http://[/ HTTP/1.1\r\nHost: x\r\n\r\n", id="a target that is no URL"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            id="a length of more digits than Python reads",
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_answered_and_no_fault(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    listener = listen()
    with served(Application(), listener):
        answer = ask(listener, request_bytes)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert caplog.text == ""


def test_the_path_of_a_request_that_came_to_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with served(Application(), listen()):
        logging.getLogger("waitress").error("Exception while serving %s", "/hook/blog/TOKEN")
    assert "TOKEN" not in caplog.text
    assert "Exception" in caplog.text


# Slow ones


HURRIED = Limits(header_time_sec=0.05, body_time_sec=0.05)


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST / HT", id="half a line"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nX-A: ", id="half a head"),
        pytest.param(post(10), id="no body"),
        pytest.param(post(10) + b"12345", id="half a body"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", id="half a chunked body"
        ),
    ],
)
def test_a_request_that_takes_too_long_to_arrive_is_closed(begun: bytes) -> None:
    listener = listen()
    with served(Application(), listener, limits=HURRIED), connect(listener) as client:
        client.sendall(begun)
        assert read_all(client) == b""


def test_a_byte_now_and_then_buys_no_time() -> None:
    listener = listen()
    with served(Application(), listener, limits=HURRIED), connect(listener) as client:
        client.settimeout(0.01)
        is_open = True
        while is_open:
            with suppress(TimeoutError):
                try:
                    client.sendall(b"x")
                    is_open = client.recv(1) != b""
                except ConnectionError:
                    is_open = False


def test_the_time_of_an_answer_is_not_held_against_who_waits_for_his_turn() -> None:
    app, listener, limits = Application(), listen(), Limits(header_time_sec=1.0, body_time_sec=0.05)
    with served(app, listener, limits=limits) as server, connect(listener) as slow, connect(listener) as waiting:
        wait_for(lambda: server.connections == 2, "both to be let in")
        slow.sendall(closing(post(0, "/wait")))
        assert app.begun.wait(WAIT_SEC)
        waiting.sendall(closing(post(6)) + b"abc")
        late_at = time.monotonic() + 1.3
        wait_for(lambda: time.monotonic() > late_at, "more time than a request may take to arrive")
        app.gate.set()
        assert read_all(slow).endswith(b"read 0")
        waiting.sendall(b"def")
        assert read_all(waiting).endswith(b"read 6")


def test_those_who_connect_while_it_answers_are_answered_together() -> None:
    app, listener, sizes = Application(), listen(), list[int]()

    def serve(works: Works) -> None:
        sizes.append(len(works))
        Rounds().run(works)

    with served(app, listener, serve=serve), ExitStack() as stack, connect(listener) as first:
        first.sendall(closing(post(0, "/wait")))
        assert app.begun.wait(WAIT_SEC)
        others = [stack.enter_context(connect(listener)) for _ in range(5)]
        for other in others:
            other.sendall(closing(post(0)))
        app.gate.set()
        for client in (first, *others):
            assert read_all(client).endswith(b"read 0")
    assert sizes == [1, 5]


def test_a_fault_in_one_answer_closes_its_connection_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service, faults = Channel.service, [OSError(110, "Connection timed out")]

    def fails_once(channel: Channel) -> None:
        if faults:
            raise faults.pop()
        service(channel)

    monkeypatch.setattr(Channel, "service", fails_once)
    listener = listen()
    with served(Application(), listener):
        assert ask(listener, closing(post(0))) == b""
        assert ask(listener, closing(post(0))).endswith(b"read 0")
    assert "a fault in its answer" in caplog.text


def test_who_is_silent_between_two_requests_is_not_late() -> None:
    listener = listen()
    with served(Application(), listener, limits=HURRIED) as server, connect(listener) as client:
        client.sendall(post(0))
        assert client.recv(1000).endswith(b"read 0")
        before = server.moves
        wait_for(lambda: server.moves > before + 2, "a few looks")
        client.sendall(closing(post(0)))
        assert read_all(client).endswith(b"read 0")


def test_where_all_connections_are_taken_the_oldest_make_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = listen()
    limits = Limits(connections=10)
    with served(Application(), listener, limits=limits), ExitStack() as stack:
        slow = [stack.enter_context(connect(listener)) for _ in range(20)]
        for each in slow:
            each.sendall(b"POST / HTTP/1.1\r\n")
        assert ask(listener, closing(post(5)) + b"12345").endswith(b"read 5")
        assert has_been_closed(slow[0])
    assert [record.getMessage() for record in caplog.records] == [
        "all 10 connections (limits.connections) are taken; the oldest are closed"
    ]


def test_who_does_not_take_an_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_TAKE_SEC", 0.05)
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        client.sendall(post(0, "/large"))
        wait_for(lambda: server.connections == 1 and not server.has_connections(), "the server to close its end")
        assert not is_whole(client)


def test_where_all_connections_are_taken_those_that_take_no_answer_make_room() -> None:
    listener = listen()
    with served(Application(), listener, limits=Limits(connections=10)), ExitStack() as stack:
        deaf = [stack.enter_context(connect(listener)) for _ in range(20)]
        for each in deaf:
            each.sendall(post(0, "/large"))
        assert ask(listener, closing(post(5)) + b"12345").endswith(b"read 5")
        assert not is_whole(deaf[0])


def has_been_closed(client: socket.socket) -> bool:
    """Whether the server has ended the connection without a word."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def is_whole(client: socket.socket) -> bool:
    """Whether all of the answer to /large comes."""
    taken = 0
    with suppress(ConnectionError):
        while taken < LARGE and (part := client.recv(65536)):
            taken += len(part)
    return taken >= LARGE


@pytest.mark.parametrize("said", [b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["nothing", "requests"])
def test_who_goes_on_sending_keeps_no_place(said: bytes) -> None:
    listener, done = listen(), threading.Event()
    with served(Application(), listener, limits=Limits(connections=10)), ExitStack() as stack:
        stack.callback(done.set)
        for _ in range(12):
            sender = threading.Thread(target=chat, args=(stack.enter_context(connect(listener)), said, done))
            sender.start()
            stack.callback(sender.join)
            stack.callback(done.set)
        assert ask(listener, closing(post(5)) + b"12345").endswith(b"read 5")


def chat(client: socket.socket, said: bytes, done: threading.Event) -> None:
    """Say it again and again, until the other end has enough."""
    with suppress(OSError):
        while not done.wait(0.05):
            client.sendall(said)


def test_very_many_requests_at_once_are_not_answered() -> None:
    listener = listen()
    with served(Application(), listener), connect(listener) as client:
        client.sendall(post(0) * 100)
        with suppress(ConnectionError):
            assert read_all(client) == b""


def test_a_head_that_is_too_large_is_refused() -> None:
    listener = listen()
    with served(Application(), listener):
        assert is_refused(listener, b"POST / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40_000, 431)


def test_of_bodies_that_are_too_much_together_the_oldest_that_are_not_small_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "_UNFINISHED_BYTES", 0)  # twice the size of one body stays
    monkeypatch.setattr(web, "_SMALL_BYTES", 100)
    listener = listen()
    with served(Application(), listener) as server, ExitStack() as stack:
        clients = []
        for arrived in (10, 900, 950, LIMIT - 1):
            clients.append(stack.enter_context(connect(listener)))
            wait_for(lambda: server.connections == len(clients), "it to be let in")
            clients[-1].sendall(closing(post(LIMIT)) + b"x" * arrived)
        small, oldest, middle, newest = clients
        assert has_been_closed(oldest)
        for client, missing in ((small, LIMIT - 10), (middle, LIMIT - 950), (newest, 1)):
            client.sendall(b"x" * missing)
            assert read_all(client).endswith(f"read {LIMIT}".encode())


def test_what_listens_takes_no_place_of_a_connection() -> None:
    listeners = [listen() for _ in range(8)]
    with served(Application(), *listeners, limits=Limits(connections=10)), ExitStack() as stack:
        clients = [stack.enter_context(connect(each)) for each in listeners]
        for client in clients:
            client.sendall(closing(post(5)) + b"12345")
        assert [read_all(client)[-6:] for client in clients] == [b"read 5"] * 8


def test_there_are_no_more_connections_than_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (266, 1024))
    listener = listen()
    with served(Application(), listener) as server, ExitStack() as stack:
        server.set_limits(LIMIT, Limits(connections=500))
        silent = [stack.enter_context(connect(listener)) for _ in range(20)]
        assert ask(listener, closing(post(5)) + b"12345").endswith(b"read 5")
        assert has_been_closed(silent[0])
    assert "limits.connections: 10 of 500; for more raise LimitNOFILE=" in caplog.text


def test_limits_that_are_set_later_hold_for_who_is_connected() -> None:
    listener = listen()
    with served(Application(), listener) as server, connect(listener) as client:
        client.sendall(b"POST / HTTP/1.1\r\n")
        server.set_limits(LIMIT, HURRIED)
        assert read_all(client) == b""
