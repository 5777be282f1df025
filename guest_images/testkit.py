# SPDX-License-Identifier: MIT
"""Stand-ins for tests: progress that remembers, and a Debian archive in a directory for the real apt."""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guest_images.apt_sources import Source


@dataclass
class RememberingProgress:
    """Progress that keeps what it is told."""

    steps: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        """Keep `text`."""
        self.steps.append(text)

    def output(self, line: str) -> None:
        """Keep `line`."""
        self.lines.append(line)

    def done(self, text: str) -> None:
        """Keep `text`."""
        self.ends.append(text)


@dataclass(frozen=True)
class DirectoryArchive:
    """A Debian archive below `directory`. It is not signed; `source` says that it is trusted."""

    directory: Path

    @property
    def source(self) -> Source:
        """The archive as a host's source, of release bookworm."""
        return Source(("deb",), (f"file:{self.directory}",), ("bookworm",), ("main",), {"trusted": "yes"})

    def add(self, suite: str, name: str, version: str, files: Mapping[str, bytes], depends: str = "") -> None:
        """Build a package of executable `files` and list it in `suite`; it counts after `publish`."""
        root = self.directory / "build" / f"{name}_{version.rpartition(':')[2]}_amd64"
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
            (root / path).chmod(0o755)
        fields = {
            "Package": name,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "nobody <n@example.org>",
        }
        fields |= {"Depends": depends} if depends else {}
        fields |= {"Description": "for a test"}
        control = "".join(f"{key}: {value}\n" for key, value in fields.items())
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(control)
        deb = self.directory / "pool" / f"{root.name}.deb"
        deb.parent.mkdir(exist_ok=True)
        command = ["dpkg-deb", "--root-owner-group", "-b", str(root), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        with self._packages(suite).open("a") as file:
            file.write(
                f"{control}Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"
            )

    def publish(self, *suites: str) -> None:
        """Write the Release files of `suites` for what was added so far."""
        for suite in suites:
            packages = self._packages(suite)
            packages.touch()
            data = packages.read_bytes()
            # A package of backports is taken only when it, or its suite, is asked for.
            aside = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" if suite.endswith("-backports") else ""
            (self.directory / "dists" / suite / "Release").write_text(
                f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
                f"{aside}Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
                f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
            )

    def _packages(self, suite: str) -> Path:
        path = self.directory / "dists" / suite / "main" / "binary-amd64" / "Packages"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
