"""What Nexus Repository sends, what it never sends, and how it signs."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from gitopsd import signatures
from gitopsd.errors import PayloadError, SignatureError
from gitopsd.model import Event, Image, Request, Secret
from gitopsd.providers.images import NO_TAG
from gitopsd.providers.nexus import PROVIDER, parse

DIGEST = f"sha256:{'8a9e9863dbb6e10e' * 4}"
COMPONENT = {
    "id": "08909bf0c86cf6c9600aade89e1c5e25",
    "componentId": "ZG9ja2VyLWhvc3RlZDowODkwOWJmMGM4NmNmNmM5NjAwYWFkZTg5ZTFjNWUyNQ",
    "format": "docker",
    "name": "me/blog",
    "group": None,
    "version": "latest",
}
PUSH = {
    "timestamp": "2016-11-10T23:57:49.664+0000",
    "nodeId": "52905B51-085CCABB-CEBBEAAD-16795588-FC927D93",
    "initiator": "admin/127.0.0.1",
    "repositoryName": "docker-hosted",
    "action": "CREATED",
    "component": COMPONENT,
}
ASSET = {key: value for key, value in PUSH.items() if key != "component"} | {
    "asset": {"id": "31c950c8eeeab78336308177ae9c441c", "format": "npm", "name": "concrete"}
}
AUDIT = {
    "nodeId": "7FFA7361-6ED33978-36997BD4-47095CC4-331356BE",
    "initiator": "admin/127.0.0.1",
    "audit": {"domain": "security.user", "type": "created", "context": "testuser"},
}
KIND = "rm:repository:component"


def event_of(payload: dict[str, Any], kind: str = KIND) -> Event:
    return parse({"X-NEXUS-WEBHOOK-ID": kind}, payload)


def component(**changes: Any) -> dict[str, Any]:
    return {"component": COMPONENT | changes}


@pytest.mark.parametrize("action", ["CREATED", "UPDATED"])
@pytest.mark.parametrize(
    ("changes", "image"),
    [
        pytest.param({}, Image(name="me/blog", tag="latest"), id="tag"),
        pytest.param(component(name="blog", version="1.0-rc.1"), Image(name="blog", tag="1.0-rc.1"), id="another"),
        pytest.param({"initiator": None, "nodeId": 7}, Image(name="me/blog", tag="latest"), id="nothing else counts"),
    ],
)
def test_what_was_pushed(action: str, changes: dict[str, Any], image: Image) -> None:
    assert event_of(PUSH | {"action": action} | changes) == Event(kind=KIND, images=(image,))


@pytest.mark.parametrize("version", [None, "", DIGEST])
def test_what_has_no_tag_is_no_push_of_an_image(version: str | None) -> None:
    assert event_of(PUSH | component(version=version)) == Event(kind=KIND, reason=NO_TAG)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        pytest.param(KIND, PUSH | component(format="npm", name="angular2", group="types", version="0.0.2"), id="npm"),
        pytest.param(KIND, PUSH | component(format="raw", name="/a b/é", version=None), id="any name"),
        pytest.param("rm:repository:asset", ASSET, id="asset"),
        pytest.param("rm:audit", AUDIT, id="audit"),
    ],
)
def test_another_event_pushes_no_image_but_may_be_asked_for(kind: str, payload: dict[str, Any]) -> None:
    assert event_of(payload, kind) == Event(kind=kind)


@pytest.mark.parametrize(
    ("kind", "payload"), [(KIND, PUSH), (KIND, PUSH | component(format="npm")), ("rm:repository:asset", ASSET)]
)
@pytest.mark.parametrize(
    ("action", "reason"),
    [("DELETED", "it was deleted, not pushed"), ("PURGED", "it was purged, not pushed")],
)
def test_what_is_gone_leads_to_nothing(kind: str, payload: dict[str, Any], action: str, reason: str) -> None:
    assert event_of(payload | {"action": action}, kind) == Event(kind=kind, reason=reason)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"action": None}, "action"),
        ({"action": 7}, "action"),
        ({"action": ""}, "action"),
        ({"action": "created"}, "action"),
        ({"action": "CREATED\n"}, "action"),
        ({"component": None}, "component"),
        ({"component": [COMPONENT]}, "component"),
        (component(format=None), "format"),
        (component(format=["docker"]), "format"),
        (component(name=None), "name"),
        (component(name=""), "name"),
        (component(name="Me/Blog"), "name"),
        (component(name="../blog"), "name"),
        (component(name="me/blog:latest"), "name"),
        (component(version=7), "version"),
        (component(version="-rm"), "version"),
        (component(version="a b"), "version"),
        (component(version="x" * 129), "version"),
    ],
)
def test_a_push_that_nexus_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(PUSH | changes)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "rm:",
        ":rm",
        "iq:applicationEvaluation",
        "rm:repository:component\n",
        "RM",
        "rm repository",
        "a:a:a:a:a",
        "é",
    ],
)
def test_the_name_of_an_event_is_plain_words_with_colons(kind: str) -> None:
    with pytest.raises(PayloadError, match="X-Nexus-Webhook-Id"):
        event_of(PUSH, kind)


def test_a_delivery_has_the_id_that_nexus_gave_it() -> None:
    assert PROVIDER.delivery_id({"X-NEXUS-WEBHOOK-DELIVERY": "7f4a6dde"}, PUSH) == "7f4a6dde"
    assert PROVIDER.delivery_id({"X-REQUEST-ID": "d535c62b"}, PUSH) == ""


# The signature. Sonatype has published a program that makes it, and none that was made.


@pytest.mark.parametrize(
    ("key", "body", "signature"),
    [
        # RFC 2202, test cases 1 and 2 of HMAC-SHA1.
        ("\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
        ("Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ("mysecretkey", json.dumps(PUSH, separators=(",", ":")).encode(), ""),
    ],
)
def test_the_signature_is_the_bare_hmac_sha1_of_the_body(key: str, body: bytes, signature: str) -> None:
    made = hmac.new(key.encode(), body, hashlib.sha1).hexdigest()
    assert signature in ("", made)
    secret = Secret("one", key.encode())

    def proof_of(given: str) -> Secret:
        request = Request(headers={"X-NEXUS-WEBHOOK-SIGNATURE": given}, body=body)
        return signatures.verify(PROVIDER.schemes, request, [secret], 0.0)

    assert proof_of(made) == secret
    sha256 = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    for wrong in ("", f"sha1={made}", made.upper(), made[:-1], sha256, f"sha256={sha256}", sha256[:40]):
        with pytest.raises(SignatureError):
            proof_of(wrong)
