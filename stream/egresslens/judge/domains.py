"""Who owns a name: the public suffix list, from the snapshot in the package `publicsuffixlist`."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

# ICANN's section says which names are in the public DNS; with the private one (`s3.amazonaws.com`,
# `github.io`) the list says where one owner's names end. An unknown last label counts as a suffix: `corp`.
_ICANN: Final = PublicSuffixList(accept_unknown=False, only_icann=True)
_OWNERS: Final = PublicSuffixList(accept_unknown=True)


@lru_cache(maxsize=65_536)
def owner_domain(host: str) -> str | None:
    """The registrable domain (`api.shop.example.co.uk`: `example.co.uk`); None for a suffix itself."""
    domain: str | None = _OWNERS.privatesuffix(host)
    return domain


@lru_cache(maxsize=65_536)
def in_public_dns(host: str) -> bool:
    """Whether a host's name ends in a suffix of the public DNS, and is more than that."""
    return _ICANN.privatesuffix(host) is not None
