"""SQLite: deliveries, jobs, their state machine."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from gitopsd.errors import StoreError
from gitopsd.model import Body, Decision, Delivery, Job, JobState, Match, Outcome, Trigger
from gitopsd.settings import Keep, Retry
from gitopsd.store import deliveries, jobs, notes
from gitopsd.store.database import Connection, Database, Row
from gitopsd.store.jobs import DRIFT
from gitopsd.store.rows import JOBS, delivery_of, job_of

__all__ = ["DRIFT", "SEEN_SEC", "Store", "path_in"]

SEEN_SEC = 7 * 86400.0
"""How long an accepted delivery's id counts as seen."""

_LARGEST_ID = 2**63 - 1
_ANY = tuple(Trigger)
# A job from the future tells of a clock that was set back: its time can no longer be told, so it is due.
_DUE = "state = 'pending' AND (due_at <= ? OR created_at > ?)"
_LAST_DONE = f"SELECT * FROM {JOBS} WHERE repo = ? AND state IN ('succeeded', 'unchanged') ORDER BY id DESC LIMIT 1"
_VERDICT = "state IN ('succeeded', 'unchanged', 'failed', 'refused')"
_LAST_VERDICT = f"SELECT * FROM {JOBS} WHERE repo = ? AND {_VERDICT} ORDER BY id DESC LIMIT 1"
_VERDICTS = f"SELECT * FROM {JOBS} WHERE repo = ? AND id > ? AND {_VERDICT} ORDER BY id"


def path_in(state_dir: Path) -> Path:
    """Where the store is in a state directory."""
    return state_dir / "store" / "gitopsd.sqlite3"  # in a directory that may be shared apart from the rest


