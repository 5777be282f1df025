# SPDX-License-Identifier: MIT
"""An experiment's file is read strictly: whatever is wrong is named, with where and what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_plugin.errors import UsageError
from qemu_plugin.experiment.spec import DEFAULT_PORTS, load, override, parse, shipped

MINIMAL = '[[endpoint]]\nid = "ep0"\nport = "dn1"\n'


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text, "x.toml")
    return str(caught.value)


def test_a_minimal_experiment_gets_the_default_topology_and_expects_a_pass() -> None:
    experiment = parse(MINIMAL, "x.toml")
    assert experiment.name == "x"
    assert experiment.ports == DEFAULT_PORTS
    assert (experiment.expect.outcome, experiment.expect.guest) == ("PASS", "updated")


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_experiment_can_be_loaded_and_says_what_it_is(name: str) -> None:
    experiment = load(name)
    assert experiment.name == name
    assert experiment.description


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gest]\n", "unknown key 'gest' (did you mean 'guest'?)"),
        ("[guest]\nkernl = 'x'\n", "unknown key 'kernl' (did you mean 'kernel'?)"),
        ("name = 3\n", "name has to be a string"),
        ("x =\n", "not TOML"),
        ("", "there is no [[endpoint]]"),
        ("[endpoint]\nid = 'a'\n", "has to be written [[endpoint]]"),
        ("[[endpoint]]\nport = 'dn1'\n", "'id' is missing"),
        ("[[endpoint]]\nid = 'a'\nport = 'dn9'\n", "no root or downstream port is called 'dn9'"),
        ("[[endpoint]]\nid = 'a'\nport = 'up1'\n", "no root or downstream port is called 'up1'"),
        ("[[endpoint]]\nid = 'a'\nport = 'rp1'\n", "'rp1' already has 'up1' below it"),
        (MINIMAL + MINIMAL.replace("ep0", "ep1"), "'dn1' already has 'ep0' below it"),
        (MINIMAL + MINIMAL.replace("dn1", "dn2"), "two endpoints have the same id"),
        (MINIMAL.replace("ep0", "rp1"), "two things are called 'rp1'"),
        (MINIMAL.replace("ep0", "a b"), "'a b' is no id"),
        (MINIMAL + "stream = { pages = 0 }\n", "stream.pages is 1 to 512, not 0"),
        (MINIMAL + "stream = { pages = '4' }\n", "pages has to be an integer, not '4'"),
        (MINIMAL + "stream = { pages = true }\n", "pages has to be an integer, not True"),
        (MINIMAL + "stream = { period_us = 0.5 }\n", "stream.period_us is 1 to 1000000"),
        (MINIMAL + "[expect]\noutcome = 'pass'\n", "outcome 'pass' is none of PASS, FAIL"),
        (MINIMAL + "[expect]\nguest = 'alive'\n", "guest 'alive' is none of updated"),
        (MINIMAL + "[expect]\nconsole = ['(']\n", "console pattern '('"),
        (
            MINIMAL + "[[step]]\nphase = 'shutdown'\nqmp = { execute = 'stop' }\n",
            "phase 'shutdown' is none of normal",
        ),
        (MINIMAL + "[[step]]\nphase = 'normal'\n", "give either agent or qmp"),
        (MINIMAL + "[[step]]\nphase = 'normal'\nagent = { command = 'ping' }\n", 'agent needs cmd = "..."'),
        (MINIMAL + "[guest]\nmemory_mib = 8\n", "memory_mib is at least 96"),
        (MINIMAL + "[update]\ncount = 0\n", "count is 1 to 100"),
        (MINIMAL + "[deadlines]\nboot_s = 0\n", "boot_s has to be more than 0"),
        ("[[port]]\nid = 'a'\nkind = 'rootport'\n" + MINIMAL, "did you mean 'root_port'?"),
        ("[[port]]\nid = 'a'\nkind = 'downstream_port'\n" + MINIMAL, "has upstream_port above it"),
        ("[[port]]\nid = 'a'\nkind = 'root_port'\n" + MINIMAL, "device 0 function 0 is not free"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    message = complaint(text)
    assert said in message
    assert message.startswith("x.toml: ")
    assert "\n" not in message


def test_an_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(
        UsageError, match=r"no experiment is called 'unpached' \(did you mean 'unpatched'\?\)"
    ):
        load("unpached")


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(str(path))


def test_a_kernel_from_the_command_line_is_also_the_next_one() -> None:
    base = parse(MINIMAL + '[guest]\nnext_kernel = "debian"\n', "x.toml")
    assert override(base, kernel="k", next_kernel=None, policy=None).guest.next_kernel is None
    assert override(base, kernel="k", next_kernel="n", policy=None).guest.next_kernel == "n"
    assert override(base, kernel=None, next_kernel=None, policy="strict").policy == "strict"


@given(st.text(max_size=200))
def test_no_text_at_all_makes_the_reader_fail_in_another_way(text: str) -> None:
    try:
        parse(text, "x.toml")
    except UsageError as error:
        assert str(error).startswith("x.toml: ")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "port", "stream", "pages"]), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_no_endpoint_table_of_wrong_types_is_taken(value: object) -> None:
    from qemu_plugin.experiment.spec import EndpointSpec
    from qemu_plugin.experiment.tables import from_table

    try:
        endpoint = from_table(EndpointSpec, value, "here")
    except UsageError:
        return
    assert isinstance(endpoint.id, str)
    assert isinstance(endpoint.port, str)
