"""Alert rules as data: what to look for, how bad it is, whom it concerns, what is muted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Kind = Literal["blackhole", "new_destination", "residency", "mismatch", "volume"]
Severity = Literal["info", "warning", "critical"]
Patterns = tuple[str, ...]


class RulesError(ValueError):
    """The rules file cannot be used; the message says where and why."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(_Model):
    """Whom something concerns. Names may hold `*`; what is left out matches all."""

    clusters: Patterns = ("*",)
    namespaces: Patterns = ("*",)
    workloads: Patterns = ("*",)
    hosts: Patterns = ("*",)

    def fits(
        self, cluster: str | None, namespace: str | None, workload: str | None, host: str | None
    ) -> bool:
        """Whether it concerns these; an absent name is an empty one."""
        return all(
            any(fnmatchcase(name or "", pattern) for pattern in patterns)
            for name, patterns in (
                (cluster, self.clusters),
                (namespace, self.namespaces),
                (workload, self.workloads),
                (host, self.hosts),
            )
        )


class Mute(Match):
    """What is not told, and until when."""

    rules: Patterns = Field(default=("*",), description="Names of rules, may hold `*`.")
    until: datetime | None = Field(default=None, description="When the mute ends; never if left out.")
    reason: str = Field(min_length=1, description="Why: whoever reads the file later wants to know.")


class Rule(_Model):
    """One rule. A measure that has no effect for its kind is refused."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    kind: Kind
    severity: Severity = "warning"
    only: Match = Match()
    resolve_after_minutes: int = Field(
        default=15, ge=1, description="Minutes without a further event until the incident is over."
    )
    learning_hours: int | None = Field(
        default=None,
        ge=0,
        description="new_destination: a workload first seen less long ago is still learned; 24.",
    )
    factor: float | None = Field(
        default=None,
        gt=1,
        description="volume: times the average minute of the busiest hour of the last 7 days; 5.",
    )
    min_bytes: int | None = Field(
        default=None, gt=0, description="volume: bytes sent out in a minute at least; 10 MB."
    )
    history_hours: int | None = Field(
        default=None, ge=1, description="volume: hours with traffic before anything is said; 24."
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Rule:
        for name, kind in (
            ("learning_hours", "new_destination"),
            ("factor", "volume"),
            ("min_bytes", "volume"),
            ("history_hours", "volume"),
        ):
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"{name} is for rules of kind {kind}")
        return self

    @property
    def resolve_after(self) -> timedelta:
        """Time without a further event until the incident is over."""
        return timedelta(minutes=self.resolve_after_minutes)

    @property
    def once(self) -> bool:
        """Whether the same thing can only happen once, ever."""
        return self.kind == "new_destination"


class AlertRules(_Model):
    """The rules file."""

    rules: tuple[Rule, ...]
    mute: tuple[Mute, ...] = ()
    max_per_minute: int = Field(
        default=60, ge=1, description="Incidents that may begin in a minute; the rest is one storm incident."
    )
    max_age_hours: int = Field(
        default=24, ge=1, description="Windows that began longer ago are read over: a matter for reports."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> AlertRules:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules have the name {', '.join(twice)}")
        return self

    def named(self, name: str) -> Rule | None:
        """The rule of a name."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def muted(
        self,
        rule: Rule,
        cluster: str | None,
        namespace: str | None,
        workload: str | None,
        host: str | None,
        now: datetime,
    ) -> bool:
        """Whether a mute covers it now."""
        return any(
            any(fnmatchcase(rule.name, pattern) for pattern in one.rules)
            and (one.until is None or now < _aware(one.until))
            and one.fits(cluster, namespace, workload, host)
            for one in self.mute
        )


BUILT_IN: Final = AlertRules(
    rules=(
        Rule(name="blackhole", kind="blackhole", severity="critical"),
        Rule(name="residency", kind="residency", severity="critical"),
        Rule(name="mismatch", kind="mismatch", severity="warning"),
        Rule(name="volume", kind="volume", severity="warning"),
        Rule(name="new-destination", kind="new_destination", severity="info", resolve_after_minutes=60),
    )
)


def read_rules(path: Path | None) -> AlertRules:
    """Read the rules file; without one, the built-in rules.

    Raises:
        RulesError: the file cannot be read, or a field does not fit.
    """
    if path is None:
        return BUILT_IN
    try:
        document: Any = yaml.safe_load(path.read_text())
        return AlertRules.model_validate(document)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesError(f"cannot read the alert rules {path}: {error}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
        raise RulesError(f"{path}: " + f"\n{path}: ".join(problems)) from None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
