"""Event → the repos that want it, or the reason why none does."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gitopsd.globs import matches, matches_image
from gitopsd.model import Event, Image, Match, Receiver, RefUpdate, Repo
from gitopsd.remotes import is_remote_of, name_of


def route(
    event: Event,
    repos: Collection[Repo],
    receiver: Receiver,
    *,
    events: Sequence[str] = (),
    ids: Mapping[str, str] | None = None,
) -> tuple[tuple[Match, ...], str]:
    """Which of `repos` the event is about, and why it leads to no job as a whole ("" where it does).

    `events` are the kinds that ask for a sync although they are no push, unless the receiver says which kinds do.
    `ids`: repo → what the provider calls its remote for good, as far as that is known. A Match without a reason asks
    for a sync; one with a reason says why that repo does not want this event.
    """
    event = narrowed(event, receiver, events)
    if event.reason:
        return (), event.reason
    about = [repo for repo in repos if _is_about(event, repo, receiver)]
    about = about or [repo for repo in repos if _is_about_renamed(event, repo, ids or {})]
    if not about:
        return (), _why_nobody(event)
    found = tuple(_match(event, repo, receiver) for repo in about)
    if all(match.reason for match in found):
        return found, "; ".join(dict.fromkeys(f"{match.repo}: {match.reason}" for match in found))
    return found, ""


def narrowed(event: Event, receiver: Receiver, events: Sequence[str]) -> Event:
    """What the rules of the receiver leave of the event; with a reason where that is nothing."""
    if reason := _why_unwanted(event, receiver, events):
        return replace(event, reason=reason)
    updates = tuple(each for each in event.updates if not receiver.refs or matches(each.ref, receiver.refs))
    images = tuple(each for each in event.images if _passes(each, receiver))
    if event.updates and not updates:
        return replace(event, reason=f"none of the receiver's refs: {_list(each.ref for each in event.updates)}")
    if event.images and not images:
        return replace(event, reason=f"none of the receiver's images and tags: {_list(map(spelt, event.images))}")
    return replace(event, updates=updates, images=images)


def _why_unwanted(event: Event, receiver: Receiver, events: Sequence[str]) -> str:
    if receiver.suspended is not None:
        return ": ".join(filter(None, ("the receiver is suspended", receiver.suspended)))
    if event.reason:
        return event.reason
    if event.kind == "ping":
        return "ping: the webhook works"
    kind = event.kind.lower()
    if receiver.events:
        is_wanted = matches(kind, (each.lower() for each in receiver.events))
        return "" if is_wanted else f"event '{event.kind}' is none of the receiver's events"
    is_push = bool(event.images or (event.updates and event.remote))
    return "" if is_push or matches(kind, events) else f"event '{event.kind}' is not a push"


def _is_about(event: Event, repo: Repo, receiver: Receiver) -> bool:
    if event.images and repo.images:
        return any(matches_image(image.name, repo.images) for image in event.images)
    if is_remote_of(repo, event.remote):
        return True
    # What tells of no repository, or of an image alone, is for the repos that the receiver names; and so is everything
    # for a repo that has no remote.
    is_for_named = event.remote is None or bool(event.images) or not repo.url
    return is_for_named and receiver.repos is not None and repo.name in receiver.repos


def _is_about_renamed(event: Event, repo: Repo, ids: Mapping[str, str]) -> bool:
    """Whether its repository is that of `repo` by what the provider calls it for good."""
    is_other_image = bool(event.images and repo.images)
    return event.remote is not None and event.remote.id == ids.get(repo.name) != "" and not is_other_image


def _why_nobody(event: Event) -> str:
    if event.images:
        return f"no repo is configured for the image {_list(map(spelt, event.images))}; see images: and repos:"
    if event.remote is None:
        return f"event '{event.kind}' tells of no repository, and the receiver names no repos (repos:) for it"
    return f"no repo is configured for {name_of(event.remote)}"


def _match(event: Event, repo: Repo, receiver: Receiver) -> Match:
    if receiver.repos is not None and repo.name not in receiver.repos:
        ref, revision = (event.updates[0].ref, event.updates[0].revision) if event.updates else ("", None)
        reason = "is none of the repos that this receiver may trigger"
        return Match(repo=repo.name, ref=ref, revision=revision or None, reason=reason)
    if event.updates:
        return _of_push(event, repo, receiver) if repo.url else _for_command(event, repo, receiver)
    images = tuple(image for image in event.images if not repo.images or matches_image(image.name, repo.images))
    # The revision stands where it is, and the deploy command is wanted all the same.
    return Match(repo=repo.name, ref="", revision=None, event=event.kind, images=images, force=True)


def _of_push(event: Event, repo: Repo, receiver: Receiver) -> Match:
    wanted = f"refs/heads/{repo.ref}"
    update = next((update for update in event.updates if update.ref == wanted), None)
    if update is None:
        first, pushed = event.updates[0], ", ".join(update.ref for update in event.updates)
        return Match(repo=repo.name, ref=first.ref, revision=first.revision, reason=f"follows {wanted}, not {pushed}")
    if update.revision is None:
        return Match(
            repo=repo.name, ref=wanted, revision=None, reason=f"{wanted} was deleted; the checkout stays as it is"
        )
    match = Match(repo=repo.name, ref=wanted, revision=update.revision or None, event=event.kind)
    if not receiver.paths or _touches(update, receiver.paths):
        return match
    return replace(match, reason=_why_untouched([update]), skipped_from=update.before)


def _for_command(event: Event, repo: Repo, receiver: Receiver) -> Match:
    """A push, for a repo that has no remote and follows no ref."""
    update = next((update for update in event.updates if update.revision is not None), event.updates[0])
    match = Match(repo=repo.name, ref=update.ref, revision=update.revision or None, event=event.kind, force=True)
    if update.revision is None:
        return replace(match, reason=f"{update.ref} was deleted")
    if receiver.paths and not any(_touches(each, receiver.paths) for each in event.updates):
        return replace(match, reason=_why_untouched(event.updates))
    return match


def _why_untouched(updates: Iterable[RefUpdate]) -> str:
    count = sum(len(update.files or ()) for update in updates)
    return f"none of the files that it changed ({count}) is one of the receiver's paths"


def _touches(update: RefUpdate, paths: Sequence[str]) -> bool:
    """Whether a push may have changed one of `paths`: where not all files are told, it may."""
    return update.files is None or any(matches(file, paths) for file in update.files)


def _passes(image: Image, receiver: Receiver) -> bool:
    is_wanted = not receiver.images or matches_image(image.name, receiver.images)
    return is_wanted and (not receiver.tags or matches(image.tag, receiver.tags))


def spelt(image: Image) -> str:
    """An image as a person writes it."""
    return f"{image.name}:{image.tag}" if image.tag else image.name


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
