"""What an authentic delivery says → who wants it, and the record of that: for one that has just come, or once more."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from gitopsd import payload, routing
from gitopsd.errors import StoreError
from gitopsd.model import Body, Decision, Delivery, Event, Match, Request, Secret
from gitopsd.payload import Payload
from gitopsd.providers import PROVIDERS
from gitopsd.remotes import name_of, normalise_url, repos_of
from gitopsd.settings import Config, Receiver, Repo
from gitopsd.store import Store
from gitopsd.store.notes import REMOTES_NOTE

MAX_KEPT = 256 * 1024
"""Bytes of the largest body that is kept."""

REPLAY = "replay of"
"""How the reason of a delivery begins that did not come from outside; the number of the one that did follows."""

_DELIVERY_ID = re.compile(r"[!-~]{1,200}")
# A body without the first says a secret without the second in its own letters, or not at all.
_OBSCURE_TEXT = ("\\u", "\\/", "%")
_OBSCURE_SECRET = re.compile(r'["\\\x00-\x1f]|\A[-+.0-9Ee]+\Z')
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MAX_HEADER = 100
_MASK = "***"
_SHORTEST_SECRET = 4


class Content(NamedTuple):
    """What a delivery says. `body` is None where it is not to be kept: it is large, or may hold a secret."""

    event: Event
    delivery_id: str
    is_named: bool
    body: Body | None
    replay_of: int | None = None


def read(receiver: Receiver, request: Request, secrets: Sequence[Secret]) -> Content:
    """What a delivery says to `receiver`, and its body without `secrets`. Raises PayloadError."""
    provider = PROVIDERS[receiver.provider]
    content = payload.decode(request.body, request.media_type)
    header = request.headers.get(provider.event_header, "")
    event = provider.parse({provider.event_header: header}, content)
    given_id = provider.delivery_id(request.headers, content)
    is_named = _DELIVERY_ID.fullmatch(given_id) is not None
    return Content(
        event=event,
        delivery_id=given_id if is_named else f"sha256:{hashlib.sha256(request.body).hexdigest()}",
        is_named=is_named,
        body=_kept(request, header, content, secrets),
    )


def reread(receiver: Receiver, delivery: Delivery, body: Body) -> Content:
    """What a delivery that was kept says to `receiver` today; it is no duplicate. Raises PayloadError."""
    provider = PROVIDERS[receiver.provider]
    event = provider.parse({provider.event_header: body.event_header}, payload.decode(body.text, "application/json"))
    return Content(event=event, delivery_id=delivery.delivery_id, is_named=False, body=body, replay_of=delivery.number)


def record(
    config: Config,
    store: Store,
    receiver: Receiver,
    content: Content,
    repos: Mapping[str, Repo],
    *,
    rescan: Callable[[], Mapping[str, Repo]],
    now: float,
) -> tuple[Delivery, tuple[Match, ...]]:
    """Find the repos that want it, and store the delivery with their jobs. Raises StoreError.

    `rescan` looks for new checkouts, where none of `repos` is meant.
    """
    event, events = content.event, PROVIDERS[receiver.provider].events

    def ids() -> dict[str, str]:
        return _ids(store.peek_note(f"{REMOTES_NOTE}{receiver.name}") or {}, repos)

    matches, reason = routing.route(event, repos.values(), receiver, events=events, ids=ids)
    if not matches and config.roots and _is_wanted(event, receiver):
        repos = rescan()
        matches, reason = routing.route(event, repos.values(), receiver, events=events, ids=ids)
    about = next((match for match in matches if match.reason is None), matches[0] if matches else None)
    update = event.updates[0] if event.updates else None
    delivery = Delivery(
        receiver=receiver.name,
        delivery_id=content.delivery_id,
        is_named=content.is_named,
        event=event.kind,
        remote=_subject(event),
        ref=about.ref if about else update.ref if update else "",
        revision=(about.revision if about else update.revision if update else "") or "",
        decision=Decision.IGNORED if reason else Decision.ACCEPTED,
        reason="; ".join(filter(None, (f"{REPLAY} {content.replay_of}" if content.replay_of else "", reason))),
        received_at=now,
    )
    recorded = store.accept(delivery, matches, content.body, keep_bodies=config.keep.bodies)
    if content.replay_of is None:  # what the remote was called then, it may not be called any more
        with contextlib.suppress(StoreError):  # the delivery is safe; the next one tells it again
            _learn(store, receiver, event, [repos[match.repo] for match in matches] or list(repos.values()))
    return recorded, matches


def _is_wanted(event: Event, receiver: Receiver) -> bool:
    return bool(event.updates) and not event.reason and not routing.why_ruled_out(event, receiver)


def _kept(request: Request, header: str, content: Payload, secrets: Sequence[Secret]) -> Body | None:
    if len(request.body) > MAX_KEPT:
        return None
    values = [secret.value.decode("utf-8", "replace") for secret in secrets]
    values += [value.partition(":")[2] for value in values]  # Basic authentication: the password alone
    # The longest first, as one may be the beginning of another.
    values = sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
    text = payload.text_of(request.body, request.media_type)
    is_obscure = any(each in text for each in _OBSCURE_TEXT)
    if not is_obscure and not any(_OBSCURE_SECRET.search(each) or each in text for each in values):
        return Body(text=text.encode("utf-8", "backslashreplace"), event_header=header[:_MAX_HEADER])
    try:
        # A key that stands there twice is in the text, and not in the content.
        if _mask(content, values) or _masked(text, values) != text:
            text = json.dumps(content, ensure_ascii=False)
        # What no text is (a number), or is written in another way, is not looked for: it is not kept at all.
        plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text).replace("\\/", "/")
        told = f"{plain}{json.dumps(content, ensure_ascii=False)}{unquote(plain)}"
        if _masked(told, values) != told:
            return None
    except RecursionError:
        return None
    return Body(text=text.encode("utf-8", "backslashreplace"), event_header=header[:_MAX_HEADER])


def _mask(content: Any, secrets: Sequence[str]) -> bool:
    """Take `secrets` out of whatever text is in `content`, in place; whether there was one.

    Not by recursion, as it is nested as deeply as a stranger likes.
    """
    found, holders = False, [content]
    while holders:
        holder = holders.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, dict | list):
                holders.append(value)
            elif isinstance(value, str) and (masked := _masked(value, secrets)) != value:
                holder[key], found = masked, True
            if isinstance(key, str) and (masked := _masked(key, secrets)) != key:
                holder[masked], found = holder.pop(key), True
    return found


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return text


def _subject(event: Event) -> str:
    """What the event is about, in a word."""
    if event.images:
        return routing.few(map(routing.spelt, event.images))
    return name_of(event.remote) if event.remote else ""


def _ids(remotes: Mapping[str, Mapping[str, str]], repos: Mapping[str, Repo]) -> dict[str, str]:
    """What the provider calls the remote of each repo; whose URL has changed since has another remote."""
    return {
        name: told["id"]
        for name, told in remotes.items()
        if name in repos and told["url"] == normalise_url(repos[name].url)
    }


def _learn(store: Store, receiver: Receiver, event: Event, repos: Sequence[Repo]) -> None:
    """Remember what the provider calls the remotes, to know them under another name, too. Raises StoreError."""
    remote = event.remote
    if remote is None or not remote.id:
        return
    known = store.peek_note(f"{REMOTES_NOTE}{receiver.name}") or {}
    allowed = [repo for repo in repos if routing.may_trigger(receiver, repo)]
    by_name = list(repos_of(allowed, remote))
    ids, told = {} if by_name else _ids(known, {repo.name: repo for repo in allowed}), dict(known)
    for repo in by_name or [repo for repo in allowed if ids.get(repo.name) == remote.id]:
        told[repo.name] = {
            "url": normalise_url(repo.url),
            "id": remote.id,
            "name": name_of(remote),
            "urls": list(remote.urls),
            "renamed": not by_name,
        }
    if told != known:
        store.write_note(f"{REMOTES_NOTE}{receiver.name}", told)
