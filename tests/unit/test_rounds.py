"""Works that come at the same time: what each finds done by the others when it goes on."""

import functools
import threading

import pytest

from gitopsd.rounds import Rounds


def test_all_are_as_far_before_any_goes_on() -> None:
    rounds, said = Rounds(), list[str]()

    def work(name: str) -> None:
        said.append(f"{name} begins")
        rounds.pause()
        said.append(f"{name} goes on")
        rounds.pause()
        said.append(f"{name} ends")

    rounds.run([functools.partial(work, name) for name in "ab"])

    assert said == ["a begins", "b begins", "a goes on", "b goes on", "a ends", "b ends"]


def test_who_does_not_pause_is_done_before_the_next_begins() -> None:
    rounds, said = Rounds(), list[str]()

    def paused() -> None:
        rounds.pause()
        said.append("paused")

    rounds.run([paused, lambda: said.append("straight"), paused])

    assert said == ["straight", "paused", "paused"]


def test_who_is_alone_waits_for_nobody() -> None:
    rounds, said = Rounds(), list[str]()

    def work() -> None:
        rounds.pause()
        said.append("done")

    rounds.run([work])

    assert said == ["done"]


def test_nothing_is_a_round_too() -> None:
    Rounds().run([])


def test_a_pause_in_no_round_is_none() -> None:
    Rounds().pause()


def test_a_pause_on_another_thread_is_none() -> None:
    rounds, said = Rounds(), list[str]()

    def work() -> None:
        other = threading.Thread(target=rounds.pause)
        other.start()
        other.join()
        said.append("no longer waits")

    rounds.run([work, work])

    assert said == ["no longer waits"] * 2


def test_all_run_on_the_thread_of_the_caller() -> None:
    rounds, threads = Rounds(), set[int]()

    def work() -> None:
        threads.add(threading.get_ident())
        rounds.pause()
        threads.add(threading.get_ident())

    rounds.run([work, work])

    assert threads == {threading.get_ident()}


def test_an_error_reaches_the_caller() -> None:
    def fails() -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        Rounds().run([fails, lambda: None])
