"""Reading JSON that a stranger wrote: nothing but PayloadError, and its text names the attribute."""

import json
import tracemalloc
from typing import Any
from urllib.parse import urlencode

import pytest

from gitopsd.errors import PayloadError
from gitopsd.payload import decode, get_flag, get_id, get_object, get_text

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PUSH = {"ref": "refs/heads/main", "note": "déjà & vu + 1 = 2 %41"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(json.dumps(PUSH).encode(), JSON, id="json"),
        pytest.param(json.dumps(PUSH, ensure_ascii=False, indent=1).encode(), JSON, id="utf-8"),
        pytest.param(urlencode({"payload": json.dumps(PUSH)}).encode(), FORM, id="form"),
        pytest.param(
            urlencode({"a": "", "payload": json.dumps(PUSH), "b": "2"}).encode(), FORM, id="form, more fields"
        ),
    ],
)
def test_json_and_form_bodies_give_the_same_object(body: bytes, content_type: str) -> None:
    assert decode(body, content_type) == PUSH


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"", JSON, id="nothing"),
        pytest.param(b"\x00", JSON, id="nul"),
        pytest.param(b'{"a": "\xff"}', JSON, id="not utf-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), JSON, id="utf-16"),
        pytest.param(b"\xef\xbb\xbf{}", JSON, id="byte order mark"),
        pytest.param(b'{"a": 1', JSON, id="cut off"),
        pytest.param(b"{} {}", JSON, id="two objects"),
        pytest.param(b"[]", JSON, id="a list"),
        pytest.param(b"null", JSON, id="null"),
        pytest.param(b'"push"', JSON, id="a text"),
        pytest.param(b'{"a": NaN}', JSON, id="not a number"),
        pytest.param(b'{"a": -Infinity}', JSON, id="infinity"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", JSON, id="more digits than Python reads"),
        pytest.param(b'{"a":' * 100_000, JSON, id="deep objects"),
        pytest.param(b"[" * 100_000, JSON, id="deep lists"),
        pytest.param(urlencode({"payload": "{}"}).encode(), JSON, id="a form sent as json"),
        pytest.param(b"{}", FORM, id="json sent as a form"),
        pytest.param(b"", FORM, id="empty form"),
        pytest.param(b"payload=", FORM, id="empty field"),
        pytest.param(b"other=%7B%7D", FORM, id="no field payload"),
        pytest.param(b"payload=%7B%7D&payload=%7B%7D", FORM, id="field payload twice"),
        pytest.param(b"payload=%ff", FORM, id="escaped bytes that are not utf-8"),
        pytest.param(b"payload=%7B%7D" + b"&a=1" * 1000, FORM, id="too many fields"),
    ],
)
def test_what_is_not_one_object_is_an_error(body: bytes, content_type: str) -> None:
    with pytest.raises(PayloadError, match="body"):
        decode(body, content_type)


WRONG_TEXTS: list[Any] = [1, 1.5, True, [], {}, ["a"], "a\nb", "\x00", "\x7f", "\x85", "\ud800", "a" * 4097]


@pytest.mark.parametrize("value", WRONG_TEXTS, ids=lambda value: ascii(value)[:20])
def test_a_text_that_is_none_is_an_error_that_names_the_attribute(value: object) -> None:
    with pytest.raises(PayloadError, match="'ref' is not a text") as caught:
        get_text({"ref": value}, "ref", "default")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_text_may_be_absent_or_null_only_where_there_is_a_default() -> None:
    assert get_text({}, "ref", "default") == get_text({"ref": None}, "ref", "default") == "default"
    for payload in ({}, {"ref": None}):
        with pytest.raises(PayloadError, match="'ref'"):
            get_text(payload, "ref")


def test_a_text_of_any_script_comes_out_as_it_is() -> None:
    assert get_text({"ref": "grün/分支/🌱" + "a" * 4000}, "ref") == "grün/分支/🌱" + "a" * 4000
    assert get_text({"ref": ""}, "ref", "default") == ""


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (7, "7"),
        (0, "0"),
        ("7", "7"),
        ("{7b2f6c4a}", "{7b2f6c4a}"),
        ("a" * 100, "a" * 100),
        (10**99, "1" + "0" * 99),
        *((value, "") for value in (None, "", "a" * 101, 10**100, 10**5000, -(10**99), "a b", "a\n", "\x00", "é")),
        *((value, "") for value in (True, False, 1.0, [], [7], {}, {"id": 7})),
    ],
    ids=lambda value: ascii(value)[:20] if not isinstance(value, int) or value < 10**100 else "too large",
)
def test_an_id_is_a_number_or_a_short_text_and_nothing_like_it(value: object, known: str) -> None:
    assert get_id({"id": value}, "id") == known


def test_an_absent_id_is_none() -> None:
    assert get_id({}, "id") == ""


@pytest.mark.parametrize(
    ("value", "flag"), [(True, True), (False, False), (None, False), (0, None), (1, None), ("true", None), ([], None)]
)
def test_a_flag_is_true_or_false_and_nothing_like_it(value: object, flag: bool | None) -> None:
    if flag is not None:
        assert get_flag({"deleted": value}, "deleted") is flag
        return
    with pytest.raises(PayloadError, match="'deleted' is not true or false"):
        get_flag({"deleted": value}, "deleted")


def test_an_absent_flag_is_false() -> None:
    assert get_flag({}, "deleted") is False


@pytest.mark.parametrize("payload", [{}, {"repository": None}, {"repository": []}, {"repository": "x"}])
def test_an_object_has_to_be_one(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="'repository' is not an object"):
        get_object(payload, "repository")


@pytest.mark.parametrize("part", ["[]", "{}", "0", '""'])
def test_a_body_of_a_million_parts_is_turned_down_before_it_is_read(part: str) -> None:
    body = f'{{"a": [{",".join([part] * 1_000_001)}]}}'.encode()
    with pytest.raises(PayloadError, match="body has more than 1000000 parts"):
        decode(body, JSON)


@pytest.mark.parametrize("part", ["[]", "{}", "[{}]", '{"a":0}', '""', "1e9"])
def test_what_a_body_takes_in_memory_is_bounded_by_its_parts(part: str) -> None:
    body = f'{{"a": [{",".join([part] * 20_000)}]}}'.encode()
    tracemalloc.start()
    try:
        decode(body, JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * (body.count(b",") + body.count(b"[") + body.count(b"{"))
