"""Requests that have come at the same time go on together: each may wait until all the others are as far."""

from collections.abc import Callable, Sequence

from greenlet import getcurrent, greenlet


class Rounds:
    """Runs callables on the caller's thread, one of them at a time: each until it pauses, then each to its next pause.

    Threads would do, but for the interpreter's lock: with each statement of SQLite it would go from one to another.
    """

    def __init__(self) -> None:
        self._paused: list[greenlet] = []

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        """Run all of them, each to its end."""
        if len(works) == 1:  # as most are that come, and it has nobody to wait for
            works[0]()
            return
        for work in works:
            greenlet(work).switch()
        while self._paused:
            paused, self._paused = self._paused, []
            for each in paused:
                each.switch()

    def pause(self) -> None:
        """Let the others of the round come as far as this. Does nothing for who does not run in one."""
        me = getcurrent()
        if me.parent is not None:
            self._paused.append(me)
            me.parent.switch()
