"""The vault: what it seals opens with the same key and for the same context, and in no other way."""

from time import perf_counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.vault import SealBroken, Vault
from app.ids import new_id

VAULT = Vault("the key of this installation")
PLACE = UUID("0198c0de-0000-7000-8000-000000000001")


@given(st.binary(max_size=300), st.uuids())
def test_what_was_sealed_is_what_comes_out(content: bytes, context: UUID) -> None:
    sealed = VAULT.seal(content, context)
    assert len(sealed) == len(content) + 29
    assert VAULT.open(sealed, context) == content


def test_the_same_secret_opens_in_another_process() -> None:
    sealed = VAULT.seal(b"GIFT-2026", PLACE)
    assert Vault("the key of this installation").open(sealed, PLACE) == b"GIFT-2026"


def test_what_an_earlier_version_has_sealed_can_still_be_opened() -> None:
    sealed = bytes.fromhex("01f8d0458664434295ad2181356e65a0ec32387645093ae24315f71a284e621ef1570286a748")
    assert VAULT.open(sealed, PLACE) == b"GIFT-2026"


def test_what_an_earlier_version_has_digested_is_still_recognised() -> None:
    assert (
        VAULT.digest(PLACE, "GIFT-2026").hex()
        == "5e57c36e1a56288cc1a90edd31b33a4202ece3c1ae63a210c5969efff397f10c"
    )


def test_the_same_content_is_sealed_differently_each_time_and_never_readable() -> None:
    sealed = {VAULT.seal(b"GIFT-2026", PLACE) for _ in range(1000)}
    assert len(sealed) == 1000
    assert not any(b"GIFT" in each for each in sealed)


def test_another_key_cannot_open() -> None:
    sealed = VAULT.seal(b"GIFT-2026", PLACE)
    with pytest.raises(SealBroken, match="another key"):
        Vault("the key of another installation").open(sealed, PLACE)


def test_a_seal_that_was_moved_elsewhere_does_not_open() -> None:
    with pytest.raises(SealBroken):
        VAULT.open(VAULT.seal(b"GIFT-2026", PLACE), new_id())


def test_a_seal_with_any_bit_changed_or_any_byte_missing_does_not_open() -> None:
    sealed = VAULT.seal(b"GIFT-2026", PLACE)
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    ]
    for wrong in (*changed, *(sealed[:length] for length in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(SealBroken):
            VAULT.open(wrong, PLACE)


def test_a_digest_is_the_same_for_the_same_code_and_differs_by_code_program_and_key() -> None:
    program, other = new_id(), new_id()
    digest = VAULT.digest(program, "ÄPFEL-1")
    assert digest == VAULT.digest(program, "ÄPFEL-1")
    assert len(digest) == 32
    different = {
        digest,
        VAULT.digest(program, "ÄPFEL-2"),
        VAULT.digest(program, "äpfel-1"),
        VAULT.digest(other, "ÄPFEL-1"),
        Vault("the key of another installation").digest(program, "ÄPFEL-1"),
    }
    assert len(different) == 5


def test_ten_thousand_codes_are_sealed_and_digested_in_well_under_100_ms() -> None:
    program, ids = new_id(), [new_id() for _ in range(10_000)]
    fastest = 1.0
    for _ in range(3):
        start = perf_counter()
        for context in ids:
            VAULT.seal(b"ABCD-EFGH-JKMN-PQRS", context)
            VAULT.digest(program, "ABCD-EFGH-JKMN-PQRS")
        fastest = min(fastest, perf_counter() - start)
    assert fastest < 0.1
