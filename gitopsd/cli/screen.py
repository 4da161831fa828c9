"""What `gitopsd sync` shows while it follows its jobs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from gitopsd.cli import terminal
from gitopsd.model import Job, JobState


class Screen:
    """What the person sees: output as it comes, the phase beside a spinner on a terminal, the end of each job."""

    def __init__(self, *, quiet: bool, prefixed: bool) -> None:
        self._out = Console(quiet=True) if quiet else terminal.console()
        self._prefixed = prefixed
        self._unfinished: dict[int, bytes] = {}
        self._status: AbstractContextManager[Any] = (
            self._out.status("waiting", spinner="dots") if self._out.is_terminal and not quiet else nullcontext()
        )

    def __enter__(self) -> None:
        self._status.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._status.__exit__(None, None, None)

    def phase(self, job: Job, name: str) -> None:
        """Show where the job is, beside the spinner."""
        if hasattr(self._status, "update"):
            self._status.update(terminal.plain(f"{job.repo}: {name if job.started_at else 'waiting for its turn'}"))

    def output(self, job: Job, chunk: bytes) -> None:
        """Show what is whole lines of the output; the rest waits for its end."""
        *lines, rest = (self._unfinished.get(job.id, b"") + chunk).split(b"\n")
        self._unfinished[job.id] = rest
        for line in lines:
            self._out.print(self._line(job, terminal.plain(line.decode("utf-8", "replace"))))

    def note(self, job: Job, text: str) -> None:
        """Show a line of our own."""
        self._out.print(self._line(job, terminal.plain(text)))

    def end(self, job: Job) -> None:
        """Show how the job ended."""
        if self._unfinished.get(job.id):
            self.output(job, b"\n")
        took = terminal.duration(job.finished_at - job.started_at) if job.finished_at and job.started_at else "-"
        text = Text.assemble(
            f"{job.repo}: ",
            terminal.state(job.state),
            f" ({_movement(job)}job {job.id}, {took})",
            terminal.plain(f": {job.reason}" if job.reason else ""),
        )
        self._out.print(text)
        if phases := _phases(job):
            self._out.print(terminal.plain(f"  {phases}"), style="dim")

    def _line(self, job: Job, text: Text) -> Text:
        return Text.assemble((f"{job.repo} │ ", "dim"), text) if self._prefixed else text


def _movement(job: Job) -> str:
    """From which revision to which, or where it stays."""
    if not job.new_revision:
        return ""
    if job.state is JobState.REFUSED:
        return f"stays at {terminal.short(job.old_revision)}, the remote has {terminal.short(job.new_revision)}, "
    return f"{terminal.short(job.old_revision)} → {terminal.short(job.new_revision)}, "


def _phases(job: Job) -> str:
    """How long each phase took."""
    ends = [*(phase.at for phase in job.phases[1:]), job.finished_at or 0.0]
    return ", ".join(
        f"{phase.name} {terminal.duration(end - phase.at)}" for phase, end in zip(job.phases, ends, strict=False)
    )
