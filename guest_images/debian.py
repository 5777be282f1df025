# SPDX-License-Identifier: MIT
"""Debian packages, through apt's own signed metadata, without privilege and beside the host's own packages.

apt is given a private root inside the cache: its own lists, an empty dpkg status, and the suites wanted from
the host's mirror. Everything else (proxies, certificates, credentials) stays the host's. Packages are
unpacked with dpkg-deb and never configured: no maintainer script runs. The network is used only when
something is missing in the cache.
"""

import hashlib
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_images import apt_sources, cache
from guest_images.command import CommandError, capture, run
from guest_images.errors import ImageError
from guest_images.pins import Pin, Suites
from guest_images.progress import Progress

_FRESH_S = 600.0  # lists younger than this are not asked for again
_FETCHED = "fetched"  # its time is when the lists were fetched

# Overrides that -c applies after the host's own files. #clear takes away hooks that act on the host, and pins
# and architectures that were meant for the host's packages.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
#clear Dir::Cache;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{root}/state";
Dir::State::lists "{root}/state/lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/state/extended_states";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{root}/luscope.sources";
Dir::Etc::sourceparts "{root}/none";
Dir::Etc::preferences "{root}/none/preferences";
Dir::Etc::preferencesparts "{root}/none";
"""


_UNREACHABLE = "the mirror cannot be reached: check the network and apt's proxy settings"

# What apt or dpkg-deb prints (a regular expression), and what to do about it; the first that matches.
_MEANINGS = {
    r"No space left on device|don't have enough free space": "the disk is full: free some space",
    r"NO_PUBKEY|is not signed|public key is not available|Conflicting values set for option Signed-By": (
        "its signature cannot be checked: install a newer debian-archive-keyring"
    ),
    r"does not have a Release file|dists/\S+ +(404 +Not Found|Failed to stat)": (
        "it has no such suite: set LUSCOPE_DEBIAN_MIRROR to a mirror that has"
    ),
    r"Temporary failure resolving|Could not resolve|Could not connect": _UNREACHABLE,
    r"Connection (failed|refused|timed out)|Network is unreachable|Unable to connect": _UNREACHABLE,
    r"404 +Not Found": "it is no longer there: set up again, which asks the mirror what it has now",
}


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package, as a suite offers it."""

    name: str
    version: str
    suite: str

    @property
    def directory_version(self) -> str:
        """The version as a directory's name in the cache: without epoch."""
        return self.version.rpartition(":")[2]


