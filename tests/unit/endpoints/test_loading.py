# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from pydev.endpoint import Endpoint
from pydev.endpoints import load, models
from pydev.endpoints.stream import StreamEndpoint
from pydev.errors import DeclarationError

GOOD = """
from pydev.endpoint import Endpoint
from pydev.pci import Identity

class Mine(Endpoint):
    identity = Identity(vendor_id=0x1de5, device_id=9)

class NotOne:
    pass
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_models_are_found_by_name() -> None:
    assert load("stream") is StreamEndpoint
    assert set(models()) >= {"stream", "scratch"}


@pytest.mark.parametrize("name", sorted(models()))
def test_every_model_can_be_built_and_described(name: str) -> None:
    assert load(name)().describe()["registers"]


def test_a_class_is_found_in_a_file(good: Path) -> None:
    found = load(f"{good}:Mine")

    assert issubclass(found, Endpoint)
    assert found().config.peek(2, 2) == 9


@pytest.mark.parametrize("spec", ["streem", "mine.py", "mine:Mine", ""])
def test_an_unknown_model_is_answered_with_the_known_ones(spec: str) -> None:
    with pytest.raises(DeclarationError, match=r"use one of stream, scratch, or path/to/file.py:Class"):
        load(spec)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DeclarationError, match=r"nowhere/mine.py: there is no such file"):
        load("nowhere/mine.py:Mine")


def test_a_missing_class_is_answered_with_those_that_are_there(good: Path) -> None:
    with pytest.raises(DeclarationError, match=r"Yours does not exist; the file has Mine$"):
        load(f"{good}:Yours")


def test_a_class_that_is_no_endpoint_is_refused(good: Path) -> None:
    with pytest.raises(DeclarationError, match=r"NotOne is no subclass of pydev.endpoint.Endpoint"):
        load(f"{good}:NotOne")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = (\n", r"bad.py:2: SyntaxError"),
        ("\n\nimport no_such_module_at_all\n", r"bad.py:3: ModuleNotFoundError: No module named"),
        ("\ndef f():\n    return 1 / 0\nf()\n", r"bad.py:3: ZeroDivisionError"),
    ],
)
def test_a_file_that_fails_is_reported_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source)

    with pytest.raises(DeclarationError, match=message) as caught:
        load(f"{path}:Mine")
    assert "\n" not in str(caught.value)
