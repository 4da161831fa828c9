"""Where a receiver is reached."""

import re

from gitopsd.config import DEFAULT_RECEIVER
from gitopsd.errors import GitopsdError
from gitopsd.providers import PROVIDERS
from gitopsd.schemes import PathScheme
from gitopsd.settings import Receiver

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")


def require_host(host: str) -> None:
    """See that `host`, if it is given, can stand in a URL. Raises GitopsdError."""
    if host and not _HOST.fullmatch(host):
        raise GitopsdError(f"--host {host}: give the public name of this host alone, such as hooks.example.org")


def path_of(receiver: Receiver) -> str:
    """The path of its endpoint, up to the token where there is one."""
    is_default = receiver.name == DEFAULT_RECEIVER.name and not has_token_in_path(receiver)
    return "/api/webhook/gitops" if is_default else f"/hook/{receiver.name}"


def has_token_in_path(receiver: Receiver) -> bool:
    """Whether its secret is the last part of the path."""
    return PathScheme() in PROVIDERS[receiver.provider].schemes
