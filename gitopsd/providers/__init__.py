"""One module a provider: how it signs, and headers + payload → Event. A new one is a module and a line here."""

from gitopsd.providers import (
    generic_hmac,
    github,
)
from gitopsd.providers.provider import Provider

__all__ = ["PROVIDERS", "Provider"]

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        github.PROVIDER,
        generic_hmac.PROVIDER,
    )
}
