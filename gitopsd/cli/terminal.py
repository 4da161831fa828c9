"""Output for people: tables, times, colours only on a terminal."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gitopsd.model import Delivery, Hold, Job, JobState

HELD = "held"
"""The state of a repo that is held."""

_STYLES: dict[str, str] = {
    HELD: "bold magenta",
    JobState.SUCCEEDED: "green",
    JobState.UNCHANGED: "green",
    JobState.RUNNING: "cyan",
    JobState.PENDING: "cyan",
    JobState.FAILED: "bold red",
    JobState.REFUSED: "bold yellow",
    JobState.INTERRUPTED: "yellow",
}
_PIPE_COLUMNS = 10_000
_NARROW_COLUMNS = 110
_LAST_COLUMNS = 30
_LEAST_COLUMNS = 8
_NEXT = re.compile(r"(?<=, the next )in [0-9.e+]+ s$")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def console() -> Console:
    """The console on stdout. Into a pipe no line is cut or folded."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return _Console(highlight=False, markup=False, emoji=False, width=width)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`; rich would end the process with 1, and `gitopsd history | head` is no failure."""
        raise BrokenPipeError


def is_narrow(out: Console) -> bool:
    """Whether a table of many columns leaves no room for its last one. A pipe is never narrow."""
    return out.is_terminal and out.width < _NARROW_COLUMNS


def print_table(out: Console, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print aligned columns; the last one takes what is left of the line, or if that is little, a line below."""
    cells = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows]
    *widths, last = [max([len(heading), *(row[at].cell_len for row in cells)]) for at, heading in enumerate(headings)]
    room = out.width - sum(width + 2 for width in widths)
    table = _table(headings, _cut(widths, max(0, -room)))
    if room < min(_LAST_COLUMNS, last):
        _print_in_two_lines(out, table, cells)
        return
    table.add_column(headings[-1], overflow="fold")
    for row in cells:
        table.add_row(*row)
    if out.is_terminal:
        out.print(table)
    else:
        print(*(line.rstrip() for line in _lines(out, table)), sep="\n")


def _print_in_two_lines(out: Console, table: Table, rows: Iterable[Sequence[Text]]) -> None:
    rows = list(rows)
    for row in rows:
        table.add_row(*row[:-1])
    heading, *lines = _lines(out, table)
    print(heading)
    for line, row in zip(lines, rows, strict=True):
        print(line)
        if row[-1]:
            out.print(Padding(row[-1], (0, 0, 0, 4)))


def _cut(widths: list[int], excess: int) -> list[int]:
    """The widest column, which has names, takes the cut."""
    widest = max(widths)
    return [max(width - excess, _LEAST_COLUMNS) if width == widest else width for width in widths]


def _table(headings: Sequence[str], widths: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, width in zip(headings, widths, strict=False):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=width)
    return table


def _lines(out: Console, table: Table) -> list[str]:
    with out.capture() as captured:
        out.print(table)
    return captured.get().splitlines()


def waiting(out: Console, text: str) -> AbstractContextManager[Any]:
    """Say what is waited for while the block runs, on a terminal."""
    return out.status(text) if out.is_terminal else nullcontext()


def ask(question: str) -> bool:
    """Whether the person at the terminal says yes. Anything else, and an end of input, is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def print_json(value: Any) -> None:
    """Print `value` for machines."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Control characters beyond ASCII, and what turns the direction of writing: JSON does not ask to escape them.
    print("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))


def plain(text: str) -> Text:
    """`text` as it is: no markup is read in it, and no control character reaches the terminal."""
    return Text("".join(char if char.isprintable() or char == "\n" else "�" for char in text.expandtabs()))


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=_STYLES.get(name, "" if name in set(JobState) else "dim"))


def reason(job: Job, retry: Job | None) -> str:
    """Why `job` ended as it did; if it is tried again, with the time for that: "in 30 s" was true when it ended."""
    return _NEXT.sub(f"at {clock_time(retry.due_at)[:8]}", job.reason) if retry else job.reason


def short(revision: str | None) -> str:
    """The first ten digits of a revision."""
    return revision[:10] if revision else "-"


def iso(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def held(hold: Hold, now: float) -> str:
    """By whom a repo is held, since when, why, and until when."""
    return f"held by {hold.by} since {ago(hold.at, now)}: {hold.reason}{until(hold)}"


def until(hold: Hold) -> str:
    """Until when a hold lasts, as the end of a line; "" if it does so until somebody resumes."""
    return f", until {datetime.fromtimestamp(hold.until).astimezone():%Y-%m-%d %H:%M}" if hold.until else ""


def hold_json(hold: Hold | None) -> dict[str, Any] | None:
    """A hold as `--json` shows it."""
    if hold is None:
        return None
    return {
        "by": hold.by,
        "reason": hold.reason,
        "at": iso(hold.at),
        "until": iso(hold.until),
        "revision": hold.revision,
    }


def clock_time(at: float) -> str:
    """Epoch seconds as the time of day here, to the millisecond."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]


def ago(at: float | None, now: float) -> str:
    """How long ago that was, in its largest unit."""
    return "-" if at is None else f"{duration(max(0.0, now - at), whole=True)} ago"


def duration(seconds: float, *, whole: bool = False) -> str:
    """`1.23 s`, `45 s`, `3 min`, `5 h`, `2 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s" if whole else f"{seconds:.2f} s"


def job_json(job: Job) -> dict[str, Any]:
    """A job as `--json` shows it."""
    return {
        "id": job.id,
        "repo": job.repo,
        "trigger": job.trigger,
        "delivery": job.delivery,
        "state": job.state,
        "reason": job.reason,
        "old_revision": job.old_revision,
        "new_revision": job.new_revision,
        "event": job.event,
        "images": [{"name": image.name, "tag": image.tag, "digest": image.digest} for image in job.images],
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "phases": [{"phase": phase.name, "at": iso(phase.at)} for phase in job.phases],
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """A delivery as `--json` shows it."""
    return {
        "number": delivery.number,
        "receiver": delivery.receiver,
        "delivery": delivery.delivery_id,
        "event": delivery.event,
        "remote": delivery.remote,
        "ref": delivery.ref,
        "revision": delivery.revision or None,
        "decision": delivery.decision,
        "reason": delivery.reason,
        "received_at": iso(delivery.received_at),
        "jobs": list(delivery.jobs),
    }
