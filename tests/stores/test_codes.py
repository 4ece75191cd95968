"""Check-in codes: read as they were made, refused when anything about them is not ours."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.tokens import MemberTokens
from app.errors import ErrorCode, Refused
from app.stores.codes import LONGEST_SECONDS, SHORTEST_SECONDS, CheckInCodes

SECRET = "a secret of the tests"
CODES = CheckInCodes(SECRET)
PROGRAM, STORE = uuid4(), uuid4()
NOW = datetime(2026, 3, 1, 10, 15, tzinfo=UTC)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# What QR codes keep in eleven bits for two characters.
QR_ALPHANUMERIC = set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
NOT_OURS = (ErrorCode.INVALID, ("code",), "This is not a code of ours, or it was altered.")


def refused(
    text: str, now: datetime = NOW, codes: CheckInCodes = CODES, program_id: UUID = PROGRAM
) -> tuple[ErrorCode, tuple[str, ...] | None, str]:
    """Return why a code is refused."""
    with pytest.raises(Refused) as caught:
        codes.read(program_id, text, now)
    (error,) = caught.value.errors
    return error.code, error.field, error.message


def code(seconds: int | None = None, store_id: UUID = STORE, program_id: UUID = PROGRAM) -> str:
    return CODES.make(program_id, store_id, seconds, NOW).text


def raw(text: str) -> bytes:
    return base64.b32decode(text.removeprefix("LC1-"))


def written(content: bytes) -> str:
    return "LC1-" + base64.b32encode(content).decode()


def test_code_says_where_it_is_shown_and_until_when() -> None:
    made = CODES.make(PROGRAM, STORE, 30, NOW)
    content = CODES.read(PROGRAM, made.text, NOW)
    assert content.store_id == STORE
    assert content.expires_at == made.expires_at == NOW + timedelta(seconds=30)
    assert re.fullmatch("[0-9a-f]{16}", content.serial)


def test_code_to_print_is_good_years_later() -> None:
    made = CODES.make(PROGRAM, STORE, None, NOW)
    assert made.expires_at is None
    for later in (timedelta(days=4000), timedelta(days=365 * 100), datetime.max.replace(tzinfo=UTC) - NOW):
        content = CODES.read(PROGRAM, made.text, NOW + later)
        assert (content.store_id, content.expires_at) == (STORE, None)


def test_code_has_one_length_and_only_characters_of_the_alphanumeric_mode() -> None:
    for text in (code(), code(SHORTEST_SECONDS), code(LONGEST_SECONDS)):
        assert len(text) == 76
        assert set(text) <= QR_ALPHANUMERIC


def test_two_codes_made_in_the_same_second_differ() -> None:
    for seconds in (None, 30):
        made = [code(seconds) for _ in range(1000)]
        assert len(set(made)) == 1000
        assert len({CODES.read(PROGRAM, text, NOW).serial for text in made}) == 1000


@pytest.mark.parametrize("seconds", [SHORTEST_SECONDS, 30, LONGEST_SECONDS])
def test_code_is_good_in_its_last_second_and_not_after_it(seconds: int) -> None:
    text, end = code(seconds), NOW + timedelta(seconds=seconds)
    tick = timedelta(microseconds=1)
    assert CODES.read(PROGRAM, text, end - timedelta(seconds=1)).expires_at == end
    assert CODES.read(PROGRAM, text, end - tick).expires_at == end
    assert refused(text, end)[0] == refused(text, end + tick)[0] == ErrorCode.NOT_ELIGIBLE
    assert refused(text, end + timedelta(days=10_000))[0] == ErrorCode.NOT_ELIGIBLE


@given(st.timedeltas(timedelta(0), timedelta(seconds=1)), st.integers(SHORTEST_SECONDS, LONGEST_SECONDS))
def test_code_is_good_at_least_so_long_as_was_asked_and_ends_on_a_whole_second(
    part: timedelta, seconds: int
) -> None:
    moment = NOW + part
    end = CODES.make(PROGRAM, STORE, seconds, moment).expires_at
    assert end is not None
    assert end.microsecond == 0
    assert timedelta(0) <= end - moment - timedelta(seconds=seconds) < timedelta(seconds=1)


def test_old_code_is_refused_in_words_that_tell_when_it_ended() -> None:
    text = code(30)
    expected = "The code was valid until 1 March 2026, 10:15:30 (UTC); scan a fresh one."
    assert refused(text, NOW + timedelta(hours=1)) == (ErrorCode.NOT_ELIGIBLE, ("code",), expected)
    with pytest.raises(Refused, match=r"until 1 March 2026, 11:15:30 \(Europe/Berlin\)"):
        CODES.content(PROGRAM, text).check_time(NOW + timedelta(hours=1), ZoneInfo("Europe/Berlin"))


def test_what_an_old_code_says_can_still_be_read() -> None:
    made = CODES.make(PROGRAM, STORE, 30, NOW)
    in_time = CODES.read(PROGRAM, made.text, NOW)
    assert refused(made.text, NOW + timedelta(days=1))[0] == ErrorCode.NOT_ELIGIBLE
    assert CODES.content(PROGRAM, made.text) == in_time


def test_space_around_a_code_is_let_pass() -> None:
    text = code()
    assert CODES.read(PROGRAM, f" \n\t{text}\r\n ", NOW) == CODES.read(PROGRAM, text, NOW)


@pytest.mark.parametrize("seconds", [None, 30])
def test_no_character_of_a_code_can_be_another(seconds: int | None) -> None:
    text = code(seconds)
    for place in range(len(text)):
        for other in {*ALPHABET, "0", "1", "8", "9", "-", "=", " ", text[place].lower()} - {text[place]}:
            assert refused(text[:place] + other + text[place + 1 :]) == NOT_OURS, (place, other)


def test_no_bit_of_a_code_can_be_turned() -> None:
    content = raw(code(30))
    for bit in range(len(content) * 8):
        turned = int.from_bytes(content) ^ 1 << bit
        assert refused(written(turned.to_bytes(len(content)))) == NOT_OURS, bit


def test_code_is_neither_cut_nor_extended() -> None:
    text = code()
    for length in range(len(text)):
        assert refused(text[:length]) == NOT_OURS, length
        assert refused(text[length + 1 :]) == NOT_OURS, length
        assert refused(text[:length] + text[length + 1 :]) == NOT_OURS, length
    for more in (*ALPHABET, "=", "====", "AAAAAAAA", "\0", ".", text):
        assert refused(text + more) == NOT_OURS, more
        assert refused(more + text) == NOT_OURS, more


def variants(text: str) -> Iterator[str]:
    """Yield what reads like a code to a person, or to a lenient decoder."""
    yield text.lower()
    yield text.title()
    yield text.removeprefix("LC1-")
    yield text.replace("LC1-", "LC1")
    yield text.replace("LC1-", "LC1--")
    yield text.replace("LC1-", "LC2-")
    yield text.replace("LC1-", "LC0-")
    yield "LC1-" + "-".join(text[4:][n : n + 8] for n in range(0, 72, 8))
    yield text[:40] + "\n" + text[40:]
    yield text[:40] + " " + text[40:]
    yield text.translate({ord(letter): ord(letter) - ord("A") + ord("Ａ") for letter in ALPHABET[:26]})
    yield text.replace("LC1-", "LC1\N{HYPHEN}")
    yield text.replace("LC1-", "LC\N{SUPERSCRIPT ONE}-")
    yield "LC1-" + base64.b32hexencode(raw(text)).decode()
    yield "LC1-" + base64.b16encode(raw(text)).decode()
    yield "LC1-" + base64.urlsafe_b64encode(raw(text)).decode()


def test_code_can_be_written_in_one_way_only() -> None:
    text = code()
    assert written(raw(text)) == text
    for variant in variants(text):
        assert variant != text
        assert refused(variant) == NOT_OURS, variant


@pytest.mark.parametrize(
    "text",
    ["", " ", "LC1-", "-", "\0", "\ud800", "LC1-" + "A" * 72, "LC1-" + "=" * 72, "LC1-" + "A" * 71 + "Ⅷ",
     "A" * 76, "LC1-" * 19, "A" * 100_000, "https://example.com/?code=LC1-" + "A" * 72],
)  # fmt: skip
def test_what_was_never_a_code_is_refused(text: str) -> None:
    assert refused(text) == NOT_OURS


@given(st.text(st.sampled_from(ALPHABET), min_size=72, max_size=72))
def test_no_code_is_guessed(text: str) -> None:
    assert refused(f"LC1-{text}") == NOT_OURS


def test_code_of_another_program_is_refused() -> None:
    other = uuid4()
    assert refused(code(), program_id=other) == NOT_OURS
    assert refused(code(program_id=other)) == NOT_OURS


def test_code_of_another_installation_is_refused() -> None:
    for secret in ("another secret", SECRET + " ", SECRET.upper(), ""):
        codes = CheckInCodes(secret)
        assert refused(code(), codes=codes) == NOT_OURS
        assert refused(codes.make(PROGRAM, STORE, None, NOW).text) == NOT_OURS


def test_code_cannot_be_carried_to_another_store() -> None:
    other = uuid4()
    ours, theirs = raw(code()), raw(code(store_id=other))
    assert refused(written(other.bytes + ours[16:])) == NOT_OURS
    assert refused(written(theirs[:29] + ours[29:])) == NOT_OURS
    assert refused(written(theirs[:16] + ours[16:29] + theirs[29:])) == NOT_OURS


def test_short_lived_code_cannot_be_made_to_last() -> None:
    short, printed = raw(code(5)), raw(code())
    assert refused(written(short[:16] + bytes(5) + short[21:])) == NOT_OURS
    assert refused(written(short[:16] + b"\xff" * 5 + short[21:])) == NOT_OURS
    assert refused(written(short[:16] + printed[16:21] + short[21:])) == NOT_OURS
    assert refused(written(short[:29] + printed[29:])) == NOT_OURS


def test_key_is_neither_the_secret_nor_that_of_member_tokens() -> None:
    assert CODES._key not in (SECRET.encode(), MemberTokens(SECRET)._key)
    said = raw(code())[:-16]
    signed = b"LC1-" + PROGRAM.bytes + said
    for key, ours in ((SECRET.encode(), False), (MemberTokens(SECRET)._key, False), (CODES._key, True)):
        forged = written(said + hmac.digest(key, signed, hashlib.sha256)[:16])
        if ours:
            assert CODES.read(PROGRAM, forged, NOW).store_id == STORE
        else:
            assert refused(forged) == NOT_OURS


def test_code_that_was_printed_once_is_read_by_every_later_version() -> None:
    """What hangs in stores must not be broken by a change of this code: a code of long ago."""
    content = CheckInCodes("a printer's secret").content(
        UUID("0195f0a0-0000-7000-8000-00000000000a"),
        "LC1-AGK7BIAAABYABAAAAAAAAAAABMAAAAAAAAASGRLHRGV4334J6YO4GXLKVTRN2DSPM5MFPSNI",
    )
    assert content.store_id == UUID("0195f0a0-0000-7000-8000-00000000000b")
    assert (content.expires_at, content.serial) == (None, "0123456789abcdef")


@pytest.mark.parametrize("seconds", [4, 0, -1, LONGEST_SECONDS + 1])
def test_nothing_makes_a_code_of_another_length_of_time(seconds: int) -> None:
    with pytest.raises(AssertionError):
        CODES.make(PROGRAM, STORE, seconds, NOW)
