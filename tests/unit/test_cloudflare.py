"""What Cloudflare's notifications are, and what they never are."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.providers.cloudflare import PROVIDER, parse

ALERT = {
    "name": "blog is deployed",
    "text": "Pages project blog: a deployment to production has succeeded\nhttps://blog.pages.dev",
    "data": {"project_name": "blog", "environment": "ENVIRONMENT_PRODUCTION", "event": "EVENT_DEPLOYMENT_SUCCESS"},
    "ts": 1710444000,
    "account_id": "9035f53656c9f1b0c7d3f3a6e1c4f2aa",
    "policy_id": "0da2b59e-f118-439d-8097-bdfb215203c9",
    "policy_name": "blog is deployed",
    "alert_type": "pages_event_alert",
    "alert_correlation_id": "ab8d7e12-3c4f-4c1e-9a52-2d5b1e0f6a77",
    "alert_event": "ALERT_STATE_EVENT_START",
}
TIMES: tuple[Any, ...] = ("1710444000", "2024-03-14T19:20:00Z", 1710444000.5, -1, None, [], {}, True, "")
TEST = {
    "text": "Hello World! This is a test message sent from https://cloudflare.com. "
    "If you can see this, your webhook is configured properly."
}


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in ALERT.items() if key not in keys}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        pytest.param(ALERT, "pages_event_alert", id="pages"),
        pytest.param(ALERT | {"alert_type": "workers_alert"}, "workers_alert", id="workers"),
        pytest.param(ALERT | {"alert_type": "tunnel_health_event", "data": None}, "tunnel_health_event", id="tunnel"),
        *(pytest.param(ALERT | {"ts": ts}, "pages_event_alert", id=f"ts {ts!r}") for ts in TIMES),
        pytest.param(without("ts"), "pages_event_alert", id="no ts"),
        pytest.param(
            without("name", "text", "data", "ts", "account_id", "policy_id", "policy_name"),
            "pages_event_alert",
            id="hardly anything",
        ),
        pytest.param(ALERT | {"text": 7, "name": "\x1b]0;", "data": ["\x00"]}, "pages_event_alert", id="odd elsewhere"),
    ],
)
def test_a_notification_is_an_event_of_its_kind(payload: dict[str, Any], kind: str) -> None:
    assert parse({}, payload) == Event(kind=kind)


def test_that_of_pages_asks_for_a_sync_and_others_only_where_a_receiver_does() -> None:
    assert PROVIDER.events == ("pages_event_alert",)


@pytest.mark.parametrize("payload", [TEST, {"text": ""}, {"text": None}])
def test_save_and_test_is_a_trial(payload: dict[str, Any]) -> None:
    assert parse({}, payload) == Event(kind="ping", reason="the message of Save and Test: the webhook works")


@pytest.mark.parametrize(
    "payload",
    [
        without("alert_type"),
        without("alert_type", "alert_correlation_id", "alert_event", "policy_id", "policy_name", "account_id"),
        ALERT | {"alert_type": None},
        ALERT | {"alert_type": ""},
        TEST | {"ts": 1710444000},
    ],
)
def test_one_that_does_not_tell_its_kind_leads_to_nothing(payload: dict[str, Any]) -> None:
    reason = "the notification does not tell of what ('alert_type')"
    assert parse({}, payload) == Event(kind="notification", reason=reason)


@pytest.mark.parametrize("alert_type", [7, [], {}, True, "pages event", "-a", "é", "pages_event_alert\n", "x" * 101])
def test_the_type_of_an_alert_is_a_plain_word(alert_type: object) -> None:
    with pytest.raises(PayloadError, match="'alert_type'"):
        parse({}, ALERT | {"alert_type": alert_type})


@pytest.mark.parametrize(
    ("payload", "known"),
    [
        (ALERT | {"ts": 17}, "ab8d7e12-3c4f-4c1e-9a52-2d5b1e0f6a77/ALERT_STATE_EVENT_START/17"),
        (ALERT | {"ts": "17"}, "ab8d7e12-3c4f-4c1e-9a52-2d5b1e0f6a77/ALERT_STATE_EVENT_START/17"),
        (without("ts"), ""),
        (without("alert_event"), ""),
        (without("alert_correlation_id"), ""),
        (ALERT | {"alert_event": None}, ""),
        (ALERT | {"alert_event": ""}, ""),
        (ALERT | {"alert_correlation_id": ["a"]}, ""),
        (ALERT | {"alert_correlation_id": "a b"}, ""),
        (TEST, ""),
    ],
)
def test_a_delivery_is_known_by_its_alert_by_what_became_of_it_and_when(payload: dict[str, Any], known: str) -> None:
    assert PROVIDER.delivery_id({}, payload) == known


@pytest.mark.parametrize("payload", [{}, {"ref": "refs/heads/main"}, {"events": []}, {"name": "blog", "data": {}}])
def test_what_has_no_field_of_a_notification_is_not_of_cloudflare(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="none of the fields of a notification"):
        parse({}, payload)
