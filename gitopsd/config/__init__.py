"""YAML + JSON Schema → frozen values; every error at once, with its path."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gitopsd.config.files import ConfigFile, KeyPath, schema, schema_problems
from gitopsd.config.places import place_problems, project_problems, releases_of
from gitopsd.config.repos import data_of, repo_of, retry_data, retry_of
from gitopsd.config.values import duration, seconds, size
from gitopsd.errors import ConfigError
from gitopsd.settings import Config, Keep, Limits, Notify, Proxy, Receiver, Retry

__all__ = [
    "DEFAULT_PATH",
    "DEFAULT_RECEIVER",
    "default_state_dir",
    "digest",
    "dump",
    "dump_repo",
    "file_of",
    "has_credentials",
    "load",
    "part_of",
    "receiver_secrets",
    "releases_of",
    "schema",
    "secret_names",
]

DEFAULT_PATH = Path("/etc/gitopsd/gitopsd.yaml")
DEFAULT_RECEIVER = Receiver(name="default", provider="github", secrets=("github-webhook-secret",))

_DUMPED = "# What gitopsd hands to its own processes.\n"
_IN_MEMORY = Path("/proc/self/fd")
_PACKAGE_DIR = Path(__file__).parents[1]
_IDLE_EXIT_SEC = 300.0
_SIGNERS = ("allowed_signers", "keyring", "merge_by")
_DEPLOY_HINT = "    # deploy: [./deploy.sh]        # run in the checkout once it has moved\n"
_MERGED_KEYS = ("receivers", "repos")
_RECEIVER_LISTS = ("repos", "events", "refs", "paths", "images", "tags", "allow_from")


def load(path: Path, draft: tuple[Path, str] | None = None) -> Config:
    """The configuration in `path` and in every `conf.d/*.yaml` beside it.

    `draft`: a file in `conf.d` and its text, as if that were written there already.

    Raises ConfigError with every problem found in any of the files, each as `file:line: key: what is wrong`.
    """
    if dumped := _dumped(path):
        return _build(path, dumped)
    parts, problems = _parts(path)
    drafts = dict([draft] if draft else [])
    files = [_read(file, drafts.get(file)) for file in dict.fromkeys((path, *parts, *drafts))]
    problems += [problem for file in files for problem in (*file.problems, *schema_problems(file))]
    merged, merge_problems = _merge(files)
    problems += merge_problems
    problems += _sense_problems(files)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _build(path, merged)


def _read(path: Path, text: str | None = None) -> ConfigFile:
    from gitopsd.config import reader  # noqa: PLC0415 - its library is slow to import, and a dump takes none

    return reader.read(path, text)


def _dumped(path: Path) -> Mapping[str, Any]:
    """What `dump` has made of a configuration in force, where `path` is a file in the memory of a process of ours."""
    if path.parent != _IN_MEMORY or not _target(path).startswith("/memfd:gitopsd"):
        return {}
    text = path.read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text.removeprefix(_DUMPED)) if text.startswith(_DUMPED) else {}
    return loaded


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def file_of(path: Path, repo: str) -> tuple[Path | None, bool]:
    """The file of the configuration at `path` that names `repo`, and whether it holds nothing else."""
    for file in map(_read, (path, *_parts(path)[0])):
        if repo in file.section("repos"):
            return file.path, file.data == {"repos": {repo: file.section("repos")[repo]}}
    return None, False


def part_of(path: Path, repo: str) -> Path:
    """The file in `conf.d` beside `path` that is for `repo` alone."""
    return path.parent / "conf.d" / f"{repo}.yaml"


def dump_repo(name: str, settings: Mapping[str, str]) -> str:
    """The text of a file in `conf.d` that names one repo, and shows where its deploy command goes."""
    from gitopsd.config import reader  # noqa: PLC0415 - as in `_read`

    return f"{reader.text_of({'repos': {name: dict(settings)}})}{_DEPLOY_HINT}"


def _parts(path: Path) -> tuple[list[Path], list[str]]:
    """The files in `conf.d`, and why it cannot be read. A hidden one is somebody's half-written or temporary file."""
    directory = path.parent / "conf.d"
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{directory}: cannot be read: {error.strerror}"]
    return [entry for entry in entries if entry.suffix == ".yaml" and not entry.name.startswith(".")], []


