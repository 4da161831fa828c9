"""SQLite: deliveries, jobs, their state machine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gitopsd.errors import StoreError
from gitopsd.model import Decision, Delivery, Job, JobState, Keep, Match, Outcome, Retry, Trigger
from gitopsd.store import deliveries
from gitopsd.store.database import Connection, Database
from gitopsd.store.rows import delivery_of, job_of

SEEN_SEC = 7 * 86400.0
"""How long an accepted delivery's id counts as seen."""

STATUS_NOTE = "daemon"
"""The note of the daemon for `gitopsd status`: a list of lines on what it found closed or broken."""

POLL_NOTE = "poll"
"""What the last poll could not ask: {at, problems: {repo: why}}."""

REFUSED_NOTE = "refused by "
"""Followed by a receiver's name: when and why it refused deliveries, as {webhook: {at, reason}}.

`webhook` is what its sender calls it, or "". It is taken out once a delivery of that webhook was in order.
"""

UNKNOWN_RECEIVER = "(unknown)"
"""What the receiver of a delivery is called where there is none of that name."""

PROOF_NOTE = "proven by "
"""Followed by a receiver's name: when each repo last signed with each secret, as {secret: {repo: at}}."""

_LARGEST_ID = 2**63 - 1
# A job from the future tells of a clock that was set back: its time can no longer be told, so it is due.
_DUE = "state = 'pending' AND (due_at <= ? OR created_at > ?)"
_DONE = (JobState.SUCCEEDED, JobState.UNCHANGED)


def path_in(state_dir: Path) -> Path:
    """Where the store is in a state directory."""
    return state_dir / "store" / "gitopsd.sqlite3"  # in a directory that may be shared apart from the rest


