"""Signals as bytes on a descriptor."""

import os
import select
import signal
import subprocess

import pytest

from gitopsd.signals import caught


def test_each_signal_becomes_its_number_to_read() -> None:
    with caught(signal.SIGTERM, signal.SIGHUP) as fd:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)

        assert os.read(fd, 64) == bytes([signal.SIGTERM, signal.SIGHUP])


def test_a_wait_for_the_descriptor_ends_with_a_signal_from_another_process() -> None:
    with caught(signal.SIGUSR1) as fd:
        subprocess.run(["sh", "-c", f"kill -USR1 {os.getpid()}"], check=True)

        ready, _, _ = select.select([fd], [], [], 10)

        assert ready == [fd]


def test_a_read_when_no_signal_came_does_not_block() -> None:
    with caught(signal.SIGUSR1) as fd, pytest.raises(BlockingIOError):
        os.read(fd, 64)


def test_a_flood_of_signals_neither_blocks_nor_warns() -> None:
    with caught(signal.SIGUSR1) as fd:
        for _ in range(70_000):  # more than a pipe holds
            signal.raise_signal(signal.SIGUSR1)

        assert os.read(fd, 1) == bytes([signal.SIGUSR1])


def test_after_the_block_everything_is_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyError), caught(signal.SIGTERM, signal.SIGINT):
        raise KeyError

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    assert wakeup_fd == -1


def test_a_block_within_a_block_gives_the_signals_back_to_the_outer_one() -> None:
    with caught(signal.SIGUSR1) as outer:
        with caught(signal.SIGUSR1) as inner:
            signal.raise_signal(signal.SIGUSR1)
            assert os.read(inner, 64) == bytes([signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        assert os.read(outer, 64) == bytes([signal.SIGUSR1])


def test_a_child_ends_by_sigterm_as_ever_and_inherits_no_descriptor() -> None:
    with caught(signal.SIGTERM) as fd:
        child = subprocess.Popen(
            ["sh", "-c", f"[ -e /proc/self/fd/{fd} ] && echo inherited; kill -TERM $$; echo alive"],
            stdout=subprocess.PIPE,
            close_fds=False,  # only the descriptor's own flag protects it
        )
        output, _ = child.communicate(timeout=10)

    assert (child.returncode, output) == (-signal.SIGTERM, b"")
