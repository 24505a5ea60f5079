import os

import psutil
import pytest
import ray.util

from cluster.runtime.node_address import INTERFACE_VARIABLES, announce_node, interface_of


def test_the_interface_of_an_address_is_found():
    owned = [(name, own.address) for name, found in psutil.net_if_addrs().items() for own in found]
    name, _ = next((n, a) for n, a in owned if a == "127.0.0.1")
    assert interface_of("127.0.0.1") == name
    assert interface_of("203.0.113.7") is None  # set aside for documentation


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", interface_of("127.0.0.1")), ("203.0.113.7", None)])
def test_torch_is_told_the_interface_of_the_node(monkeypatch, address, expected):
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)
    for variable in INTERFACE_VARIABLES:
        monkeypatch.setenv(variable, "")  # put back as it was at the end
        monkeypatch.delenv(variable)
    assert announce_node() == address
    assert [os.environ.get(variable) for variable in INTERFACE_VARIABLES] == [expected] * 2


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv(INTERFACE_VARIABLES[0], "ib0")
    monkeypatch.setenv(INTERFACE_VARIABLES[1], "ib1")
    announce_node()
    assert [os.environ[variable] for variable in INTERFACE_VARIABLES] == ["ib0", "ib1"]