def _merge(files: list[ConfigFile]) -> tuple[dict[str, Any], list[str]]:
    """One mapping of all files, and a problem for everything that two of them set."""
    merged: dict[str, Any] = {"roots": [], **{key: {} for key in _MERGED_KEYS}}
    owners: dict[KeyPath, Path] = {}
    problems: list[str] = []

    def claim(file: ConfigFile, *where: str) -> None:
        if where in owners:
            problems.append(file.problem(where, f"is set in {owners[where]} too; keep one"))
        owners[where] = file.path

    for file in files:
        for key, value in file.data.items():
            if key in _MERGED_KEYS:
                for name, entry in file.section(key).items():
                    claim(file, key, name)
                    merged[key][name] = entry
            elif key == "roots":
                merged[key] += value if isinstance(value, list) else []
            else:
                claim(file, key)
                merged[key] = value
    return merged, problems


def _sense_problems(files: list[ConfigFile]) -> Iterator[str]:
    """What a schema cannot see: two repos in one place, credentials in URLs, networks that are none."""
    yield from place_problems(files)
    yield from project_problems(files)
    for file in files:
        for name, repo in file.section("repos").items():
            url = repo.get("url") if isinstance(repo, dict) else None
            if isinstance(url, str) and has_credentials(url):
                hint = "git would show them in the process list; use an ssh key or a git credential helper"
                yield file.problem(("repos", name, "url"), f"holds credentials before the @; {hint}")
            if isinstance(repo, dict):
                yield from _signer_problems(file, name, repo)
        yield from _receiver_problems(file)


def _signer_problems(file: ConfigFile, name: str, repo: Mapping[str, Any]) -> Iterator[str]:
    """Signers whom nobody asks for: who has forgotten `verify` believes that he is protected."""
    for key in (key for key in _SIGNERS if key in repo and "verify" not in repo and repo.get("strategy") != "none"):
        yield file.problem(
            ("repos", name, key), "does nothing without 'verify' (ssh, gpg; or none, where it is to wait)"
        )


def _receiver_problems(file: ConfigFile) -> Iterator[str]:
    """Networks that are none."""
    lists: dict[KeyPath, Any] = {
        ("receivers", name, "allow_from"): each for name, each in file.section("receivers").items()
    }
    lists[("proxy", "trusted")] = file.data.get("proxy")
    for where, entry in lists.items():
        networks = entry.get(where[-1]) if isinstance(entry, dict) else None
        for index, network in enumerate(networks if isinstance(networks, list) else ()):
            if isinstance(network, str) and not _is_network(network):
                yield file.problem((*where, index), "is no network; write an address, or one such as 192.168.0.0/16")


def _is_network(text: str) -> bool:
    try:
        from ipaddress import ip_network  # noqa: PLC0415 - not for what is in force already, as each sync gets it

        return text == "unix" or bool(ip_network(text, strict=False))
    except ValueError:
        return False


def has_credentials(url: str) -> bool:
    """Whether git would show credentials of `url` in the process list. In http the user alone can be the token."""
    try:
        parts = urlsplit(url)
        return bool(parts.password) or (parts.scheme in ("http", "https") and "@" in parts.netloc)
    except ValueError:
        return False


def receiver_secrets(config: Config) -> set[str]:
    """The names of the secrets of all receivers."""
    return {name for receiver in config.receivers.values() for name in receiver.secrets}


def secret_names(config: Config) -> frozenset[str]:
    """The names of all secrets, whose variables nobody may find in his environment but who is to use them."""
    statuses = {repo.statuses.token for repo in config.repos.values() if repo.statuses}
    return frozenset(receiver_secrets(config) | set(config.notify.urls) | statuses)


def dump(config: Config) -> str:
    """The text of a file from which `load` makes the same configuration again, but for `source`."""
    data = {
        "state_dir": str(config.state_dir),
        "engine": str(config.engine),
        "runner": config.runner,
        "max_parallel": config.max_parallel,
        "max_body": config.max_body,
        "limits": {
            "connections": config.limits.connections,
            "header_time": duration(config.limits.header_time_sec),
            "body_time": duration(config.limits.body_time_sec),
            "refusals": config.limits.refusals,
        },
        "stop_timeout": duration(config.stop_timeout_sec),
        "idle_exit": "never" if config.idle_exit_sec is None else duration(config.idle_exit_sec),
        "receivers": {name: _receiver_data(receiver) for name, receiver in config.receivers.items()},
        "roots": [str(root) for root in config.roots],
        "repos": {name: data_of(repo) for name, repo in config.repos.items()},
        "retry": retry_data(config.retry),
        "keep": {
            "deliveries": config.keep.deliveries,
            "bodies": config.keep.bodies,
            "jobs": config.keep.jobs,
            "logs": config.keep.logs,
            "log_size": config.keep.log_bytes,
        },
    }
    if config.proxy.trusted:
        data["proxy"] = {"trusted": list(config.proxy.trusted), "header": config.proxy.header}
    if config.notify.urls:
        data["notify"] = {"urls": list(config.notify.urls), "on": list(config.notify.on)}
    return f"{_DUMPED}{json.dumps(data, ensure_ascii=False)}\n"


