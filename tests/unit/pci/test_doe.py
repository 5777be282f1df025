# SPDX-License-Identifier: MIT
"""The mailbox, driven as linux drivers/pci/doe.c drives it."""

from pydev.endpoints import load
from pydev.pci.doe import (
    DISCOVERY,
    NO_PROTOCOL,
    PCI_SIG,
    DiscoveryRequest,
    DiscoveryResponse,
    DoeControl,
    DoeReadMailbox,
    DoeStatus,
    DoeWriteMailbox,
    ObjectHeader1,
    ObjectHeader2,
)
from pydev.ports import ResetKind
from pydev.testkit.bench import Bench

GO, ABORT = DoeControl.compose(go=1), DoeControl.compose(abort=1)


class Mailbox:
    def __init__(self) -> None:
        self.bench = Bench(load("stream")(capabilities=["doe"]))

    @property
    def status(self) -> DoeStatus:
        return DoeStatus(self.bench.read(DoeStatus))

    def send(self, *dwords: int) -> None:
        for dword in dwords:
            self.bench.write(DoeWriteMailbox, dword)
        self.bench.write(DoeControl, GO)

    def take(self) -> list[int]:
        dwords = []
        while self.status.data_object_ready:
            dwords.append(self.bench.read(DoeReadMailbox))
            self.bench.write(DoeReadMailbox, 0)
        return dwords


def discovery(index: int = 0) -> tuple[int, int, int]:
    return (
        ObjectHeader1.compose(vendor_id=PCI_SIG, object_type=DISCOVERY),
        ObjectHeader2.compose(length=3),
        DiscoveryRequest.compose(protocol_index=index),
    )


def test_discovery_is_answered_with_discovery_alone() -> None:
    mailbox = Mailbox()

    mailbox.send(*discovery())
    answer = mailbox.take()

    assert answer[:2] == [0x00000001, 3]
    response = DiscoveryResponse(answer[2])
    assert (response.vendor_id, response.object_type, response.next_index) == (PCI_SIG, DISCOVERY, 0)
    assert int(mailbox.status) == 0


def test_a_protocol_that_is_not_there_has_no_vendor() -> None:
    mailbox = Mailbox()

    mailbox.send(*discovery(1))

    assert DiscoveryResponse(mailbox.take()[2]).vendor_id == NO_PROTOCOL


def test_an_object_of_another_protocol_is_dropped_without_an_error() -> None:
    mailbox = Mailbox()

    mailbox.send(0x00021E98, 2)

    assert int(mailbox.status) == 0
    mailbox.send(*discovery())
    assert mailbox.status.data_object_ready


def test_a_length_that_is_not_the_objects_is_an_error_until_an_abort() -> None:
    mailbox = Mailbox()
    mailbox.send(discovery()[0], 5, 0)
    assert mailbox.status.error
    mailbox.send(*discovery())
    assert not mailbox.status.data_object_ready

    mailbox.bench.write(DoeControl, ABORT)

    assert int(mailbox.status) == 0
    mailbox.send(*discovery())
    assert len(mailbox.take()) == 3


def test_taking_from_an_empty_mailbox_is_an_error() -> None:
    mailbox = Mailbox()

    mailbox.bench.write(DoeReadMailbox, 0)

    assert mailbox.status.error


def test_more_than_the_mailbox_holds_is_an_error() -> None:
    mailbox = Mailbox()

    for _ in range(17):
        mailbox.bench.write(DoeWriteMailbox, 0)

    assert mailbox.status.error


def test_an_abort_forgets_the_answer() -> None:
    mailbox = Mailbox()
    mailbox.send(*discovery())

    mailbox.bench.write(DoeControl, ABORT)

    assert mailbox.take() == []
    assert mailbox.bench.read(DoeReadMailbox) == 0


def test_a_half_written_request_is_forgotten_by_every_reset() -> None:
    for kind in (ResetKind.DEVICE, ResetKind.FUNCTION_LEVEL):
        mailbox = Mailbox()
        mailbox.bench.write(DoeWriteMailbox, 0xDEAD)
        mailbox.bench.endpoint.reset(kind)

        mailbox.send(*discovery())

        assert len(mailbox.take()) == 3


def test_control_reads_0() -> None:
    mailbox = Mailbox()

    mailbox.send(*discovery())

    assert mailbox.bench.read(DoeControl) == 0
