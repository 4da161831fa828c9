"""Whose delivery it is: nobody but a trusted proxy has a say in that."""

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as some

from gitopsd.clients import UNIX, client_of, is_in
from gitopsd.settings import Proxy

CLIENT, STRANGER, PROXY = "203.0.113.7", "198.51.100.9", "10.0.0.1"
CHAIN = Proxy(trusted=("10.0.0.0/8", "2001:db8:aaaa::/48"), header="X-Forwarded-For")
CLOUDFLARED = Proxy(trusted=("127.0.0.1",), header="CF-Connecting-IP")
ON_A_SOCKET = Proxy(trusted=("unix",), header="X-Real-IP")

ADDRESSES = some.ip_addresses().map(str)
# What somebody may write into a header to be taken for somebody else.
FORGED = some.lists(
    some.sampled_from([CLIENT, PROXY, "127.0.0.1", "::1", "unix", "localhost", ",", " ", "%", "x"])
).map("".join)


@pytest.mark.parametrize("peer", [CLIENT, "2001:db8::7", "127.0.0.2", "::1"])
@pytest.mark.parametrize("header", ["CF-CONNECTING-IP", "X-FORWARDED-FOR", "X-REAL-IP", "FORWARDED"])
@pytest.mark.parametrize(
    "proxy", [Proxy(), CHAIN, CLOUDFLARED, ON_A_SOCKET], ids=lambda each: each.header or "no proxy"
)
def test_who_is_no_trusted_proxy_is_himself_whatever_he_writes(peer: str, header: str, proxy: Proxy) -> None:
    assert client_of(peer, {header: STRANGER, proxy.header.upper(): STRANGER}, proxy) == peer


@pytest.mark.parametrize(
    ("peer", "proxy"),
    [
        pytest.param("127.0.0.1", CLOUDFLARED, id="an address"),
        pytest.param("::ffff:127.0.0.1", CLOUDFLARED, id="an address in the clothes of IPv6"),
        pytest.param("10.255.0.1", CHAIN, id="one of a network"),
        pytest.param("2001:db8:aaaa::1", CHAIN, id="one of an IPv6 network"),
        pytest.param("localhost", ON_A_SOCKET, id="a unix socket, as the web server names it"),
        pytest.param("", ON_A_SOCKET, id="a unix socket without a name"),
    ],
)
def test_a_trusted_proxy_tells_the_client(peer: str, proxy: Proxy) -> None:
    header = proxy.header.upper()
    assert client_of(peer, {header: CLIENT}, proxy) == CLIENT
    assert client_of(peer, {header: "2001:db8::7"}, proxy) == "2001:db8::7"


@pytest.mark.parametrize("peer", ["localhost", ""])
def test_the_other_end_of_a_unix_socket_is_no_address(peer: str) -> None:
    assert client_of(peer, {}, Proxy()) == UNIX
    assert client_of(peer, {"X-FORWARDED-FOR": CLIENT}, CHAIN) == UNIX
    assert client_of(peer, {}, ON_A_SOCKET) == UNIX


def test_a_text_without_an_end_is_no_address_and_nothing_that_is_remembered() -> None:
    for length in range(100, 200):
        assert client_of("127.0.0.1", {"CF-CONNECTING-IP": f"fe80::1%{'x' * length}"}, CLOUDFLARED) == ""
    assert client_of("127.0.0.1", {"CF-CONNECTING-IP": "fe80::1%eth0"}, CLOUDFLARED) == "fe80::1"


@pytest.mark.parametrize("other", ["X-FORWARDED-FOR", "X-REAL-IP", "FORWARDED", "CF-CONNECTING-IPV6", "CLIENT-IP"])
def test_a_trusted_proxy_is_believed_in_its_own_header_alone(other: str) -> None:
    assert client_of("127.0.0.1", {other: CLIENT}, CLOUDFLARED) == "127.0.0.1"
    assert client_of("127.0.0.1", {other: CLIENT, "CF-CONNECTING-IP": STRANGER}, CLOUDFLARED) == STRANGER


