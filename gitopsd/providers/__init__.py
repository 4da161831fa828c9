"""One module a provider: how it signs, and headers + payload → Event. A new one is a module and a line here."""

from gitopsd.providers import (
    acr,
    azure_devops,
    bitbucket,
    bitbucket_server,
    cloudflare,
    cloudflare_worker,
    dockerhub,
    forgejo,
    generic,
    generic_hmac,
    generic_token,
    gerrit,
    ghcr,
    gitea,
    github,
    gitlab,
    gogs,
    harbor,
    nexus,
    quay,
    registry,
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
        ghcr.PROVIDER,
        registry.PROVIDER,
        harbor.PROVIDER,
        dockerhub.PROVIDER,
        quay.PROVIDER,
        acr.PROVIDER,
        nexus.PROVIDER,
        cloudflare.PROVIDER,
        cloudflare_worker.PROVIDER,
    )
}
