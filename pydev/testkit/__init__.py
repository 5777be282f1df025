# SPDX-License-Identifier: MIT
"""What a test of a device model needs: memory, time, a port that remembers, and a bench of the three."""

from pydev.testkit.bench import Bench as Bench
from pydev.testkit.manual_time import ManualTime as ManualTime
from pydev.testkit.memory import Memory as Memory
from pydev.testkit.port import FakePort as FakePort
from pydev.testkit.port import GateChange as GateChange
from pydev.testkit.port import Interrupt as Interrupt
from pydev.testkit.port import Transaction as Transaction
from pydev.testkit.stream import SteppedStream as SteppedStream