class Store:
    """The records that everything else goes by. One object serves all threads of a process; processes share the file.

    Every method raises StoreError, and then nothing of what it was to write is there.
    """

    def __init__(self, path: Path, clock: Callable[[], float], pause: Callable[[], None] = lambda: None) -> None:
        """`pause` lets those who record deliveries at the same time come as far as to share a transaction."""
        self._database = Database(path, pause)
        self._transaction, self._read = self._database.transaction, self._database.read
        self._clock = clock
        self._peeked: dict[str, tuple[int, Any]] = {}

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._database.close()

    def probe(self) -> None:
        """Raise StoreError unless the store can be written now."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES ('probe', ?)", (str(self._clock()),))

    # Deliveries

    def accept(
        self, delivery: Delivery, matches: Sequence[Match], body: Body | None = None, *, keep_bodies: int = 0
    ) -> Delivery:
        """Record `delivery` and one job for each match without a reason, all or nothing; on disk when this returns.

        Returns the delivery with its jobs, or with decision `duplicate` and the jobs of the first time where its id
        was accepted before, if it is one of its own. A delivery without such a match is recorded as `ignored`. `body`
        is kept with the last `keep_bodies` ones.
        """
        return self._database.together(
            lambda connection: self._accept(connection, delivery, matches, body, keep_bodies)
        )

    def _accept(
        self, connection: Connection, delivery: Delivery, matches: Sequence[Match], body: Body | None, keep_bodies: int
    ) -> Delivery:
        seen = deliveries.seen(connection, delivery, self._clock() - SEEN_SEC) if delivery.is_named else []
        if seen:
            jobs_then = tuple(dict.fromkeys(job for _, job in seen if job is not None))
            reason = f"accepted before, as job {', '.join(map(str, jobs_then))}"
            duplicate = delivery._replace(decision=Decision.DUPLICATE, reason=reason, jobs=jobs_then)
            return duplicate._replace(number=deliveries.insert(connection, duplicate, seen))
        wanted = {
            match.repo: jobs.enqueue(connection, match, Trigger.WEBHOOK, delivery.delivery_id, self._clock())
            for match in matches
            if match.reason is None
        }
        decision = Decision.ACCEPTED if wanted else Decision.IGNORED
        recorded = delivery._replace(decision=decision, jobs=tuple(wanted.values()))
        number = deliveries.insert(connection, recorded, [(match, wanted.get(match.repo)) for match in matches])
        if body and keep_bodies:
            deliveries.insert_body(connection, number, body, keep_bodies)
        return recorded._replace(number=number)

    def deliveries(self, repo: str | None, *, limit: int) -> list[Delivery]:
        """The newest deliveries that were about `repo` (or pushes that matched none, with None), newest first.

        `reason` is why that repo did not want it, where the delivery as a whole was wanted by another.
        """
        query, values = (deliveries.OF_NOBODY, (limit,)) if repo is None else (deliveries.OF_REPO, (repo, limit))
        return [delivery_of(row) for row in self._read(query, values)]

    def newest_deliveries(self, receiver: str | None = None, *, limit: int) -> list[Delivery]:
        """The newest deliveries (to `receiver`), newest first, each as a whole."""
        return [_whole(row) for row in self._read(deliveries.NEWEST, (receiver, limit))]

    def delivery(self, name: str) -> Delivery | None:
        """The delivery of this number, else the newest of this id: a duplicate only where the first is forgotten."""
        number = int(name) if re.fullmatch("[0-9]{1,18}", name) else 0
        rows = self._read(deliveries.ONE, (number, name))
        return _whole(rows[0]) if rows else None

    def body(self, number: int) -> Body | None:
        """The body of a delivery, if it was kept and still is."""
        rows = self._read("SELECT event_header, text FROM bodies WHERE delivery = ?", (number,))
        return Body(text=rows[0]["text"], event_header=rows[0]["event_header"]) if rows else None

    def skipped_from(self, repo: str, revision: str) -> str:
        """Where the push came from that brought `revision` and was left out by a receiver's `paths`; "" if none was."""
        rows = self._read(deliveries.SKIPPED_FROM, (repo, revision))
        return str(rows[0]["skipped_from"]) if rows else ""

    # Jobs

    def enqueue(self, repo: str, trigger: Trigger, *, force: bool = False, revision: str | None = None) -> Job:
        """A pending job of `repo` that is due now: a new one, or the one there is."""
        with self._transaction() as connection:
            match = Match(repo=repo, ref="", revision=revision)
            job_id = jobs.enqueue(connection, match, trigger, None, self._clock(), force=force)
            return self._job(connection, job_id)

    def due(self) -> list[str]:
        """The repos with a pending job whose time has come, the longest waiting first."""
        now = self._clock()
        rows = self._read(f"SELECT repo FROM jobs WHERE {_DUE} ORDER BY due_at, id", (now, now))
        return [row["repo"] for row in rows]

    def next_due_at(self, after: float) -> float | None:
        """When the next pending job is due that was not at the time `after`; both in epoch seconds."""
        rows = self._read("SELECT min(due_at) AS at FROM jobs WHERE state = 'pending' AND due_at > ?", (after,))
        return rows[0]["at"] if rows else None

    def waiting(self) -> list[Job]:
        """The jobs that are pending, now or for later, the oldest first."""
        return self._in_state("pending")

    def running(self) -> list[Job]:
        """The jobs that are recorded as running, the oldest first."""
        return self._in_state("running")

    def job(self, job_id: int) -> Job | None:
        """The job with this id."""
        if job_id > _LARGEST_ID:
            return None
        rows = self._read(f"SELECT * FROM {JOBS} WHERE id = ?", (job_id,))
        return job_of(rows[0]) if rows else None

    def successor(self, job: Job) -> Job | None:
        """The job that took over from an interrupted, superseded or failed one."""
        rows = self._read(f"SELECT * FROM {JOBS} WHERE retry_of = ? ORDER BY id LIMIT 1", (job.id,))
        return job_of(rows[0]) if rows else None

    def jobs(self, repo: str | None = None, *, limit: int) -> list[Job]:
        """The newest jobs (of `repo`), newest first."""
        condition, values = ("repo = ?", (repo,)) if repo is not None else ("TRUE", ())
        rows = self._read(f"SELECT * FROM {JOBS} WHERE {condition} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [job_of(row) for row in rows]

    def last_job(self, repo: str, *, done: bool = False) -> Job | None:
        """The newest job of `repo` that ended with a verdict; with `done`, the newest that left a revision in place."""
        rows = self._read(_LAST_DONE if done else _LAST_VERDICT, (repo,))
        return job_of(rows[0]) if rows else None

    def verdicts(self, repo: str, *, after: int) -> list[Job]:
        """The jobs of `repo` with numbers above `after` that ended with a verdict, the oldest first."""
        rows = self._read(_VERDICTS, (repo, after))
        return [job_of(row) for row in rows]

    def repos(self) -> list[str]:
        """The names that have jobs, in the order of the alphabet."""
        return [row["repo"] for row in self._read("SELECT DISTINCT repo FROM jobs ORDER BY repo", ())]

    def unfinished(self, repo: str, state: JobState) -> Job | None:
        """The pending or the running job of `repo`."""
        rows = self._read(f"SELECT * FROM {JOBS} WHERE repo = ? AND state = ?", (repo, state))
        return job_of(rows[0]) if rows else None

    def claim(
        self,
        repo: str,
        interrupted: Callable[[Job], Outcome],
        retry: Retry,
        triggers: Collection[Trigger] = _ANY,
    ) -> Job | None:
        """Turn the pending job of `repo` that is due into the running one. Only for who holds the repo's lock.

        One whose trigger is none of `triggers` goes on to wait.

        A job that is still `running` then has nobody who runs it: it gets the outcome that `interrupted` gives, and
        its wish is queued again, all in the same transaction: at once the first time, later and later if that happens
        again, as it may be the deploy that takes the host or us down.
        """
        with self._transaction() as connection:
            now = self._clock()
            for row in connection.execute(
                f"SELECT * FROM {JOBS} WHERE repo = ? AND state = 'running'", (repo,)
            ).fetchall():
                job = job_of(row)
                jobs.end(connection, job, interrupted(job), now)
                delay_sec = _delay_sec(retry, job.interruptions) if job.interruptions else 0.0
                jobs.try_again(
                    connection, job._replace(interruptions=job.interruptions + 1), now + delay_sec, self._clock()
                )
            now = self._clock()  # what was just queued again must not seem to come from the future, and so be due
            found = connection.execute(
                f"SELECT id FROM jobs WHERE repo = ? AND {_DUE}",
                (repo, now, now),
            ).fetchone()
            if found is None:
                return None
            job = self._job(connection, found["id"])
            if job.trigger not in triggers:
                return None
            jobs.take_over(connection, job, self._last_verdict(connection, repo))
            connection.execute(
                "UPDATE jobs SET state = 'running', started_at = ?, reason = '' WHERE id = ?", (now, job.id)
            )
            return self._job(connection, job.id)

    def finish(self, job: Job, outcome: Outcome, retry: Retry) -> Job:
        """Record how a running job ended and, if it is to be tried again and nothing newer waits, queue that.

        A poll's look that has found nothing takes the place of the one before it.
        """
        with self._transaction() as connection:
            if not connection.execute(
                "SELECT 1 FROM jobs WHERE id = ? AND repo = ? AND started_at = ? AND state = 'running'",
                (job.id, job.repo, job.started_at),
            ).fetchone():
                raise StoreError(f"job {job.id} of {job.repo} is not in the store any more; was its file moved away?")
            if outcome.state is JobState.INTERRUPTED:
                jobs.end(connection, job, outcome, self._clock())
                jobs.try_again(connection, job, self._clock(), self._clock())
                return self._job(connection, job.id)
            failures = job.failures + (1 if outcome.retry and not outcome.keep_trying else 0)
            again = outcome.retry and (outcome.keep_trying or failures < retry.tries)
            count, of_all = (job.attempts, "") if outcome.keep_trying else (failures, f" of {retry.tries}")
            delay_sec = _delay_sec(retry, count)
            next_try = job._replace(attempts=job.attempts + 1, failures=failures, interruptions=0)
            hint = ""
            now = self._clock()
            if again and jobs.try_again(connection, next_try, now + delay_sec, now):
                hint = f"; attempt {count}{of_all}, the next in {delay_sec:g} s"
            elif outcome.retry and not again:
                hint = f"; given up after {failures} attempts"
            jobs.end(connection, job, outcome._replace(reason=outcome.reason + hint), self._clock())
            jobs.forget_look_before(connection, job)
            return self._job(connection, job.id)

    def prune(self, keep: Keep) -> None:
        """Forget the deliveries, bodies and finished jobs that are more than `keep` allows."""
        with self._transaction() as connection:
            deliveries.prune_bodies(connection, keep.bodies)
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

        self._database.give_back()

    def is_overfull(self, keep: Keep) -> bool:
        """Whether there are so many more deliveries than `keep` allows that `prune` should come soon."""
        rows = self._read("SELECT (SELECT max(id) FROM deliveries) - (SELECT min(id) FROM deliveries) AS span", ())
        return (rows[0]["span"] or 0) > 2 * keep.deliveries

    # Notes: what the daemon has to say to a `gitopsd status` in another process

    def write_note(self, key: str, value: Any) -> None:
        """Keep a JSON value under `key`."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))
        self._peeked.pop(key, None)

    def read_note(self, key: str) -> Any:
        """The JSON value under `key`; None if there is none, or one of another form than `notes` says."""
        rows = self._read("SELECT value FROM notes WHERE key = ?", (key,))
        return notes.value_of(key, rows[0]["value"]) if rows else None

    def peek_note(self, key: str) -> Any:
        """As `read_note`, for who asks often and alone writes it: the value is shared, and must not be changed."""
        opened, value = self._peeked.get(key, (-1, None))
        if opened != self._database.opened:
            opened, value = self._database.opened, self.read_note(key)
            self._peeked[key] = opened, value
        return value

    def _in_state(self, state: str) -> list[Job]:
        # To be sorted by SQLite, or with a bound value, it would not go by the partial index.
        rows = self._read(f"SELECT * FROM {JOBS} WHERE state = '{state}'", ())
        return sorted(map(job_of, rows), key=lambda job: job.id)

    def _last_verdict(self, connection: Connection, repo: str) -> Job | None:
        row = connection.execute(_LAST_VERDICT, (repo,)).fetchone()
        return job_of(row) if row else None

    def _job(self, connection: Connection, job_id: int) -> Job:
        return job_of(connection.execute(f"SELECT * FROM {JOBS} WHERE id = ?", (job_id,)).fetchone())


def _delay_sec(retry: Retry, count: int) -> float:
    """How long to wait after `count` attempts."""
    return float(min(retry.delay_sec * 2 ** min(count - 1, 30), retry.max_delay_sec))


def _whole(row: Row) -> Delivery:
    """A delivery with all its jobs."""
    return delivery_of(row)._replace(jobs=tuple(map(int, filter(None, (row["jobs"] or "").split(",")))))
