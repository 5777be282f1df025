# SPDX-License-Identifier: MIT
"""C's accesses and the reference model's (`RegisterBank`) are the same, for any masks."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pydev.pci import LUSCOPE_VENDOR_ID, Bar, Function, Identity, Msix
from pydev.registers import RegisterBank
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client

SIZE = 4096
WINDOW = 64

masks = st.binary(min_size=WINDOW, max_size=WINDOW)
accesses = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, WINDOW - 16),
        st.integers(1, 16),
        st.binary(min_size=16, max_size=16),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(masks, masks, masks, accesses)
def test_the_same_accesses_give_the_same_image_and_the_same_values(
    image: bytes, writable: bytes, clear: bytes, steps: list[tuple[bool, int, int, bytes]]
) -> None:
    function = Function(Identity(LUSCOPE_VENDOR_ID, 1), [Bar(0, SIZE)], [Msix(1, (0, 0x800), (0, 0xC00))])
    reference = RegisterBank("BAR0", SIZE)
    for bank in (reference, function.regions[0]):
        bank.image[:WINDOW] = image
        bank.writable[:WINDOW] = writable
        bank.write_one_clear[:WINDOW] = clear
    with (
        tempfile.TemporaryDirectory() as directory,
        EndpointServer(function, Path(directory) / "s", recording=None) as server,
        Client(server.socket_path) as client,
    ):
        for is_write, offset, size, data in steps:
            if is_write:
                client.write_bytes(0, offset, data[:size])
                reference.write(offset, size, int.from_bytes(data[:size], "little"))
            else:
                assert client.read(0, offset, size) == reference.read(offset, size)
        assert client.read_bytes(0, 0, WINDOW) == bytes(reference.image[:WINDOW])
    assert bytes(function.regions[0].image[:WINDOW]) == bytes(reference.image[:WINDOW])
