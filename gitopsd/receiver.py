"""Webhooks in, 202 out; owns the status codes."""

import difflib
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import falcon

from gitopsd import clients, holds, intake, journal, signatures
from gitopsd.config import DEFAULT_RECEIVER
from gitopsd.errors import GitopsdError, PayloadError, SignatureError, StoreError
from gitopsd.floods import Floods
from gitopsd.journal import Kind
from gitopsd.model import Decision, Delivery, Match, Request, Secret
from gitopsd.proofs import Proofs, Rejections
from gitopsd.providers import PROVIDERS, Provider
from gitopsd.remotes import is_remote_of
from gitopsd.schemes import PathScheme, Scheme, StandardScheme
from gitopsd.settings import Config, Receiver, Repo
from gitopsd.store import Store
from gitopsd.store.notes import UNKNOWN_RECEIVER

RETRY_AFTER_SEC = 30

_log = logging.getLogger(__name__)
_UNKNOWN = Receiver(name=UNKNOWN_RECEIVER, provider="github", secrets=())
_NEAR, _MAX_NAME = 0.75, 63
_PROBE_SEC = 1.0
_HOOK = re.compile(r"[A-Za-z0-9{}-]{1,64}")
_MEDIA_TYPES = frozenset(each for provider in PROVIDERS.values() for each in provider.media_types)


class Serving(NamedTuple):
    """What requests are answered by; a reload puts a new one in its place.

    `closed`: receiver → why it is closed. `problem`: what a reload that came to nothing has found, or "".
    """

    config: Config
    store: Store
    repos: Mapping[str, Repo]
    secrets: Mapping[str, tuple[Secret, ...]]
    closed: Mapping[str, str]
    problem: str = ""


def create_app(
    serving: Callable[[], Serving | str],
    *,
    rescan: Callable[[], Mapping[str, Repo]],
    wake: Callable[[], None],
    dispatcher_problem: Callable[[], str],
    clock: Callable[[], float],
) -> "falcon.App[Any, Any]":  # falcon 3 has no type parameters
    """The WSGI application.

    `serving` gives what is in force, or a line on why nothing is; `rescan` looks for new checkouts below the roots;
    `wake` tells the dispatcher of a new job; `dispatcher_problem` says what keeps it from working, or "".
    """
    app = falcon.App()
    webhook = _Webhook(serving, rescan, wake, clock)
    app.add_route("/api/webhook/gitops", webhook)
    app.add_route("/hook/{receiver}", webhook)
    app.add_route("/hook/{receiver}/{token}", webhook)
    app.add_route("/healthz", _Health())
    app.add_route("/readyz", _Readiness(serving, dispatcher_problem))
    app.add_error_handler(Exception, _internal_error)
    return app


