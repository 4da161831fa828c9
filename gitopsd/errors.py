"""The one error tree: what a person must read, in one line."""

from collections.abc import Sequence


class GitopsdError(Exception):
    """Something that a person can act on. Its text is one line: what, where, what to do."""


class ConfigError(GitopsdError):
    """The configuration cannot be used. `problems` holds every problem found, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(self.problems) - 1} more: gitopsd check)" if len(self.problems) > 1 else ""
        super().__init__(f"{self.problems[0]}{more}")


class StoreError(GitopsdError):
    """The store cannot be read or written now; whatever was asked for did not happen."""


class BusyError(GitopsdError):
    """Somebody else holds the repo's lock."""


class SignatureError(GitopsdError):
    """Nothing proves that the body comes from the receiver's provider. The text names the failure, never a secret."""


class PayloadError(GitopsdError):
    """An authentic body is not what its provider sends."""
