"""Label Studio's guard against private addresses, and the settings that let one address through, and only it."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

# What stays closed beside the backend's own network: all private ranges, and always the cloud's metadata address.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7")
_ALWAYS = ("169.254.0.0/16", "fe80::/10")


def is_local(url: str) -> bool:
    """Whether an address means the machine itself, whoever reads it."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def address_of(url: str) -> str:
    """The IP address that a URL's host resolves to here; "" where it does not."""
    host = urlsplit(url).hostname or ""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


def flags_for(url: str) -> str:
    """What to start Label Studio with so that it talks to this address, in words; as little as possible is opened."""
    address = address_of(url)
    return (
        "Start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false "
        f"USER_ADDITIONAL_BANNED_SUBNETS={','.join(banned_without(address))}, then connect again."
    )


def banned_without(address: str) -> tuple[str, ...]:
    """Every private subnet but the one that holds `address`; the link-local ones always."""
    if not address:
        return (*_ALWAYS, *_PRIVATE[:3])
    ip = ipaddress.ip_address(address)
    kept = []
    for subnet in _PRIVATE:
        network = ipaddress.ip_network(subnet)
        if ip.version != network.version or ip not in network:
            kept.append(subnet)
    return (*_ALWAYS, *kept)