class _Webhook:
    def __init__(
        self,
        serving: Callable[[], Serving | str],
        rescan: Callable[[], Mapping[str, Repo]],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._serving = serving
        self._rescan = rescan
        self._wake = wake
        self._clock = clock
        self._rejections = Rejections(clock)
        self._proofs = Proofs(clock)
        self._floods = Floods(time.monotonic)

    def on_post(
        self, req: falcon.Request, resp: falcon.Response, receiver: str = DEFAULT_RECEIVER.name, token: str = ""
    ) -> None:
        """Cap → read → verify raw bytes → parse → match → commit → answer."""
        serving = self._serving()
        if isinstance(serving, str):
            _unavailable(resp, "the configuration is broken")
            return
        try:
            delivery, matches = self._receive(serving, receiver, token, req)
        except _UnsignedPing:
            _answer(resp, falcon.HTTP_200, reason="ping: the webhook reaches this receiver")
        except SignatureError as error:
            client = clients.client_of(req.env.get("REMOTE_ADDR", ""), req.headers, serving.config.proxy)
            if wait_sec := self._floods.refused(client, serving.config.limits.refusals):
                _answer(resp, falcon.HTTP_429, error="too many deliveries without the right secret")
                resp.set_header("Retry-After", str(math.ceil(wait_sec)))
                return
            kind = "client" if isinstance(error, _ClientError) else ""
            self._refuse(serving, receiver, req.headers, str(error), kind=kind)
            _answer(resp, falcon.HTTP_401, error="unauthorized")
        except PayloadError as error:
            extra = journal.fields(Kind.DELIVERY_REFUSED, receiver=receiver)
            _log.warning("receiver '%s': authentic, but not what it takes: %s", receiver, error, extra=extra)
            self._rejections.note(receiver, _hook(serving, receiver, req.headers), str(error), serving.store)
            _answer(resp, _STATUS.get(type(error), falcon.HTTP_400), error=str(error))
        except StoreError as error:
            extra = journal.fields(Kind.DELIVERY_TURNED_AWAY, receiver=receiver)
            _log.error("receiver '%s': a delivery was turned away: %s", receiver, error, extra=extra)
            _unavailable(resp, "the store cannot be written")
        else:
            self._reply(resp, serving, delivery, matches)

    def _refuse(self, serving: Serving, name: str, headers: Mapping[str, str], reason: str, *, kind: str) -> None:
        if name not in serving.config.receivers:
            # The name itself is a stranger's, or a token that stands in its place.
            near = difflib.get_close_matches(name[:_MAX_NAME], serving.config.receivers, n=1, cutoff=_NEAR)
            name, kind = _UNKNOWN.name, "unknown"
            reason = f"there is no receiver of the name in its URL{f', which is almost {near[0]!r}' if near else ''}"
        self._rejections.refused(name, _hook(serving, name, headers), reason, serving.store, kind=kind)

    def _receive(
        self, serving: Serving, name: str, token: str, req: falcon.Request
    ) -> tuple[Delivery, tuple[Match, ...]]:
        receiver = serving.config.receivers.get(name, _UNKNOWN)
        request = _read(req, serving.config.max_body, token)
        proof = self._verify(serving, receiver, request, req.env.get("REMOTE_ADDR", ""))
        provider, secrets = PROVIDERS[receiver.provider], serving.secrets[receiver.name]
        if request.media_type not in provider.media_types:  # not before: nobody is to find out what a receiver is
            raise _MediaTypeError(f"{request.media_type}; send {' or '.join(provider.media_types)}")
        if receiver.max_body is not None and len(request.body) > receiver.max_body:
            raise _SizeError(f"{len(request.body)} bytes, which is more than it reads (max_body: {receiver.max_body})")
        content = intake.read(receiver, request, secrets)
        self._rejections.proven(name, _hook(serving, name, req.headers), serving.store)
        delivery, matches = intake.record(
            serving.config,
            serving.store,
            receiver,
            content,
            serving.repos,
            rescan=self._rescan,
            now=self._clock(),
        )
        if len(secrets) > 1:
            for repo in serving.repos.values():
                if repo.name in (match.repo for match in matches) or is_remote_of(repo, content.event.remote):
                    self._proofs.given(receiver.name, proof.name, repo.name, serving.store)
        return delivery, matches

    def _verify(self, serving: Serving, receiver: Receiver, request: Request, peer: str) -> Secret:
        """The secret that proves the delivery. Raises SignatureError, or _UnsignedPing."""
        provider, secrets = PROVIDERS[receiver.provider], serving.secrets.get(receiver.name, ())
        proof, problem = None, SignatureError("")
        try:
            proof = signatures.verify(_schemes(provider, receiver), request, secrets, self._clock())
        except SignatureError as error:
            problem = error
        # Not before: who may not deliver is not to find out either.
        if receiver.allow_from:
            client = clients.client_of(peer, request.headers, serving.config.proxy)
            if not clients.is_in(client, receiver.allow_from):
                hint = (
                    "" if serving.config.proxy.trusted else " (behind a proxy that takes 'proxy' in the configuration)"
                )
                raise _ClientError(f"its client {client or '(malformed address)'} is not in allow_from{hint}")
        if proof:
            return proof
        if secrets and provider.is_unsigned_ping(request.headers, request.body):
            raise _UnsignedPing
        raise problem

    def _reply(self, resp: falcon.Response, serving: Serving, delivery: Delivery, matches: tuple[Match, ...]) -> None:
        what = " ".join(filter(None, (delivery.event, delivery.remote, delivery.ref, delivery.revision[:12])))
        if delivery.decision is not Decision.ACCEPTED:
            reason = f"{delivery.decision}: {delivery.reason}"
            extra = _fields(Kind.DELIVERY_IGNORED, delivery)
            _log.info("delivery %s (%s): %s", delivery.delivery_id, what, reason, extra=extra)
            _answer(resp, falcon.HTTP_200, delivery=delivery.delivery_id, reason=delivery.reason)
            return
        self._wake()
        wanted = (match.repo for match in matches if match.reason is None)
        jobs = [{"id": job, "repo": repo} for job, repo in zip(delivery.jobs, wanted, strict=True)]
        for job in jobs:  # an entry of its own for each repo
            accepted = f"accepted as job {job['id']} of {job['repo']}"
            if held := self._why_held(serving.config, str(job["repo"])):
                job["held"], accepted = held, f"{accepted}, {held}"
            extra = _fields(Kind.DELIVERY_ACCEPTED, delivery, repo=job["repo"], job=job["id"])
            _log.info("delivery %s (%s): %s", delivery.delivery_id, what, accepted, extra=extra)
        _answer(resp, falcon.HTTP_202, delivery=delivery.delivery_id, jobs=jobs)

    def _why_held(self, config: Config, repo: str) -> str:
        """By whom `repo` is held, and why; "" if it is not."""
        try:
            hold = holds.read(config.state_dir, repo, self._clock())
        except GitopsdError as error:  # the delivery is safe, and nothing of that repo is deployed
            _log.warning("%s", error)
            return "held: its hold cannot be read"
        return holds.why(hold) if hold else ""


class _Health:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """The process answers."""
        _answer(resp, falcon.HTTP_200, status="ok")


class _Readiness:
    def __init__(self, serving: Callable[[], Serving | str], dispatcher_problem: Callable[[], str]) -> None:
        self._serving = serving
        self._dispatcher_problem = dispatcher_problem
        self._probed_at = -_PROBE_SEC
        self._store_problem = ""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Config valid, every receiver open, store writable, dispatcher alive; else 503 and the reasons."""
        serving = self._serving()
        if isinstance(serving, str):
            _unavailable(resp, serving)
            return
        closed = [f"receiver '{name}' is closed: {why}" for name, why in serving.closed.items()]
        problems = [serving.problem, *closed, self._probe(serving.store), self._dispatcher_problem()]
        if problem := "; ".join(dict.fromkeys(filter(None, problems))):
            _unavailable(resp, problem)
        else:
            _answer(resp, falcon.HTTP_200, status="ready")

    def _probe(self, store: Store) -> str:
        # Anybody may ask, and each probe is a write: once a second is enough.
        if time.monotonic() - self._probed_at >= _PROBE_SEC:
            try:
                store.probe()
                self._store_problem = ""
            except StoreError as error:
                self._store_problem = str(error)
            self._probed_at = time.monotonic()
        return self._store_problem


def _hook(serving: Serving, receiver: str, headers: Mapping[str, str]) -> str:
    """What the sender calls the webhook that it sends for; unproven, so it is good for a hint and no more."""
    provider = PROVIDERS[serving.config.receivers.get(receiver, _UNKNOWN).provider]
    given = headers.get(provider.hook_header, "")
    return given if _HOOK.fullmatch(given) else ""


class _MediaTypeError(PayloadError):
    """An authentic body is of a kind that its provider does not send."""


class _SizeError(PayloadError):
    """An authentic body is larger than its receiver reads."""


_STATUS = {_MediaTypeError: falcon.HTTP_415, _SizeError: falcon.HTTP_413}


class _ClientError(SignatureError):
    """Who sends is not in `allow_from`. The text names him, and he may have more addresses than the log has lines."""


class _UnsignedPing(Exception):  # noqa: N818 - no error: a trial that its sender cannot sign
    pass


def _read(req: falcon.Request, max_body: int, token: str) -> Request:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES:
        raise falcon.HTTPUnsupportedMediaType(description="send application/json")
    if (req.content_length or 0) > max_body:
        raise falcon.HTTPError(falcon.HTTP_413, description=f"at most {max_body} bytes")
    return Request(headers=req.headers, body=req.bounded_stream.read(), media_type=media_type, token=token)


def _schemes(provider: Provider, receiver: Receiver) -> tuple[Scheme, ...]:
    """Those of the provider, in the header that the sender was told to use."""
    if not receiver.header:
        return provider.schemes
    return tuple(
        scheme if isinstance(scheme, PathScheme | StandardScheme) else replace(scheme, header=receiver.header.upper())
        for scheme in provider.schemes
    )


def _fields(kind: Kind, delivery: Delivery, **more: object) -> dict[str, Any]:
    about = {"receiver": delivery.receiver, "delivery": delivery.delivery_id, "result": delivery.decision}
    return journal.fields(kind, **about, revision=delivery.revision or None, **more)


def _answer(resp: falcon.Response, http_status: str, **media: object) -> None:
    resp.status = http_status
    resp.media = media


def _unavailable(resp: falcon.Response, reason: str) -> None:
    _answer(resp, falcon.HTTP_503, error=reason)
    resp.set_header("Retry-After", str(RETRY_AFTER_SEC))


def _internal_error(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: object) -> None:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    _log.error("a request met a fault in gitopsd: %r at %s", error, where)
    _answer(resp, falcon.HTTP_500, error="internal error")
