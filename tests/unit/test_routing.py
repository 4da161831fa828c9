"""Which repos an event is about, and the exact reason where it is about none."""

from pathlib import Path
from typing import Any

import pytest

from gitopsd.model import Event, Image, Match, RefUpdate, RemoteName
from gitopsd.routing import route
from gitopsd.settings import Receiver, Repo

REVISION = "1" * 40
OTHER_REVISION = "2" * 40
URL = "git@github.com:me/blog.git"


IMAGE = Image(name="ghcr.io/me/blog", tag="v1", digest=f"sha256:{'a' * 64}")


def repo(name: str = "blog", *, url: str = URL, ref: str = "main", images: tuple[str, ...] = ()) -> Repo:
    return Repo(name=name, url=url, ref=ref, path=Path("/srv") / name, images=images)


def command(name: str = "purge", images: tuple[str, ...] = ()) -> Repo:
    return Repo(name=name, url="", ref="", path=Path("/srv"), strategy="none", deploy=("true",), images=images)


def receiver(**rules: Any) -> Receiver:
    return Receiver(name="here", provider="github", secrets=("one",), **rules)


def push(*updates: tuple[str, str | None], full_name: str = "me/blog", urls: tuple[str, ...] = ()) -> Event:
    return Event(
        kind="push",
        remote=RemoteName(full_name=full_name, urls=urls),
        updates=tuple(RefUpdate(ref=ref, revision=revision) for ref, revision in updates),
    )


def test_a_push_to_the_followed_branch_asks_for_a_sync_with_its_revision() -> None:
    matches, reason = route(
        push(("refs/heads/main", REVISION)), [repo(), repo("shop", url="git@github.com:me/shop")], receiver()
    )

    assert matches == (Match(repo="blog", ref="refs/heads/main", revision=REVISION, event="push"),)
    assert reason == ""


def test_every_repo_of_one_remote_gets_its_own_answer() -> None:
    event = push(("refs/heads/main", REVISION))

    matches, reason = route(event, [repo("blog"), repo("preview", ref="next"), repo("copy")], receiver())

    assert [(match.repo, match.reason) for match in matches] == [
        ("blog", None),
        ("preview", "follows refs/heads/next, not refs/heads/main"),
        ("copy", None),
    ]
    assert reason == ""


def test_each_repo_takes_its_own_ref_of_a_push_of_several() -> None:
    event = push(("refs/tags/v1", "3" * 40), ("refs/heads/next", OTHER_REVISION), ("refs/heads/main", REVISION))

    matches, reason = route(event, [repo("blog"), repo("preview", ref="next"), repo("old", ref="v0")], receiver())

    assert matches == (
        Match(repo="blog", ref="refs/heads/main", revision=REVISION, event="push"),
        Match(repo="preview", ref="refs/heads/next", revision=OTHER_REVISION, event="push"),
        Match(
            repo="old",
            ref="refs/tags/v1",
            revision="3" * 40,
            reason="follows refs/heads/v0, not refs/tags/v1, refs/heads/next, refs/heads/main",
        ),
    )
    assert reason == ""


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        pytest.param(
            ("refs/heads/next", REVISION), "follows refs/heads/main, not refs/heads/next", id="another branch"
        ),
        pytest.param(
            ("refs/tags/main", REVISION), "follows refs/heads/main, not refs/tags/main", id="a tag of the same name"
        ),
        pytest.param(
            ("refs/heads/feature/main", REVISION),
            "follows refs/heads/main, not refs/heads/feature/main",
            id="a branch that ends in the name",
        ),
        pytest.param(("main", REVISION), "follows refs/heads/main, not main", id="a short name"),
        pytest.param(
            ("refs/heads/main", None), "refs/heads/main was deleted; the checkout stays as it is", id="a deletion"
        ),
    ],
)
def test_a_push_of_anything_else_says_why_nothing_happens(update: tuple[str, str | None], reason: str) -> None:
    matches, whole = route(push(update), [repo()], receiver())

    assert matches == (Match(repo="blog", ref=update[0], revision=update[1], reason=reason),)
    assert whole == f"blog: {reason}"


