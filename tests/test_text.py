"""Other people's text on a terminal."""

import json
import unicodedata

import pytest

from egresslens.text import ascii_json, visible

# Escapes (also C1's CSI in one character); bidirectional embeddings, overrides, isolates, marks; line ends.
TRICKS = [
    "\x1b", "\x07", "\x7f", "\x9b", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067",
    "\u2068", "\u2069", "\u200e", "\u200f", "\u061c", "\u2028", "\u2029", "\ufeff", "\u200b", "\U000e0041",
    "\r", "\n",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_what_steers_a_terminal_is_written_out(trick: str):
    assert (
        visible(f"a{trick}b")
        == "a" + trick.encode("unicode_escape").decode().replace("\\r", "\\x0d").replace("\\n", "\\x0a") + "b"
    )


def test_no_control_or_format_character_is_left():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert not {unicodedata.category(one) for one in visible(everything)} & {
        "Cc",
        "Cf",
        "Zl",
        "Zp",
        "Co",
        "Cn",
    }


def test_other_languages_stay_as_they_are():
    assert visible("bücher.example, 例え.jp") == "bücher.example, 例え.jp"


@pytest.mark.parametrize("trick", [*TRICKS, "\U0001f600", "ü"], ids=ascii)
def test_json_is_ascii_and_means_the_same(trick: str):
    text = json.dumps({trick: [trick]}, ensure_ascii=False)
    assert ascii_json(text).isascii()
    assert json.loads(ascii_json(text)) == {trick: [trick]}
