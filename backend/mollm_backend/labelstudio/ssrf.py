"""Label Studio's protection against private addresses, and the settings that allow only the backend's network."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

# All private networks; all but the backend's own stay blocked.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7")
_ALWAYS = ("169.254.0.0/16", "fe80::/10")  # always blocked: link-local, with the cloud's metadata address


def is_local(url: str) -> bool:
    """Whether a URL's host is "this machine", on whatever machine it is read."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def address_of(url: str) -> str:
    """The IP address of a URL's host, resolved on this machine; "" if it has none."""
    host = urlsplit(url).hostname or ""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


def flags_for(url: str) -> str:
    """A sentence with the settings that let Label Studio reach this address; they unblock as little as possible."""
    address = address_of(url)
    return (
        "Start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false "
        f"USER_ADDITIONAL_BANNED_SUBNETS={','.join(banned_without(address))}, then connect again."
    )


def banned_without(address: str) -> tuple[str, ...]:
    """All private networks except the one that contains `address`; the link-local ones always."""
    if not address:
        return (*_ALWAYS, *_PRIVATE[:3])
    ip = ipaddress.ip_address(address)
    kept = []
    for subnet in _PRIVATE:
        network = ipaddress.ip_network(subnet)
        if ip.version != network.version or ip not in network:
            kept.append(subnet)
    return (*_ALWAYS, *kept)
