# SPDX-License-Identifier: MIT
"""A register bank: the bytes of one region, and what reads and writes do to them.

Five equally long buffers say everything that needs no model, byte by byte: what is there (`image`), which
bits a write stores (`writable`), which bits a written one clears (`write_one_clear`), and which bytes a model
decides (`trap_read`, `trap_write`, non-zero). The C core serves a region from the same five buffers; this
module is the reference that its tests are compared with. All values are little-endian.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Final, TypeAlias

from pydev.errors import DeclarationError
from pydev.registers.describe import JsonRegister, describe_register
from pydev.registers.register import Field, Register

Buffer: TypeAlias = bytearray | memoryview

LATCH_BYTES = 4
"""A register wider than this is decided when its low dword is read; the rest then holds still for a second
read. So a 64-bit counter read as two dwords, low first, is one value."""


_WORDS: Final = {size: Struct(f"<{code}") for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}


@dataclass(slots=True)
class Write:
    """A write to one register, as a model sees it. Not frozen, as that takes three times as long to make.

    `before` and `after` are its value without and with the masks applied; `written` are the bits that the
    access carried, `covered` the mask of those it had. `index` counts in an array.
    """

    register: type[Register]
    index: int
    before: int
    after: int
    written: int
    covered: int

    def wrote_one(self, field: Field) -> bool:
        """Whether the access carried a one in `field`, whatever its access kind made of it."""
        return bool(self.written & self.covered & field.mask)

    def changed(self, field: Field) -> bool:
        """Whether `field` has another value now."""
        return bool((self.before ^ self.after) & field.mask)


WriteHandler: TypeAlias = Callable[[Write], None]
ReadHandler: TypeAlias = Callable[[int], int]
"""Gets the index in an array, gives the register's value."""


@dataclass(slots=True)
class _Placement:
    register: type[Register]
    offset: int
    read: ReadHandler | None = None
    write: WriteHandler | None = None
    writable: int = 0
    write_one_clear: int = 0


