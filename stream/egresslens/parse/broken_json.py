"""JSON-looking text that is no JSON, or that says a thing twice: values found by their keys.

Operators write JSON-looking templates into the *text* format, where Envoy escapes nothing: a quote in a
header breaks the JSON, and a header may imitate a key (`x", "upstream_cluster": "PassthroughCluster`). Keys
are looked for in order, and a value ends where the next key begins.

A key that stands there twice with different values was imitated once. Headers are the only place for that, so
the first is the real one if it stands before all headers, and the last if no header stands between the two;
else nobody can tell, and the value is null.

All work is linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from typing import Final

from egresslens.parse.damage import Damage
from egresslens.parse.jsontext import decoded
from egresslens.parse.keys import FEWEST, FIELD_KEYS, MARKERS, TELLING
from egresslens.parse.reading import Reading

_KEY = re.compile(r'[{,]\s*"([A-Za-z_:][\w.:/@-]{0,63})"\s*:\s*')
_FIELD_OF: Final = {key: field for field, keys in FIELD_KEYS.items() for key in keys}
# Written by clients.
_HEADERS: Final = frozenset(
    key for field in ("path", "x_forwarded_for", "user_agent", "request_id") for key in FIELD_KEYS[field]
)
_MARKERS: Final = frozenset(MARKERS)
# Broken text that has not even these is cut off, or nobody's access log.
_NEEDED: Final = frozenset(("upstream_cluster", "authority", "response_code"))


def repeats(text: str) -> bool:
    """Whether a JSON object has a telling key twice, with different values."""
    try:
        pairs: list[tuple[str, object]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    seen: dict[str, object] = {}
    return any(key in TELLING and seen.setdefault(key, value) != value for key, value in pairs)


def read(text: str, damage: Damage) -> Reading | None:
    """Read an object's values by their keys; None if they are not those of an access log."""
    found = list(_KEY.finditer(text))
    keys = [match[1] for match in found]
    fields = {_FIELD_OF[key] for key in keys if key in _FIELD_OF}
    whole = damage is Damage.REPEATED_KEYS or fields >= _NEEDED
    if not whole or len(fields) < FEWEST or _MARKERS.isdisjoint(keys) or "kubernetes" in keys:
        return None
    ends = [match.start() for match in found[1:]] + [len(text)]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    headers = [place for place, key in enumerate(keys) if key in _HEADERS]
    values: dict[str, str] = {}
    repeated = False
    for key, at in places.items():
        if key not in _FIELD_OF:
            continue
        options = [
            _value(text[found[place].end() : ends[place]], last=ends[place] == len(text)) for place in at
        ]
        differ = len(set(options)) > 1
        repeated |= differ
        value = _real(key, at, options, headers) if differ else options[0]
        if value is not None:
            values.setdefault(_FIELD_OF[key], value)
    damages = (damage, Damage.REPEATED_KEYS) if repeated else (damage,)
    return Reading(values, "istio_json", tuple(dict.fromkeys(damages)))


def _real(key: str, at: list[int], options: list[str | None], headers: list[int]) -> str | None:
    """The value that is no imitation, if that can be told."""
    if key in _HEADERS or not headers or at[0] < headers[0]:
        return options[0]
    return options[-1] if not any(at[0] < header < at[-1] for header in headers) else None


def _value(raw: str, *, last: bool) -> str | None:
    raw = raw.strip()
    if last:
        raw = raw.removesuffix("}").rstrip()
    if not raw.startswith('"'):
        return None if raw == "null" else raw
    text = raw[1:].removesuffix('"')
    if "\\" not in text:
        return text
    found = decoded(text)
    return text if found is None else found
