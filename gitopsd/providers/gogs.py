"""Gogs, whose tags are never pushed: a new one is a `create` event, with its commit.

Source: gogs.io/docs, "Webhooks", and internal/database/actions.go of its source.
"""

from gitopsd.providers import gitea_family

PROVIDER = gitea_family.provider(
    "Gogs",
    url_label="Payload URL",
    form_at="Gogs: the repository (or organisation), Settings, Webhooks, Add a new webhook, Gogs",
    form=(("Content type", "application/json"), ("Trigger", "Just the push event; to follow tags, Create too")),
    tags_are_created=True,
)
