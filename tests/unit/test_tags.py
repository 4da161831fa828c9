"""Repos that follow tags: which pushes ask for their sync, from each provider that tells of tags."""

from pathlib import Path
from typing import Any

import pytest

from gitopsd.model import Event, Match, RefUpdate, RemoteName
from gitopsd.providers import PROVIDERS
from gitopsd.routing import route
from gitopsd.settings import Receiver, Repo
from tests.unit import (
    test_azure_devops,
    test_bitbucket,
    test_generic,
    test_gerrit,
    test_gitea,
    test_github,
    test_gitlab,
    test_soft_serve,
    test_sourcehut,
)

TAG, COMMIT, ZEROS = "3" * 40, "1" * 40, "0" * 40
URL = "git@github.com:me/blog.git"
RECEIVER = Receiver(name="here", provider="github", secrets=("one",))
GOGS = {**test_gitea.CREATE, "ref": "v1.0"}


def repo(ref: str = "v*", url: str = URL, name: str = "blog") -> Repo:
    return Repo(name=name, url=url, ref=ref, path=Path("/srv") / name)


def push(*updates: RefUpdate) -> Event:
    return Event(kind="push", remote=RemoteName(full_name="me/blog", urls=()), updates=updates)


def tag(name: str, revision: str | None = TAG, **more: Any) -> RefUpdate:
    return RefUpdate(ref=f"refs/tags/{name}", revision=revision, **more)


def test_a_push_of_a_tag_asks_for_a_sync_that_waits_for_no_commit() -> None:
    for ref in ("v*", "refs/tags/v*", "refs/tags/v1.0", "v1.?"):
        matches, reason = route(push(tag("v1.0")), [repo(ref)], RECEIVER)
        assert matches == (Match(repo="blog", ref="refs/tags/v1.0", revision=None, event="push"),)
        assert reason == ""


@pytest.mark.parametrize(
    ("ref", "update", "reason"),
    [
        ("v*", RefUpdate(ref="refs/heads/main", revision=COMMIT), "follows the tags v*, not refs/heads/main"),
        ("v*", RefUpdate(ref="refs/heads/v1", revision=COMMIT), "follows the tags v*, not refs/heads/v1"),
        ("v*", tag("nightly"), "follows the tags v*, not refs/tags/nightly"),
        ("refs/tags/v1.0", tag("v1.1"), "follows the tag v1.0, not refs/tags/v1.1"),
        (
            "v*",
            tag("v2.0-rc1"),
            "follows the tags v*, not refs/tags/v2.0-rc1 (a tag with a hyphen is followed only if the pattern has one)",
        ),
        ("main", tag("main"), "follows refs/heads/main, not refs/tags/main"),
    ],
)
def test_a_push_of_anything_else_says_what_is_followed(ref: str, update: RefUpdate, reason: str) -> None:
    matches, whole = route(push(update), [repo(ref)], RECEIVER)

    assert matches == (Match(repo="blog", ref=update.ref, revision=update.revision, reason=reason),)
    assert whole == f"blog: {reason}"


def test_a_tag_that_was_deleted_says_so_and_leads_to_nothing() -> None:
    matches, whole = route(push(tag("v1.0", None)), [repo()], RECEIVER)

    reason = "refs/tags/v1.0 was deleted; the checkout stays as it is"
    assert matches == (Match(repo="blog", ref="refs/tags/v1.0", revision=None, reason=reason),)
    assert whole == f"blog: {reason}"


def test_of_several_tags_one_that_is_there_counts() -> None:
    updates = (RefUpdate(ref="refs/heads/main", revision=COMMIT), tag("v0.9", None), tag("nightly"), tag("v1.0"))

    matches, reason = route(push(*updates), [repo(), repo("main", name="preview")], RECEIVER)

    assert matches == (
        Match(repo="blog", ref="refs/tags/v1.0", revision=None, event="push"),
        Match(repo="preview", ref="refs/heads/main", revision=COMMIT, event="push"),
    )
    assert reason == ""


def test_no_rule_of_paths_leaves_a_tag_out() -> None:
    update = tag("v1.0", before=COMMIT, files=("README",))

    matches, reason = route(push(update), [repo()], RECEIVER._replace(paths=("site/**",)))

    assert (matches[0].reason, matches[0].skipped_from, reason) == (None, "", "")


def test_a_rule_of_refs_does_and_names_the_tag() -> None:
    event = push(RefUpdate(ref="refs/heads/main", revision=COMMIT), tag("v1.0"))

    (match,), whole = route(event, [repo()], RECEIVER._replace(refs=("refs/heads/next",)))

    assert (match.ref, match.revision) == ("refs/tags/v1.0", None)
    assert match.reason == whole
    assert whole == "refs/heads/main, refs/tags/v1.0 matches none of the receiver's refs (refs/heads/next)"


def bitbucket(tag_kind: str) -> dict[str, Any]:
    told = test_bitbucket.change(test_bitbucket.state("v1.0", tag_kind), None)
    return test_bitbucket.cloud_push(test_bitbucket.MOVED, told)


