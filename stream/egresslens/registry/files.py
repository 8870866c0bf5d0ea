"""Files and folders to a registry: `kubectl get … -o yaml` as it comes, and the operator's own files.

Multi-document files, `kind: List`, all API versions. Kinds that are not used are left out. Nothing is taken
from a set of files with a mistake in it: all mistakes are named, and what was read before stays in force.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from egresslens.registry.documents import DocumentError, documents
from egresslens.registry.models import KINDS, NAMESPACED, MeshConfig, Metadata, Object
from egresslens.registry.problems import Problem, RegistryError, in_file
from egresslens.registry.ranges import provider_of, read_ranges
from egresslens.registry.value import Registry

SUFFIXES: Final = (".yaml", ".yml", ".json")
# Fields by which a bare mesh config (`istioctl`, Helm values) is told from other files.
_MESH_FIELDS: Final = frozenset(
    {"outboundTrafficPolicy", "rootNamespace", "defaultServiceExportTo", "defaultConfig", "trustDomain"}
)
_MAX_PROBLEMS: Final = 100

Signature = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and modification time of each file."""


def read_registry(paths: tuple[Path, ...], cluster: str = "", *, may_be_empty: bool = False) -> Registry:
    """Read all files of these paths; folders are searched for YAML and JSON files.

    Raises:
        RegistryError: with everything that is wrong; also when nothing of use is found, so that an empty
            folder does not take the place of a registry (unless it may be empty).
    """
    objects: dict[tuple[str, str, str], tuple[Object, str]] = {}
    problems: list[Problem] = []
    for path in _files(paths, problems):
        for read in _read_file(path, problems):
            known = objects.setdefault(read.key, (read, str(path)))
            if known[0] != read:
                problems.append(
                    Problem(str(path), f"is another one in {known[1]}", subject=f"{read.kind} {read.title}")
                )
    if not problems and not objects and not may_be_empty:
        problems.append(
            Problem(", ".join(map(str, paths)), "no ServiceEntry, Service, Pod or other object that is used")
        )
    if problems:
        raise RegistryError(tuple(problems[:_MAX_PROBLEMS]))
    return Registry.of((found for found, _ in objects.values()), cluster)


def read_object(document: object) -> tuple[Object, ...]:
    """Read one document: the objects of use in it, none for kinds that are not used.

    Raises:
        RegistryError: a document that is no object, or an object whose used fields are not what they must be.
    """
    if not isinstance(document, Mapping):
        raise RegistryError((Problem("", "is no object (a mapping with apiVersion and kind)"),))
    provider = provider_of(document)
    if provider is not None:
        return (read_ranges(provider, document),)
    kind = document.get("kind")
    if kind is None:
        return _bare_mesh_config(document)
    if not isinstance(kind, str):
        raise RegistryError((Problem("", "is no text", field="kind"),))
    if kind.endswith("List") and isinstance(document.get("items", ()), (list, type(None))):
        return _items(document, kind.removesuffix("List"))
    return _single(document, kind)


def signature(paths: tuple[Path, ...]) -> Signature:
    """What changes whenever a file of these paths does; links are followed, as ConfigMap mounts need."""
    found = []
    for path in _files(paths, []):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


class Loader:
    """The registry of some paths, read again when they change. The last good one stays."""

    def __init__(self, paths: tuple[Path, ...], cluster: str = "") -> None:
        self._paths = paths
        self._cluster = cluster
        self._signature: Signature | None = None
        self.registry: Registry | None = None

    def reload(self) -> bool:
        """Read the files if they changed since they were last read; whether the registry is another one now.

        Raises:
            RegistryError: the files are wrong; `registry` is what it was. Raised once per change.
        """
        # Taken before reading: a file that changes meanwhile is read again.
        current = signature(self._paths)
        if current == self._signature:
            return False
        self._signature = current
        registry = read_registry(self._paths, self._cluster)
        changed = registry != self.registry
        self.registry = registry
        return changed


def _files(paths: tuple[Path, ...], problems: list[Problem]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path)
        elif path.is_file():
            yield path
        else:
            problems.append(Problem(str(path), "no such file or folder"))


