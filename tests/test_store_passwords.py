"""The store's two accounts."""

import stat

import pytest

from egresslens.store.passwords import Passwords, load, load_or_create, password_file

PASSWORDS = Passwords(writer="w" * 40, reader="r" * 40)


@pytest.mark.parametrize(
    ("user", "password", "account"),
    [
        ("writer", "w" * 40, "writer"),
        ("reader", "r" * 40, "reader"),
        ("writer", "r" * 40, None),
        ("reader", "w" * 40, None),
        ("writer", "", None),
        ("", "w" * 40, None),
        ("Writer", "w" * 40, None),
        ("wrïter", "ß", None),
    ],
)
def test_only_the_right_pair_opens_an_account(user, password, account):
    assert PASSWORDS.account(user, password) == account


def test_passwords_are_not_shown():
    assert "www" not in repr(PASSWORDS)


def test_passwords_are_made_once_and_private(tmp_path):
    made = load_or_create(tmp_path)
    assert load_or_create(tmp_path) == load(tmp_path) == made
    assert made.writer != made.reader
    assert stat.S_IMODE(password_file(tmp_path, "writer").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reader.password", "writer.password"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_others_can_read_is_refused(tmp_path, mode):
    load_or_create(tmp_path)
    password_file(tmp_path, "reader").chmod(mode)
    with pytest.raises(PermissionError, match="0600"):
        load_or_create(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    load_or_create(tmp_path)
    password_file(tmp_path, "reader").write_text("\n")
    with pytest.raises(PermissionError, match="empty"):
        load_or_create(tmp_path)
