"""How the name of a shop is read: written from the contract, of the library of IDNA apart."""

import re

import idna

INVALID_SHOP = "INVALID_SHOP"
_SCHEMES = ("https://", "http://", "//")


def shop_of(platform: str, domain: str) -> tuple[str, str] | None:
    """Platform and host in the form in which they are registered; None: it names no shop."""
    platform, host = platform.strip(), _host_of(domain)
    if host is None or re.fullmatch(r"[A-Za-z0-9._-]{1,64}", platform) is None:
        return None
    return platform.lower(), host


def _host_of(text: str) -> str | None:
    if len(text) > 2048:
        return None
    text = text.strip()
    scheme = next((one for one in _SCHEMES if text[:8].lower().startswith(one)), "")
    text = text[len(scheme) :]
    host, colon, port = re.split("[/?#]", text)[0].partition(":")
    if "@" in host + port or host.startswith("["):
        return None
    if colon and not (
        port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
    ):
        return None
    try:
        if not host.isascii():
            host = idna.uts46_remap(host, std3_rules=False)
        *labels, last = [_label_of(label) for label in host.lower().removesuffix(".").split(".")]
    except (ValueError, IndexError):
        return None
    name = ".".join((*labels, last))
    if len(name) > 253 or last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):
        return None
    return name


def _label_of(label: str) -> str:
    """The label in ASCII. Raises ValueError where it is not one."""
    if label.startswith("xn--") or not label.isascii():
        label = idna.alabel(label).decode("ascii")
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    if not 0 < len(label) < 64 or set(label) - allowed or "-" in (label[0], label[-1]):
        raise ValueError("not a label")
    return label