class Store:
    """The records that everything else goes by. One object serves all threads of a process; processes share the file.

    Every method raises StoreError, and then nothing of what it was to write is there.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._database = Database(path)
        self._transaction, self._read = self._database.transaction, self._database.read
        self._clock = clock

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._database.close()

    def probe(self) -> None:
        """Raise StoreError unless the store can be written now."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES ('probe', ?)", (str(self._clock()),))

    # Deliveries

    def accept(self, delivery: Delivery, matches: Sequence[Match]) -> Delivery:
        """Record `delivery` and one job for each match without a reason, all or nothing; on disk when this returns.

        Returns the delivery with its jobs, or with decision `duplicate` and the jobs of the first time where its id
        was accepted before, if it is one of its own. A delivery without such a match is recorded as `ignored`.
        """
        with self._transaction() as connection:
            seen = deliveries.seen(connection, delivery, self._clock() - SEEN_SEC) if delivery.is_named else []
            if seen:
                jobs_then = tuple(dict.fromkeys(job for _, job in seen if job is not None))
                reason = f"accepted before, as job {', '.join(map(str, jobs_then))}"
                duplicate = replace(delivery, decision=Decision.DUPLICATE, reason=reason, jobs=jobs_then)
                deliveries.insert(connection, duplicate, seen)
                return duplicate
            wanted = [match for match in matches if match.reason is None]
            jobs = {
                match.repo: self._enqueue(connection, match, Trigger.WEBHOOK, delivery.delivery_id) for match in wanted
            }
            decision = Decision.ACCEPTED if jobs else Decision.IGNORED
            recorded = replace(delivery, decision=decision, jobs=tuple(jobs.values()))
            deliveries.insert(connection, recorded, [(match, jobs.get(match.repo)) for match in matches])
            return recorded

    def deliveries(self, repo: str | None, *, limit: int) -> list[Delivery]:
        """The newest deliveries that were about `repo` (or matched none, with None), newest first.

        `reason` is why that repo did not want it, where the delivery as a whole was wanted by another.
        """
        if repo is None:
            condition, values = "m.delivery IS NULL AND d.ref != '' AND d.event != 'ping'", tuple[str, ...]()
        else:
            condition, values = "m.repo = ?", (repo,)
        rows = self._read(
            f"""SELECT d.*, m.job AS job, m.reason AS miss FROM deliveries d LEFT JOIN matches m ON m.delivery = d.id
            WHERE {condition} ORDER BY d.id DESC LIMIT ?""",  # noqa: S608 - the condition is one of the two above
            (*values, limit),
        )
        return [delivery_of(row) for row in rows]

    # Jobs

    def enqueue(self, repo: str, trigger: Trigger, *, force: bool = False, revision: str | None = None) -> Job:
        """A pending job of `repo` that is due now: a new one, or the one there is."""
        with self._transaction() as connection:
            match = Match(repo=repo, ref="", revision=revision)
            return self._job(connection, self._enqueue(connection, match, trigger, None, force=force))

    def due(self) -> list[str]:
        """The repos with a pending job whose time has come, the longest waiting first."""
        now = self._clock()
        rows = self._read(f"SELECT repo FROM jobs WHERE {_DUE} ORDER BY due_at, id", (now, now))  # noqa: S608
        return [row["repo"] for row in rows]

    def next_due_at(self) -> float | None:
        """When the next pending job that is not due yet will be, in epoch seconds."""
        rows = self._read("SELECT min(due_at) AS at FROM jobs WHERE state = 'pending' AND due_at > ?", (self._clock(),))
        return rows[0]["at"] if rows else None

    def is_anything_unfinished(self) -> bool:
        """Whether a job is pending, now or for later, or recorded as running."""
        # Each by its partial index, which neither an OR nor a bound value lets SQLite use.
        queries = (
            "SELECT 1 FROM jobs WHERE state = 'pending' LIMIT 1",
            "SELECT 1 FROM jobs WHERE state = 'running' LIMIT 1",
        )
        return any(self._read(query, ()) for query in queries)

    def running(self) -> list[Job]:
        """The jobs that are recorded as running."""
        return [job_of(row) for row in self._read("SELECT * FROM jobs WHERE state = 'running' ORDER BY id", ())]

    def job(self, job_id: int) -> Job | None:
        """The job with this id."""
        if job_id > _LARGEST_ID:
            return None
        rows = self._read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return job_of(rows[0]) if rows else None

    def successor(self, job: Job) -> Job | None:
        """The job that took over from an interrupted, superseded or failed one."""
        rows = self._read("SELECT * FROM jobs WHERE retry_of = ? ORDER BY id LIMIT 1", (job.id,))
        return job_of(rows[0]) if rows else None

    def jobs(self, repo: str | None = None, *, limit: int) -> list[Job]:
        """The newest jobs (of `repo`), newest first."""
        condition, values = ("repo = ?", (repo,)) if repo is not None else ("TRUE", ())
        rows = self._read(f"SELECT * FROM jobs WHERE {condition} ORDER BY id DESC LIMIT ?", (*values, limit))  # noqa: S608
        return [job_of(row) for row in rows]

    def last_job(self, repo: str, *, done: bool = False) -> Job | None:
        """The newest job of `repo` that ended with a verdict; with `done`, the newest that left a revision in place."""
        states = _DONE if done else (*_DONE, JobState.FAILED, JobState.REFUSED)
        marks = ", ".join("?" * len(states))
        rows = self._read(
            f"SELECT * FROM jobs WHERE repo = ? AND state IN ({marks}) ORDER BY id DESC LIMIT 1",  # noqa: S608
            (repo, *states),
        )
        return job_of(rows[0]) if rows else None

    def unfinished(self, repo: str, state: JobState) -> Job | None:
        """The pending or the running job of `repo`."""
        rows = self._read("SELECT * FROM jobs WHERE repo = ? AND state = ?", (repo, state))
        return job_of(rows[0]) if rows else None

    def claim(self, repo: str, interrupted: Callable[[Job], Outcome], retry: Retry) -> Job | None:
        """Turn the pending job of `repo` that is due into the running one. Only for who holds the repo's lock.

        A job that is still `running` then has nobody who runs it: it gets the outcome that `interrupted` gives, and
        its wish is queued again, all in the same transaction: at once the first time, later and later if that happens
        again, as it may be the deploy that takes the host or us down.
        """
        with self._transaction() as connection:
            now = self._clock()
            for row in connection.execute(
                "SELECT * FROM jobs WHERE repo = ? AND state = 'running'", (repo,)
            ).fetchall():
                job = job_of(row)
                self._end(connection, job, interrupted(job))
                delay_sec = _delay_sec(retry, job.interruptions) if job.interruptions else 0.0
                self._try_again(connection, replace(job, interruptions=job.interruptions + 1), now + delay_sec)
            now = self._clock()  # what was just queued again must not seem to come from the future, and so be due
            found = connection.execute(
                f"SELECT id FROM jobs WHERE repo = ? AND {_DUE}",  # noqa: S608 - a constant
                (repo, now, now),
            ).fetchone()
            if found is None:
                return None
            connection.execute(
                "UPDATE jobs SET state = 'running', started_at = ?, reason = '' WHERE id = ?", (now, found["id"])
            )
            return self._job(connection, found["id"])

    def finish(self, job: Job, outcome: Outcome, retry: Retry) -> Job:
        """Record how a running job ended and, if it is to be tried again and nothing newer waits, queue that."""
        with self._transaction() as connection:
            if not connection.execute(
                "SELECT 1 FROM jobs WHERE id = ? AND repo = ? AND started_at = ? AND state = 'running'",
                (job.id, job.repo, job.started_at),
            ).fetchone():
                raise StoreError(f"job {job.id} of {job.repo} is not in the store any more; was its file moved away?")
            if outcome.state is JobState.INTERRUPTED:
                self._end(connection, job, outcome)
                self._try_again(connection, job, self._clock())
                return self._job(connection, job.id)
            failures = job.failures + (1 if outcome.retry and not outcome.keep_trying else 0)
            again = outcome.retry and (outcome.keep_trying or failures < retry.tries)
            count, of_all = (job.attempts, "") if outcome.keep_trying else (failures, f" of {retry.tries}")
            delay_sec = _delay_sec(retry, count)
            next_try = replace(job, attempts=job.attempts + 1, failures=failures, interruptions=0)
            hint = ""
            if again and self._try_again(connection, next_try, self._clock() + delay_sec):
                hint = f"; attempt {count}{of_all}, the next in {delay_sec:g} s"
            elif outcome.retry and not again:
                hint = f"; given up after {failures} attempts"
            self._end(connection, job, replace(outcome, reason=outcome.reason + hint))
            return self._job(connection, job.id)

    def prune(self, keep: Keep) -> None:
        """Forget the deliveries and finished jobs that are more than `keep` allows."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM deliveries WHERE id <= (SELECT id FROM deliveries ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (keep.deliveries,),
            )
            for row in connection.execute(
                "SELECT repo FROM jobs GROUP BY repo HAVING count(*) > ?", (keep.jobs,)
            ).fetchall():
                connection.execute(
                    """DELETE FROM jobs WHERE repo = ?1 AND state NOT IN ('pending', 'running')
                    AND id <= (SELECT id FROM jobs WHERE repo = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)""",
                    (row["repo"], keep.jobs),
                )

    # Notes: what the daemon has to say to a `gitopsd status` in another process

    def write_note(self, key: str, value: Any) -> None:
        """Keep a JSON value under `key`."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))

    def read_note(self, key: str) -> Any:
        """The JSON value under `key`; None if there is none."""
        rows = self._read("SELECT value FROM notes WHERE key = ?", (key,))
        return json.loads(rows[0]["value"]) if rows else None

    def _enqueue(
        self, connection: Connection, match: Match, trigger: Trigger, delivery: str | None, *, force: bool = False
    ) -> int:
        """The id of the pending job that now stands for this wish, due now."""
        now = self._clock()
        waiting = connection.execute(
            "SELECT * FROM jobs WHERE repo = ? AND state = 'pending'", (match.repo,)
        ).fetchone()
        if waiting is not None and waiting["attempts"] == 1:
            connection.execute(
                """UPDATE jobs SET due_at = min(due_at, ?), force = max(force, ?), delivery = coalesce(?, delivery),
                ref = coalesce(?, ref), revision = coalesce(?, revision) WHERE id = ?""",
                (now, force, delivery, match.ref or None, match.revision, waiting["id"]),
            )
            return int(waiting["id"])
        if waiting is not None:
            # A retry of something older gives way, and with it its count of attempts and its delay.
            connection.execute(
                "UPDATE jobs SET state = 'superseded', reason = 'a newer wish came', finished_at = ? WHERE id = ?",
                (now, waiting["id"]),
            )
            force = force or bool(waiting["force"])
        cursor = connection.execute(
            """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
            delivery, ref, revision, force, retry_of) VALUES (?, ?, 'pending', '', 1, 0, 0, ?, ?, ?, ?, ?, ?, ?)""",
            (
                match.repo,
                trigger,
                now,
                now,
                delivery,
                match.ref or None,
                match.revision,
                force,
                waiting and waiting["id"],
            ),
        )
        return int(cursor.lastrowid or 0)

    def _try_again(self, connection: Connection, job: Job, due_at: float) -> bool:
        """Queue the wish of `job` again. False if a newer one waits: that one fetches the newest revision anyway."""
        waiting = connection.execute("SELECT id FROM jobs WHERE repo = ? AND state = 'pending'", (job.repo,)).fetchone()
        if waiting is not None:
            connection.execute(
                "UPDATE jobs SET force = max(force, ?), retry_of = coalesce(retry_of, ?) WHERE id = ?",
                (job.force, job.id, waiting["id"]),
            )
            return False
        connection.execute(
            """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
            delivery, ref, revision, force, retry_of) VALUES (?, ?, 'pending', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                job.repo,
                job.trigger,
                job.attempts,
                job.failures,
                job.interruptions,
                due_at,
                self._clock(),
                job.delivery,
                job.ref,
                job.revision,
                job.force,
                job.id,
            ),
        )
        return True

    def _end(self, connection: Connection, job: Job, outcome: Outcome) -> None:
        connection.execute(
            """UPDATE jobs SET state = ?, reason = ?, finished_at = ?, old_revision = ?, new_revision = ?,
            exit_code = ?, phases = ? WHERE id = ? AND state = 'running'""",
            (
                outcome.state,
                outcome.reason,
                self._clock(),
                outcome.old_revision,
                outcome.new_revision,
                outcome.exit_code,
                json.dumps([[phase.name, phase.at] for phase in outcome.phases]),
                job.id,
            ),
        )

    def _job(self, connection: Connection, job_id: int) -> Job:
        return job_of(connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone())


def _delay_sec(retry: Retry, count: int) -> float:
    """How long to wait after `count` attempts."""
    return float(min(retry.delay_sec * 2 ** min(count - 1, 30), retry.max_delay_sec))
