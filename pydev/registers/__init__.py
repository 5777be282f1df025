# SPDX-License-Identifier: MIT
"""Registers by declaration: fields, registers, banks, and their rendering as JSON and C."""

from pydev.registers.access import Access as Access
from pydev.registers.bank import RegisterBank as RegisterBank
from pydev.registers.bank import Write as Write
from pydev.registers.c_header import c_header as c_header
from pydev.registers.describe import Change as Change
from pydev.registers.describe import DecodeTable as DecodeTable
from pydev.registers.describe import JsonField as JsonField
from pydev.registers.describe import JsonRegister as JsonRegister
from pydev.registers.describe import Part as Part
from pydev.registers.describe import describe_register as describe_register
from pydev.registers.register import Field as Field
from pydev.registers.register import Register as Register
