"""Signals as bytes on a descriptor: no code of ours runs in a handler, and a wait can include them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def caught(*numbers: signal.Signals) -> Iterator[int]:
    """Within the block, each of these signals makes its number a byte to read from the descriptor given.

    Handlers, unlike a blocked signal mask, are not inherited by children: a child ends by SIGTERM as ever.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
