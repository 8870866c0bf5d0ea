"""What the tolerant mode forgave: the values of the field `damage`."""

from __future__ import annotations

from enum import Enum


class Damage(str, Enum):
    """What the tolerant mode forgave. A record may carry several, joined by commas."""

    NO_TIMESTAMP = "no_timestamp"
    """The line begins with the request."""
    BROKEN_BRACKET = "broken_bracket"
    """One or both brackets around the start time are missing."""
    ESCAPED_QUOTES = "escaped_quotes"
    """A shipper encoded the line as a JSON string and nobody decoded it."""
    ODD_SPACES = "odd_spaces"
    """Doubled spaces, tabs, or a line broken in two."""
    ODD_QUOTES = "odd_quotes"
    """Typographic or HTML-encoded quotes, as text editors and web pages make them."""
    MARKUP = "markup"
    """Markdown's or HTML's marks or escapes around words, as in a line that was pasted from a web page."""
    STRAY_END = "stray_end"
    """A quote, backtick, comma, mark or `\\n` stood behind the line."""
    MISSING_FIELDS = "missing_fields"
    """Fields of the layout are missing, or are not what they must be; they are null."""
    TRUNCATED_HEAD = "truncated_head"
    """The line begins in the middle; what stood there is null."""
    FORGED_FIELDS = "forged_fields"
    """A header holds quotes and what looks like the log's own fields; it was read as a header."""
    AMBIGUOUS = "ambiguous"
    """A value holds what a custom format prints around it, so that the line can be read in several ways; the
    reading that ends that value first was taken."""
    BROKEN_JSON = "broken_json"
    """Quotes inside values broke the JSON; the values were found by their keys."""
    REPEATED_KEYS = "repeated_keys"
    """A key stands in the object twice with different values; one that cannot be told is null."""
    LONG_FIELD = "long_field"
    """A value is longer than any header Envoy takes; its beginning is kept."""
