"""What the `ref` of a repo stands for: a branch, or tags of which the highest version is followed."""

import pytest

from gitopsd.globs import is_followed
from gitopsd.references import called, follows_tags, pattern_of


@pytest.mark.parametrize(
    ("ref", "is_tags", "pattern", "in_words"),
    [
        ("main", False, "refs/heads/main", "refs/heads/main"),
        ("feature/x-1", False, "refs/heads/feature/x-1", "refs/heads/feature/x-1"),
        ("v1.2", False, "refs/heads/v1.2", "refs/heads/v1.2"),
        ("tags/v1", False, "refs/heads/tags/v1", "refs/heads/tags/v1"),
        ("v*", True, "refs/tags/v*", "the tags v*"),
        ("*", True, "refs/tags/*", "the tags *"),
        ("v?.0", True, "refs/tags/v?.0", "the tags v?.0"),
        ("refs/tags/v*", True, "refs/tags/v*", "the tags v*"),
        ("refs/tags/v1.2", True, "refs/tags/v1.2", "the tag v1.2"),
    ],
)
def test_a_ref_stands_for_a_branch_or_for_tags(ref: str, is_tags: bool, pattern: str, in_words: str) -> None:
    assert (follows_tags(ref), pattern_of(ref), called(ref)) == (is_tags, pattern, in_words)


@pytest.mark.parametrize(
    ("ref", "followed", "not_followed"),
    [
        pytest.param(
            "main",
            ["refs/heads/main"],
            ["refs/tags/main", "main", "refs/heads/main2", "refs/heads/x/main"],
            id="branch",
        ),
        pytest.param(
            "v*",
            ["refs/tags/v1", "refs/tags/v1.10.3", "refs/tags/v", "refs/tags/v2.0rc1"],
            ["refs/heads/v1", "refs/tags/1.0", "refs/tags/v1/x", "refs/tags/x/v1", "refs/tags/v2.0-rc1", "v1"],
            id="pattern",
        ),
        pytest.param("*", ["refs/tags/v1", "refs/tags/nightly"], ["refs/tags/a/b", "refs/tags/a-b"], id="all"),
        pytest.param("v?", ["refs/tags/v1"], ["refs/tags/v10", "refs/tags/v", "refs/tags/v-"], id="one sign"),
        pytest.param(
            "v*-rc*", ["refs/tags/v2-rc1"], ["refs/tags/v2", "refs/tags/v2-beta"], id="pre-releases and nothing else"
        ),
        pytest.param("release-*", ["refs/tags/release-1", "refs/tags/release-1-rc1"], ["refs/tags/r1"], id="hyphen"),
        pytest.param("app/v*", ["refs/tags/app/v1"], ["refs/tags/v1", "refs/tags/app/v1/x"], id="part of a name"),
        pytest.param(
            "refs/tags/v1.2-rc1", ["refs/tags/v1.2-rc1"], ["refs/tags/v1.2", "refs/heads/v1.2-rc1"], id="one tag"
        ),
        pytest.param("v1.2", ["refs/heads/v1.2"], ["refs/tags/v1.2"], id="a branch that is called like a version"),
    ],
)
def test_who_follows_a_ref_waits_for_a_push_of(ref: str, followed: list[str], not_followed: list[str]) -> None:
    assert [name for name in followed if not is_followed(name, ref)] == []
    assert [name for name in not_followed if is_followed(name, ref)] == []
