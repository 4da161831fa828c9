"""Tell the outside what became of jobs: people by messages, forges by commit statuses. It changes no outcome.

It goes by the records and by what it noted there of what it told, so that it does not matter who starts it, or when.
"""

from gitopsd.settings import Config

HARD_LIMIT_SEC = 900.0
"""When a notifier is killed by whoever has started it. It comes to its end by itself before that."""


def is_wanted(config: Config) -> bool:
    """Whether anybody is to be told of anything."""
    return bool(config.notify.urls) or any(repo.statuses for repo in config.repos.values())
