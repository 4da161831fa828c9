"""Event → the repos that want it, or the reason why none does."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from gitopsd.globs import is_followed, matches, matches_image
from gitopsd.model import Event, Image, Match, RefUpdate
from gitopsd.references import called, follows_tags, pattern_of
from gitopsd.remotes import name_of, repos_of
from gitopsd.settings import Receiver, Repo

_MAX_NAMED = 5


def route(
    event: Event,
    repos: Collection[Repo],
    receiver: Receiver,
    *,
    events: Sequence[str] = (),
    ids: Callable[[], Mapping[str, str]] = dict,
) -> tuple[tuple[Match, ...], str]:
    """Which of `repos` the event is about, and why it leads to no job as a whole ("" where it does).

    `events` are the kinds that ask for a sync although they are no push, unless the receiver says which kinds do.
    `ids` gives repo → what the provider calls its remote for good, where that is known. A Match without a reason asks
    for a sync; one with a reason says why that repo does not want this event.
    """
    if reason := _why_no_wish(event, receiver, events):
        return (), reason
    rule = why_ruled_out(event, receiver)
    event = event if rule else _narrowed(event, receiver)
    about = _about(event, repos, receiver) or _about_renamed(event, repos, ids)
    if rule:
        meant = [repo for repo in about if _is_meant(event) and may_trigger(receiver, repo)]
        return tuple(_ruled_out(event, repo, rule) for repo in meant), rule
    if not about:
        return (), _why_nobody(event, receiver)
    found = tuple(_match(event, repo, receiver) for repo in about)
    if all(match.reason for match in found):
        return found, "; ".join(dict.fromkeys(f"{match.repo}: {match.reason}" for match in found))
    return found, ""


def may_trigger(receiver: Receiver, repo: Repo) -> bool:
    """Whether `repo` is one of those that the receiver is for."""
    return receiver.repos is None or repo.name in receiver.repos


def _why_no_wish(event: Event, receiver: Receiver, events: Sequence[str]) -> str:
    """Why the event asks nobody for anything; "" if it may."""
    if reason := event.reason or ("ping: the webhook works" if event.kind == "ping" else ""):
        return _why_suspended(receiver) or reason
    is_push = bool(event.images or (event.updates and event.remote))
    is_wish = receiver.events or is_push or matches(event.kind.lower(), events)
    return "" if is_wish else _why_suspended(receiver) or f"event '{event.kind}' is not a push"


def _why_suspended(receiver: Receiver) -> str:
    if receiver.suspended is None:
        return ""
    return ": ".join(filter(None, ("the receiver is suspended", receiver.suspended)))


def why_ruled_out(event: Event, receiver: Receiver) -> str:
    """Which rule of the receiver leaves nothing of the event; "" if none does."""
    if reason := _why_suspended(receiver):
        return reason
    if receiver.events and not matches(event.kind.lower(), (each.lower() for each in receiver.events)):
        return f"event '{event.kind}' is none of the receiver's events ({few(receiver.events)})"
    left = _narrowed(event, receiver)
    if event.updates and not left.updates:
        refs = few(update.ref for update in event.updates)
        return f"{refs} matches none of the receiver's refs ({few(receiver.refs)})"
    if event.images and not left.images:
        rules = (("images", receiver.images), ("tags", receiver.tags))
        told = " or ".join(f"{rule} ({few(patterns)})" for rule, patterns in rules if patterns)
        return f"{few(map(spelt, event.images))} matches none of the receiver's {told}"
    return ""


def _narrowed(event: Event, receiver: Receiver) -> Event:
    """The refs and images that the rules of the receiver leave."""
    if not (receiver.refs or receiver.images or receiver.tags):
        return event
    updates = tuple(each for each in event.updates if not receiver.refs or matches(each.ref, receiver.refs))
    return event._replace(updates=updates, images=tuple(each for each in event.images if _passes(each, receiver)))


def _is_meant(event: Event) -> bool:
    """Whether it was meant to do something: of a repository much is told that no receiver waits for."""
    return bool(event.updates or event.images or event.remote is None)


def _ruled_out(event: Event, repo: Repo, rule: str) -> Match:
    ours = _update_for(repo, event)
    update = ours or next(iter(event.updates), None)
    revision = _hint(repo, ours) if ours else update and update.revision
    return Match(repo=repo.name, ref=update.ref if update else "", revision=revision or None, reason=rule)


def _about(event: Event, repos: Collection[Repo], receiver: Receiver) -> list[Repo]:
    of_remote = list(repos_of(repos, event.remote))
    if not event.images and receiver.repos is None:
        return of_remote  # not to be asked of each of many repos
    names = {repo.name for repo in of_remote}
    return [repo for repo in repos if _is_about(event, repo, receiver, names)]


def _is_about(event: Event, repo: Repo, receiver: Receiver, of_remote: Collection[str]) -> bool:
    if event.images and repo.images:
        return any(matches_image(image.name, repo.images) for image in event.images)
    if repo.name in of_remote:
        return True
    # What tells of no repository, or of an image alone, is for the repos that the receiver names; and so is everything
    # for a repo that has no remote.
    is_for_named = event.remote is None or bool(event.images) or not repo.url
    return is_for_named and receiver.repos is not None and repo.name in receiver.repos


def _about_renamed(event: Event, repos: Iterable[Repo], ids: Callable[[], Mapping[str, str]]) -> list[Repo]:
    """Those whose repository it is by what the provider calls that for good."""
    if event.remote is None or not event.remote.id:
        return []
    known, id_ = ids(), event.remote.id
    return [repo for repo in repos if known.get(repo.name) == id_ and not (event.images and repo.images)]


def _why_nobody(event: Event, receiver: Receiver) -> str:
    if receiver.repos is not None and (event.images or event.remote is None):
        what = few(map(spelt, event.images)) or f"event '{event.kind}'"
        return f"{what} is for none of the repos that the receiver names ({few(receiver.repos)})"
    if event.images:
        return f"no repo is configured for the image {few(map(spelt, event.images))}; see images: and repos:"
    if event.remote is None:
        return f"event '{event.kind}' tells of no repository, and the receiver names no repos (repos:) for it"
    return f"no repo is configured for {name_of(event.remote)}"


def _match(event: Event, repo: Repo, receiver: Receiver) -> Match:
    if not may_trigger(receiver, repo):
        ref, revision = (event.updates[0].ref, event.updates[0].revision) if event.updates else ("", None)
        reason = "is none of the repos that this receiver may trigger"
        return Match(repo=repo.name, ref=ref, revision=revision or None, reason=reason)
    if event.updates:
        return _of_push(event, repo, receiver) if repo.url else _for_command(event, repo, receiver)
    images = tuple(image for image in event.images if not repo.images or matches_image(image.name, repo.images))
    # The revision stands where it is, and the deploy command is wanted all the same.
    return Match(repo=repo.name, ref="", revision=None, event=event.kind, images=images, force=True)


def _of_push(event: Event, repo: Repo, receiver: Receiver) -> Match:
    update = _update_for(repo, event)
    if update is None:
        first = event.updates[0]
        return Match(repo=repo.name, ref=first.ref, revision=first.revision, reason=_why_not_followed(event, repo))
    if update.revision is None:
        reason = f"{update.ref} was deleted; the checkout stays as it is"
        return Match(repo=repo.name, ref=update.ref, revision=None, reason=reason)
    match = Match(repo=repo.name, ref=update.ref, revision=_hint(repo, update), event=event.kind)
    # Between two versions lies more than what the push of a tag has changed.
    if not receiver.paths or follows_tags(repo.ref) or _touches(update, receiver.paths):
        return match
    return match._replace(reason=_why_untouched([update]), skipped_from=update.before)


def _update_for(repo: Repo, event: Event) -> RefUpdate | None:
    """What the push did to the ref that `repo` follows. Of several tags one that is still there comes first."""
    ours = [update for update in event.updates if is_followed(update.ref, repo.ref)]
    return next((update for update in ours if update.revision is not None), ours[0] if ours else None)


def _hint(repo: Repo, update: RefUpdate) -> str | None:
    """The commit that a sync is to wait for. Of a tag with a message most senders tell an id that is no commit's."""
    return None if follows_tags(repo.ref) else update.revision or None


def _why_not_followed(event: Event, repo: Repo) -> str:
    left_out = [update.ref for update in event.updates if matches(update.ref, [pattern_of(repo.ref)])]
    hint = " (a tag with a hyphen is followed only if the pattern has one)" if left_out else ""
    return f"follows {called(repo.ref)}, not {few(update.ref for update in event.updates)}{hint}"


def _for_command(event: Event, repo: Repo, receiver: Receiver) -> Match:
    """A push, for a repo that has no remote and follows no ref."""
    update = next((update for update in event.updates if update.revision is not None), event.updates[0])
    match = Match(repo=repo.name, ref=update.ref, revision=update.revision or None, event=event.kind, force=True)
    if update.revision is None:
        return match._replace(reason=f"{update.ref} was deleted")
    if receiver.paths and not any(_touches(each, receiver.paths) for each in event.updates):
        return match._replace(reason=_why_untouched(event.updates))
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


def few(names: Iterable[str]) -> str:
    """The first few, as a stranger may name a million."""
    few = list(itertools.islice(names, _MAX_NAMED + 1))
    return ", ".join(few[:_MAX_NAMED]) + (", …" if len(few) > _MAX_NAMED else "")
