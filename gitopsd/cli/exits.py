"""The exit codes, and which one a job's end is."""

from collections.abc import Iterable

from gitopsd.model import DONE, Job, JobState

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUSY = 75
EXIT_REFUSED = 77
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

_WORST_FIRST = (EXIT_CONFIG, EXIT_FAILED, EXIT_REFUSED, EXIT_BUSY)


def of_job(job: Job) -> int:
    """The exit code for how `job` ended; EXIT_BUSY while it has not."""
    if job.state in DONE:
        return EXIT_DONE
    if job.state is JobState.REFUSED:
        return EXIT_REFUSED
    if job.state is JobState.FAILED:
        return job.exit_code if job.exit_code in (EXIT_BUSY, EXIT_CONFIG) else EXIT_FAILED
    return EXIT_BUSY


def worst(codes: Iterable[int]) -> int:
    """The one exit code for several."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), EXIT_DONE)
