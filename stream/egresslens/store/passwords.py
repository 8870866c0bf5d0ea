"""The two accounts of the store: writer and reader, each with a random password in a file of mode 0600."""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Account = Literal["writer", "reader"]
ACCOUNTS: Final[tuple[Account, ...]] = ("writer", "reader")


@dataclass(frozen=True)
class Passwords:
    """The accounts' passwords; never shown by repr()."""

    writer: str = field(repr=False)
    reader: str = field(repr=False)

    def account(self, user: str, password: str) -> Account | None:
        """The account these credentials open, or None. Takes the same time whichever is wrong."""
        found: Account | None = None
        for name in ACCOUNTS:
            right_user = hmac.compare_digest(user.encode(), name.encode())
            right_password = hmac.compare_digest(password.encode(), str(getattr(self, name)).encode())
            if right_user & right_password:
                found = name
        return found


def password_file(folder: Path, account: Account) -> Path:
    """Where an account's password is kept."""
    return folder / f"{account}.password"


def load_or_create(folder: Path) -> Passwords:
    """Read both passwords, making a random one (mode 0600) where there is none yet.

    Raises:
        PermissionError: a file is readable by others.
        OSError: a file cannot be read or written.
    """
    writer, reader = (_load_or_create(password_file(folder, name)) for name in ACCOUNTS)
    return Passwords(writer=writer, reader=reader)


def load(folder: Path) -> Passwords:
    """Read both passwords of a store that has been started before.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    writer, reader = (password_file(folder, name).read_text().strip() for name in ACCOUNTS)
    return Passwords(writer=writer, reader=reader)


def _load_or_create(path: Path) -> str:
    # Made under another name and linked into place, so that a crash leaves no empty password behind.
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} can be read by others; set its mode to 0600")
    password = path.read_text().strip()
    if not password:
        raise PermissionError(f"{path} is empty; delete it and a new password is made")
    return password
