# SPDX-License-Identifier: MIT
"""A verdict for people and for programs."""

from pydev.report.json import verdict_json as verdict_json
from pydev.report.text import render_text as render_text
