# SPDX-License-Identifier: MIT
"""Capabilities that whoever uses an endpoint may give it, by name: `capabilities = ["ats", "doe"]`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pydev.errors import DeclarationError
from pydev.pci.ats import Ats
from pydev.pci.capability import Capability
from pydev.pci.doe import Doe
from pydev.pci.dpc import Dpc
from pydev.pci.express import Express, ExpressWithLtr
from pydev.pci.ide import Ide
from pydev.pci.l1ss import L1ss
from pydev.pci.ltr import Ltr
from pydev.pci.pasid import Pasid
from pydev.pci.pri import Pri
from pydev.pci.sriov import Sriov

OPTIONAL: Final[Mapping[str, Callable[[], Capability]]] = {
    "ats": Ats,
    "pri": Pri,
    "pasid": Pasid,
    "ltr": Ltr,
    "l1ss": L1ss,
    "dpc": Dpc,
    "doe": Doe,
    "ide": Ide,
    "sriov": Sriov,
}


def optional(names: Sequence[str]) -> list[Capability]:
    """The extended capabilities of these names, in this order; DeclarationError for one that is not known."""
    for name in names:
        if name not in OPTIONAL:
            raise DeclarationError(f"no capability is called {name!r}; there are {', '.join(OPTIONAL)}")
    return [OPTIONAL[name]() for name in names]


def express_for(names: Sequence[str]) -> Express:
    """The PCI Express capability of an endpoint that has these as well."""
    kind = ExpressWithLtr if "ltr" in names else Express
    return kind(has_tlp_prefixes="pasid" in names)
