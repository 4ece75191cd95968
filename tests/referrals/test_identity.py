"""One person in two spellings: e-mail addresses as their providers read them, and phone numbers."""

import pytest

from app.referrals.identity import Identity, same_email, same_identity, same_phone


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.com", "ADA@Example.COM"),
        ("ada.love@gmail.com", "adalove@gmail.com"),
        ("ada@gmail.com", "A.d.a+shop+more@googlemail.com"),
        ("ada@outlook.com", "ada+friend@outlook.com"),
        ("ada@hotmail.co.uk", "ada+1@hotmail.co.uk"),
        ("ada@live.de", "ada+1@LIVE.de"),
        ("ada@icloud.com", "ada+x@me.com"),
        ("ada@mac.com", "ada@icloud.com"),
        ("ada@fastmail.com", "ada+x@fastmail.com"),
        ("ada.love-lace@proton.me", "adalove_lace+x@protonmail.com"),
        ("ada@pm.me", "ada@proton.me"),
        ("ada@yahoo.com", "ada-shop@yahoo.com"),
        ("ada@yahoo.co.uk", "ada-1@yahoo.co.uk"),
        ("ada@zoho.com", "ada+x@zoho.com"),
        ("ada-love@yandex.ru", "ada.love+x@ya.ru"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@example.com", "ada@example.com."),
    ],
)
def test_the_same_mailbox_in_another_spelling(one: str, other: str) -> None:
    assert same_email(one, other)
    assert same_email(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada.love@example.com", "adalove@example.com"),
        ("ada@example.com", "ada+x@example.com"),
        ("ada-x@gmail.com", "ada@gmail.com"),
        ("ada+x@yahoo.com", "ada@yahoo.com"),
        ("ada.x@outlook.com", "adax@outlook.com"),
        ("ada@outlook.com", "ada@hotmail.com"),
        ("ada@fastmail.com", "ada@fastmail.fm"),
        ("ada@gmail.com", "ada@gmail.com.example"),
        ("+a@gmail.com", "+b@gmail.com"),
        ("ada@gmail.com", None),
        (None, None),
    ],
)
def test_other_mailboxes(one: str | None, other: str | None) -> None:
    assert not same_email(one, other)
    assert not same_email(other, one)


@pytest.mark.parametrize(
    ("one", "other", "locales"),
    [
        ("+43 664 1234567", "+43 (0)664 123-45-67", (None, None)),
        ("+436641234567", "0043 664 1234567", (None, None)),
        ("+43 664 1234567", "0664 1234567", (None, None)),
        ("+43 664 1234567", "0664 1234567", ("en", "de-AT")),
        ("0664 1234567", "0664 123 45 67", (None, None)),
        ("0664 1234567", "(0664) 1234567", ("de-AT", "de-AT")),
        ("0664 1234567", "+43 664 1234567", ("en-US", None)),
        ("(212) 555-0123", "+1 212 555 0123", ("en-US", None)),
        ("212 555 0123", "1 212 555 0123", ("en-US", "en-US")),
        ("07911 123456", "+44 7911 123456", (None, "en-GB")),
        ("06 698 12345", "+39 06 698 12345", ("it-IT", None)),
        ("+1 242 365 1234", "242 365 1234", (None, None)),
        ("12125550123", "+1 212 555 0123", (None, None)),
    ],
)
def test_the_same_number_in_another_format(
    one: str, other: str, locales: tuple[str | None, str | None]
) -> None:
    first, second = Identity(None, one, locales[0]), Identity(None, other, locales[1])
    assert same_phone(first, second)
    assert same_phone(second, first)


@pytest.mark.parametrize(
    ("one", "other", "locales"),
    [
        ("+43 664 1234567", "+43 664 1234568", (None, None)),
        ("+43 664 1234567", "1234567", (None, None)),
        ("+43 664 1234567", "+49 664 1234567", (None, None)),
        ("030 1234567", "030 1234567", ("de-DE", "nl-NL")),
        ("212 555 0123", "0212 5550123", ("en-US", "de-DE")),
        ("0664 1234567", "+49 664 1234567", ("de-AT", None)),
        ("+43 664 1234567", None, (None, None)),
        ("0", "00", (None, None)),
        ("- -", "+", (None, None)),
    ],
)
def test_other_numbers(one: str, other: str | None, locales: tuple[str | None, str | None]) -> None:
    first, second = Identity(None, one, locales[0]), Identity(None, other, locales[1])
    assert not same_phone(first, second)
    assert not same_phone(second, first)


def test_one_of_the_two_is_enough() -> None:
    ada = Identity("ada@gmail.com", "+43 664 1234567")
    assert same_identity(ada, Identity("a.da@gmail.com", "+43 1 5880"))
    assert same_identity(ada, Identity(None, "0664 1234567", "de-AT"))
    assert not same_identity(ada, Identity("eve@gmail.com", None))
    assert not same_identity(Identity(None, None), Identity(None, None))
