"""Addresses that servers listen on and are asked by: which lead to this machine alone, and how a URL writes them."""

from __future__ import annotations

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Whether an address or a name leads to this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_in(header: str) -> str:
    """What a request asks for by its header ``Host``: an address or a name, without port and brackets."""
    return re.sub(r":\d+$", "", header).removeprefix("[").removesuffix("]").lower()


def url_of(host: str, port: int) -> str:
    """The URL of a server."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
