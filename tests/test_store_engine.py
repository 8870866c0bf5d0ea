"""What the store needs before it starts, and small things around the engine."""

import sys

import pytest

from egresslens.store.engine import (
    Engine,
    Limits,
    Refusals,
    StoreUnavailableError,
    escape,
    quote,
    raise_own,
)
from egresslens.store.errors import EngineError, StoreError
from egresslens.store.hello import hello


def test_a_missing_engine_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(StoreUnavailableError, match=r"egresslens\[embedded\]"):
        Engine(tmp_path, Limits())


@pytest.mark.parametrize("text", ["it's", "back\\slash", "a\nb\tc\rd\0e\bf\fg", ""])
def test_an_escaped_text_has_no_bare_quote_and_no_control_character(text):
    escaped = escape(text)
    assert escaped.encode("raw_unicode_escape").isascii()
    assert all(character.isprintable() for character in escaped)
    assert escaped.replace("\\\\", "").replace("\\'", "").count("'") == 0


def test_a_quoted_name_cannot_end_early():
    assert quote("a`b\\") == "`a\\`b\\\\`"


def test_an_engines_error_keeps_its_words_and_says_its_code_once():
    twice = "Code: 60. DB::Exception: " * 2
    error = EngineError(f"{twice}No table. (UNKNOWN_TABLE) (version 26.9.2.1). (UNKNOWN_TABLE)")
    assert (error.code, error.status) == (60, 404)
    assert error.text.count("Code: 60") == 1


def test_an_error_without_a_code_has_clickhouses_code_for_such():
    assert EngineError("something else").text == "Code: 1001. DB::Exception: something else. (STD_EXCEPTION)"


@pytest.mark.parametrize(
    ("count", "query", "code"),
    [(1, "mine", 53), (2, "mine", 53), (1, "another's", None), (2, "another's", 319), (0, "mine", None)],
)
def test_an_insert_answers_for_its_own_refusals(count: int, query: str, code: int | None):
    before = {53: Refusals(7, "TYPE_MISMATCH", "old", "mine")}
    after = {53: Refusals(7 + count, "TYPE_MISMATCH", "new", query)}
    if code is None:
        raise_own(before, after, "mine")
    else:
        with pytest.raises(EngineError) as error:
            raise_own(before, after, "mine")
        assert error.value.code == code


def test_a_refusal_reads_like_clickhouses():
    assert StoreError(497, "no").text == "Code: 497. DB::Exception: no. (ACCESS_DENIED)"


def test_the_greeting_of_clickhouse_go_is_a_native_block():
    columns = b"\x0ddisplayName()\x06String\x01d\x09version()\x06String\x0426.9"
    rest = b"\x0arevision()\x06UInt32\x00\x00\x00\x00\x0atimezone()\x06String\x03UTC"
    assert hello("d", "26.9", "UTC", 0) == b"\x04\x01" + columns + rest


def test_the_greeting_of_a_later_protocol_has_the_blocks_info_and_flags():
    block = hello("d", "26.9", "UTC", 54_460)
    assert block.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01")
    assert b"String\x00\x01d" in block
