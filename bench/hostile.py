"""What strangers send."""

import collections
import contextlib
import http.client
import resource
import socket
import statistics
import threading
import time
from pathlib import Path

from bench import pushes
from bench.pushes import Steady
from bench.rows import MANY, Row, Scale, bodies, daemon, running

_DROP = b"\0" * 65536
_A_SECOND = 600
_OTHER_FILES = 100


def flood(directory: Path, scale: Scale) -> Row:
    """Real pushes, five a second, while forged ones come as fast as wrk can."""
    ours = daemon(directory, MANY)
    with running(ours):
        before = ours.status("VmRSS")
        ours.forget_peak()
        forger = threading.Thread(
            target=pushes.load, args=(directory, ours.port, bodies(MANY), scale.flood_sec), kwargs={"forged": True}
        )
        forger.start()
        sender = Steady(port=ours.port, bodies=bodies(MANY), rate=5)
        sender.run(scale.flood_sec - 0.5)
        forger.join()
        peak, after = ours.status("VmHWM"), ours.status("VmRSS")
    p99 = statistics.quantiles(sender.seconds, n=100)[98] * 1000 if len(sender.seconds) > 1 else 0.0
    return Row(
        what="p99 of real pushes during a forged flood (memory: before, most, after)",
        ours=f"{p99:.0f} ms ({before / 1024:.0f}, {peak / 1024:.0f}, {after / 1024:.0f} MB)",
        goal="<= 500 ms, 60 MB",
        reached=p99 <= 500 and peak <= 60 * 1024,
        lost="; ".join(sender.faults[:3]),
    )


def slow(directory: Path, scale: Scale) -> Row:
    """A real push while 500 connections send a byte a second."""
    ours = daemon(directory, MANY)
    head = (
        b"POST /hook/github HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 900\r\nX-A: "
    )
    taken, faults = [], []
    with running(ours), contextlib.ExitStack() as stack:
        slow_ones = [stack.enter_context(socket.create_connection(("127.0.0.1", ours.port))) for _ in range(500)]
        for step in range(max(2, int(scale.seconds))):
            for each in slow_ones:
                with contextlib.suppress(OSError):
                    each.send(head[step : step + 1])
            begin = time.perf_counter()
            try:
                status = pushes.post(ours.port, bodies(MANY)[step])
                faults += [] if status == http.client.ACCEPTED else [f"status {status}"]
            except OSError as error:
                faults.append(repr(error))
            taken.append(time.perf_counter() - begin)
            time.sleep(1)
    return Row(
        what="a real push beside 500 connections that send a byte a second",
        ours=f"{max(taken) * 1000:.0f} ms",
        goal="<= 1,000 ms",
        reached=max(taken) <= 1,
        lost="; ".join(faults[:3]),
    )


def crowd(directory: Path, scale: Scale) -> Row:
    """Real pushes while connections come that say nothing, more of them than there may be within a second."""
    ours = daemon(directory, MANY)
    taken, faults = [], []
    with running(ours):
        done = threading.Event()
        coming = threading.Thread(target=_come, args=(ours.port, done))
        coming.start()
        try:
            for body in bodies(MANY)[: max(2, int(scale.seconds))]:
                time.sleep(1)
                begin = time.perf_counter()
                try:
                    status = pushes.post(ours.port, body)
                    faults += [] if status == http.client.ACCEPTED else [f"status {status}"]
                except OSError as error:
                    faults.append(repr(error))
                taken.append(time.perf_counter() - begin)
        finally:
            done.set()
            coming.join()
    return Row(
        what=f"a real push while {_A_SECOND} connections a second come that say nothing",
        ours=f"{max(taken) * 1000:.0f} ms",
        goal="<= 1,000 ms",
        reached=max(taken) <= 1,
        lost="; ".join(faults[:3]),
    )


def _come(port: int, done: threading.Event) -> None:
    """Connect and stay, until the server closes, or this process may have no more files open."""
    held: collections.deque[socket.socket] = collections.deque()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
    due = time.monotonic()
    while not done.wait(max(0.0, due - time.monotonic())):
        due += 1 / _A_SECOND
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
        if len(held) > most:
            held.popleft().close()
    for each in held:
        each.close()


def large(directory: Path, _scale: Scale) -> Row:
    """300 MB that nobody has signed: declared, and in chunks."""
    ours = daemon(directory, 1)
    said = []
    with running(ours):
        pushes.post(ours.port, bodies(1)[0])
        before = ours.status("VmRSS")
        ours.forget_peak()
        for kind in (b"Content-Length: 314572800", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", ours.port)) as sock:
                head = (
                    b"POST /hook/github HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n" + kind + b"\r\n\r\n"
                )
                chunk = b"10000\r\n" + _DROP + b"\r\n" if b"chunked" in kind else _DROP
                with contextlib.suppress(OSError):
                    sock.sendall(head)
                    for _ in range(314572800 // len(_DROP)):
                        sock.sendall(chunk)
                with contextlib.suppress(OSError):
                    said.append(sock.recv(100).split(b" ")[1:2])
        more = (ours.status("VmHWM") - before) / 1024
    codes = [code.decode() for codes in said for code in codes]
    return Row(
        what="300 MB that nobody has signed, declared and in chunks: more memory",
        ours=f"{more:.1f} MB ({', '.join(codes) or 'closed'})",
        goal="<= 5 MB, 413",
        reached=more <= 5 and set(codes) <= {"413"},
    )
