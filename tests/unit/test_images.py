"""What the name, the tag and the digest of an image can be, wherever they come from."""

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.providers import generic
from gitopsd.providers.images import image_of
from gitopsd.references import host_in, is_digest

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "name", ["blog", "me/blog", "a/b/c/d", "a-b/c_d/e.f", "a--b", "a__b", "0", "library/debian", "x" * 238]
)
def test_a_name_is_words_with_slashes(name: str) -> None:
    assert image_of(name, "latest").name == name
    assert image_of(name, "latest", host="Example.ORG:5000").name == f"example.org:5000/{name}"


NO_NAMES = [
    "",
    "/",
    "/blog",
    "blog/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "./a",
    "-a",
    "a-",
    "_a",
    "a..b",
    "a___b",
    "a.-b",
    "A",
]
NO_NAMES += ["a b", "a:b", "a@b", "a\nb", "a\n", "$(a)", "a;b", "x" * 256, "a\u202eb", "a\\b", "a*", "https://a/b", "é"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_other_is_a_name(name: str) -> None:
    with pytest.raises(PayloadError, match="'it' is not the name of an image"):
        image_of(name, "latest", keys=("it", "tag", "digest"))


def test_a_name_is_not_longer_than_255_with_its_host() -> None:
    assert image_of("x" * 255, "latest").name == "x" * 255
    assert image_of("x" * 250, "latest", host="a.io").name == f"a.io/{'x' * 250}"
    with pytest.raises(PayloadError, match="'repository'"):
        image_of("x" * 251, "latest", host="a.io")


@pytest.mark.parametrize("tag", ["latest", "1.0", "_1", "V1.0-rc.1", "a" * 128])
def test_a_tag_is_one_word(tag: str) -> None:
    assert image_of("blog", tag) == Image(name="blog", tag=tag)


@pytest.mark.parametrize("tag", ["", "-v", ".v", "a b", "a/b", "a:b", "a\n", "é", "$v", "a" * 129, DIGEST])
def test_no_other_is_a_tag(tag: str) -> None:
    with pytest.raises(PayloadError, match="'it' is not a tag"):
        image_of("blog", tag, keys=("name", "it", "digest"))


@pytest.mark.parametrize("digest", [DIGEST, f"sha512:{'0' * 128}", f"sha256.v2:{'0' * 32}"])
def test_a_digest_names_how_it_was_made(digest: str) -> None:
    assert is_digest(digest)
    assert image_of("blog", "latest", digest) == Image(name="blog", tag="latest", digest=digest)


@pytest.mark.parametrize(
    "digest",
    [
        "latest",
        "sha256:",
        "sha256:12",
        "a" * 64,
        f":{'a' * 64}",
        f"SHA256:{'a' * 64}",
        f"{DIGEST}\n",
        f"{DIGEST}/..",
        f"sha256:{'A' * 64}",
    ],
)
def test_no_other_is_a_digest(digest: str) -> None:
    assert not is_digest(digest)
    with pytest.raises(PayloadError, match="'it' is not a digest"):
        image_of("blog", "latest", digest, keys=("name", "tag", "it"))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ghcr.io/me/blog", "ghcr.io"),
        ("localhost/blog", "localhost"),
        ("localhost:5000/blog", "localhost:5000"),
        ("[::1]:5000/blog", "[::1]:5000"),
        ("registry:5000/blog", "registry:5000"),
        ("me/blog", ""),
        ("blog", ""),
        ("ghcr.io", ""),
        ("ghcr.io:x/blog", ""),
        ("-ghcr.io/blog", ""),
        ("https://ghcr.io/blog", ""),
        ("", ""),
    ],
)
def test_a_host_is_told_by_its_dot_or_port(name: str, host: str) -> None:
    assert host_in(name) == host


# As a person writes it


@pytest.mark.parametrize(
    ("payload", "image"),
    [
        (
            {"image": "ghcr.io/me/blog", "tag": "v1", "digest": DIGEST},
            Image(name="ghcr.io/me/blog", tag="v1", digest=DIGEST),
        ),
        ({"image": "GHCR.io/me/blog"}, Image(name="ghcr.io/me/blog", tag="")),
        ({"image": "me/blog", "tag": None, "digest": None}, Image(name="me/blog", tag="")),
        ({"image": "blog", "tag": "", "digest": ""}, Image(name="blog", tag="")),
        ({"image": "localhost:5000/blog", "digest": DIGEST}, Image(name="localhost:5000/blog", tag="", digest=DIGEST)),
    ],
)
def test_an_image_in_a_body_of_ones_own(payload: dict[str, str], image: Image) -> None:
    assert generic.parse({}, payload).images == (image,)


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({"image": ""}, "image"),
        ({"image": 7}, "image"),
        ({"image": "--privileged"}, "image"),
        ({"image": "ghcr.io/me/blog:"}, "tag"),
        ({"image": "ghcr.io/me/blog:v1:v2"}, "tag"),
        ({"image": "ghcr.io:x/me/blog"}, "tag"),
        ({"image": "https://ghcr.io/me/blog"}, "tag"),
        ({"image": "Me/Blog"}, "image"),
        ({"image": "blog@sha256:1"}, "digest"),
        ({"image": "blog", "tag": "-rm"}, "tag"),
        ({"image": "blog", "tag": 1.0}, "tag"),
        ({"image": "blog", "digest": "1"}, "digest"),
    ],
)
def test_a_mistake_in_it_names_the_attribute(payload: dict[str, str], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        generic.parse({}, payload)


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("ghcr.io/me/blog:v1", Image(name="ghcr.io/me/blog", tag="v1")),
        ("localhost:5000/blog:v1", Image(name="localhost:5000/blog", tag="v1")),
        ("localhost:5000/blog", Image(name="localhost:5000/blog", tag="")),
        (f"me/blog:v1@{DIGEST}", Image(name="me/blog", tag="v1", digest=DIGEST)),
        (f"me/blog@{DIGEST}", Image(name="me/blog", tag="", digest=DIGEST)),
    ],
)
def test_a_reference_may_be_written_in_one_as_people_do(reference: str, image: Image) -> None:
    assert generic.parse({}, {"image": reference}) == Event(kind="image", images=(image,))