def test_the_reason_of_the_whole_names_every_repo_that_said_no() -> None:
    _, reason = route(push(("refs/heads/dev", REVISION)), [repo("blog"), repo("preview", ref="next")], receiver())

    assert reason == (
        "blog: follows refs/heads/main, not refs/heads/dev; preview: follows refs/heads/next, not refs/heads/dev"
    )


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        pytest.param(Event(kind="ping"), "ping: the webhook works", id="ping"),
        pytest.param(
            Event(kind="ping", remote=RemoteName(full_name="me/blog", urls=())),
            "ping: the webhook works",
            id="ping of a repository",
        ),
        pytest.param(
            Event(kind="issues", remote=RemoteName(full_name="me/blog", urls=())),
            "event 'issues' is not a push",
            id="another event",
        ),
        pytest.param(
            Event(kind="push", updates=(RefUpdate(ref="refs/heads/main", revision=REVISION),)),
            "event 'push' is not a push",
            id="a push of nothing known",
        ),
        pytest.param(
            push(("refs/heads/main", REVISION), full_name="you/shop"),
            "no repo is configured for you/shop",
            id="unknown repository",
        ),
    ],
)
def test_an_event_that_concerns_no_repo_says_why(event: Event, reason: str) -> None:
    assert route(event, [repo()], receiver()) == ((), reason)


def test_a_receiver_triggers_only_the_repos_that_it_may() -> None:
    repos, event = [repo("blog"), repo("preview")], push(("refs/heads/main", REVISION))
    matches, reason = route(event, repos, receiver(repos=("preview",)))
    assert reason == ""
    assert [(match.repo, match.reason) for match in matches] == [
        ("blog", "is none of the repos that this receiver may trigger"),
        ("preview", None),
    ]
    assert route(event, repos, receiver(repos=("shop",)))[1].startswith("blog: is none of the repos")
    assert all(match.reason for match in route(event, repos, receiver(repos=()))[0])


# The rules of a receiver


def reason_of(event: Event, **rules: Any) -> str:
    return route(event, [repo()], receiver(**rules))[1]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        pytest.param({"refs": ("refs/heads/*",)}, "", id="its pattern"),
        pytest.param({"refs": ("refs/tags/*", "refs/heads/main")}, "", id="one of several patterns"),
        pytest.param(
            {"refs": ("main",)}, "refs/heads/main matches none of the receiver's refs (main)", id="a short name"
        ),
        pytest.param(
            {"refs": ("refs/*",)},
            "refs/heads/main matches none of the receiver's refs (refs/*)",
            id="a star stays in its part",
        ),
        pytest.param({"events": ("Push",)}, "", id="its event, in any case"),
        pytest.param({"events": ("p*",)}, "", id="a pattern of its event"),
        pytest.param(
            {"events": ("tag_push",)}, "event 'push' is none of the receiver's events (tag_push)", id="another event"
        ),
        pytest.param({"suspended": ""}, "the receiver is suspended", id="suspended"),
        pytest.param({"suspended": "moving"}, "the receiver is suspended: moving", id="suspended, and why"),
        pytest.param({"images": ("x",), "tags": ("x",)}, "", id="rules for images"),
    ],
)
def test_a_rule_of_the_receiver_lets_a_push_through_or_says_why_not(rules: dict[str, Any], reason: str) -> None:
    assert reason_of(push(("refs/heads/main", REVISION)), **rules) == reason