@pytest.mark.parametrize("headers", [{}, {"CF-CONNECTING-IP": ""}], ids=["missing", "empty"])
def test_a_trusted_proxy_that_tells_nothing_is_the_client_itself(headers: dict[str, str]) -> None:
    assert client_of("127.0.0.1", headers, CLOUDFLARED) == "127.0.0.1"


@pytest.mark.parametrize(
    ("given_chain", "client"),
    [
        pytest.param(f"{CLIENT}", CLIENT, id="one"),
        pytest.param(f"  {CLIENT}\t", CLIENT, id="blanks around it"),
        pytest.param(f"{CLIENT}, 10.1.1.1", CLIENT, id="a trusted proxy behind it"),
        pytest.param(f"{CLIENT},10.1.1.1 ,2001:db8:aaaa::5,  10.2.2.2", CLIENT, id="several trusted proxies behind it"),
        pytest.param(f"{STRANGER}, {CLIENT}", CLIENT, id="somebody before it"),
        pytest.param(f"{STRANGER}, {CLIENT}, 10.1.1.1", CLIENT, id="somebody before, a proxy behind"),
        pytest.param(f"10.9.9.9, {CLIENT}, 10.1.1.1", CLIENT, id="a trusted address before it"),
        pytest.param(f"nonsense, , {CLIENT}, 10.1.1.1", CLIENT, id="nonsense before it"),
        pytest.param(f"{CLIENT}, {STRANGER}, 10.1.1.1", STRANGER, id="an untrusted proxy"),
        pytest.param("10.3.3.3, 10.1.1.1", PROXY, id="trusted ones alone"),
        pytest.param(f"{CLIENT}, nonsense, 10.1.1.1", "", id="nonsense behind it"),
        pytest.param(f"{CLIENT}, ", "", id="nothing behind it"),
        pytest.param(",", "", id="a comma"),
        pytest.param("nonsense", "", id="nonsense"),
        pytest.param("unix", "", id="the word for a socket"),
        pytest.param(f"{CLIENT}:4711", "", id="a port"),
        pytest.param("[2001:db8::7]", "", id="brackets"),
        pytest.param("203.0.113.0/24", "", id="a network"),
        pytest.param(f"for={CLIENT}", "", id="another form"),
        pytest.param("203.0.113.007", "", id="leading zeros"),
        pytest.param("3405803783", "", id="a number"),
    ],
)
def test_of_a_chain_the_last_one_counts_that_is_no_trusted_proxy(given_chain: str, client: str) -> None:
    assert client_of(PROXY, {"X-FORWARDED-FOR": given_chain}, CHAIN) == client


@pytest.mark.parametrize(
    ("told", "client"),
    [
        pytest.param("::ffff:203.0.113.7", CLIENT, id="IPv4 in the clothes of IPv6"),
        pytest.param("::FFFF:cb00:7107", CLIENT, id="and in hex"),
        pytest.param("2001:DB8:0::0007", "2001:db8::7", id="a long form"),
        pytest.param("fe80::7%eth0", "fe80::7", id="a zone"),
        pytest.param("::ffff:203.0.113.7%1", CLIENT, id="both"),
        pytest.param("%eth0", "", id="a zone of nothing"),
    ],
)
def test_an_address_is_the_same_in_any_of_its_forms(told: str, client: str) -> None:
    assert client_of("127.0.0.1", {"CF-CONNECTING-IP": told}, CLOUDFLARED) == client
    if client:
        assert client_of(told, {}, CLOUDFLARED) == client


