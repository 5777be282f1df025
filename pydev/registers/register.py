# SPDX-License-Identifier: MIT
"""Fields and registers: a register is a class, its fields are attributes, its behaviour is their access.

    class Status(Register, offset=0x04):
        "Engine status; software clears the sticky bits by writing ones."
        busy = Field(0, access=Access.RO)
        done = Field(1, access=Access.RW1C)

`Status.done` is the field; `Status(0x2).done` is its value in the number 2. Where a register lies, and what
it holds, is the bank's business. No shift or mask literal is needed anywhere else.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Self, overload

from pydev.errors import DeclarationError
from pydev.registers.access import Access

MAX_WIDTH_BYTES = 8
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Field:
    """`bits` bits of a register from bit `lsb` up.

    `reset` is the value after power-on. `keeps_flr`: one of the fields that a Function Level Reset leaves
    alone although they are not sticky (PCIe 6.0 6.6.2).
    """

    __slots__ = ("access", "bits", "keeps_flr", "lsb", "name", "register", "reset")

    def __init__(
        self, lsb: int, bits: int = 1, *, access: Access = Access.RW, reset: int = 0, keeps_flr: bool = False
    ) -> None:
        self.lsb = lsb
        self.bits = bits
        self.access = access
        self.reset = reset
        self.keeps_flr = keeps_flr
        self.name = ""
        self.register: type[Register] = Register

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.bits) - 1) << self.lsb

    def extract(self, register_value: int) -> int:
        """The field's value inside a register's value."""
        return (register_value & self.mask) >> self.lsb

    def insert(self, register_value: int, field_value: int) -> int:
        """`register_value` with this field replaced; DeclarationError where the value has too many bits."""
        if field_value < 0 or field_value >> self.bits:
            raise DeclarationError(f"{self} has {self.bits} bits, which cannot hold {field_value:#x}")
        return (register_value & ~self.mask) | (field_value << self.lsb)

    def copy(self) -> "Field":
        """The same field for another register, not yet owned."""
        return Field(self.lsb, self.bits, access=self.access, reset=self.reset, keeps_flr=self.keeps_flr)

    def own(self, register: type["Register"], name: str) -> None:
        """Belong to `register` under `name`."""
        self.register = register
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type["Register"]) -> Self: ...
    @overload
    def __get__(self, instance: "Register", owner: type["Register"]) -> int: ...
    def __get__(self, instance: "Register | None", owner: type["Register"]) -> Self | int:
        return self if instance is None else self.extract(int(instance))

    def __set__(self, instance: "Register", value: int) -> None:
        raise AttributeError(f"{self} is set in a bank, not in a decoded value")

    def __repr__(self) -> str:
        return f"{self.register.name}.{self.name}"


class Register:
    """Base of every register; an instance is one value of it, decoded.

    Class keywords: `offset` in its bank or capability, `width` in bytes (4), `name` (the class name in
    CAPITALS), `count` and `stride` in bytes for an array of equal registers. A subclass of a register
    inherits its fields and may redeclare them. DeclarationError where fields overlap, do not fit, or have the
    name of something that every register has.
    """

    __slots__ = ("_value",)

    name: ClassVar[str] = "REGISTER"
    offset: ClassVar[int | None] = None
    width: ClassVar[int] = 4
    count: ClassVar[int] = 1
    stride: ClassVar[int] = 4
    fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(
        cls,
        *,
        offset: int | None = None,
        width: int | None = None,
        name: str | None = None,
        count: int | None = None,
        stride: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        for taken in (key for key, member in vars(cls).items() if isinstance(member, Field)):
            if hasattr(Register, taken):
                raise DeclarationError(
                    f"{cls.__name__}: a field cannot be called {taken!r}, which every register has already"
                )
        cls.name = name or _WORD_START.sub("_", cls.__name__).upper()
        cls.offset = cls.offset if offset is None else offset
        cls.width = cls.width if width is None else width
        cls.count = cls.count if count is None else count
        cls.stride = cls.width if stride is None else stride
        if not 1 <= cls.width <= MAX_WIDTH_BYTES or cls.count < 1 or cls.stride < cls.width:
            raise DeclarationError(
                f"{cls.name}: {cls.count} elements of {cls.width} bytes, {cls.stride} apart, make no register"
            )
        cls._collect_fields()

    @classmethod
    def _collect_fields(cls) -> None:
        inherited = {name: field.copy() for name, field in cls.fields.items()}
        own = {name: member for name, member in vars(cls).items() if isinstance(member, Field)}
        cls.fields = dict(sorted({**inherited, **own}.items(), key=lambda item: item[1].lsb))
        end, previous = 0, ""
        for name, field in cls.fields.items():
            field.own(cls, name)
            if name in inherited and name not in own:
                setattr(cls, name, field)
            if field.lsb < end:
                raise DeclarationError(f"{field} begins at bit {field.lsb}, inside {previous}")
            end, previous = field.lsb + field.bits, repr(field)
            if field.bits < 1 or end > 8 * cls.width:
                raise DeclarationError(f"{field} ends at bit {end} of a register of {8 * cls.width} bits")
            field.insert(0, field.reset)

    def __init__(self, value: int = 0) -> None:
        self._value = value

    @classmethod
    def compose(cls, **values: int) -> int:
        """The register's value with these fields, the others at their reset value."""
        number = 0
        for field in cls.fields.values():
            number = field.insert(number, values.pop(field.name, field.reset))
        if values:
            known = ", ".join(cls.fields)
            raise DeclarationError(f"{cls.name} has no field {', '.join(values)}; it has {known}")
        return number

    @classmethod
    def mask_of(cls, **properties: bool) -> int:
        """The bits whose access has these properties: `mask_of(is_writable=True)`."""
        wanted = properties.items()
        fields = (f for f in cls.fields.values() if all(getattr(f.access, n) is v for n, v in wanted))
        return sum(field.mask for field in fields)

    @classmethod
    def flr_mask(cls) -> int:
        """The bits that a Function Level Reset leaves alone, sticky ones included."""
        return sum(f.mask for f in cls.fields.values() if f.keeps_flr or f.access.is_sticky)

    def __int__(self) -> int:
        return self._value

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((name, field.extract(self._value)) for name, field in self.fields.items())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and int(self) == int(other)

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __repr__(self) -> str:
        values = " ".join(f"{name}={value:#x}" for name, value in self)
        return f"<{self.name} {self._value:#0{2 * self.width + 2}x} {values}>"