@pytest.mark.parametrize(
    ("event", "rules", "told"),
    [
        pytest.param(push(("refs/heads/main", REVISION)), {"refs": ("refs/tags/*",)}, ["blog"], id="a push"),
        pytest.param(
            Event(kind="image", images=(IMAGE,)), {"tags": ("x",), "repos": ("blog",)}, ["blog"], id="an image"
        ),
        pytest.param(push(("refs/heads/main", REVISION)), {"suspended": ""}, ["blog"], id="suspended"),
        pytest.param(
            push(("refs/heads/main", REVISION)), {"suspended": "", "repos": ("shop",)}, [], id="may not trigger"
        ),
        pytest.param(Event(kind="purge"), {"events": ("pruge",), "repos": ("blog",)}, ["blog"], id="a word"),
        pytest.param(
            Event(kind="star", remote=RemoteName(full_name="me/blog", urls=())), {"events": ("push",)}, [], id="a star"
        ),
        pytest.param(Event(kind="ping"), {"suspended": "", "repos": ("blog",)}, [], id="a ping"),
    ],
)
def test_what_a_rule_keeps_out_is_told_of_the_repo_that_it_was_meant_for(
    event: Event, rules: dict[str, Any], told: list[str]
) -> None:
    matches, reason = route(event, [repo()], receiver(**rules))
    assert [(match.repo, match.reason) for match in matches] == [(name, reason) for name in told]


def test_of_several_images_a_repo_is_not_asked_for_one_that_the_receiver_leaves_out() -> None:
    other = Image(name="ghcr.io/me/api", tag="v1")
    event = Event(kind="push", images=(Image(name="ghcr.io/me/blog", tag="dev"), other))
    matches, _ = route(event, [repo(images=("me/blog",)), repo("api", images=("me/api",))], receiver(tags=("v*",)))
    assert [match.repo for match in matches] == ["api"]


def test_names_that_no_repo_has_are_told() -> None:
    assert route(Event(kind="purge"), [repo()], receiver(repos=("blgo",), events=("purge",)))[1] == (
        "event 'purge' is for none of the repos that the receiver names (blgo)"
    )


def test_of_several_refs_those_that_the_receiver_takes_are_left() -> None:
    event = push(("refs/heads/main", REVISION), ("refs/heads/next", OTHER_REVISION))
    matches, _ = route(event, [repo(), repo("preview", ref="next")], receiver(refs=("refs/heads/next",)))
    assert [(match.repo, match.reason) for match in matches] == [
        ("blog", "follows refs/heads/main, not refs/heads/next"),
        ("preview", None),
    ]


def test_a_suspended_receiver_says_so_of_pings_and_of_what_is_no_push_too() -> None:
    assert reason_of(Event(kind="ping"), suspended="") == "the receiver is suspended"
    assert reason_of(Event(kind="star", reason="a star"), suspended="") == "the receiver is suspended"


def changed(*files: str | None) -> Event:
    told = None if None in files else tuple(file for file in files if file)
    update = RefUpdate(ref="refs/heads/main", revision=REVISION, before=OTHER_REVISION, files=told)
    return Event(kind="push", remote=RemoteName(full_name="me/blog", urls=()), updates=(update,))


@pytest.mark.parametrize(
    ("event", "is_wanted"),
    [
        pytest.param(changed("site/index.html"), True, id="one of them"),
        pytest.param(changed("README.md", "site/a/b.html"), True, id="one of them among others"),
        pytest.param(changed("README.md", "sites/x"), False, id="none of them"),
        pytest.param(changed(None), True, id="not told"),
    ],
)
def test_a_push_is_left_out_only_if_it_is_known_to_change_none_of_the_paths(event: Event, is_wanted: bool) -> None:
    matches, reason = route(event, [repo()], receiver(paths=("site/**",)))
    assert (reason == "") is is_wanted
    # Where it came from is kept, so that a poll can tell it from one that was lost.
    assert matches[0].skipped_from == ("" if is_wanted else OTHER_REVISION)
    assert matches[0].revision == REVISION


def test_a_deleted_branch_is_no_push_that_paths_left_out() -> None:
    matches, _ = route(push(("refs/heads/main", None)), [repo()], receiver(paths=("site/**",)))
    assert matches[0].skipped_from == ""