@pytest.mark.parametrize(
    ("client", "networks", "is_inside"),
    [
        pytest.param("192.0.2.7", ["192.0.2.7"], True, id="an address"),
        pytest.param("192.0.2.8", ["192.0.2.7"], False, id="its neighbour"),
        pytest.param("192.0.2.255", ["192.0.2.0/24"], True, id="a network"),
        pytest.param("192.0.3.0", ["192.0.2.0/24"], False, id="past a network"),
        pytest.param("192.0.2.200", ["192.0.2.7/24"], True, id="host bits"),
        pytest.param("192.0.2.200", ["192.0.2.0/255.255.255.0"], True, id="a mask"),
        pytest.param("203.0.113.7", ["0.0.0.0/0"], True, id="all of IPv4"),
        pytest.param("2001:db8::7", ["0.0.0.0/0"], False, id="IPv6 is no IPv4"),
        pytest.param("203.0.113.7", ["::/0"], False, id="IPv4 is no IPv6"),
        pytest.param("2001:db8::7", ["2001:db8::/32"], True, id="an IPv6 network"),
        pytest.param("2001:db9::7", ["2001:db8::/32"], False, id="past an IPv6 network"),
        pytest.param("2001:db8::7", ["2001:db8::ffff/64"], True, id="host bits of IPv6"),
        pytest.param("fe80::7%eth0", ["fe80::/10"], True, id="a zone"),
        pytest.param("::ffff:192.0.2.7", ["192.0.2.0/24"], True, id="IPv4 in the clothes of IPv6"),
        pytest.param("192.0.2.7", ["10.0.0.0/8", "unix", "192.0.2.0/24"], True, id="one of several"),
        pytest.param("192.0.2.7", [], False, id="none"),
        pytest.param("unix", ["unix"], True, id="a socket"),
        pytest.param("unix", ["10.0.0.0/8", "unix"], True, id="a socket among others"),
        pytest.param("unix", ["0.0.0.0/0", "::/0"], False, id="a socket is no network"),
        pytest.param("127.0.0.1", ["unix"], False, id="an address is no socket"),
        pytest.param("", ["unix", "0.0.0.0/0", "::/0"], False, id="a malformed address"),
        pytest.param("localhost", ["unix", "0.0.0.0/0", "::/0"], False, id="a name"),
    ],
)
def test_a_client_is_in_a_network(client: str, networks: list[str], is_inside: bool) -> None:
    assert is_in(client, networks) is is_inside


# Anything at all


@given(peer=ADDRESSES, given_header=FORGED | some.text() | ADDRESSES)
@example(peer="::ffff:203.0.113.7", given_header=PROXY)
def test_whoever_is_not_trusted_is_never_taken_for_another(peer: str, given_header: str) -> None:
    for proxy in (CHAIN, CLOUDFLARED, ON_A_SOCKET, Proxy()):
        if not is_in(peer, proxy.trusted):
            client = client_of(peer, {proxy.header.upper(): given_header}, proxy)
            assert client == client_of(peer, {}, Proxy())
            assert is_in(peer, [client])


@given(peer=ADDRESSES, forged=FORGED | some.text() | ADDRESSES, behind=some.lists(some.just("10.7.7.7"), max_size=3))
def test_what_a_client_writes_before_the_proxies_write_him_down_does_not_count(
    peer: str, forged: str, behind: list[str]
) -> None:
    assume(not is_in(peer, CHAIN.trusted))
    chain = ", ".join([forged, peer, *behind])
    assert client_of(PROXY, {"X-FORWARDED-FOR": chain}, CHAIN) == client_of(peer, {}, Proxy())


@given(peer=some.text() | FORGED, headers=some.dictionaries(some.just("X-FORWARDED-FOR"), some.text() | FORGED))
def test_no_text_is_an_error_and_an_odd_one_is_in_no_network(peer: str, headers: dict[str, Any]) -> None:
    for proxy in (CHAIN, ON_A_SOCKET):
        client = client_of(peer, headers | {"X-REAL-IP": headers.get("X-FORWARDED-FOR", "")}, proxy)
        assert client in ("", UNIX) or is_in(client, ["0.0.0.0/0", "::/0"])
    assert is_in(peer, ["0.0.0.0/0", "::/0"]) == (client_of(peer, {}, Proxy()) != UNIX)