class RegisterBank:
    """Registers of one region of `size` bytes, called `name` in messages; bytes without a register read 0."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.declared_bytes = 0
        """How far the registers reach, in whole dwords: beyond that nothing ever changes."""
        self.image: Buffer = memoryview(bytearray(size))
        self.writable: Buffer = memoryview(bytearray(size))
        self.write_one_clear: Buffer = memoryview(bytearray(size))
        self.trap_read: Buffer = memoryview(bytearray(size))
        self.trap_write: Buffer = memoryview(bytearray(size))
        self._power_on = bytearray(size)
        self._sticky = bytearray(size)
        self._keeps_flr = bytearray(size)
        self._placements: list[_Placement] = []
        self._owner: list[int] = [-1] * size
        self._of: dict[type[Register], _Placement] = {}
        # Accesses that cover one register exactly, by offset << 4 | size: what drivers do, and so made quick.
        self._exact_reads: dict[int, Callable[[], int]] = {}
        self._exact_writes: dict[int, Callable[[int], None]] = {}

    # -- declaration ------------------------------------------------------------------------------------

    def place(self, register: type[Register], base: int = 0, **resets: int) -> None:
        """Put a register, or every element of an array, at `base` + its offset.

        `resets` replace the reset values of fields. DeclarationError where the register lies outside the
        bank, is there already, or overlaps another: both are named.
        """
        if register.offset is None:
            raise DeclarationError(f"{self.name}: {register.name} has no offset")
        if register in self._of:
            raise DeclarationError(f"{self.name}: {register.name} is placed twice")
        placement = _Placement(register, base + register.offset)
        self._claim(placement)
        self._of[register] = placement
        values = register.compose(**resets)
        placement.writable = register.mask_of(is_writable=True)
        placement.write_one_clear = register.mask_of(is_write_one_clear=True)
        masks = (
            (self.image, values),
            (self._power_on, values),
            (self.writable, placement.writable),
            (self.write_one_clear, placement.write_one_clear),
            (self._sticky, register.mask_of(is_sticky=True)),
            (self._keeps_flr, register.flr_mask()),
        )
        for buffer, number in masks:
            self._fill(placement, buffer, number)

    def _claim(self, placement: _Placement) -> None:
        register, start = placement.register, placement.offset
        end = start + (register.count - 1) * register.stride + register.width
        if start < 0 or end > self.size:
            raise DeclarationError(
                f"{register.name} at {start:#x}..{end:#x} does not fit {self.name} of {self.size:#x} bytes"
            )
        if start % min(register.width & -register.width, 4):
            raise DeclarationError(f"{self.name}: {register.name} at {start:#x} is not aligned to its width")
        number = len(self._placements)
        for index in range(register.count):
            at = start + index * register.stride
            for owner in self._owner[at : at + register.width]:
                if owner >= 0:
                    other = self._placements[owner]
                    raise DeclarationError(
                        f"{self.name}: {register.name} at {at:#x}..{at + register.width:#x} overlaps "
                        f"{other.register.name}, which begins at {other.offset:#x}"
                    )
            self._owner[at : at + register.width] = [number] * register.width
        self._placements.append(placement)
        self.declared_bytes = min(max(self.declared_bytes, -(-end // 4) * 4), self.size)

    @staticmethod
    def _fill(placement: _Placement, buffer: Buffer, number: int) -> None:
        register, start = placement.register, placement.offset
        element = number.to_bytes(register.width, "little")
        if register.stride == register.width:
            buffer[start : start + register.count * register.width] = element * register.count
            return
        for at in range(start, start + register.count * register.stride, register.stride):
            buffer[at : at + register.width] = element

    def on_read(self, register: type[Register], handler: ReadHandler) -> None:
        """Let `handler` decide the register's value whenever its low dword is read."""
        placement = self._placement(register)
        placement.read = handler
        self._fill(placement, self.trap_read, (1 << 8 * min(LATCH_BYTES, register.width)) - 1)
        self._make_exact(placement)

    def on_write(self, register: type[Register], handler: WriteHandler) -> None:
        """Call `handler` after every write that touches the register, with the masks applied already."""
        placement = self._placement(register)
        placement.write = handler
        self._fill(placement, self.trap_write, (1 << 8 * register.width) - 1)
        self._make_exact(placement)

    def _placement(self, register: type[Register]) -> _Placement:
        try:
            return self._of[register]
        except KeyError:
            raise DeclarationError(f"{self.name} has no register {register.name}") from None

    def rebind(
        self,
        image: Buffer,
        writable: Buffer,
        write_one_clear: Buffer,
        trap_read: Buffer,
        trap_write: Buffer,
    ) -> None:
        """Copy the contents into the caller's memory and use that from now on.

        Each is a writable buffer of `size` bytes. DeclarationError otherwise, with nothing changed.
        """
        names = ("image", "writable", "write_one_clear", "trap_read", "trap_write")
        views = [memoryview(b).cast("B") for b in (image, writable, write_one_clear, trap_read, trap_write)]
        for name, view in zip(names, views, strict=True):
            if view.readonly or view.nbytes != self.size:
                raise DeclarationError(
                    f"{self.name}: {name} of {view.nbytes} bytes cannot hold {self.size}, or is read-only"
                )
        for name, view in zip(names, views, strict=True):
            view[:] = getattr(self, name)
            setattr(self, name, view)
        for placement in self._placements:
            self._make_exact(placement)

    def _make_exact(self, placement: _Placement) -> None:
        """What an access to the whole of a register does, as one call with all that it needs at hand."""
        register, offset, image = placement.register, placement.offset, self.image
        if register.count != 1 or register.width not in _WORDS:
            return
        word, everything = _WORDS[register.width], (1 << 8 * register.width) - 1
        pack, unpack = word.pack_into, word.unpack_from
        on_read, on_write = placement.read, placement.write
        writable, clear = placement.writable, placement.write_one_clear
        kept = everything & ~writable
        key = offset << 4 | register.width
        if on_read is not None:

            def read() -> int:
                value = on_read(0) & everything
                pack(image, offset, value)
                return value

            self._exact_reads[key] = read
        if on_write is not None:

            def write(value: int) -> None:
                value &= everything
                before: int = unpack(image, offset)[0]
                after = (before & kept | value & writable) & ~(value & clear)
                pack(image, offset, after)
                on_write(Write(register, 0, before, after, value, everything))

            self._exact_writes[key] = write

    # -- accesses ---------------------------------------------------------------------------------------

    def reader(self, offset: int, size: int) -> Callable[[], int]:
        """`read` of one place, for who reads it often."""
        return self._exact_reads.get(offset << 4 | size) or partial(self.read, offset, size)

    def writer(self, offset: int, size: int) -> Callable[[int], None]:
        """`write` to one place, for who writes it often."""
        return self._exact_writes.get(offset << 4 | size) or partial(self.write, offset, size)

    def read(self, offset: int, size: int) -> int:
        """What a read of `size` bytes gives; bytes outside the bank are all ones, as no one answers there."""
        exact = self._exact_reads.get(offset << 4 | size)
        if exact is not None:
            return exact()
        inside = self._inside(offset, size)
        if not inside:
            return (1 << 8 * size) - 1
        if any(self.trap_read[inside.start : inside.stop]):
            for placement, index, at in self._touched(inside):
                if placement.read is not None and any(self._trapped(self.trap_read, placement, at, inside)):
                    self._put(at, placement.register.width, placement.read(index))
        value = int.from_bytes(self.image[inside.start : inside.stop], "little") << 8 * (
            inside.start - offset
        )
        absent = ((1 << 8 * size) - 1) & ~(((1 << 8 * len(inside)) - 1) << 8 * (inside.start - offset))
        return value | absent

    def write(self, offset: int, size: int, value: int) -> None:
        """Do what a write of `size` bytes does: masks first, then the models of the registers it touched."""
        exact = self._exact_writes.get(offset << 4 | size)
        if exact is not None:
            exact(value)
            return
        inside = self._inside(offset, size)
        if not inside:
            return
        value >>= 8 * (inside.start - offset)
        trapped: list[tuple[_Placement, int, int, int]] = []
        if any(self.trap_write[inside.start : inside.stop]):
            trapped = [
                (placement, index, at, self.peek(at, placement.register.width))
                for placement, index, at in self._touched(inside)
                if placement.write is not None
            ]
        self._apply(inside, value)
        for placement, index, at, before in trapped:
            self._notify(placement, index, at, before, inside, value)

    def _apply(self, inside: range, value: int) -> None:
        window = slice(inside.start, inside.stop)
        old = int.from_bytes(self.image[window], "little")
        writable = int.from_bytes(self.writable[window], "little")
        clear = int.from_bytes(self.write_one_clear[window], "little")
        new = ((old & ~writable) | (value & writable)) & ~(value & clear)
        self.image[window] = new.to_bytes(len(inside), "little")

    def _notify(
        self, placement: _Placement, index: int, at: int, before: int, inside: range, value: int
    ) -> None:
        register = placement.register
        start, stop = max(at, inside.start), min(at + register.width, inside.stop)
        covered = ((1 << 8 * (stop - start)) - 1) << 8 * (start - at)
        shift = 8 * (at - inside.start)
        written = (value >> shift if shift >= 0 else value << -shift) & covered
        assert placement.write is not None
        placement.write(Write(register, index, before, self.peek(at, register.width), written, covered))

    def _inside(self, offset: int, size: int) -> range:
        return range(max(offset, 0), min(offset + size, self.size))

    def _touched(self, inside: range) -> list[tuple[_Placement, int, int]]:
        """Each register that owns a byte of the range: placement, index in an array, where that begins."""
        found: dict[int, tuple[_Placement, int, int]] = {}
        for byte in inside:
            owner = self._owner[byte]
            if owner >= 0:
                placement = self._placements[owner]
                index = (byte - placement.offset) // placement.register.stride
                at = placement.offset + index * placement.register.stride
                found.setdefault(at, (placement, index, at))
        return list(found.values())

    @staticmethod
    def _trapped(trap: Buffer, placement: _Placement, at: int, inside: range) -> Buffer:
        return trap[max(at, inside.start) : min(at + placement.register.width, inside.stop)]

    # -- the model's own view ---------------------------------------------------------------------------

    def peek(self, offset: int, size: int) -> int:
        """The bytes as they are: no trap, no side effect."""
        return int.from_bytes(self.image[offset : offset + size], "little")

    def poke(self, offset: int, size: int, value: int) -> None:
        """Change the bytes past all masks and traps."""
        if not 0 <= offset <= offset + size <= self.declared_bytes:
            raise DeclarationError(
                f"{self.name}: a poke of {size} bytes at {offset:#x} leaves the registers, which end at "
                f"{self.declared_bytes:#x}"
            )
        self._put(offset, size, value)

    def _put(self, offset: int, size: int, value: int) -> None:
        self.image[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def offset_of(self, register: type[Register], index: int = 0) -> int:
        """Where the register, or element `index` of an array, begins."""
        placement = self._placement(register)
        if not 0 <= index < register.count:
            raise DeclarationError(f"{register.name} has {register.count} elements, none is {index}")
        return placement.offset + index * register.stride

    def get(self, item: Field | type[Register], index: int = 0) -> int:
        """The present value of a field or of a whole register, without side effects."""
        register = item.register if isinstance(item, Field) else item
        value = self.peek(self.offset_of(register, index), register.width)
        return item.extract(value) if isinstance(item, Field) else value

    def set(self, item: Field | type[Register], value: int, index: int = 0) -> None:
        """Change a field or a whole register past all masks and traps."""
        register = item.register if isinstance(item, Field) else item
        if isinstance(item, Field):
            value = item.insert(self.get(register, index), value)
        self._put(self.offset_of(register, index), register.width, value)

    def __contains__(self, register: type[Register]) -> bool:
        return register in self._of

    def reset(self, *, keep_sticky: bool = False, keep_flr: bool = False) -> None:
        """Restore the declared values.

        With `keep_sticky` the sticky bits stay; with `keep_flr` so do those that a Function Level Reset
        leaves alone.
        """
        kept = int.from_bytes(self._keeps_flr if keep_flr else self._sticky if keep_sticky else b"", "little")
        old = int.from_bytes(self.image, "little")
        new = int.from_bytes(self._power_on, "little")
        self.image[:] = ((old & kept) | (new & ~kept)).to_bytes(self.size, "little")

    def power_on_image(self) -> bytes:
        """The bytes as they are after power-on."""
        return bytes(self._power_on)

    def describe(self) -> list[JsonRegister]:
        """The registers as JSON-able dictionaries, by offset (see `pydev.registers.describe`)."""
        placements = sorted(self._placements, key=lambda placement: placement.offset)
        return [describe_register(placement.register, placement.offset) for placement in placements]