# What is no push of refs


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        pytest.param({"images": ("me/*",)}, "", id="without the registry's host"),
        pytest.param({"images": ("ghcr.io/me/*",)}, "", id="with it"),
        pytest.param({"images": ("*/me/*",)}, "", id="any host"),
        pytest.param({"images": ("me",)}, "ghcr.io/me/blog:v1 matches none of the receiver's images (me)", id="a part"),
        pytest.param({"tags": ("v*",)}, "", id="its tag"),
        pytest.param(
            {"tags": ("latest",)}, "ghcr.io/me/blog:v1 matches none of the receiver's tags (latest)", id="other tag"
        ),
        pytest.param({"refs": ("refs/heads/none",)}, "", id="rules for refs"),
        pytest.param({"events": ("package",)}, "", id="its event"),
        pytest.param(
            {"events": ("push",)}, "event 'package' is none of the receiver's events (push)", id="other event"
        ),
    ],
)
def test_a_rule_lets_an_image_through_or_says_why_not(rules: dict[str, Any], reason: str) -> None:
    assert reason_of(Event(kind="package", images=(IMAGE,)), repos=("blog",), **rules) == reason


@pytest.mark.parametrize(
    ("repos", "allowed", "wanted"),
    [
        pytest.param([repo(images=("me/blog",))], None, ["blog"], id="that names the image"),
        pytest.param([repo(images=("me/blog",)), repo("api", images=("me/api",))], None, ["blog"], id="not of another"),
        pytest.param(
            [repo("api", images=("me/api",))], ("api",), [], id="not of another, though the receiver names it"
        ),
        pytest.param([repo(), repo("api")], ("api",), ["api"], id="that the receiver names"),
        pytest.param([repo(images=("me/blog",))], ("api",), [], id="not one that it may not trigger"),
        pytest.param([repo(), repo("api")], None, [], id="not just any"),
        pytest.param([command(images=("me/*",)), repo()], None, ["purge"], id="a command that names the image"),
        pytest.param([command(), repo()], ("purge",), ["purge"], id="a command that the receiver names"),
    ],
)
def test_an_image_is_for_the_repo(repos: list[Repo], allowed: tuple[str, ...] | None, wanted: list[str]) -> None:
    matches, _ = route(Event(kind="package", images=(IMAGE,)), repos, receiver(repos=allowed))
    asked = [match for match in matches if match.reason is None]
    assert [match.repo for match in asked] == wanted
    for match in asked:
        assert match == Match(repo=match.repo, ref="", revision=None, event="package", images=(IMAGE,), force=True)


def test_an_image_of_the_repository_that_a_repo_follows_is_for_that_repo() -> None:
    linked = Event(kind="package", remote=RemoteName(full_name="me/blog", urls=()), images=(IMAGE,))
    assert [match.repo for match in route(linked, [repo()], receiver())[0]] == ["blog"]


def test_a_repo_gets_those_of_several_images_that_it_names() -> None:
    other = Image(name="ghcr.io/me/api", tag="v2")
    matches, _ = route(Event(kind="push", images=(IMAGE, other)), [repo(images=("me/api",))], receiver())
    assert matches[0].images == (other,)


def test_an_image_for_nobody_says_what_it_was() -> None:
    assert reason_of(Event(kind="package", images=(IMAGE,))) == (
        "no repo is configured for the image ghcr.io/me/blog:v1; see images: and repos:"
    )


RELEASE = Event(kind="release", remote=RemoteName(full_name="me/blog", urls=()))
PAGES = Event(kind="pages_deploy")


@pytest.mark.parametrize(
    ("event", "rules", "reason"),
    [
        pytest.param(RELEASE, {}, "event 'release' is not a push", id="that nobody asked for"),
        pytest.param(RELEASE, {"events": ("push", "release")}, "", id="that the receiver asks for"),
        pytest.param(RELEASE, {"events": ("re*",)}, "", id="by a pattern"),
        pytest.param(PAGES, {"events": ("pages_*",), "repos": ("blog",)}, "", id="of no repository, for a named repo"),
        pytest.param(
            PAGES,
            {"events": ("pages_*",)},
            "event 'pages_deploy' tells of no repository, and the receiver names no repos (repos:) for it",
            id="of no repository, and for no repo",
        ),
    ],
)
def test_another_event_asks_for_a_sync_if_the_receiver_takes_it(
    event: Event, rules: dict[str, Any], reason: str
) -> None:
    matches, said = route(event, [repo(), repo("api", url="git@github.com:me/api")], receiver(**rules))
    assert said == reason
    wanted = Match(repo="blog", ref="", revision=None, event=event.kind, force=True)
    assert matches == (() if reason else (wanted,))


