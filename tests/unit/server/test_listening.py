# SPDX-License-Identifier: MIT
import stat
from pathlib import Path

import pytest

from pydev.endpoints.stream import StreamEndpoint
from qemu_plugin.errors import UsageError
from qemu_plugin.server import EndpointServer
from qemu_plugin.vfio_user.client import Client


def test_the_sockets_directory_is_created_for_this_user_alone(tmp_path: Path) -> None:
    with EndpointServer(StreamEndpoint(), tmp_path / "new" / "ep0.sock"):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_directory_that_others_can_enter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(UsageError, match="chmod 700"):
        EndpointServer(StreamEndpoint(), tmp_path / "open" / "ep0.sock").start()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="107 bytes"):
        EndpointServer(StreamEndpoint(), tmp_path / ("x" * 120)).start()


def test_a_socket_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s" / "ep0.sock"
    first = EndpointServer(StreamEndpoint(), path)
    first.start()
    with EndpointServer(StreamEndpoint(), path), Client(path) as client:
        assert client.read(0, 0) == 0x4C555343
    first.stop()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s" / "ep0.sock"
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    with pytest.raises(UsageError, match="cannot listen"):
        EndpointServer(StreamEndpoint(), path).start()
    assert path.read_text() == "mine"


def test_stopping_disconnects_the_client_and_may_be_repeated(tmp_path: Path) -> None:
    server = EndpointServer(StreamEndpoint(), tmp_path / "s" / "ep0.sock")
    server.start()
    with Client(server.socket_path) as client:
        server.stop()
        server.stop()
        with pytest.raises((BrokenPipeError, ConnectionError)):
            client.read(0, 0)
    assert server.wait(0)


def test_a_server_without_a_recording_serves_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s" / "ep0.sock"
    with EndpointServer(StreamEndpoint(), path), Client(path) as client:
        client.write(0, 0x58, 3)
        assert client.read(0, 0x58) == 3
