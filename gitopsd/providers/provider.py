"""What a provider is: data and one pure function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gitopsd.model import Event, HmacScheme
from gitopsd.payload import Payload

Headers = Mapping[str, str]
"""Header names in upper case, as the receiver gets them."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """`parse` raises PayloadError for what this provider never sends. Header names are in upper case.

    `form` is what a person finds there to set a webhook up: where it is, and its fields but for URL and secret.
    """

    name: str
    scheme: HmacScheme
    delivery_header: str
    parse: Callable[[Headers, Payload], Event]
    form_at: str
    form: tuple[tuple[str, str], ...]
