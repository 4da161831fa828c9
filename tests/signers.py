"""Real keys of ssh and gpg, and what they sign: commits and tags in a bare repository, without a working tree."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.remote import git_environment

LONG_AGO = "20200101T000000"
"""When the key of gpg that has expired was made, and what it signed."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What makes and checks signatures in somebody's name. `identity` is what an engine calls them by."""

    kind: str
    identity: str
    public: str
    settings: Mapping[str, str]

    @property
    def options(self) -> list[str]:
        return [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]


class Keys:
    """Keys below a directory, which holds a home for gpg, too; `close` ends the agent that gpg has started there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.gnupg_home = directory / "gnupg"
        self.gnupg_home.mkdir(mode=0o700, parents=True)

    def close(self) -> None:
        self.run(["gpgconf", "--kill", "all"])

    def run(self, argv: Sequence[str], *, text: str = "", **environment: str) -> str:
        """What a command prints that sees no home of gpg but this one."""
        done = subprocess.run(
            list(argv),
            input=text,
            env=git_environment(GNUPGHOME=str(self.gnupg_home), **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout.strip()

    def ssh(self, name: str) -> Key:
        file = self._directory / name
        self.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)])
        identity, public = f"{name}@example.org", file.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
        return Key(
            kind="ssh",
            identity=identity,
            public=f"{identity} {public}\n",
            settings={"gpg.format": "ssh", "user.signingKey": str(file)},
        )

    def gpg(self, name: str, *, expired: bool = False) -> Key:
        """A key of gpg; one that has expired was good for a day long ago, and signs on that day."""
        options = ["--faked-system-time", LONG_AGO] if expired else []
        generate = [
            "--quick-generate-key",
            f"{name} <{name}@example.org>",
            "ed25519",
            "sign",
            "1d" if expired else "never",
        ]
        told = self._gpg(*options, "--passphrase", "", "--status-fd", "1", *generate)
        fingerprint = told.rsplit(" ", 1)[1]
        program = self._directory / f"gpg-{name}"
        program.write_text(f'#!/bin/sh\nexec gpg --batch --quiet {" ".join(options)} "$@"\n')
        program.chmod(0o755)
        return Key(
            kind="gpg",
            identity=fingerprint,
            public=self._export(fingerprint),
            settings={"gpg.format": "openpgp", "gpg.program": str(program), "user.signingKey": fingerprint},
        )

    def revoked(self, key: Key) -> str:
        """The public part of a key of gpg with its revocation."""
        certificate = self.gnupg_home / "openpgp-revocs.d" / f"{key.identity}.rev"
        self._gpg("--import", text=certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
        return self._export(key.identity)

    def _export(self, fingerprint: str) -> str:
        return self._gpg("--armor", "--export", fingerprint) + "\n"

    def _gpg(self, *words: str, text: str = "") -> str:
        return self.run(["gpg", "--batch", "--quiet", *words], text=text)


class Studio:
    """A bare repository in which commits and tags are made by hand, signed or not."""

    def __init__(self, bare: Path, keys: Keys) -> None:
        self.bare = bare
        self._keys = keys
        self._count = 0

    def git(self, *words: str, text: str = "") -> str:
        return self._keys.run(["git", "-C", str(self.bare), *words], text=text)

    def commit(self, *parents: str, by: Key | None = None) -> str:
        """A commit whose tree is no other's."""
        self._count += 1
        blob = self.git("hash-object", "-w", "--stdin", text=f"content {self._count}\n")
        tree = self.git("mktree", text=f"100644 blob {blob}\tpage\n")
        before = [word for parent in parents for word in ("-p", parent)]
        sign, options = (["-S"], by.options) if by else ([], [])
        return self.git(*options, "commit-tree", *sign, *before, "-m", f"commit {self._count}", tree)

    def tamper(self, commit: str) -> str:
        """The same commit with another message under the same signature."""
        content = self.git("cat-file", "commit", commit).replace("\n\ncommit ", "\n\ntampered ")
        return self.git("hash-object", "-t", "commit", "-w", "--stdin", text=content + "\n")

    def tag(self, name: str, commit: str, *, by: Key | None = None) -> str:
        """An annotated tag, signed or not; its object."""
        self.git(*(by.options if by else []), "tag", "-f", "-s" if by else "-a", "-m", name, name, commit)
        return self.git("rev-parse", f"refs/tags/{name}")

    def point(self, ref: str, target: str) -> None:
        self.git("update-ref", ref, target)


@contextmanager
def open_keys(directory: Path) -> Iterator[Keys]:
    keys = Keys(directory)
    try:
        yield keys
    finally:
        keys.close()


def agents(home: Path) -> list[str]:
    """The daemons of gpg that were started where this directory is the home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, environment = ((entry / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            except OSError:
                continue
            if b"gpg" in words[0] and b"HOME=" + os.fsencode(home) in environment:
                found.append(os.fsdecode(b" ".join(words)))
    return found
