# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from qemu_plugin.attribution import testkit
from qemu_plugin.attribution.reading import read
from qemu_plugin.attribution.testkit import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    kernel = testkit.build(tmp_path_factory.mktemp("tiny"))
    return Tiny(kernel, read(kernel.path, None))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a test reads out of an image it keeps for itself."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("LUSCOPE_CACHE", str(cache))
    return cache
