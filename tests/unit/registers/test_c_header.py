# SPDX-License-Identifier: MIT
import subprocess
from pathlib import Path

import pytest

from pydev.endpoints.stream_registers import STREAM_REGISTERS
from pydev.errors import DeclarationError
from pydev.registers import Field, Register, c_header


class Control(Register, offset=0x08):
    run = Field(0)
    mode = Field(4, 3)


class Table(Register, offset=0x1000, width=8, count=512):
    iova = Field(0, 64)


def test_a_header_has_offsets_masks_and_shifts() -> None:
    text = c_header("ECHO", (Control, Table), source="somewhere.py", constants={"MAX_PAGES": 512})

    for line in (
        "#define ECHO_MAX_PAGES 0x200u",
        "#define ECHO_CONTROL 0x8u",
        "#define ECHO_CONTROL_RUN 0x1u",
        "#define ECHO_CONTROL_MODE 0x70u",
        "#define ECHO_CONTROL_MODE_SHIFT 4",
        "#define ECHO_TABLE(index) (0x1000u + 0x8u * (index))",
    ):
        assert line in text.splitlines()


def test_two_macros_of_one_name_are_refused() -> None:
    class ControlRun(Register, offset=0):
        pass

    with pytest.raises(DeclarationError, match="two C macros would be called ECHO_CONTROL_RUN"):
        c_header("ECHO", (Control, ControlRun), source="somewhere.py")


def test_a_c_compiler_agrees_about_the_stream_endpoint(tmp_path: Path) -> None:
    (tmp_path / "stream.h").write_text(c_header("STREAM", STREAM_REGISTERS, source="stream_registers.py"))
    (tmp_path / "check.c").write_text(
        '#include "stream.h"\n'
        '_Static_assert(STREAM_PAGE_TABLE(2) == 0x1010, "third page");\n'
        '_Static_assert(STREAM_CONTROL_INTERRUPT_ENABLE == 2, "bit 1");\n'
        '_Static_assert(STREAM_PAGE_TABLE_COUNT == 512, "pages");\n'
    )

    subprocess.run(
        ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "check.c"],
        cwd=tmp_path,
        check=True,
    )