SENDERS: dict[str, tuple[str, str, dict[str, str], dict[str, Any]]] = {
    "github": (
        "github",
        "git@github.com:baxterthehacker/public-repo.git",
        {"X-GITHUB-EVENT": "push"},
        test_github.PUSH | {"ref": "refs/tags/v1.0", "before": ZEROS, "after": TAG, "created": True},
    ),
    "gitlab": ("gitlab", test_gitlab.BLOG.url, {"X-GITLAB-EVENT": "Tag Push Hook"}, test_gitlab.TAG),
    "gitlab, system hook of a tag": (
        "gitlab",
        test_gitlab.BLOG.url,
        {"X-GITLAB-EVENT": "System Hook"},
        test_gitlab.TAG,
    ),
    "gitlab, system hook of all": (
        "gitlab",
        test_gitlab.BLOG.url,
        {"X-GITLAB-EVENT": "System Hook"},
        test_gitlab.SYSTEM_UPDATE,
    ),
    "gitea": (
        "gitea",
        test_gitea.BLOG.url,
        {"X-GITEA-EVENT": "push"},
        test_gitea.PUSH | {"ref": "refs/tags/v1.0", "before": ZEROS, "commits": []},
    ),
    "forgejo": (
        "forgejo",
        test_gitea.BLOG.url,
        {"X-FORGEJO-EVENT": "push"},
        test_gitea.PUSH | {"ref": "refs/tags/v1.0", "before": ZEROS, "commits": []},
    ),
    "gogs": ("gogs", test_gitea.BLOG.url, {"X-GOGS-EVENT": "create"}, GOGS),
    "soft-serve, push": (
        "soft-serve",
        test_soft_serve.BLOG.url,
        {"X-SOFTSERVE-EVENT": "push"},
        test_soft_serve.PUSH | {"ref": "refs/tags/v1.0", "before": ZEROS},
    ),
    "soft-serve, creation": (
        "soft-serve",
        test_soft_serve.BLOG.url,
        {"X-SOFTSERVE-EVENT": "branch_tag_create"},
        test_soft_serve.CREATE | {"ref": "refs/tags/v1.0"},
    ),
    "bitbucket": ("bitbucket", test_bitbucket.CLOUD_BLOG.url, {"X-EVENT-KEY": "repo:push"}, bitbucket("tag")),
    "bitbucket, with a message": (
        "bitbucket",
        test_bitbucket.CLOUD_BLOG.url,
        {"X-EVENT-KEY": "repo:push"},
        bitbucket("annotated_tag"),
    ),
    "bitbucket-server": (
        "bitbucket-server",
        test_bitbucket.SERVER_BLOG.url,
        {"X-EVENT-KEY": "repo:refs_changed"},
        test_bitbucket.server_push(test_bitbucket.moved("refs/tags/v1.0", TAG, "ADD", ZEROS)),
    ),
    "azure-devops": (
        "azure-devops",
        test_azure_devops.BLOG.url,
        {},
        test_azure_devops.PUSH | test_azure_devops.resource(test_azure_devops.moved("refs/tags/v1.0", TAG, ZEROS)),
    ),
    "gerrit": ("gerrit", test_gerrit.BLOG.url, {}, test_gerrit.push(refName="refs/tags/v1.0", oldRev=ZEROS)),
    "gerrit, several": ("gerrit", test_gerrit.BLOG.url, {}, test_gerrit.batch(test_gerrit.moved("refs/tags/v1.0"))),
    "sourcehut": (
        "sourcehut",
        test_sourcehut.BLOG.url,
        {"X-WEBHOOK-EVENT": "GIT_POST_RECEIVE"},
        test_sourcehut.native(test_sourcehut.moved("refs/tags/v1.0", TAG, None)),
    ),
    **{
        name: (name, URL, {}, {**test_generic.PUSH, "ref": "refs/tags/v1.0", "after": TAG})
        for name in test_generic.GENERIC
    },
}


@pytest.mark.parametrize(("provider", "url", "headers", "payload"), SENDERS.values(), ids=SENDERS)
def test_the_tag_of_each_sender_asks_for_a_sync_of_who_follows_tags(
    provider: str, url: str, headers: dict[str, str], payload: dict[str, Any]
) -> None:
    found = PROVIDERS[provider]
    event = found.parse(headers, payload)

    (match,), reason = route(event, [repo(url=url)], RECEIVER, events=found.events)

    assert (match.ref, match.revision, match.reason, reason) == ("refs/tags/v1.0", None, None, "")


def test_there_is_a_tag_of_every_provider_of_repositories() -> None:
    of_images = {"ghcr", "registry", "harbor", "dockerhub", "quay", "acr", "nexus", "cloudflare", "cloudflare-worker"}

    assert {name.partition(",")[0] for name in SENDERS} == set(PROVIDERS) - of_images
