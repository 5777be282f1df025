# SPDX-License-Identifier: MIT
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_images import apt_sources
from guest_images.apt_sources import Source, debian_source, parse_deb822, parse_one_line
from guest_images.errors import ImageError

DEB822 = """\
# made by the installer
Types: deb deb-src
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://security.example/debian-security
# the suite has another name
Suites: bookworm-security
Components: main
Enabled: no
"""

KEY_IN_PLACE = """\
Types: deb
URIs: https://mirror.example/debian/
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_a_deb822_file_gives_one_source_for_each_stanza() -> None:
    first, second = parse_deb822(DEB822)
    assert first.types == ("deb", "deb-src")
    assert first.uris == ("https://mirror.example/debian",)
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert first.options == {"signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg"}
    assert first.enabled
    assert second.suites == ("bookworm-security",)
    assert not second.enabled


def test_a_key_written_into_a_stanza_is_carried_over_whole() -> None:
    (source,) = parse_deb822(KEY_IN_PLACE)
    stanza = source.for_suites(["trixie", "trixie-backports"])
    (again,) = parse_deb822(stanza)
    assert again.options["signed-by"] == source.options["signed-by"]
    assert "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in stanza
    assert again.suites == ("trixie", "trixie-backports")


def test_a_one_line_file_gives_one_source_for_each_line() -> None:
    text = (
        "# deb https://commented.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg trusted=yes] http://mirror.example/debian bookworm main contrib #\n"
        "\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb\thttp://other.example/debian\tbookworm-updates\tmain\n"
    )
    first, source_line, other = parse_one_line(text)
    assert first.uris == ("http://mirror.example/debian",)
    assert first.suites == ("bookworm",)
    assert first.components == ("main", "contrib")
    assert first.options == {"signed-by": "/k.gpg", "trusted": "yes"}
    assert source_line.types == ("deb-src",)
    assert other.suites == ("bookworm-updates",)
    assert other.options == {}


names = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)


@given(
    uri=names.map("http://{}.example/debian".format),
    suites=st.lists(names, min_size=1, max_size=3, unique=True),
    key=names,
)
def test_what_is_written_for_other_suites_is_read_back_with_the_same_mirror_and_key(
    uri: str, suites: list[str], key: str
) -> None:
    written = Source(
        ("deb",), (uri,), ("bookworm",), ("main", "contrib"), {"signed-by": f"/{key}.gpg"}
    ).for_suites(suites)
    (read,) = parse_deb822(written)
    assert read == Source(("deb",), (uri,), tuple(suites), ("main",), {"signed-by": f"/{key}.gpg"})


@given(st.text())
def test_no_text_makes_the_parsers_fail(text: str) -> None:
    parse_deb822(text)
    parse_one_line(text)


def source(uri: str, suite: str, components: str = "main", key: str = "") -> Source:
    options = {"signed-by": key} if key else {}
    return Source(("deb",), (uri,), (suite,), tuple(components.split()), options)


def test_debian_is_told_from_archives_that_use_its_suite_and_component_names() -> None:
    debian = source(
        "http://mirror.example/debian", "bookworm", key="/usr/share/keyrings/debian-archive-keyring.gpg"
    )
    others = [
        source("https://apt.vendor.example", "bookworm", key="/etc/apt/keyrings/vendor.gpg"),
        source("https://vendor.example/debian", "bookworm", key="/etc/apt/keyrings/vendor.gpg"),
        source("https://vendor.example/debian", "vendor-bookworm"),
        source("http://mirror.example/debian-security", "bookworm-security"),
    ]
    assert debian_source([*others, debian], "bookworm") is debian
    assert debian_source([debian, *others], "bookworm") is debian


def test_a_mirror_without_a_stated_key_is_found_by_its_path() -> None:
    debian = source("http://mirror.example/debian/", "stable")
    assert debian_source([source("https://x.example/repo", "stable"), debian], "trixie") is debian


@pytest.mark.parametrize(
    "unusable",
    [
        source("https://apt.vendor.example", "bookworm"),
        source("http://mirror.example/debian", "bookworm-updates"),
        source("http://mirror.example/debian", "bookworm", components="contrib"),
        source("http://archive.example/ubuntu", "noble"),
        source("cdrom:[Debian]/", "bookworm"),
        Source(("deb-src",), ("http://mirror.example/debian",), ("bookworm",), ("main",), {}),
        Source(("deb",), ("http://mirror.example/debian",), ("bookworm",), ("main",), {}, enabled=False),
    ],
)
def test_what_is_not_debians_main_archive_is_not_taken_for_it(unusable: Source) -> None:
    assert debian_source([unusable], "bookworm") is None


def test_user_name_and_password_of_a_mirror_are_not_shown() -> None:
    assert (
        source("https://me:secret@mirror.example/debian", "trixie").shown == "https://mirror.example/debian"
    )


def test_the_hosts_files_are_found_through_apts_own_configuration(
    tmp_path: Path, program: Callable[[str, str], Path]
) -> None:
    parts = tmp_path / "parts with space"
    parts.mkdir()
    (tmp_path / "main.list").write_text("deb http://one.example/debian bookworm main\n")
    (parts / "two.sources").write_text(DEB822)
    (parts / "three.list").write_text("deb http://three.example/debian bookworm main\n")
    (parts / "four.list.save").write_text("deb http://four.example/debian bookworm main\n")
    program("apt-config", f"echo \"MAIN='{tmp_path}/main.list'\"\necho \"PARTS='{parts}/'\"")
    uris = [uri for found in apt_sources.host_sources() for uri in found.uris]
    assert uris == [
        "http://one.example/debian",
        "http://three.example/debian",
        "https://mirror.example/debian",
        "https://security.example/debian-security",
    ]


def test_without_apt_the_message_names_the_ways_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageError, match=r"LUSCOPE_QEMU .* LUSCOPE_LINUX_SOURCE"):
        apt_sources.host_sources()


def test_without_a_debian_mirror_the_message_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_sources, "host_sources", list)
    with pytest.raises(ImageError, match="set LUSCOPE_DEBIAN_MIRROR"):
        apt_sources.mirror()


def test_a_mirror_in_the_environment_needs_no_configuration_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apt_sources, "host_sources", list)
    monkeypatch.setenv("LUSCOPE_DEBIAN_MIRROR", "http://mine.example/debian")
    assert apt_sources.mirror().uris == ("http://mine.example/debian",)
