"""Where the processes of this node are reached by those of others."""

from __future__ import annotations

import os

import psutil
import ray.util

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""How torch's communication is told which network interface to use."""


def announce_node() -> str:
    """Address of this node in the Ray cluster; torch's communication is told to use the interface that has it.

    Left to itself, gloo resolves the host's own name, which is the loopback address on many machines. What the user has
    set stays.
    """
    address = ray.util.get_node_ip_address()
    interface = interface_of(address)
    if interface is not None:
        for variable in INTERFACE_VARIABLES:
            os.environ.setdefault(variable, interface)
    return address


def interface_of(address: str) -> str | None:
    """Name of the network interface with this address; None if there is none (the address is a translated one)."""
    found = (name for name, owned in psutil.net_if_addrs().items() if any(own.address == address for own in owned))
    return next(found, None)
