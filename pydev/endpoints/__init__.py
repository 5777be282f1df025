# SPDX-License-Identifier: MIT
"""The endpoints that come with this project, and the way to an author's own."""

from pydev.endpoints.loading import load as load
from pydev.endpoints.loading import models as models
