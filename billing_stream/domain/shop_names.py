"""How platforms and the domains of shops are written: each in one form, wherever it comes from."""

import re
from contextlib import suppress

import idna

from billing_stream.domain.ids import shop_key

# The time that IDNA takes grows with the square of the length.
TEXT_CHARS_MAX = 2048
DOMAIN_CHARS_MAX = 253
LABEL_CHARS_MAX = 63
_PLATFORM = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# Most names come like this: nothing is left to do.
_PLAIN = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?=[a-z_]){_LABEL}", re.ASCII)
_SCHEME = re.compile(r"\A(?:https?:)?//", re.IGNORECASE | re.ASCII)
_AFTER_HOST = re.compile(r"[/?#]")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
PORT_MAX = 65_535
# Of a wrong name, in a message.
SHOWN_CHARS = 100


def platform_name(text: str) -> str:
    """The name of a platform in lower case, without spaces around it.

    Raises ValueError, in words, for a text that no header could name.
    """
    name = text.strip()
    # Before it is made lower: some letters beyond ASCII become ASCII by it.
    if not name.isascii() or not _PLATFORM.fullmatch(name.lower()):
        raise ValueError(
            "a platform is 1 to 64 letters of ASCII, digits, dots, hyphens and underscores"
        )
    return name.lower()


def shop_domain(text: str) -> str:
    """The host name that `text` means: in lower case, in ASCII (IDNA 2008 with UTS 46).

    Of an address, as browsers show it, scheme, port, path, query and fragment are left out, and
    a dot at the end. Underscores and single labels are names, addresses of IP are not.

    Raises ValueError, in words, where it means none.

    >>> shop_domain(" https://Müller.example:443/shop?lang=de ")
    'xn--mller-kva.example'
    """
    if _PLAIN.fullmatch(text) and "xn--" not in text:
        return text
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"it has more than {TEXT_CHARS_MAX} characters")
    host = _host(text.strip())
    if not host:
        raise ValueError("it is empty")
    labels = _mapped(host).split(".")
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    name = ".".join(map(_ascii, labels))
    if len(name) > DOMAIN_CHARS_MAX:
        raise ValueError(f"a host name has at most {DOMAIN_CHARS_MAX} characters")
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError("its last part is a number, as in an address of IP")
    return name


def shop_names(platform: str, domain: str) -> tuple[str, str]:
    """Platform and domain of a shop, each in its one form.

    Raises ValueError, which names each field that is wrong, its value and the rule.
    """
    names, wrong = [], []
    for what, text, name_of in (
        ("platform", platform, platform_name),
        ("domain", domain, shop_domain),
    ):
        try:
            names.append(name_of(text))
        except ValueError as error:
            shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
            wrong.append(f"{what} {shown!r}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return names[0], names[1]


def sought_shop(platform: str, domain: str) -> str:
    """The key `platform:domain` of a shop that a person looks for, as near as it can be read."""
    # Earlier releases took other names, too.
    with suppress(ValueError):
        platform, domain = shop_names(platform, domain)
    return shop_key(platform, domain)


def _host(text: str) -> str:
    """The host of an address, with or without a scheme."""
    authority = _AFTER_HOST.split(_SCHEME.sub("", text, count=1), maxsplit=1)[0]
    if "@" in authority:
        # It may be an e-mail address, and its domain that of very many.
        raise ValueError("it has an @, as an e-mail address or an address with a user")
    if authority.startswith("["):
        raise ValueError("it is an address of IP")
    host, colon, port = authority.partition(":")
    if colon and not (_PORT.fullmatch(port) and 0 < int(port) <= PORT_MAX):
        raise ValueError(f"what follows the colon is not a port from 1 to {PORT_MAX}")
    return host


def _mapped(host: str) -> str:
    """In lower case, with the dots and letters that UTS 46 has for others."""
    if host.isascii():
        return host.lower()
    try:
        return idna.uts46_remap(host, std3_rules=False)
    except (ValueError, IndexError):
        raise ValueError("it has characters that no host name has") from None


def _ascii(label: str) -> str:
    """A label in ASCII. IDNA does not judge a plain one: it allows hyphens in fewer places."""
    if not label:
        raise ValueError("a part between its dots is empty")
    if not label.isascii() or label.startswith("xn--"):
        try:
            label = idna.alabel(label).decode()
        except (ValueError, IndexError):
            raise ValueError("a part of it is not valid by IDNA 2008") from None
    if len(label) > LABEL_CHARS_MAX:
        raise ValueError(f"a part of a host name has at most {LABEL_CHARS_MAX} characters")
    if not re.fullmatch(_LABEL, label, re.ASCII):
        raise ValueError(
            "its parts are letters, digits, hyphens and underscores, with no hyphen at an end"
        )
    return label
