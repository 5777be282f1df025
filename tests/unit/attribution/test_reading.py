# SPDX-License-Identifier: MIT
"""Names come from the image itself, or agree with it; what has been read is kept."""

import re
import zlib
from pathlib import Path

import pytest

from qemu_plugin.attribution import testkit
from qemu_plugin.attribution.errors import AttributionError
from qemu_plugin.attribution.loading import load_symbols
from qemu_plugin.attribution.reading import read
from qemu_plugin.attribution.symbols import KernelSymbols
from qemu_plugin.attribution.testkit import Tiny, TinyKernel


@pytest.fixture(scope="session")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> TinyKernel:
    """A kernel with CONFIG_KALLSYMS=n."""
    return testkit.build(tmp_path_factory.mktemp("nameless"), has_kallsyms=False)


def system_map(directory: Path, addresses: dict[str, int]) -> Path:
    path = directory / "System.map"
    rows = sorted((address, name) for name, address in addresses.items())
    path.write_text("".join(f"{address:016x} T {name}\n" for address, name in rows))
    return path


def test_a_stripped_kernel_is_named_by_its_own_kallsyms(tiny: Tiny) -> None:
    symbols, begin = tiny.symbols, tiny.kernel["pci_clear_master"]
    assert (symbols.source, symbols.release, symbols.problem) == ("kallsyms", "7.3.0-tiny", None)
    assert symbols.name(begin + 2) == ("pci_clear_master", 2)
    assert symbols.address_range("pci_clear_master") == (begin, tiny.kernel["pci_device_shutdown"])


def test_a_function_that_is_thrown_away_after_boot_has_its_name_too(tiny: Tiny) -> None:
    assert tiny.symbols.name(tiny.kernel["in_kernel_init"]) == ("kernel_init_freeable", 9)


def test_outside_of_the_text_nothing_has_a_name(tiny: Tiny) -> None:
    for address in (
        0,
        0x401000,
        testkit.TEXT - 1,
        testkit.INIT_TEXT - 1,
        testkit.INIT_TEXT + 0x1000,
        (1 << 64) - 1,
    ):
        assert tiny.symbols.name(address) is None
        assert tiny.symbols.function(address) is None


def test_a_name_that_no_function_has_or_several_have_has_no_range(tiny: Tiny) -> None:
    assert tiny.symbols.address_range("pci_clear") is None
    assert tiny.symbols.address_range("") is None


def test_of_several_names_for_one_address_the_plain_one_is_taken(tiny: Tiny) -> None:
    assert tiny.symbols.name(testkit.TEXT) == ("pci_conf1_write", 0)


def test_a_vmlinux_with_a_symbol_table_needs_no_kallsyms(tmp_path: Path) -> None:
    kernel = testkit.build(tmp_path, has_kallsyms=False, is_stripped=False)
    symbols = read(kernel.path, None)
    assert symbols.source == ".symtab"
    assert symbols.name(kernel["pci_clear_master"] + 1) == ("pci_clear_master", 1)


def test_without_either_the_system_map_beside_it_serves(nameless: TinyKernel, tmp_path: Path) -> None:
    symbols = read(nameless.path, system_map(tmp_path, nameless.addresses))
    assert symbols.source == "System.map"
    assert symbols.name(nameless["pci_clear_master"] + 1) == ("pci_clear_master", 1)


def test_a_system_map_of_another_build_is_refused_and_named(nameless: TinyKernel, tmp_path: Path) -> None:
    other = {name: address + 16 for name, address in nameless.addresses.items()}
    with pytest.raises(
        AttributionError, match=r"System.map is of another kernel: it has \w+ at 0x\w+, the image at"
    ):
        read(nameless.path, system_map(tmp_path, other))


def test_a_system_map_that_has_nothing_of_the_image_is_refused(nameless: TinyKernel, tmp_path: Path) -> None:
    with pytest.raises(AttributionError, match="it has 0 of the 3 symbols that the image exports"):
        read(nameless.path, system_map(tmp_path, {"sys_open": testkit.TEXT}))


def test_where_nothing_is_exported_the_sections_have_to_agree(tmp_path: Path) -> None:
    kernel = testkit.build(tmp_path, has_kallsyms=False, has_exports=False)
    names = kernel.addresses
    assert read(kernel.path, system_map(tmp_path, names)).source == "System.map"
    with pytest.raises(AttributionError, match="it has _sinittext at"):
        read(kernel.path, system_map(tmp_path, {**names, "_sinittext": names["_sinittext"] + 16}))
    two = {name: names[name] for name in ("_text", "_stext", "pci_clear_master")}
    with pytest.raises(AttributionError, match="it has 2 of the marks"):
        read(kernel.path, system_map(tmp_path, two))


