"""Regions that host names and ServiceEntries tell.

Clouds put a region's name into host names: AWS `db.ab12.eu-west-1.rds.amazonaws.com`, Google
`europe-west1-docker.pkg.dev`, Azure `demo.westeurope.cloudapp.azure.com`. The rightmost label counts: whoever
owns a name may write anything to the left of it.
"""

from __future__ import annotations

import re
from typing import Final

from egresslens.judge.verdict import NOTHING, Verdict
from egresslens.registry.models import ServiceEntry

_DIRECTION: Final = r"(?:north|south|east|west|central|northeast|northwest|southeast|southwest)"
# AWS: area, direction, number with hyphens. New regions follow the pattern, so no list.
_AWS: Final = re.compile(rf"^(?:af|ap|ca|cn|eu|eusc-de|il|me|mx|sa|us|us-gov|us-iso[a-z]?)-{_DIRECTION}-\d$")
# Google: continent, direction and number without a hyphen.
_GCP: Final = re.compile(
    rf"^(?:africa|asia|australia|europe|me|northamerica|southamerica|us)-{_DIRECTION}\d{{1,2}}$"
)
_AZURE: Final = frozenset(
    re.findall(
        r"\w+",
        """
    australiacentral australiacentral2 australiaeast australiasoutheast austriaeast belgiumcentral
    brazilsouth brazilsoutheast canadacentral canadaeast centralindia centralus chilecentral chinaeast
    chinaeast2 chinanorth chinanorth2 chinanorth3 denmarkeast eastasia eastus eastus2 francecentral
    francesouth germanynorth germanywestcentral indonesiacentral israelcentral italynorth japaneast
    japanwest koreacentral koreasouth malaysiawest mexicocentral newzealandnorth northcentralus
    northeurope norwayeast norwaywest polandcentral qatarcentral southafricanorth southafricawest
    southcentralus southeastasia southindia spaincentral swedencentral swedensouth switzerlandnorth
    switzerlandwest taiwannorth uaecentral uaenorth uksouth ukwest usgovarizona usgovtexas usgovvirginia
    westcentralus westeurope westindia westus westus2 westus3
        """,
    )
)
_PROVIDERS: Final = {
    "AWS": (".amazonaws.com", ".amazonaws.com.cn", ".aws", ".on.aws", ".aws.dev"),
    "Google": (".googleapis.com", ".pkg.dev", ".run.app", ".cloudfunctions.net", ".goog", ".gcr.io"),
    "Azure": (
        ".azure.com",
        ".azure.net",
        ".windows.net",
        ".microsoft.com",
        ".azurecontainer.io",
        ".azurewebsites.net",
        ".azure-api.net",
    ),
}
# ElastiCache shortens regions: `demo.ab12cd.ng.0001.euw1.cache.amazonaws.com`.
_SHORT: Final = re.compile(r"^(af|ap|ca|cn|eu|il|me|mx|sa|us)(n|s|e|w|c|ne|nw|se|sw)(\d)$")
_LONG_DIRECTION: Final = {
    "n": "north",
    "s": "south",
    "e": "east",
    "w": "west",
    "c": "central",
    "ne": "northeast",
    "nw": "northwest",
    "se": "southeast",
    "sw": "southwest",
}


def by_host(host: str | None) -> Verdict:
    """Judge by the host's name."""
    if not host:
        return NOTHING
    provider = next((name for name, suffixes in _PROVIDERS.items() if host.endswith(suffixes)), None)
    for label in reversed(host.split(".")):
        region = _region_in(label, provider)
        if region:
            where = f"{provider}'s host name" if provider else "the host's name"
            return Verdict(region, "high" if provider else "medium", f"{region} in {where}")
    return NOTHING


def by_entry(entry: ServiceEntry | None) -> Verdict:
    """Judge by the localities of a ServiceEntry's endpoints (`region/zone/subzone`)."""
    localities = (
        [endpoint.locality.partition("/")[0].lower() for endpoint in entry.spec.endpoints] if entry else []
    )
    regions = sorted({region for region in localities if region})
    if not entry or not regions:
        return NOTHING
    if len(regions) > 1:
        return Verdict(None, None, f"endpoints of ServiceEntry {entry.title} in {', '.join(regions)}")
    sure = all(localities)
    return Verdict(
        regions[0], "high" if sure else "medium", f"locality of ServiceEntry {entry.title}'s endpoints"
    )


def _region_in(label: str, provider: str | None) -> str | None:
    if _is_region(label):
        return label
    if provider == "AWS" and (short := _SHORT.match(label)):
        return f"{short[1]}-{_LONG_DIRECTION[short[2]]}-{short[3]}"
    # `europe-west1-docker.pkg.dev`, `s3-eu-west-1.amazonaws.com`, `eu-west-1b`: a region at the label's ends.
    parts = label.split("-")
    for size in (3, 2, 4):
        for cut in (parts[:size], parts[-size:]):
            if len(parts) > size and _is_region("-".join(cut)):
                return "-".join(cut)
    return None


def _is_region(text: str) -> bool:
    return bool(_AWS.match(text) or _GCP.match(text)) or text in _AZURE
