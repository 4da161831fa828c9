"""Do several things at once, and wait for none of them longer than it is given."""

import threading
import time
from collections.abc import Callable, Mapping

_TOO_LONG = "no end within {limit:g} s"


def all_within(limit_sec: float, tasks: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """What each task gives: "" or why it failed. One that has not ended in time, or that raises, has failed, too.

    It is left behind on a thread that keeps no process from ending.
    """
    given: dict[str, str] = {}

    def do(name: str, task: Callable[[], str]) -> None:
        try:
            given[name] = task()
        except Exception as error:  # noqa: BLE001 - other people's code, and the others must get their turn
            given[name] = f"a fault: {type(error).__name__}"  # what it says may hold a token

    threads = [threading.Thread(target=do, args=each, name=each[0], daemon=True) for each in tasks.items()]
    deadline = time.monotonic() + limit_sec
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = _TOO_LONG.format(limit=limit_sec)
    return {name: given.get(name, late) for name in tasks}