def _in_folder(folder: Path) -> Iterator[Path]:
    """Files with a suffix of SUFFIXES, sorted; names with a leading dot are not looked at."""
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory, name)


def _read_file(path: Path, problems: list[Problem]) -> Iterator[Object]:
    try:
        found = documents(path.read_bytes())
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}"))
        return
    except DocumentError as error:
        problems.append(Problem(str(path), str(error), error.document))
        return
    for number, document in enumerate(found, start=1):
        try:
            yield from read_object(document)
        except RegistryError as error:
            problems.extend(in_file(error.problems, str(path), number))


def _items(document: Mapping[str, Any], kind: str) -> tuple[Object, ...]:
    """Read a list's items; those of a `PodList` may leave out their own kind, and have the list's."""
    found: list[Object] = []
    problems: list[Problem] = []
    inherited = {"apiVersion": document.get("apiVersion"), "kind": kind} if kind else {}
    for at, item in enumerate(document.get("items") or ()):
        try:
            found.extend(read_object({**inherited, **item} if isinstance(item, Mapping) else item))
        except RegistryError as error:
            problems.extend(
                replace(problem, field=".".join(filter(None, (f"items.{at}", problem.field))))
                for problem in error.problems
            )
    if problems:
        raise RegistryError(tuple(problems))
    return tuple(found)


def _single(document: Mapping[str, Any], kind: str) -> tuple[Object, ...]:
    group, _, version = str(document.get("apiVersion") or "").rpartition("/")
    if (group, kind) == ("", "ConfigMap"):
        return _mesh_config_map(document)
    model = KINDS.get((group, kind))
    if model is None:
        if group == "egresslens":
            raise RegistryError((Problem("", f"is no kind of egresslens/{version}", field="kind"),))
        return ()
    return (_validated(model, document, kind),)


def _validated(model: type[Object], document: Mapping[str, Any], kind: str) -> Object:
    document = {key: value for key, value in document.items() if value is not None}
    try:
        found = model.model_validate(document)
    except ValidationError as error:
        raise RegistryError(_problems(error, document, kind)) from None
    if kind in NAMESPACED and not found.namespace:
        # kubectl would take the one of its context, which only its user knows.
        raise RegistryError(
            (Problem("", "is missing", subject=f"{kind} {found.name}", field="metadata.namespace"),)
        )
    return found


def _problems(error: ValidationError, document: Mapping[str, Any], kind: str) -> tuple[Problem, ...]:
    metadata = document.get("metadata")
    known = metadata if isinstance(metadata, Mapping) else {}
    names = [str(known[key])[:100] for key in ("namespace", "name") if known.get(key)]
    return tuple(
        Problem(
            "",
            one["msg"].removeprefix("Value error, "),
            subject=f"{kind} {'/'.join(names)}".strip(),
            field=".".join(map(str, one["loc"])),
        )
        for one in error.errors(include_input=False, include_url=False)
    )


def _mesh_config_map(document: Mapping[str, Any]) -> tuple[Object, ...]:
    """Istio's own ConfigMap, `istio` or `istio-<revision>`, holds the mesh config as text under `mesh`."""
    metadata, data = document.get("metadata"), document.get("data")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    text = data.get("mesh") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or not name.startswith("istio") or not isinstance(text, str):
        return ()
    try:
        mesh = [one for one in documents(text.encode()) if isinstance(one, Mapping)]
    except DocumentError as error:
        raise RegistryError(
            (Problem("", str(error), subject=f"ConfigMap {name}", field="data.mesh"),)
        ) from None
    return _bare_mesh_config(mesh[0], known=True) if mesh else ()


def _bare_mesh_config(document: Mapping[str, Any], *, known: bool = False) -> tuple[Object, ...]:
    nested = document.get("meshConfig")
    if isinstance(nested, Mapping):
        return _bare_mesh_config(nested, known=True)
    if not known and not _MESH_FIELDS & document.keys():
        raise RegistryError((Problem("", "has no kind, and is no mesh config or range file"),))
    spec = {key: value for key, value in document.items() if value is not None}
    return (_validated(MeshConfig, {"metadata": Metadata(name="istio"), "spec": spec}, "MeshConfig"),)
