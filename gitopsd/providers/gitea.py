"""Gitea.

Source: docs.gitea.com, "Webhooks", and services/webhook of its source.
"""

from gitopsd.providers import gitea_family

PROVIDER = gitea_family.provider(
    "Gitea",
    form_at="Gitea: the repository (or organisation), Settings, Webhooks, Add Webhook, Gitea",
    form=(("Content type", "application/json"), ("HTTP method", "POST"), ("Trigger on", "Push Events")),
)
