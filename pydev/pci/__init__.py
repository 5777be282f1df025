# SPDX-License-Identifier: MIT
"""PCI Express functions: headers, BARs, capabilities, gates and resets."""

from pydev.pci.bar import Bar as Bar
from pydev.pci.capability import Capability as Capability
from pydev.pci.config_space import ConfigSpace as ConfigSpace
from pydev.pci.config_space import capability_chain as capability_chain
from pydev.pci.config_space import capability_offsets as capability_offsets
from pydev.pci.function import CONFIG_REGION as CONFIG_REGION
from pydev.pci.function import Function as Function
from pydev.pci.ids import LUSCOPE_VENDOR_ID as LUSCOPE_VENDOR_ID
from pydev.pci.ids import Identity as Identity
from pydev.pci.msix import Msix as Msix
