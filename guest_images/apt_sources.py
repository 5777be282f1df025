# SPDX-License-Identifier: MIT
"""The host's own package sources: which mirror it takes Debian from, and with which key.

Both formats of sources.list(5) are read. No mirror is written in this project: what another release needs is
asked of the mirror that the host already trusts, or of `$LUSCOPE_DEBIAN_MIRROR`.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guest_images.command import CommandError, capture
from guest_images.errors import ImageError

ARCHIVE_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Options of a stanza that belong to one suite or one machine; a stanza for another suite states its own.
_NOT_CARRIED = frozenset(
    {
        "types",
        "uris",
        "suites",
        "components",
        "enabled",
        "architectures",
        "targets",
        "languages",
        "pdiffs",
        "by-hash",
    }
)
_ONE_LINE_NAMES = {"arch": "architectures", "lang": "languages", "target": "targets"}


@dataclass(frozen=True, slots=True)
class Source:
    """One stanza or line: what is taken from where; `options` are the other fields, by lower-case name."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str]
    enabled: bool = True

    @property
    def shown(self) -> str:
        """The first mirror, for messages: without user name and password."""
        return re.sub(r"//[^/@]*@", "//", self.uris[0])

    def for_suites(self, suites: Iterable[str]) -> str:
        """Return a deb822 stanza that takes the main component of `suites` from this mirror, with its key."""
        fields = {
            "Types": "deb",
            # apt uses packages of a file: mirror where they lie; copy: is the same mirror, fetched like any
            # other.
            "URIs": " ".join(re.sub("^file:", "copy:", uri) for uri in self.uris),
            "Suites": " ".join(suites),
            "Components": "main",
        }
        fields |= {name.title(): value for name, value in self.options.items() if name not in _NOT_CARRIED}
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def parse_deb822(text: str) -> list[Source]:
    """Read a `.sources` file: stanzas of `Name: value`, indented continuations, lines of `#` comments."""
    sources = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line.rstrip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "uris" in fields:
            sources.append(
                Source(
                    types=tuple(fields.get("types", "deb").split()),
                    uris=tuple(fields["uris"].split()),
                    suites=tuple(fields.get("suites", "").split()),
                    components=tuple(fields.get("components", "").split()),
                    options={key: value for key, value in fields.items() if key not in _NOT_CARRIED},
                    enabled=fields.get("enabled", "yes").lower()
                    not in ("no", "false", "0", "off", "without"),
                )
            )
    return sources


def parse_one_line(text: str) -> list[Source]:
    """Read a `.list` file: `deb [option=value ...] URI suite component ...`, comments after `#`."""
    sources = []
    for line in text.splitlines():
        matched = re.match(r"\s*(deb|deb-src)\s+(?:\[([^]]*)\]\s*)?(\S+)\s+([^\s#]+)\s*([^#]*)", line)
        if matched is None:
            continue
        kind, bracketed, uri, suite, components = matched.groups()
        pairs = (pair.partition("=") for pair in (bracketed or "").split() if "=" in pair)
        options = {
            _ONE_LINE_NAMES.get(key.lower(), key.lower()): value.replace(",", " ") for key, _, value in pairs
        }
        sources.append(
            Source(
                types=(kind,),
                uris=(uri,),
                suites=(suite,),
                components=tuple(components.split()),
                options={key: value for key, value in options.items() if key not in _NOT_CARRIED},
            )
        )
    return sources


def debian_source(sources: Iterable[Source], codename: str) -> Source | None:
    """Return the one of `sources` that is Debian's own archive, or None.

    Others may call their suite like Debian's release and their component `main`; Debian's own is told by its
    key, the path `/debian` that its mirrors share, and its name.
    """
    names = {codename, "stable", "oldstable", "testing", "unstable", "sid"}
    candidates = [
        source
        for source in sources
        if source.enabled
        and "deb" in source.types
        and "main" in source.components
        and names & set(source.suites)
        and not any(uri.startswith("cdrom:") for uri in source.uris)
    ]
    best = max(candidates, key=_likeness, default=None)
    return best if best is not None and _likeness(best) > 0 else None


def _likeness(source: Source) -> int:
    key = source.options.get("signed-by", "")
    uri = source.uris[0].rstrip("/")
    return 4 * ("debian-archive" in key) + 2 * uri.endswith("/debian") + ("debian" in uri)


def host_sources() -> list[Source]:
    """Return the sources that the host's apt reads.

    Raises:
        ImageError: there is no apt.
    """
    try:
        answer = capture(
            ["apt-config", "shell", "MAIN", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
        )
    except CommandError as error:
        raise ImageError(
            "apt is needed to fetch Debian packages and is not here: use a Debian machine or container,"
            " or set LUSCOPE_QEMU to a QEMU >= 10.1 and LUSCOPE_LINUX_SOURCE to a kernel tree"
        ) from error
    places = dict(word.split("=", 1) for word in shlex.split(answer))
    main = Path(places.get("MAIN", "/etc/apt/sources.list"))
    parts = Path(places.get("PARTS", "/etc/apt/sources.list.d"))
    files = [main, *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    sources: list[Source] = []
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue  # absent, or not for this user (a private repository's credentials)
        sources += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return sources


def host_codename() -> str:
    """Return the host's release name (`VERSION_CODENAME` of os-release(5)), or "" where it has none."""
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.exists():
            matched = re.search(r'^VERSION_CODENAME="?([^"\n]*)"?$', path.read_text(), re.MULTILINE)
            return matched[1] if matched else ""
    return ""


def mirror() -> Source:
    """Return where this host takes Debian from: `$LUSCOPE_DEBIAN_MIRROR` (a URI), or its own apt's source.

    Raises:
        ImageError: there is none.
    """
    if uri := os.environ.get("LUSCOPE_DEBIAN_MIRROR"):
        key = {"signed-by": str(ARCHIVE_KEYRING)} if ARCHIVE_KEYRING.exists() else {}
        return Source(types=("deb",), uris=(uri,), suites=(), components=("main",), options=key)
    found = debian_source(host_sources(), host_codename())
    if found is None:
        raise ImageError(
            "apt's configuration here names no Debian mirror: set LUSCOPE_DEBIAN_MIRROR to the URI of one"
            f" (its key is looked for in {ARCHIVE_KEYRING}, package debian-archive-keyring)"
        )
    return found
