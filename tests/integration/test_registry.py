"""Docker's own registry tells a daemon of what is pushed to it; the daemon deploys, and never holds the registry up."""

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gitopsd.providers import PROVIDERS
from tests.site import WAIT_SEC, Site, wait_for

TOKEN = "a-token-for-the-registry"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG, LAYER = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
ENDPOINT = {
    "name": "gitopsd",
    "headers": {"Authorization": [f"Bearer {TOKEN}"]},
    "timeout": "1s",
    "threshold": 10,
    "backoff": "1s",
}
RECORD = 'echo "$GITOPSD_EVENT_TYPE $GITOPSD_IMAGE $GITOPSD_TAG $GITOPSD_DIGEST" >> ../deploys'

_ADDRESS = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)\"")


class Registry:
    """A real one on a port of its own, with its storage below `root`, which notifies `endpoint`."""

    def __init__(self, root: Path, endpoint: Mapping[str, Any]) -> None:
        self._config_path, self._log_path = root / "registry.yml", root / "registry.log"
        self._debug = f"127.0.0.1:{_free_port()}"  # the log does not tell which one it would have chosen itself
        settings = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(root / "registry")}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0", "debug": {"addr": self._debug}},
            "notifications": {"endpoints": [dict(endpoint)]},
        }
        self._config_path.write_text(yaml.safe_dump(settings))
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        with self._log_path.open("wb") as log:
            argv = [str(_program()), "serve", str(self._config_path)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        found: re.Match[str] = wait_for(self._listens, "the registry to listen")
        self.address = found[1]

    def _listens(self) -> re.Match[str] | None:
        assert self._process is not None
        log = self._log_path.read_text()
        assert self._process.poll() is None, log
        return _ADDRESS.search(log)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_SEC)

    # What clients do

    def push_blob(self, repository: str, content: bytes) -> str:
        """Its digest."""
        digest = _digest(content)
        begun = self._request("POST", f"/v2/{repository}/blobs/uploads/", 202)
        place = urlsplit(begun["Location"])
        self._request("PUT", f"{place.path}?{place.query}&digest={digest}", 201, content)
        return digest

    def push(self, repository: str, tag: str = "", content: str = "hello") -> str:
        """Push an image with one layer under `tag`, or by its digest alone, which is returned."""
        config, layer = b"{}", content.encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": self.push_blob(repository, config)},
            "layers": [{"mediaType": LAYER, "size": len(layer), "digest": self.push_blob(repository, layer)}],
        }
        return self.push_manifest(repository, tag, manifest)

    def push_manifest(self, repository: str, tag: str, manifest: Mapping[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        path = f"/v2/{repository}/manifests/{tag or _digest(body)}"
        self._request("PUT", path, 201, body, {"Content-Type": manifest["mediaType"]})
        return _digest(body)

    def pull(self, repository: str, tag: str) -> None:
        self._request("GET", f"/v2/{repository}/manifests/{tag}", 200, headers={"Accept": MANIFEST})

    def delete(self, repository: str, digest: str) -> None:
        self._request("DELETE", f"/v2/{repository}/manifests/{digest}", 202)

    def _request(
        self, method: str, path: str, wanted: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        connection = http.client.HTTPConnection(self.address, timeout=WAIT_SEC)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            answer = response.read()
            assert response.status == wanted, answer
            return dict(response.getheaders())
        finally:
            connection.close()

    # What it says of its notifications

    def metrics(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._debug, timeout=WAIT_SEC)
        try:
            connection.request("GET", "/debug/vars")
            told = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        (endpoint,) = told["registry"]["notifications"]["endpoints"]
        metrics: dict[str, Any] = endpoint["Metrics"]
        return metrics

    def wait_until_told(self, events: int) -> dict[str, Any]:
        """Wait until there were so many events, and none of them waits any more; its metrics."""

        def told() -> dict[str, Any] | None:
            metrics = self.metrics()
            return metrics if metrics["Events"] >= events and metrics["Pending"] == 0 else None

        found: dict[str, Any] = wait_for(told, f"{events} events to be told")
        return found


@dataclass(frozen=True)
class Place:
    """A daemon, and a registry that notifies it. `deploys` is what deploys were told, a line for each."""

    site: Site
    registry: Registry

    def deploys(self) -> list[str]:
        path = self.site.root / "checkouts" / "deploys"
        return path.read_text().splitlines() if path.exists() else []

    def said(self, image: str, tag: str, digest: str) -> str:
        return f"push {self.registry.address}/{image} {tag} {digest}"


@pytest.fixture
def place(site: Site, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes one for a repo `blog` that is deployed already, with settings for it and for the receiver."""
    _require_registry(request.config)

    @contextmanager
    def make(
        *, endpoint: Mapping[str, Any] = ENDPOINT, rules: Mapping[str, Any] | None = None, **settings: Any
    ) -> Iterator[Place]:
        receiver = {"provider": "registry", "secrets": ["registry-token"], **(rules or {})}
        default = {"provider": "github", "secrets": ["github-webhook-secret"]}
        site.settings["receivers"] = {"default": default, "registry": receiver}
        site.environment["REGISTRY_TOKEN"] = TOKEN
        remote = site.add_repo("blog", deploy=RECORD, **settings)
        site.start()
        assert site.deliver("blog", remote.tip()).status == 202
        site.wait_for_job("blog", "succeeded")
        (site.root / "checkouts" / "deploys").unlink()
        with site.connect() as connection:
            host, port = connection.getpeername()
        registry = Registry(site.root, {**endpoint, "url": f"http://{host}:{port}/hook/registry"})
        try:
            registry.start()
            yield Place(site, registry)
        finally:
            registry.close()

    return make


def _program() -> str | None:
    """Where scripts/test.sh has unpacked Debian's package, or where it is installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gitopsd-tests"
    return shutil.which("docker-registry", path=f"{cache}/docker-registry/usr/bin") or shutil.which("docker-registry")


def _require_registry(config: pytest.Config) -> None:
    if _program() is None:
        reason = "no docker-registry here (scripts/test.sh fetches it where there is apt-get)"
        if config.getoption("--no-skips"):
            pytest.fail(f"--no-skips: {reason}", pytrace=False)
        pytest.skip(reason)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        pytest.param({}, {"images": ["me/blog"]}, id="the repo names its images"),
        pytest.param({"repos": ["blog"]}, {}, id="the receiver names its repos"),
        pytest.param({"repos": ["blog"], "tags": ["v*"]}, {"images": ["**/blog"]}, id="both, and tags"),
    ],
)
def test_an_image_is_deployed_once_although_no_commit_is_new(
    place: Callable[..., Any], rules: dict[str, Any], settings: dict[str, Any]
) -> None:
    with place(rules=rules, **settings) as here:
        revision = here.site.deployed("blog")

        digest = here.registry.push("me/blog", "v1")

        here.site.wait_for_job("blog", "succeeded", count=2)
        metrics = here.registry.wait_until_told(3)
        assert (metrics["Events"], metrics["Successes"]) == (3, 3)
        assert metrics["Statuses"] == {"200 OK": 2, "202 Accepted": 1}
        here.site.wait_until_settled("blog")
        assert here.deploys() == [here.said("me/blog", "v1", digest)]
        assert here.site.deployed("blog") == revision


def test_an_endpoint_as_init_prints_it_tells_of_images_and_of_nothing_else(place: Callable[..., Any]) -> None:
    rows = dict(PROVIDERS["registry"].form)
    endpoint = {key: yaml.safe_load(rows[key]) for key in ("name", "ignore")}
    endpoint |= yaml.safe_load(rows["Header"].replace("<the secret>", TOKEN))
    with place(endpoint=endpoint, images=["me/blog"]) as here:
        digest = here.registry.push("me/blog", "latest")
        here.registry.pull("me/blog", "latest")

        here.site.wait_for_job("blog", "succeeded", count=2)

        assert here.registry.wait_until_told(1)["Statuses"] == {"202 Accepted": 1}
        assert here.deploys() == [here.said("me/blog", "latest", digest)]


def test_what_is_no_image_deploys_nothing(place: Callable[..., Any]) -> None:
    with place(images=["me/blog"]) as here:
        here.registry.push_blob("me/blog", b"one")
        here.registry.push_blob("me/blog", b"two")
        here.registry.push("me/blog")
        here.registry.push("me/wiki", "latest")

        metrics = here.registry.wait_until_told(8)

        assert metrics["Statuses"] == {"200 OK": 8}
        assert here.deploys() == []
        assert len(here.site.jobs("blog")) == 1


def test_nothing_that_a_registry_tells_holds_its_queue_up(place: Callable[..., Any]) -> None:
    with place(rules={"repos": ["blog"]}) as here:
        registry = here.registry
        digests = [registry.push("me/blog", f"v{number}", content=f"content {number}") for number in range(5)]
        parts = [registry.push("me/blog", content=f"for machine {number}") for number in range(2)]
        manifests = [{"mediaType": MANIFEST, "size": 1, "digest": part, "platform": {}} for part in parts]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        registry.pull("me/blog", "v0")
        registry.delete("me/blog", digests[1])
        registry.push("me/blog", "v1", content="content 1")
        last = registry.push_manifest("me/blog", "latest", index)

        # Of an image two blobs and itself: five, two and the one that was pushed again; then a pull, a deletion and
        # the list of the two.
        metrics = registry.wait_until_told(3 * 8 + 3)

        assert metrics["Events"] == metrics["Successes"]
        assert (metrics["Pending"], metrics["Failures"], metrics["Errors"]) == (
            0,
            0,
            0,
        )  # each was answered in a second
        assert set(metrics["Statuses"]) == {"200 OK", "202 Accepted"}
        here.site.wait_until_settled("blog")
        assert 1 <= len(here.deploys()) <= 7
        assert here.deploys()[-1] == here.said("me/blog", "latest", last)


def test_what_is_pushed_while_the_daemon_is_down_is_deployed_when_it_is_back(place: Callable[..., Any]) -> None:
    with place(images=["me/blog"]) as here:
        here.site.stop()
        digest = here.registry.push("me/blog", "latest")
        wait_for(lambda: here.registry.metrics()["Errors"], "the registry to have tried in vain")

        here.site.start()

        here.site.wait_for_job("blog", "succeeded", count=2)
        assert here.registry.wait_until_told(3)["Failures"] == 0
        here.site.wait_until_settled("blog")
        assert here.deploys() == [here.said("me/blog", "latest", digest)]


def test_a_wrong_token_opens_nothing_and_holds_the_queue_up_until_it_is_set_right(place: Callable[..., Any]) -> None:
    with place(images=["me/blog"]) as here:
        here.registry.push("me/blog", "before")
        here.site.wait_for_job("blog", "succeeded", count=2)
        here.site.environment["REGISTRY_TOKEN"] = "another"
        here.site.stop()
        here.site.start()
        digest = here.registry.push("me/blog", "latest", content="new")
        wait_for(lambda: here.registry.metrics()["Failures"], "the registry to be refused")
        assert len(here.site.jobs("blog")) == 2

        here.site.environment["REGISTRY_TOKEN"] = TOKEN
        here.site.stop()
        here.site.start()

        here.site.wait_for_job("blog", "succeeded", count=3)
        here.site.wait_until_settled("blog")
        assert here.deploys()[-1] == here.said("me/blog", "latest", digest)
