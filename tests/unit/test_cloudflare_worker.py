"""What the Cloudflare worker passes on, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.providers.cloudflare_worker import PROVIDER, parse

DEPLOY = {
    "type": "pages_deploy",
    "timestamp": "2026-01-19T10:00:00.123Z",
    "account_id": "9035f53656c9f1b0c7d3f3a6e1c4f2aa",
    "zone_id": "023e105f4ecef8ad9ca31a8372d0c353",
    "action": "deploy",
    "resource": "pages",
    "source": "pages_deploy_hook",
    "metadata": {"project": "blog"},
    "raw": {"id": 7, "environment": "production"},
}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({}, "pages_deploy", id="pages"),
        pytest.param({"metadata": {}, "raw": None, "account_id": None}, "pages_deploy", id="nulls"),
        pytest.param({"timestamp": 1768816800, "action": 7, "resource": []}, "pages_deploy", id="odd elsewhere"),
        pytest.param(
            {
                "type": "alert",
                "action": "blog is deployed",
                "resource": "pages_event_alert",
                "source": "notification_webhook",
                "metadata": {"text": "deployed\n", "account_name": "me", "data": {}},
            },
            "alert",
            id="alert",
        ),
        pytest.param({"type": "workers_deploy"}, "workers_deploy", id="workers"),
        pytest.param({"type": "tunnel"}, "tunnel", id="tunnel"),
        pytest.param({"type": "logpush", "metadata": {"dataset": "http_requests", "count": 7}}, "logpush", id="logs"),
        pytest.param({"type": "ping"}, "ping", id="a trial by hand"),
    ],
)
def test_what_it_passes_on_is_an_event_of_its_kind(changes: dict[str, Any], kind: str) -> None:
    assert parse({}, DEPLOY | changes) == Event(kind=kind)


def test_the_type_is_all_that_it_takes() -> None:
    assert parse({}, {"type": "pages_deploy"}) == Event(kind="pages_deploy")


def test_a_deploy_of_pages_asks_for_a_sync_and_others_only_where_a_receiver_does() -> None:
    assert PROVIDER.events == ("pages_deploy",)


@pytest.mark.parametrize("kind", [..., None, 7, [], "", "Pages", "pages deploy", "pages_deploy\n", "é", "x" * 65])
def test_the_type_is_a_plain_word(kind: object) -> None:
    payload = {key: value for key, value in DEPLOY.items() if key != "type"}
    with pytest.raises(PayloadError, match="'type'"):
        parse({}, payload if kind is ... else payload | {"type": kind})


def test_a_delivery_has_no_id() -> None:
    assert PROVIDER.delivery_id({"X-REQUEST-ID": "one"}, DEPLOY | {"id": "one"}) == ""
