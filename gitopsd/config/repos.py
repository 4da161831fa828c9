"""The settings of a repo ↔ Repo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitopsd.config.values import duration, seconds
from gitopsd.settings import Health, Repo, Retry, Statuses

_BRANCHES = "refs/heads/"
_WORDS = ("gate", "deploy", "units", "merge_by", "images")
_PLAIN = (
    "compose",
    "rollback",
    "keep",
    "submodules",
    "depth",
    "filter",
    "rewind",
    "local_changes",
    "verify",
    "allowed_signers",
    "keyring",
    "clean",
    "drift",
)


def repo_of(name: str, entry: Mapping[str, Any], retry: Retry) -> Repo:
    """The repo `name`. `retry` is what is set for all, and stands for what its own does not say."""
    words: dict[str, Any] = {key: tuple(entry.get(key, ())) for key in _WORDS}
    unset = Repo(
        name=name,
        url=entry.get("url", ""),
        ref=entry.get("ref", "main").removeprefix(_BRANCHES) if "url" in entry else "",
        path=Path(entry["path"]),
    )
    return unset._replace(
        strategy=entry.get("strategy", unset.strategy),
        settle_sec=seconds(entry.get("settle"), unset.settle_sec),
        health=_health(entry["health"]) if "health" in entry else None,
        timeout_sec=seconds(entry.get("timeout"), unset.timeout_sec),
        retry=retry_of(entry["retry"], retry) if "retry" in entry else None,
        statuses=Statuses(**entry["statuses"]) if "statuses" in entry else None,
        **words,
        **{key: _plain(key, entry[key]) for key in _PLAIN if key in entry},
    )


def data_of(repo: Repo) -> dict[str, Any]:
    """What `repo_of` makes the same repo of."""
    data = {"path": str(repo.path), "strategy": repo.strategy, "timeout": duration(repo.timeout_sec)}
    others: dict[str, Any] = {"url": repo.url, "ref": repo.ref, **{key: list(getattr(repo, key)) for key in _WORDS}}
    if repo.health:
        others["health"] = {
            "command": list(repo.health.command),
            "interval": duration(repo.health.interval_sec),
            "tries": repo.health.tries,
            "timeout": duration(repo.health.timeout_sec),
        }
    if repo.allowed_signers or repo.keyring or repo.merge_by:
        others["verify"] = repo.verify
    if repo.settle_sec != Repo._field_defaults["settle_sec"]:
        others["settle"] = duration(repo.settle_sec)
    if repo.retry:
        others["retry"] = retry_data(repo.retry)
    if repo.statuses:
        others["statuses"] = {key: value for key, value in repo.statuses._asdict().items() if value}
    changed = {key: getattr(repo, key) for key in _PLAIN if getattr(repo, key) != Repo._field_defaults[key]}
    return data | {key: value for key, value in others.items() if value} | changed


def retry_of(entry: Mapping[str, Any], otherwise: Retry) -> Retry:
    """When to try again; `otherwise` stands for what `entry` does not say."""
    return Retry(
        tries=int(entry.get("tries", otherwise.tries)),
        delay_sec=seconds(entry.get("delay"), otherwise.delay_sec),
        max_delay_sec=seconds(entry.get("max_delay"), otherwise.max_delay_sec),
    )


def retry_data(retry: Retry) -> dict[str, Any]:
    """What `retry_of` makes the same of."""
    return {"tries": retry.tries, "delay": duration(retry.delay_sec), "max_delay": duration(retry.max_delay_sec)}


def _plain(key: str, value: Any) -> Any:
    """`value` in the type of the setting: to a schema 3.0 is a whole number, and YAML makes a `false` of an `off`."""
    kind = type(Repo._field_defaults[key])
    return "off" if kind is str and value is False else kind(value)


def _health(entry: Mapping[str, Any] | list[str]) -> Health:
    if isinstance(entry, list):
        return Health(command=tuple(entry))
    unset = Health(command=tuple(entry["command"]))
    return unset._replace(
        interval_sec=seconds(entry.get("interval"), unset.interval_sec),
        tries=int(entry.get("tries", unset.tries)),
        timeout_sec=seconds(entry.get("timeout"), unset.timeout_sec),
    )
