"""One module a provider: how it signs, and headers + payload → Event. A new one is a module and a line here."""

from gitopsd.providers import (
    azure_devops,
    bitbucket,
    bitbucket_server,
    forgejo,
    generic,
    generic_hmac,
    generic_token,
    gerrit,
    gitea,
    github,
    gitlab,
    gogs,
    soft_serve,
    sourcehut,
    standard_webhooks,
)
from gitopsd.providers.provider import Provider

__all__ = ["PROVIDERS", "Provider"]

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        github.PROVIDER,
        gitlab.PROVIDER,
        gitea.PROVIDER,
        forgejo.PROVIDER,
        gogs.PROVIDER,
        soft_serve.PROVIDER,
        bitbucket.PROVIDER,
        bitbucket_server.PROVIDER,
        azure_devops.PROVIDER,
        gerrit.PROVIDER,
        sourcehut.PROVIDER,
        generic_hmac.PROVIDER,
        generic_token.PROVIDER,
        standard_webhooks.PROVIDER,
        generic.PROVIDER,
    )
}
