"""Notes on who proved itself and who did not, where the store cannot be written."""

from typing import Any

import pytest

from gitopsd.errors import StoreError
from gitopsd.proofs import Proofs, Rejections


class Held:
    """A store that somebody else holds: each attempt to write takes its time and comes to nothing."""

    def __init__(self) -> None:
        self.attempts = 0
        self.is_held = True

    def write_note(self, _key: str, _value: Any) -> None:
        self.attempts += 1
        if self.is_held:
            raise StoreError("another process holds it")

    def read_note(self, _key: str) -> Any:
        return {"7": {"at": 1.0, "reason": "of before"}}


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("gitopsd.proofs.time.monotonic", lambda: now[0])
    return now


def test_refusals_with_a_name_for_each_do_not_each_wait_for_the_store(monotonic: list[float]) -> None:
    rejections, held = Rejections(lambda: 1.0), Held()
    for number in range(20):
        rejections.refused("github", f"{number}", "wrong secret", held)  # type: ignore[arg-type] # as much as it needs
        monotonic[0] += 0.1
    assert held.attempts == 1

    held.is_held = False
    monotonic[0] += 10
    rejections.refused("github", "20", "wrong secret", held)  # type: ignore[arg-type]
    assert held.attempts == 3


def test_deliveries_in_order_do_not_each_wait_for_the_store(monotonic: list[float]) -> None:
    rejections, held = Rejections(lambda: 1.0), Held()
    for _ in range(20):
        rejections.proven("github", "7", held)  # type: ignore[arg-type]
    assert held.attempts == 1

    held.is_held = False
    monotonic[0] += 10
    for _ in range(20):
        rejections.proven("github", "7", held)  # type: ignore[arg-type]
    assert held.attempts == 2


def test_secrets_that_are_rotated_do_not_each_wait_for_the_store(monotonic: list[float]) -> None:
    given, held = Proofs(lambda: 1.0), Held()
    for number in range(20):
        given.given("github", "new", f"r{number}", held)  # type: ignore[arg-type]
    assert held.attempts == 1

    monotonic[0] += 10
    given.given("github", "new", "r1", held)  # type: ignore[arg-type]
    assert held.attempts == 2
