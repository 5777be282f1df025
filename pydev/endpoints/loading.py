# SPDX-License-Identifier: MIT
"""Finding an endpoint's class: one of ours by name, or an author's in a file."""

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final

from pydev.endpoint import Endpoint
from pydev.endpoints.scratch import ScratchEndpoint
from pydev.endpoints.stream import StreamEndpoint
from pydev.errors import DeclarationError

_MODELS: Final[Mapping[str, type[Endpoint]]] = MappingProxyType(
    {"stream": StreamEndpoint, "scratch": ScratchEndpoint}
)


def models() -> Mapping[str, type[Endpoint]]:
    """The endpoints that come with this project, by the name that an experiment uses."""
    return _MODELS


def load(spec: str) -> type[Endpoint]:
    """The class that `spec` names: a model's name, or `path/to/file.py:Class`.

    DeclarationError, one line that says what to do, where there is no such model, file or class, where the
    file fails, or where the class is no `Endpoint`. The file is executed.
    """
    if spec in _MODELS:
        return _MODELS[spec]
    path, colon, name = spec.rpartition(":")
    if not colon or not path.endswith(".py"):
        known = ", ".join(_MODELS)
        raise DeclarationError(
            f"no endpoint is called {spec!r}: use one of {known}, or path/to/file.py:Class"
        )
    module = _execute(Path(path))
    found = getattr(module, name, None)
    if not isinstance(found, type) or not issubclass(found, Endpoint):
        return _explain_missing(module, path, name, is_there=found is not None)
    return found


def _explain_missing(module: ModuleType, path: str, name: str, *, is_there: bool) -> type[Endpoint]:
    candidates = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Endpoint) and value.__module__ == module.__name__
    ]
    what = "is no subclass of pydev.endpoint.Endpoint" if is_there else "does not exist"
    has = f"the file has {', '.join(candidates)}" if candidates else "the file has no endpoint at all"
    raise DeclarationError(f"{path}: {name} {what}; {has}")


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise DeclarationError(f"{path}: there is no such file")
    name = f"luscope_endpoint_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DeclarationError(f"{_place(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _place(error: Exception, path: Path) -> str:
    """The author's line that failed, for a message of one line."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    return f"{path}:{lines[-1]}" if lines else str(path)
