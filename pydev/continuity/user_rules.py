# SPDX-License-Identifier: MIT
"""A user's own rules: a Python file that sets `RULES`.

    from pydev.continuity import Evidence, Finding, Judgement, Result, Rule, transition, watch

    RULES = (Rule(id="MY-RULE", …, judge=judge),)

The file is run as it is, with the rights of whoever runs luscope. It is one file: a run's directory keeps a copy.
"""

import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Final

from pydev.continuity.catalogue import rules
from pydev.continuity.rule import Rule
from pydev.errors import PolicyError

_ID: Final = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)*")


def load_rules(path: Path) -> tuple[str, tuple[Rule, ...]]:
    """A file's text and its rules; PolicyError, in one line, for whatever is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    module = ModuleType(f"luscope rules of {path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for annotations
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise PolicyError(f"{path}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise PolicyError(f"{path}:{_line(error, path)}: {type(error).__name__}: {_first(error)}") from error
    return text, _checked(getattr(module, "RULES", None), path)


def _checked(found: object, path: Path) -> tuple[Rule, ...]:
    if not isinstance(found, tuple | list):
        what = "is missing" if found is None else f"is {type(found).__name__}"
        raise PolicyError(f"{path}: RULES has to be a tuple of Rule, and {what}")
    if not found:
        raise PolicyError(f"{path}: RULES is empty")
    for entry in found:
        if not isinstance(entry, Rule):
            raise PolicyError(f"{path}: RULES has to be a tuple of Rule, and holds {type(entry).__name__}")
        if problem := _problem(entry):
            raise PolicyError(f"{path}: rule {entry.id}: {problem}")
    taken = {rule.id for rule in rules()}
    for entry in found:
        if entry.id in taken:
            raise PolicyError(f"{path}: there is a rule {entry.id} already")
        taken.add(entry.id)
    return tuple(found)


def _problem(rule: Rule) -> str | None:
    """What is declared with a wrong type: a policy and a report would stumble over it later."""
    if not isinstance(rule.id, str) or not _ID.fullmatch(rule.id):
        return "its id has to be like MY-RULE"
    for name in ("title", "why", "acceptable", "source", "planted_fault"):
        if not isinstance(getattr(rule, name), str):
            return f"{name} has to be a string"
    for name, kind in (("hazards", int), ("registers", str), ("writers", str)):
        value = getattr(rule, name)
        if not isinstance(value, tuple | list) or not all(type(entry) is kind for entry in value):
            return f"{name} has to be a tuple of {kind.__name__}"
    return None if callable(rule.judge) else "judge cannot be called"


def _line(error: BaseException, path: Path) -> int | str:
    """Where in the file it went wrong."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or "?" for f in reversed(frames) if f.filename == str(path)), "?")


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
