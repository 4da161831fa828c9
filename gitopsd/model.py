"""The values that cross borders, without behaviour.

Named tuples: each start of the program would spend two milliseconds for every dataclass.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Trigger(StrEnum):
    """Why a job exists."""

    WEBHOOK = "webhook"
    MANUAL = "manual"
    POLL = "poll"
    TIMER = "timer"
    ROLLBACK = "rollback"


class JobState(StrEnum):
    """Where a job stands. All but the first two are final."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"


DONE = (JobState.SUCCEEDED, JobState.UNCHANGED)
"""What a job ends in that leaves its revision in place, and well."""


class Decision(StrEnum):
    """What became of an authentic delivery."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"


class Secret:
    """A webhook secret. Neither a tuple nor with a repr, so that no log, error or `--json` shows it by accident."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: bytes) -> None:
        self.name = name
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.value))


class Request(NamedTuple):
    """One POST as it came. Header names are in upper case; `media_type` in lower case, without parameters.

    `token` is what stands behind the receiver's name in the path, or "".
    """

    headers: Mapping[str, str]
    body: bytes
    media_type: str = "application/json"
    token: str = ""


class RefUpdate(NamedTuple):
    """One ref that a push moved. `revision` is None where the ref was deleted, "" where it is not told.

    `before` is where it stood, "" where that is not told or it is new. `files` are the paths of all files that the push
    has changed; None where the sender does not tell them all.
    """

    ref: str
    revision: str | None
    forced: bool = False
    before: str = ""
    files: tuple[str, ...] | None = None


class Image(NamedTuple):
    """One image that was pushed to a registry. `digest` is "" where the sender does not tell it.

    `name` begins with the registry's host (`ghcr.io/me/blog`), where the sender tells that.
    """

    name: str
    tag: str
    digest: str = ""


class RemoteName(NamedTuple):
    """What a delivery calls its repository: a hint to find ours, never something to fetch from.

    `full_name` is "" where the provider has none; then `urls` have to do. `alias` is another form of that name. `id` is
    what the provider calls it for good, whatever its name becomes, or "".
    """

    full_name: str
    urls: tuple[str, ...]
    alias: str = ""
    id: str = ""


class Event(NamedTuple):
    """What a delivery says: refs that were pushed, images that were, or something else of which it tells the `kind`.

    `kind` is what the sender calls it; "ping" is a trial. With a `reason` it leads to nothing, and that is why.
    """

    kind: str
    remote: RemoteName | None = None
    updates: tuple[RefUpdate, ...] = ()
    images: tuple[Image, ...] = ()
    reason: str = ""


class Hold(NamedTuple):
    """A repo is held: nothing of it is deployed until it is resumed, or `until` has come. Times: epoch seconds.

    `revision` is what a rollback has put in place, or is about to; None where the hold leaves all as it is.
    """

    repo: str
    by: str
    reason: str
    at: float
    until: float | None = None
    revision: str | None = None


class Match(NamedTuple):
    """One repo that an event is about: `reason` is None where the event asks for a sync, else why it does not.

    `force`: the deploy command is to run although the revision has not moved. Where a push was left out by `paths`,
    `skipped_from` is the revision that it came from.
    """

    repo: str
    ref: str
    revision: str | None
    reason: str | None = None
    event: str = ""
    images: tuple[Image, ...] = ()
    force: bool = False
    skipped_from: str = ""


class Delivery(NamedTuple):
    """One authentic POST, as the store keeps it. `jobs` are the ids of the jobs it asked for. Times: epoch seconds.

    `is_named`: whether its sender has given it an id of its own. Else that is its content's, and the same content may
    be meant anew. `number` is what the store counts it as, 0 before that.
    """

    receiver: str
    delivery_id: str
    event: str
    remote: str
    ref: str
    revision: str
    decision: Decision
    reason: str
    received_at: float
    jobs: tuple[int, ...] = ()
    is_named: bool = True
    number: int = 0


class Body(NamedTuple):
    """What it takes to look at a delivery again: its JSON text without secrets, and what its header calls the event."""

    text: bytes
    event_header: str = ""


class Phase(NamedTuple):
    """A phase of a sync and when it began, in epoch seconds."""

    name: str
    at: float


class Job(NamedTuple):
    """One wish to sync a repo, and what became of it. Times: epoch seconds.

    `revision` is what the trigger believes the tip to be, a hint only; `retry_of` is the job that this one tries again.
    `event` is the kind of the last one that asked for it, and `images` are those that were pushed, the newest last.
    `attempts` counts this one too. Of those before it, `failures` failed for a cause that does not pass by itself, and
    `interruptions` ended without a record, the last ones in a row.
    """

    id: int
    repo: str
    trigger: Trigger
    state: JobState
    reason: str
    attempts: int
    failures: int
    interruptions: int
    due_at: float
    created_at: float
    delivery: str | None = None
    ref: str | None = None
    revision: str | None = None
    force: bool = False
    event: str | None = None
    images: tuple[Image, ...] = ()
    retry_of: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    old_revision: str | None = None
    new_revision: str | None = None
    exit_code: int | None = None
    phases: tuple[Phase, ...] = ()


class Outcome(NamedTuple):
    """How a sync ended. `exit_code` is the engine's, or None where it did not end by itself.

    `retry` asks for another attempt; `keep_trying` for as many as it takes, as the cause will pass by itself.
    """

    state: JobState
    reason: str
    exit_code: int | None
    old_revision: str | None = None
    new_revision: str | None = None
    phases: tuple[Phase, ...] = ()
    retry: bool = False
    keep_trying: bool = False