@pytest.mark.parametrize("line", ["ffffffff81000000 T", "not hexadecimal name", "", "1 2 3 4"])
def test_a_file_that_is_no_system_map_is_named_with_the_line(
    line: str, nameless: TinyKernel, tmp_path: Path
) -> None:
    path = system_map(tmp_path, {"_text": testkit.TEXT})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(AttributionError, match=r"System\.map line 2 is not 'address type name'"):
        read(nameless.path, path)


def test_a_kernel_without_any_names_is_an_error_that_says_so(nameless: TinyKernel) -> None:
    with pytest.raises(
        AttributionError, match=r"no names for its functions \(no kallsyms, no symbol table, no System"
    ):
        read(nameless.path, None)


def test_tables_for_unwinding_that_are_not_known_are_a_problem_and_the_names_stay(tmp_path: Path) -> None:
    kernel = testkit.build(tmp_path, orc_header=bytes(20))
    symbols = read(kernel.path, None)
    assert symbols.problem is not None
    assert "an ORC layout of a version that is not known" in symbols.problem
    assert symbols.orc is None
    assert not symbols.has_frame_pointers
    assert symbols.name(kernel["pci_clear_master"]) == ("pci_clear_master", 0)


def test_what_was_read_is_found_again_without_reading(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.kernel.path.read_bytes()
    image = tmp_path / "bzImage"
    image.write_bytes(testkit.bzimage(zlib.compress(data, wbits=31)))
    first = load_symbols(image)
    monkeypatch.setattr("qemu_plugin.attribution.reading.read", _never)
    second = load_symbols(image)
    assert second.names == first.names
    assert second.address_range("pci_clear_master") == first.address_range("pci_clear_master")
    assert second.orc is not None
    assert first.orc is not None
    assert second.orc.entries.tolist() == first.orc.entries.tolist()
    assert second.jumps is not None
    assert first.jumps is not None
    assert second.jumps.edges.tolist() == first.jumps.edges.tolist()
    assert second.instructions(testkit.TEXT, testkit.TEXT + 64) == first.instructions(
        testkit.TEXT, testkit.TEXT + 64
    )


def _never(*_: object) -> KernelSymbols:
    raise AssertionError("the image was read again")


def test_another_system_map_is_not_answered_from_the_cache(nameless: TinyKernel, tmp_path: Path) -> None:
    path = system_map(tmp_path, nameless.addresses)
    assert load_symbols(nameless.path, path).source == "System.map"
    path.write_text(path.read_text().replace("filler_00007", "drinker_00007"))
    assert load_symbols(nameless.path, path).address_range("drinker_00007") is not None


def test_what_an_older_reader_made_of_the_same_image_is_removed(tiny: Tiny, own_cache: Path) -> None:
    load_symbols(tiny.kernel.path)
    (entry,) = own_cache.glob("symbols/*/*")
    older = entry.with_name("0123456789abcdef")
    entry.rename(older)
    anothers = own_cache / "symbols" / "another-image" / "0123456789abcdef"
    anothers.mkdir(parents=True)
    load_symbols(tiny.kernel.path)
    assert not older.exists()
    assert entry.is_dir()
    assert anothers.is_dir()


def test_an_entry_that_is_removed_while_it_is_read_is_read_from_the_image(
    tiny: Tiny, own_cache: Path
) -> None:
    load_symbols(tiny.kernel.path)
    (entry,) = own_cache.glob("symbols/*/*")
    (entry / "names.npy").unlink()
    assert load_symbols(tiny.kernel.path).source == "kallsyms"


def test_a_kernel_that_cannot_be_named_leaves_nothing_in_the_cache(
    nameless: TinyKernel, own_cache: Path
) -> None:
    with pytest.raises(AttributionError):
        load_symbols(nameless.path)
    assert list(own_cache.glob("symbols/*/*")) == []


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUSCOPE_CACHE", str(tmp_path / "file"))
    assert load_symbols(tiny.kernel.path).source == "kallsyms"


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        AttributionError, match=f"cannot read {re.escape(str(tmp_path / 'absent'))}: No such file"
    ):
        load_symbols(tmp_path / "absent")


def test_a_kernel_whose_functions_set_up_frames_is_unwound_by_them(tmp_path: Path) -> None:
    """Compilers put the frame off until a function needs it, so that it is not its first instruction."""
    framed = ["test %edi,%edi", "push %rbp", "mov %rsp,%rbp", "pop %rbp", "ret"]
    kernel = testkit.build(tmp_path, has_orc=False, filler=framed)
    symbols = read(kernel.path, None)
    assert (symbols.orc, symbols.has_frame_pointers, symbols.problem) == (None, True, None)


def test_a_kernel_with_neither_tables_nor_frames_is_a_problem(tmp_path: Path) -> None:
    kernel = testkit.build(tmp_path, has_orc=False)
    symbols = read(kernel.path, None)
    assert (symbols.orc, symbols.has_frame_pointers) == (None, False)
    assert symbols.problem is not None
    assert "neither ORC tables nor frame pointers" in symbols.problem