def test_what_the_provider_takes_by_itself_gives_way_to_what_the_receiver_says() -> None:
    assert route(PAGES, [repo()], receiver(repos=("blog",)), events=("pages_deploy",))[1] == ""
    said = route(PAGES, [repo()], receiver(repos=("blog",), events=("alert",)), events=("pages_deploy",))[1]
    assert said == "event 'pages_deploy' is none of the receiver's events (alert)"


@pytest.mark.parametrize("event", [push(("refs/tags/v1", REVISION)), RELEASE, PAGES], ids=lambda each: each.kind)
def test_a_command_without_a_remote_is_run_for_whatever_a_receiver_takes_that_names_it(event: Event) -> None:
    rules = {"events": ("push", "release", "pages_deploy")}
    ref, revision = ("refs/tags/v1", REVISION) if event.updates else ("", None)
    assert route(event, [command()], receiver(repos=("purge",), **rules))[0] == (
        Match(repo="purge", ref=ref, revision=revision, event=event.kind, force=True),
    )
    assert route(event, [command()], receiver(**rules))[0] == ()


def test_a_command_is_not_run_because_a_ref_was_deleted() -> None:
    purge = receiver(repos=("purge",))
    assert route(push(("refs/tags/v1", None)), [command()], purge)[1] == "purge: refs/tags/v1 was deleted"
    both = push(("refs/tags/v1", None), ("refs/tags/v2", REVISION))
    assert [(match.ref, match.reason) for match in route(both, [command()], purge)[0]] == [("refs/tags/v2", None)]


def test_a_command_is_not_run_for_a_push_that_paths_leave_out() -> None:
    assert route(changed("README.md"), [command()], receiver(repos=("purge",), paths=("site/**",)))[1] == (
        "purge: none of the files that it changed (1) is one of the receiver's paths"
    )


# A repository under another name


def renamed(remote_id: str) -> Event:
    remote = RemoteName(full_name="me/journal", urls=("https://github.com/me/journal",), id=remote_id)
    return Event(kind="push", remote=remote, updates=(RefUpdate(ref="refs/heads/main", revision=REVISION),))


@pytest.mark.parametrize(
    ("told", "known", "is_found"),
    [
        pytest.param("17", {"blog": "17"}, True, id="the same"),
        pytest.param("18", {"blog": "17"}, False, id="another"),
        pytest.param("17", {}, False, id="not known"),
        pytest.param("", {"blog": ""}, False, id="none on either side"),
        pytest.param("17", {"shop": "17"}, False, id="that of another repo"),
    ],
)
def test_a_repository_is_known_by_its_id_whatever_it_is_called_now(
    told: str, known: dict[str, str], is_found: bool
) -> None:
    matches, _ = route(renamed(told), [repo()], receiver(), ids=lambda: known)
    assert bool(matches) is is_found


def test_another_image_of_a_renamed_repository_is_not_for_a_repo_that_names_its_images() -> None:
    linked = Event(kind="package", remote=RemoteName(full_name="me/journal", urls=(), id="17"), images=(IMAGE,))
    assert route(linked, [repo(images=("me/api",))], receiver(), ids=lambda: {"blog": "17"})[0] == ()
    assert route(linked, [repo()], receiver(), ids=lambda: {"blog": "17"})[1] == ""


def test_a_repository_known_by_its_id_is_for_no_repo_that_the_receiver_may_not_trigger() -> None:
    assert route(renamed("17"), [repo()], receiver(repos=("shop",)), ids=lambda: {"blog": "17"})[1] != ""
