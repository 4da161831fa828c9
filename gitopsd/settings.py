"""What the configuration says: frozen, without behaviour."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

MAX_BODY = 25 * 1024 * 1024
"""Bytes of a request's body, where nothing else is set."""


class Receiver(NamedTuple):
    """One configured endpoint. `secrets` are names; `header` is where its sender was told to put token or signature.

    `repos` are the only ones that it may trigger; None is all of them. `events`, `refs`, `paths`, `images` and `tags`
    are globs; an empty tuple is no rule. `allow_from` are networks. `suspended` is why it takes nothing at the moment
    ("" where nobody said why), None that it does. `max_body` is in bytes; None is that of the configuration.
    """

    name: str
    provider: str
    secrets: tuple[str, ...]
    header: str = ""
    repos: tuple[str, ...] | None = None
    events: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    allow_from: tuple[str, ...] = ()
    suspended: str | None = None
    max_body: int | None = None


class Proxy(NamedTuple):
    """Who is believed when it tells the address of a client: the networks of proxies, and the header they tell it in.

    A proxy at the other end of a unix socket is in the network "unix".
    """

    trusted: tuple[str, ...] = ()
    header: str = ""


class Retry(NamedTuple):
    """When a failed job is tried again. Seconds; `tries` counts the first attempt too."""

    tries: int = 5
    delay_sec: float = 30.0
    max_delay_sec: float = 1800.0


class Keep(NamedTuple):
    """How much history stays: deliveries and bodies of them altogether, jobs and job logs a repo, bytes a log."""

    deliveries: int = 20000
    bodies: int = 200
    jobs: int = 1000
    logs: int = 50
    log_bytes: int = 1024 * 1024


class Health(NamedTuple):
    """How to find out whether a deploy works: `command` (an argv) exits with 0 within `timeout_sec`.

    It has so many tries, `interval_sec` apart.
    """

    command: tuple[str, ...]
    interval_sec: float = 2.0
    tries: int = 5
    timeout_sec: float = 10.0


class Statuses(NamedTuple):
    """Where the state of a revision is told as a commit status. `token` is a name, `api` is "" for the forge's own.

    `context` tells several hosts apart that deploy the same revision.
    """

    forge: str
    token: str
    api: str = ""
    context: str = "gitopsd"


class Notify(NamedTuple):
    """Who is told of what: `urls` are names of credentials that hold Apprise URLs."""

    urls: tuple[str, ...] = ()
    on: tuple[str, ...] = ("failure", "recovery", "refusal")


class Repo(NamedTuple):
    """One managed checkout. Commands are argvs; an `opted_in_by_file` one needs a `.gitops` file at its top.

    With the strategy `none` there is no checkout, `url` and `ref` are "", and `path` is where `deploy` runs. With
    `release` `path` is a symlink, and `keep` trees stay. `images` are globs of the images whose push is for this repo,
    too. `ref` is a branch, or with a wildcard or `refs/tags/` in it a pattern of tags. `allowed_signers` and `keyring`
    are files; `merge_by` are those who may sign merges alone. `retry` None is that of the configuration.
    """

    name: str
    url: str
    ref: str
    path: Path
    strategy: str = "in-place"
    gate: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()
    compose: str = ""
    units: tuple[str, ...] = ()
    settle_sec: float = 5.0
    health: Health | None = None
    rollback: bool = False
    keep: int = 3
    submodules: bool = True
    depth: int = 0
    filter: str = ""
    rewind: str = "refuse"
    local_changes: str = "refuse"
    verify: str = "none"
    allowed_signers: str = ""
    keyring: str = ""
    merge_by: tuple[str, ...] = ()
    clean: str = "none"
    drift: str = "off"
    timeout_sec: float = 600.0
    opted_in_by_file: bool = False
    images: tuple[str, ...] = ()
    retry: Retry | None = None
    statuses: Statuses | None = None


class Limits(NamedTuple):
    """What strangers may take up. Times in seconds; `refusals`: of one address in a minute that are said and noted."""

    connections: int = 500
    header_time_sec: float = 10.0
    body_time_sec: float = 30.0
    refusals: int = 60


class Config(NamedTuple):
    """The whole configuration. Sizes in bytes, times in seconds. `idle_exit_sec` None: never.

    `engine` is an executable.
    """

    source: Path
    state_dir: Path
    engine: Path
    runner: str = "auto"
    max_parallel: int = 2
    max_body: int = MAX_BODY
    limits: Limits = Limits()
    stop_timeout_sec: float = 30.0
    idle_exit_sec: float | None = 300.0
    proxy: Proxy = Proxy()
    receivers: Mapping[str, Receiver] = MappingProxyType({})
    roots: tuple[Path, ...] = ()
    repos: Mapping[str, Repo] = MappingProxyType({})
    retry: Retry = Retry()
    keep: Keep = Keep()
    notify: Notify = Notify()