def digest(config: Config) -> str:
    """What tells two configurations apart."""
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which a sync can do without

    return hashlib.sha256(dump(config).encode()).hexdigest()


def _receiver_data(receiver: Receiver) -> dict[str, Any]:
    data = {"provider": receiver.provider, "secrets": list(receiver.secrets)}
    lists = {key: list(getattr(receiver, key) or ()) for key in _RECEIVER_LISTS}
    others = {"header": receiver.header, "max_body": receiver.max_body, "suspended": receiver.suspended}
    if receiver.suspended == "":
        others["suspended"] = True
    return data | {key: value for key, value in (lists | others).items() if value}


def _build(source: Path, data: Mapping[str, Any]) -> Config:
    receivers = {name: _receiver(name, entry) for name, entry in data.get("receivers", {}).items()}
    keep, proxy, notify, limits = (data.get(key, {}) for key in ("keep", "proxy", "notify", "limits"))
    retry = retry_of(data.get("retry", {}), Retry())
    unset = Config(
        source=source,
        state_dir=Path(data.get("state_dir") or default_state_dir()),
        engine=Path(data.get("engine") or _PACKAGE_DIR / "gitops_sync.sh"),
    )
    return unset._replace(
        runner=data.get("runner", unset.runner),
        max_parallel=int(data.get("max_parallel", unset.max_parallel)),
        max_body=size(data.get("max_body", unset.max_body)),
        limits=Limits(
            connections=int(limits.get("connections", unset.limits.connections)),
            header_time_sec=seconds(limits.get("header_time"), unset.limits.header_time_sec),
            body_time_sec=seconds(limits.get("body_time"), unset.limits.body_time_sec),
            refusals=int(limits.get("refusals", unset.limits.refusals)),
        ),
        stop_timeout_sec=seconds(data.get("stop_timeout"), unset.stop_timeout_sec),
        idle_exit_sec=None if data.get("idle_exit") == "never" else seconds(data.get("idle_exit"), _IDLE_EXIT_SEC),
        proxy=Proxy(trusted=tuple(proxy.get("trusted", ())), header=proxy.get("header", "")),
        receivers=receivers or {DEFAULT_RECEIVER.name: DEFAULT_RECEIVER},
        roots=tuple(Path(root) for root in dict.fromkeys(data.get("roots", []))),
        repos={name: repo_of(name, entry, retry) for name, entry in data.get("repos", {}).items()},
        retry=retry,
        keep=Keep(
            deliveries=int(keep.get("deliveries", unset.keep.deliveries)),
            bodies=int(keep.get("bodies", unset.keep.bodies)),
            jobs=int(keep.get("jobs", unset.keep.jobs)),
            logs=int(keep.get("logs", unset.keep.logs)),
            log_bytes=size(keep.get("log_size", unset.keep.log_bytes)),
        ),
        notify=Notify(urls=tuple(notify.get("urls", ())), on=tuple(notify.get("on", unset.notify.on))),
    )


def _receiver(name: str, entry: Mapping[str, Any]) -> Receiver:
    suspended = entry.get("suspended", False)
    return Receiver(
        name=name,
        provider=entry["provider"],
        secrets=tuple(entry["secrets"]),
        header=entry.get("header", ""),
        repos=tuple(entry["repos"]) if "repos" in entry else None,
        suspended={True: "", False: None}.get(suspended, suspended),
        max_body=size(entry["max_body"]) if "max_body" in entry else None,
        **{key: tuple(entry.get(key, ())) for key in _RECEIVER_LISTS if key != "repos"},
    )


def default_state_dir() -> str:
    """Where the store is if the configuration does not say, or cannot be read."""
    return os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or "/var/lib/gitopsd"
