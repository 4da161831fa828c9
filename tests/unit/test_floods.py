"""Refusals are counted by address, for a minute, and never of this machine."""

import pytest

from gitopsd.floods import Floods


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def floods(clock: Clock) -> Floods:
    return Floods(clock)


def refusals(floods: Floods, client: str, count: int, most: int = 3) -> list[bool]:
    """Of so many refusals, which were too many."""
    return [bool(floods.refused(client, most)) for _ in range(count)]


def test_more_refusals_of_an_address_than_it_may_have_are_a_flood(floods: Floods) -> None:
    assert refusals(floods, "192.0.2.1", 5) == [False, False, False, True, True]
    assert refusals(floods, "192.0.2.2", 1) == [False]


def test_a_flood_is_over_when_its_minute_is(floods: Floods, clock: Clock) -> None:
    refusals(floods, "192.0.2.1", 3)
    clock.now += 20
    assert floods.refused("192.0.2.1", 3) == 40
    clock.now += 40
    assert floods.refused("192.0.2.1", 3) == 0


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.0.1", "::1", "unix"])
def test_what_this_machine_sends_may_be_anybodys(floods: Floods, client: str) -> None:
    assert not any(refusals(floods, client, 10))


def test_one_customers_network_of_ipv6_is_one_address(floods: Floods) -> None:
    assert refusals(floods, "2001:db8::1", 3) == [False, False, False]
    assert refusals(floods, "2001:db8::2", 1) == [True]
    assert refusals(floods, "2001:db8:0:1::2", 1) == [False]


def test_malformed_addresses_are_one(floods: Floods) -> None:
    assert refusals(floods, "", 4) == [False, False, False, True]


def test_no_more_addresses_are_remembered_than_there_is_room_for(
    floods: Floods, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitopsd.floods._MAX_CLIENTS", 2)
    refusals(floods, "192.0.2.1", 1)
    refusals(floods, "192.0.2.2", 1)
    assert refusals(floods, "192.0.2.3", 2) == [False, False]
    assert refusals(floods, "192.0.2.4", 2) == [False, True]
    assert refusals(floods, "192.0.2.1", 2) == [False, False]
    clock.now += 60
    assert refusals(floods, "192.0.2.4", 3) == [False, False, False]
