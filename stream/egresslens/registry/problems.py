"""What is wrong with a file: where exactly, in words for its author."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `document` counts from 1; `subject` is `Kind namespace/name` if known."""

    file: str
    message: str
    document: int | None = None
    subject: str | None = None
    field: str | None = None

    def __str__(self) -> str:
        document = f"document {self.document}" if self.document else None
        return ": ".join(
            part for part in (self.file, document, self.subject, self.field, self.message) if part
        )


class RegistryError(ValueError):
    """Files cannot be used as a registry; `problems` says everything that is wrong with them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def in_file(problems: tuple[Problem, ...], file: str, document: int) -> tuple[Problem, ...]:
    """Say where the problems are."""
    return tuple(replace(problem, file=file, document=document) for problem in problems)
