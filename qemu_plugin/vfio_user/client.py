# SPDX-License-Identifier: MIT
"""A blocking vfio-user client: what a test, of this project or of an endpoint's author, drives a server with.

One command at a time; every answer is checked to belong to its command. An error reply is an OSError.
"""

import array
import itertools
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from qemu_plugin.errors import RemoteProtocolError
from qemu_plugin.vfio_user.device import DeviceInfo, IrqInfo, RegionInfo, SetIrqs, SetIrqsFlag
from qemu_plugin.vfio_user.header import FDS_MAX, MESSAGE_MAX_BYTES, Command, command
from qemu_plugin.vfio_user.memory import NO_UNMAP_FLAG, DmaMap, DmaUnmap, MapFlag, UnmapFlag
from qemu_plugin.vfio_user.messages import Message, MessageReader
from qemu_plugin.vfio_user.region import RegionAccess, decode_multi_reply, encode_multi
from qemu_plugin.vfio_user.version import CLIENT_CAPABILITIES, Version


class Client:
    """A connection to the server that listens at `path`; VERSION is exchanged unless `negotiate` is False.

    Every wait ends with TimeoutError after `timeout_s`.
    """

    def __init__(self, path: Path, *, negotiate: bool = True, timeout_s: float = 10.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader = MessageReader()
        self._ids = itertools.count(1)
        self.version: Version | None = None
        try:
            # A socket with Python's own timeout would get EAGAIN while others wait to be accepted: unix(7).
            limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self.socket.connect(str(path))
            self.socket.settimeout(timeout_s)
            if negotiate:
                self.version = self.negotiate()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; the server keeps the device's state and lets go of all that this client lent."""
        self.socket.close()

    # -- messages ---------------------------------------------------------------------------------------

    def send(
        self, number: int, payload: bytes = b"", fds: Sequence[int] = (), *, posted: bool = False
    ) -> int:
        """Send a command and return its id."""
        message_id = next(self._ids) & 0xFFFF
        self.send_raw(command(message_id, number, payload, wants_reply=not posted), fds)
        return message_id

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are; fds go with the first of them."""
        sent = 0
        if fds:
            sent = socket.send_fds(self.socket, [data], list(fds))
        self.socket.sendall(data[sent:])

    def receive(self) -> Message:
        """The next message from the server; ConnectionError where it has closed."""
        while True:
            for message in self._reader.messages():
                return message
            space = socket.CMSG_LEN(FDS_MAX * array.array("i").itemsize)
            data, ancillary, _, _ = self.socket.recvmsg(MESSAGE_MAX_BYTES, space, socket.MSG_CMSG_CLOEXEC)
            fds = array.array("i")
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data, fds)

    def call(self, number: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a command and return its reply's payload; OSError with the errno of an error reply."""
        message_id = self.send(number, payload, fds)
        message = self.receive()
        if (message.header.message_id, message.header.command) != (message_id, number):
            raise RemoteProtocolError(0, f"{message.header} answers command {number}, id {message_id}")
        if message.header.is_error:
            error = message.header.error
            raise OSError(error, f"{Command(number).name}: {os.strerror(error)}")
        return message.payload

    # -- commands ---------------------------------------------------------------------------------------

    def negotiate(self) -> Version:
        """Exchange VERSION."""
        return Version.decode(self.call(Command.VERSION, Version(capabilities=CLIENT_CAPABILITIES).encode()))

    def device_info(self) -> DeviceInfo:
        """What the device is."""
        return DeviceInfo.decode(self.call(Command.DEVICE_GET_INFO, DeviceInfo().encode()))

    def region_info(self, index: int) -> RegionInfo:
        """What a region is."""
        return RegionInfo.decode(self.call(Command.DEVICE_GET_REGION_INFO, RegionInfo(index).encode()))

    def irq_info(self, index: int) -> IrqInfo:
        """What an interrupt type is."""
        return IrqInfo.decode(self.call(Command.DEVICE_GET_IRQ_INFO, IrqInfo(index).encode()))

    def read_bytes(self, region: int, offset: int, size_bytes: int) -> bytes:
        """Read from a region."""
        payload = self.call(Command.REGION_READ, RegionAccess(region, offset, size_bytes).encode())
        return RegionAccess.decode(payload).data

    def read(self, region: int, offset: int, size_bytes: int = 4) -> int:
        """Read a little-endian number from a region."""
        return int.from_bytes(self.read_bytes(region, offset, size_bytes), "little")

    def write_bytes(self, region: int, offset: int, data: bytes, *, posted: bool = False) -> None:
        """Write to a region; a posted write is not answered, not even where it is wrong."""
        payload = RegionAccess(region, offset, len(data), data).encode()
        if posted:
            self.send(Command.REGION_WRITE, payload, posted=True)
        else:
            self.call(Command.REGION_WRITE, payload)

    def write(
        self, region: int, offset: int, value: int, size_bytes: int = 4, *, posted: bool = False
    ) -> None:
        """Write a little-endian number to a region."""
        self.write_bytes(region, offset, value.to_bytes(size_bytes, "little"), posted=posted)

    def write_multi(self, writes: Sequence[RegionAccess]) -> int:
        """Several writes in one message; returns how many were done."""
        return decode_multi_reply(self.call(Command.REGION_WRITE_MULTI, encode_multi(writes)))

    def dma_map(
        self,
        iova: int,
        size_bytes: int,
        fd: int | None = None,
        offset: int = 0,
        flags: MapFlag = MapFlag.READABLE | MapFlag.WRITEABLE,
    ) -> None:
        """Lend a range of memory."""
        fds = () if fd is None else (fd,)
        self.call(Command.DMA_MAP, DmaMap(iova, size_bytes, flags, offset).encode(), fds)

    def dma_unmap(self, iova: int, size_bytes: int, flags: UnmapFlag = NO_UNMAP_FLAG) -> None:
        """Take back every range within these bounds."""
        self.call(Command.DMA_UNMAP, DmaUnmap(iova, size_bytes, flags).encode())

    def set_eventfds(self, index: int, start: int, fds: Sequence[int]) -> None:
        """Have interrupts signalled through eventfds, from `start` on."""
        flags = SetIrqsFlag.DATA_EVENTFD | SetIrqsFlag.ACTION_TRIGGER
        self.call(Command.DEVICE_SET_IRQS, SetIrqs(flags, index, start, len(fds)).encode(), fds)

    def disable_irqs(self, index: int) -> None:
        """Take back every eventfd of an index."""
        flags = SetIrqsFlag.DATA_NONE | SetIrqsFlag.ACTION_TRIGGER
        self.call(Command.DEVICE_SET_IRQS, SetIrqs(flags, index).encode())

    def reset(self) -> None:
        """Reset the device."""
        self.call(Command.DEVICE_RESET)
