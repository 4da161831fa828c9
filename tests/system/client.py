"""Talks to the daemon from inside a throw-away host, with the python3 that is there and nothing else.

Reads a task from standard input, as JSON, and prints what came of it as JSON:

    {"requests": [{"method", "path", "body", "headers", "delay", "timeout"}…], "at_once": bool}
        → [{"status", "headers", "body", "seconds", "error"}…], in the order of the requests. `delay` is in seconds,
          from the start of all, or from the end of the one before. `status` is 0 where no answer came: see `error`.
    {"hold": count, "send": text}
        → {"held": count} as soon as so many connections are open and `text` is sent on each. They stay open until this
          process ends or its standard input, of which the task is the first line, is closed.
"""

import http.client
import json
import socket
import sys
import threading
import time
from typing import Any

ADDRESS = ("127.0.0.1", 8085)
TIMEOUT_SEC = 30.0


def ask(request: dict[str, Any]) -> dict[str, Any]:
    time.sleep(request.get("delay", 0.0))
    started = time.monotonic()
    answer: dict[str, Any] = {"status": 0, "headers": {}, "body": "", "error": ""}
    connection = http.client.HTTPConnection(*ADDRESS, timeout=request.get("timeout", TIMEOUT_SEC))
    try:
        connection.request(request["method"], request["path"], request["body"].encode(), request["headers"])
        response = connection.getresponse()
        answer["status"], answer["headers"] = response.status, dict(response.getheaders())
        answer["body"] = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return answer | {"seconds": time.monotonic() - started}


def ask_at_once(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each request in a thread of its own, and none of them before all are ready."""
    ready = threading.Barrier(max(1, len(requests)))
    answers: dict[int, dict[str, Any]] = {}

    def work(number: int) -> None:
        ready.wait()
        answers[number] = ask(requests[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(requests))]


def hold(count: int, text: str) -> None:
    connections = [socket.create_connection(ADDRESS, TIMEOUT_SEC) for _ in range(count)]
    for connection in connections:
        connection.sendall(text.encode())
    say({"held": len(connections)})
    sys.stdin.read()
    for connection in connections:
        connection.close()


def say(result: object) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main() -> None:
    task = json.loads(sys.stdin.readline())
    if "hold" in task:
        hold(task["hold"], task.get("send", ""))
    elif task.get("at_once"):
        say(ask_at_once(task["requests"]))
    else:
        say([ask(request) for request in task["requests"]])


if __name__ == "__main__":
    main()
