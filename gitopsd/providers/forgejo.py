"""Forgejo, which Codeberg runs.

Source: forgejo.org/docs, "Webhooks", and services/webhook of its source.
"""

from gitopsd.providers import gitea_family

PROVIDER = gitea_family.provider(
    "Forgejo",
    form_at="Forgejo: the repository (or organisation), Settings, Webhooks, Add webhook, Forgejo",
    form=(("Content type", "application/json"), ("HTTP method", "POST"), ("Trigger on", "Push events")),
)