class AptRoot:
    """apt with its own lists for some suites of the host's mirror.

    Args:
        suites: names as the mirror spells them.
        source: the mirror and its key.
    """

    def __init__(self, suites: Sequence[str], source: apt_sources.Source) -> None:
        self.suites = tuple(suites)
        self._mirror = source.shown
        stanza = source.for_suites(suites)
        self._directory = cache.root() / "apt" / hashlib.sha256(stanza.encode()).hexdigest()[:12]
        if any(character in str(self._directory) for character in '";{}\n'):
            raise ImageError(
                f"apt cannot use the cache's path {cache.root()}: set LUSCOPE_CACHE to a plainer one"
            )
        self._stanza = stanza

    def update(self, progress: Progress) -> None:
        """Fetch the package lists, unless they were fetched in the last ten minutes.

        Raises:
            ImageError: no network, no such suite, no key, no space.
        """
        with cache.locked("apt", progress):
            self._write_configuration()
            stamp = self._directory / _FETCHED
            if stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < _FRESH_S:
                return
            progress.step(f"fetching the package lists of {', '.join(self.suites)}")
            try:
                run([*self._apt("apt-get"), "update"], progress)
            except CommandError as error:
                raise self._explained(
                    f"cannot fetch the package lists of {' and '.join(self.suites)}", error
                ) from error
            stamp.touch()

    def newest(self, name: str, pin: Pin) -> Package | None:
        """Return the newest version of `name` in the range of `pin` that the fetched lists have, or None."""
        lines = capture([*self._apt("apt-cache"), "madison", name]).splitlines()
        best: Package | None = None
        for line in lines:  # "name | version | uri suite/component arch Packages"
            fields = [field.strip() for field in line.split("|")]
            if len(fields) != 3 or not fields[2].endswith(" Packages"):
                continue
            found = Package(fields[0], fields[1], fields[2].split()[1].rpartition("/")[0])
            upstream = upstream_version(found.version)
            in_range = compare(upstream, "ge", pin.at_least) and (
                pin.below is None or compare(upstream, "lt", pin.below)
            )
            if in_range and (best is None or compare(found.version, "gt", best.version)):
                best = found
        return best

    def depends(self, package: Package) -> str:
        """Return the `Depends` field of `package`."""
        shown = capture([*self._apt("apt-cache"), "show", f"{package.name}={package.version}"])
        matched = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        return matched[1] if matched else ""

    def download(self, packages: Sequence[Package], directory: Path, progress: Progress) -> list[Path]:
        """Fetch exactly `packages` into `directory`; apt checks them against the signed lists.

        Raises:
            ImageError: no network, a package that is no longer there, no space.
        """
        command = ["download", *(f"{package.name}={package.version}" for package in packages)]
        return self._fetch(command, directory, packages, progress, cwd=directory)

    def download_closure(
        self, packages: Sequence[Package], directory: Path, progress: Progress
    ) -> list[Path]:
        """Fetch `packages` and all that they depend on, as for an empty machine, into `directory`.

        Raises:
            ImageError: as `download`, or the dependencies cannot be met.
        """
        (directory / "partial").mkdir(parents=True, exist_ok=True)
        command = ["install", "--download-only", "-y", "-t", packages[0].suite]
        command += ["-o", f"Dir::Cache::archives={directory}"]
        wanted = [f"{package.name}={package.version}" for package in packages]
        return self._fetch([*command, *wanted], directory, packages, progress)

    def _fetch(
        self,
        command: Sequence[str],
        directory: Path,
        packages: Sequence[Package],
        progress: Progress,
        cwd: Path | None = None,
    ) -> list[Path]:
        names = ", ".join(package.name for package in packages)
        try:
            with cache.locked("apt", progress):
                run([*self._apt("apt-get"), *command], progress, cwd=cwd)
        except CommandError as error:
            # The lists may be too old: fetch them next time.
            (self._directory / _FETCHED).unlink(missing_ok=True)
            raise self._explained(f"cannot download {names}", error) from error
        archives = sorted(directory.glob("*.deb"))
        if len(archives) < len(packages):
            raise ImageError(
                f"apt says that it has downloaded {names}, and it is not in {directory}: set up again"
            )
        return archives

    def _apt(self, program: str) -> list[str]:
        return [program, "-c", str(self._directory / "apt.conf")]

    def _write_configuration(self) -> None:
        for name in ("state/lists/partial", "cache/archives/partial", "none"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        _write_anew(self._directory / "luscope.sources", self._stanza)
        _write_anew(self._directory / "apt.conf", _CONFIGURATION.format(root=self._directory))

    def _explained(self, what: str, error: CommandError) -> ImageError:
        return ImageError(f"{what} from {self._mirror}: {explanation(error.lines)}", error.lines)


def _write_anew(path: Path, text: str) -> None:
    """Give a file this text at once: another set-up's apt may be reading it, and must find it whole."""
    if not path.exists() or path.read_text() != text:
        staged = path.with_name(f"{path.name}.new")
        staged.write_text(text)
        staged.replace(path)


def explanation(lines: Sequence[str]) -> str:
    """Say in a few words what apt's or dpkg-deb's output means and what to do."""
    text = "\n".join(lines)
    for pattern, meaning in _MEANINGS.items():
        if re.search(pattern, text):
            return meaning
    errors = [line.strip() for line in lines if line.startswith("E: ")]
    if errors:
        return errors[0]  # the last one is general
    return next((line.strip() for line in reversed(lines) if line.strip()), "apt said nothing")


def find(pin: Pin, suites: Suites, progress: Progress) -> tuple[AptRoot, list[Package]]:
    """Return the newest packages in the range of `pin`, and the apt root that has them.

    Raises:
        ImageError: nothing in the range, or the lists cannot be fetched.
    """
    source = apt_sources.mirror()
    tried: list[str] = []
    for names in suites.for_host(apt_sources.host_codename(), source.suites):
        apt = AptRoot(names, source)
        apt.update(progress)
        found = [apt.newest(name, pin) for name in pin.names]
        if all(found):
            return apt, [package for package in found if package is not None]
        tried += names
    below = f" and below {pin.below.rstrip('~')}" if pin.below else ""
    raise ImageError(
        f"{source.shown} has no {', '.join(pin.names)} of version {pin.at_least} or newer{below}"
        f" in {', '.join(tried)}: set LUSCOPE_DEBIAN_MIRROR to a mirror that has it"
    )


def upstream_version(version: str) -> str:
    """Return a Debian version without epoch and revision: "1:11.1.3+ds-1~bpo13+1" gives "11.1.3+ds"."""
    without_epoch = version.partition(":")[2] if ":" in version else version
    return without_epoch.rpartition("-")[0] if "-" in without_epoch else without_epoch


def compare(left: str, relation: str, right: str) -> bool:
    """Compare two versions as Debian does; `relation` is lt, le, eq, ne, ge or gt."""
    try:
        finished = subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False)
    except OSError as error:
        raise ImageError("dpkg is needed to compare Debian versions and is not here: install it") from error
    return finished.returncode == 0


def unpack(archives: Sequence[Path], directory: Path, progress: Progress) -> None:
    """Unpack `archives` into `directory`, as dpkg lays them out, and delete them.

    Raises:
        ImageError: a damaged archive, or no space.
    """
    for archive in archives:
        try:
            run(["dpkg-deb", "-x", str(archive), str(directory)], progress)
        except CommandError as error:
            raise ImageError(
                f"cannot unpack {archive.name}: {explanation(error.lines)}", error.lines
            ) from error
        progress.output(archive.name)
    for archive in archives:
        archive.unlink(missing_ok=True)
