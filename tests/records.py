"""What a receiver gives to the store."""

from typing import Any

from gitopsd.model import Decision, Delivery


def push(delivery_id: str = "one", *, at: float, **more: Any) -> Delivery:
    """A delivery that tells of a push to me/blog, `at` epoch seconds; the decision is the store's."""
    told: dict[str, Any] = {
        "receiver": "default",
        "event": "push",
        "remote": "me/blog",
        "ref": "refs/heads/main",
        "revision": "2" * 40,
        "decision": Decision.IGNORED,
        "reason": "",
    }
    return Delivery(**told | more, delivery_id=delivery_id, received_at=at)
