"""From templates to pages: no text of others is markup, and only scripts of the dashboard run."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from billing_stream.ops.catalogue.course import terms
from billing_stream.plain_text import clean_text, mask_passwords
from billing_stream.records.record_ref import RecordRef
from billing_stream.web import envelope
from billing_stream.web.ops import page_text
from billing_stream.web.ops.charge_links import charge_link

# Scripts and styles are files of this service; nothing may show these pages in a frame.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        **envelope.HEADERS,
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }
)


def new_environment() -> Environment:
    """The templates, with what they write numbers and times with."""
    made = Environment(
        loader=PackageLoader("billing_stream.web.ops"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    filters: dict[str, Any] = {
        "number": page_text.number,
        "counted": page_text.counted,
        "rate": page_text.rate,
        "duration": page_text.duration,
        "ago": page_text.ago,
        "moment": page_text.moment,
        "money": page_text.money,
        "sums": page_text.sums,
        "signed": page_text.signed,
        "event": page_text.event,
        "terms": terms,
        "record_ref": RecordRef.parse_or_none,
    }
    made.filters.update(filters)
    made.globals["line"] = page_text.line
    made.globals["charge_link"] = charge_link
    made.globals["DASH"] = page_text.DASH
    return made


def _clean(value: Any) -> Any:
    """What a template writes: text of others has nothing in it that hides or turns it around."""
    return clean_text(mask_passwords(value)) if type(value) is str else value
