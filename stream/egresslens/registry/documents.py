"""Text to documents: YAML or JSON, one or several, bounded in size, depth and expansion.

JSON is read by orjson, YAML by libyaml; neither runs anything. Timestamps stay the text they are, as in
Kubernetes. libyaml's composer recurses on the C stack, and aliases let a small file stand for billions of
values (the documents are walked later): both are counted on the parser's events before anything is built.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import yaml

# `kubectl get pods -A -o json` of a mesh of 50,000 pods has about 500 MB. YAML is read 50 times slower.
MAX_JSON_BYTES: Final = 1024 * 2**20
MAX_YAML_BYTES: Final = 128 * 2**20
# Values in one YAML file, aliases expanded.
MAX_VALUES: Final = 20_000_000
MAX_DEPTH: Final = 100

_MERGE: Final = "tag:yaml.org,2002:merge"


class DocumentError(ValueError):
    """The text cannot be read. `document` is the one it happened in, from 1."""

    def __init__(self, document: int, message: str) -> None:
        super().__init__(message)
        self.document = document


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader without the type timestamp, and with an error for a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value]
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        # A key may stand beside a merged one of the same name: that is what merging is for.
        if len(mapping) < len(keys) and not any(key.tag == _MERGE for key in keys):
            seen: set[Any] = set()
            for key in keys:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def documents(data: bytes) -> list[Any]:
    """Read all documents of a file; empty ones are left out.

    Raises:
        DocumentError: neither YAML nor JSON, a key given twice, or larger or deeper than any real file.
    """
    if data.lstrip()[:1] in (b"{", b"["):
        if len(data) > MAX_JSON_BYTES:
            raise DocumentError(1, f"larger than {MAX_JSON_BYTES // 2**20} MiB")
        try:
            return [orjson.loads(data)]
        except orjson.JSONDecodeError:
            pass  # YAML's flow style begins with the same characters, and several may follow each other
    if len(data) > MAX_YAML_BYTES:
        raise DocumentError(1, f"larger than {MAX_YAML_BYTES // 2**20} MiB of YAML; use `-o json`")
    _check_bounds(data)
    return _yaml(data)


def _yaml(data: bytes) -> list[Any]:
    found: list[Any] = []
    number = 1
    loader = _Loader(data)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call] # as its stubs have it
            document = loader.get_data()
            if document is not None:
                found.append(document)
            number += 1
    # A value such as `2026-13-45` or `0x` raises ValueError, an unhashable key TypeError.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise DocumentError(number, _readable(error)) from None
    finally:
        loader.dispose()
    return found


def _readable(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        return f"{where}{error.problem or error.context or 'no valid YAML'}"
    return f"no valid YAML: {error}".replace("\n", " ")


def _check_bounds(data: bytes) -> None:
    """Count depth and expanded size on the events.

    Raises:
        DocumentError: no YAML, too deep or too large, or an alias contains itself.
    """
    bounds = _Bounds()
    try:
        for event in yaml.parse(data, _Loader):
            bounds.take(event)
    except yaml.YAMLError as error:
        raise DocumentError(max(bounds.document, 1), _readable(error)) from None


class _Bounds:
    """Depth and number of values of the documents so far, aliases expanded."""

    def __init__(self) -> None:
        self.document = 0
        self._values = 0
        # Of each collection that is open: its anchor, and the number of values when it began.
        self._open: list[tuple[str | None, int]] = []
        # How many values an anchor stands for; None while its collection is open.
        self._anchored: dict[str | None, int | None] = {}

    def take(self, event: yaml.Event) -> None:
        """Count one event."""
        if isinstance(event, yaml.ScalarEvent):
            self._anchored[event.anchor] = 1
            self._values += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._open.pop()
            self._anchored[anchor] = self._values - before
        elif isinstance(event, yaml.AliasEvent):
            self._values += self._expanded(event.anchor)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.document += 1
            self._anchored.clear()
        if self._values > MAX_VALUES:
            raise DocumentError(self.document, f"stands for more than {MAX_VALUES:,} values")

    def _begin(self, anchor: str | None) -> None:
        self._open.append((anchor, self._values))
        self._anchored[anchor] = None
        self._values += 1
        if len(self._open) > MAX_DEPTH:
            raise DocumentError(self.document, f"nested deeper than {MAX_DEPTH} levels")

    def _expanded(self, anchor: str | None) -> int:
        size = self._anchored.get(anchor, 0)
        if size is None:
            raise DocumentError(self.document, f"the alias *{anchor} contains itself")
        return size
