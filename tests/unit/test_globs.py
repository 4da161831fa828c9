"""Patterns of names with slashes: what they are for, and that nothing in them is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gitopsd.globs import matches, matches_image

WORDS = some.lists(some.sampled_from([*"/*?[]!-^.:aA\\\n", "**", "**/", "[a", "[z-a]", "é"])).map("".join)
PARTS = some.lists(some.sampled_from(["a", "b", "", ".x"]), min_size=1, max_size=5)
PATTERNS = some.lists(some.sampled_from(["a", "b", "", "?", "*", "**", "[ab]"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "of_these", "of_none_of_these"),
    [
        pytest.param("main", ["main"], ["Main", "mains", "amain", "a/main", "main/", "/main", ""], id="plain"),
        pytest.param("*", ["main", "", ".hidden"], ["a/b", "/", "a/"], id="a star alone"),
        pytest.param("v*", ["v", "v1", "v1.2"], ["V1", "v1/a", "a/v1", "xv1"], id="a star"),
        pytest.param("refs/*/v?", ["refs/tags/v1", "refs//v1"], ["refs/v1", "refs/a/b/v1", "refs/tags/v"], id="both"),
        pytest.param("?", ["a", "é", "*"], ["", "ab", "/"], id="a question mark"),
        pytest.param("a?b", ["axb", "a?b"], ["a/b", "ab"], id="a question mark is no slash"),
        pytest.param("v[0-9]", ["v0", "v9"], ["v", "vx", "v10", "v[0-9]", "v-"], id="a range"),
        pytest.param("[!ab]", ["c", "!"], ["a", "b", "/", ""], id="all but these"),
        pytest.param("v[0-", ["v[0-"], ["v0", "v-"], id="a bracket that is not closed"),
        pytest.param("a]b", ["a]b"], ["ab"], id="a bracket that was not opened"),
        pytest.param("a[x/y]b", ["a[x/y]b"], ["axb", "ayb", "a/b"], id="brackets stay in their part"),
        pytest.param("[[]*", ["[a", "["], ["a"], id="a bracket in brackets"),
        pytest.param("site/**", ["site", "site/", "site/a", "site/a/b"], ["sites", "a/site", "site2/a"], id="the end"),
        pytest.param("**/x", ["x", "a/x", "a/b/x", "/x"], ["ax", "x/a", "a/xx"], id="the beginning"),
        pytest.param("a/**/z", ["a/z", "a/b/z", "a/b/c/z", "a//z"], ["az", "a/bz", "b/a/z", "a/z/b"], id="the middle"),
        pytest.param("**", ["", "a", "a/b", "/"], [], id="anything at all"),
        pytest.param("**/**", ["", "a", "a/b/c"], [], id="anything twice"),
        pytest.param("**/a/**/b/**", ["a/b", "x/a/y/b/z", "a/a/b/b"], ["a", "b/a", "ab"], id="several"),
        pytest.param("a**z", ["az", "abz", "a**z"], ["a/z", "a/b/z"], id="two stars that are not a part"),
        pytest.param("***", ["a", ""], ["a/b"], id="three stars are one"),
        pytest.param("**.md", ["a.md", ".md"], ["a/b.md"], id="two stars and more"),
        pytest.param("", [""], ["a", "/"], id="nothing"),
        pytest.param("a/", ["a/"], ["a", "a//"], id="a slash at the end"),
        pytest.param("a.b+(c)|$", ["a.b+(c)|$"], ["axb+(c)|$", "a.b"], id="what has no meaning here"),
        pytest.param("*", ["a\nb", "a\n"], [], id="a line break"),
    ],
)
def test_a_pattern_is_for(pattern: str, of_these: list[str], of_none_of_these: list[str]) -> None:
    assert [name for name in of_these if not matches(name, [pattern])] == []
    assert [name for name in of_none_of_these if matches(name, [pattern])] == []


def test_one_of_several_patterns_is_enough_and_none_are_for_nothing() -> None:
    assert matches("main", ["next", "ma*"])
    assert matches("main", iter(["next", "main"]))
    assert not matches("main", ["next", "other"])
    assert not matches("", [])


@pytest.mark.parametrize(
    ("name", "pattern", "is_for_it"),
    [
        pytest.param("ghcr.io/me/blog", "ghcr.io/me/blog", True, id="with the host"),
        pytest.param("ghcr.io/me/blog", "me/blog", True, id="without the host"),
        pytest.param("ghcr.io/me/blog", "me/*", True, id="any of an owner"),
        pytest.param("ghcr.io/me/blog", "*/blog", True, id="any owner"),
        pytest.param("ghcr.io/me/blog", "*/me/*", True, id="any host"),
        pytest.param("ghcr.io/me/blog", "quay.io/me/blog", False, id="another host"),
        pytest.param("ghcr.io/me/blog", "blog", False, id="the last part"),
        pytest.param("ghcr.io/me/blog", "io/me/blog", False, id="the end of the host"),
        pytest.param("ghcr.io/me/blog", "*", False, id="one part"),
        pytest.param("localhost:5000/me/blog", "me/blog", True, id="a host with a port"),
        pytest.param("localhost:5000/me/blog", "localhost:5000/me/*", True, id="a port in the pattern"),
        pytest.param("localhost:5000/blog", "blog", True, id="no owner"),
        pytest.param("[::1]:5000/me/blog", "me/blog", True, id="an address"),
        pytest.param("me/blog", "me/blog", True, id="no host"),
        pytest.param("me/blog", "blog", False, id="an owner is no host"),
        pytest.param("me/blog", "ghcr.io/me/blog", False, id="a host that is not told"),
        pytest.param("a/b.c/blog", "b.c/blog", False, id="a dot further on makes no host"),
        pytest.param("ghcr.io/me/blog", "ME/blog", False, id="another case"),
        pytest.param("", "me/blog", False, id="an empty name"),
    ],
)
def test_an_image_is_meant_with_the_host_of_its_registry_or_without(name: str, pattern: str, is_for_it: bool) -> None:
    assert matches_image(name, [pattern]) is is_for_it
    assert matches_image(name, ["nothing", pattern]) is is_for_it


@given(name=WORDS | some.text(), pattern=WORDS | some.text())
def test_no_pattern_and_no_name_is_an_error(name: str, pattern: str) -> None:
    assert matches(name, [pattern]) in (True, False)
    assert matches_image(name, [pattern]) in (True, False)
    assert matches(name, [pattern, "**"])


def by_trying_all(parts: list[str], patterns: list[str]) -> bool:
    """The same as it is said: a `**` is none of the parts, or one and again a `**`."""
    if not patterns:
        return not parts
    first, *rest = patterns
    if first == "**":
        return by_trying_all(parts, rest) or (bool(parts) and by_trying_all(parts[1:], patterns))
    if not parts:
        return False
    part = parts[0]
    is_taken = {"*": True, "?": len(part) == 1, "[ab]": part in ("a", "b")}.get(first, part == first)
    return is_taken and by_trying_all(parts[1:], rest)


@given(parts=PARTS, patterns=PATTERNS)
def test_a_pattern_takes_exactly_what_any_way_to_read_it_takes(parts: list[str], patterns: list[str]) -> None:
    assert matches("/".join(parts), ["/".join(patterns)]) is by_trying_all(parts, patterns)


@pytest.mark.timeout(20)
def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matches("a/" * 10_000 + "b", ["**/" * 80 + "x"])
    assert matches("a/" * 10_000 + "x", ["**/" * 80 + "x"])
    assert not matches("a" * 200 + "c", ["a*" * 100 + "b"])
