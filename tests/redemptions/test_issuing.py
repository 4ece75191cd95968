"""Codes of redemptions: who gets which, when one comes back, and how one is used."""

import pytest

from app.catalog.codes import upload_codes
from app.catalog.service import update_reward
from app.catalog.vault import SealBroken, Vault
from app.redemptions.redemptions import RedemptionStatus
from app.redemptions.steps import cancel, capture, use_code
from tests.helpers import new_program
from tests.redemptions.making import (
    VAULT,
    all_at_once,
    ask,
    balance_of,
    check_books,
    codes_had,
    codes_of,
    load,
    new_reward,
    redeem,
    redeemed,
    refusal,
    rich_member,
    stock_of,
    wanted,
)


@pytest.mark.parametrize("kind", ["VOUCHER", "GIFT_CARD"])
async def test_codes_are_given_in_the_order_in_which_they_were_loaded(kind: str) -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, kind)
    await load(program, reward, "Z", "Y")
    await load(program, reward, "X", "A")
    results = await redeem(program.id, [wanted(member, reward, quantity=n) for n in (1, 2)])
    last = await redeemed(program, member, reward)
    given = [await codes_had(program, each.redemption) for each in results if each.redemption]
    assert [*given, await codes_had(program, last)] == [["Z"], ["Y", "X"], ["A"]]
    assert codes_of(await ask(program, member, reward)) == ["OUT_OF_STOCK"]
    await check_books(program)


async def test_no_code_is_given_twice_whatever_happens_at_once() -> None:
    program = await new_program()
    reward = await new_reward(program, "VOUCHER", points=1)
    await load(program, reward, *(f"C{n:03}" for n in range(60)))
    members = [await rich_member(program) for _ in range(6)]

    async def one(n: int) -> None:
        (taken,) = await redeem(
            program.id,
            [wanted(members[n % 6], reward, quantity=1 + n % 3, hold_seconds=(None, 600, 600)[n % 3])],
        )
        if taken.redemption is None:
            assert codes_of(taken) == ["OUT_OF_STOCK"]
        elif n % 3 == 1:
            await cancel(program.id, taken.redemption.id, "No", f"cancel-{n}")
        elif n % 3 == 2:
            await capture(program.id, taken.redemption.id, f"capture-{n}")
            if n % 2:
                await cancel(program.id, taken.redemption.id, "No", f"cancel-{n}")

    await all_at_once([lambda n=n: one(n) for n in range(48)])
    free = (await stock_of(program, reward)).codes
    assert free is not None
    # All that are left are to be had, and no more than these.
    assert codes_of(await ask(program, members[0], reward, quantity=free + 1)) == ["OUT_OF_STOCK"]
    await redeemed(program, members[0], reward, quantity=free)
    await check_books(program)


async def test_a_reservations_codes_go_back_and_are_given_again() -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, "VOUCHER")
    await load(program, reward, "A", "B")
    reserved = await redeemed(program, member, reward, quantity=2, hold_seconds=60)
    assert (await stock_of(program, reward)).codes == 0
    await cancel(program.id, reserved.id, "No", "key")
    assert (await stock_of(program, reward)).codes == 2
    assert (await refusal(use_code(program.id, "A", "early", VAULT)))[0] == "NOT_FOUND"
    redemption = await redeemed(program, member, reward)
    assert await codes_had(program, redemption) == ["A"]
    await check_books(program)


@pytest.mark.parametrize("hold", [None, 60], ids=["spent", "captured"])
async def test_codes_that_were_seen_are_void_for_good_once_cancelled(hold: int | None) -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, "VOUCHER", stock=2)
    await load(program, reward, "A", "B")
    redemption = await redeemed(program, member, reward, hold_seconds=hold)
    if hold:
        await capture(program.id, redemption.id, "key")
    await cancel(program.id, redemption.id, "No", "key")
    stock = await stock_of(program, reward)
    assert (stock.codes, stock.taken, stock.left) == (1, 0, 1)
    assert await refusal(use_code(program.id, "A", "key", VAULT)) == (
        "WRONG_STATE",
        "The redemption is CANCELLED, and cannot be used.",
    )
    assert await codes_had(program, await redeemed(program, member, reward)) == ["B"]
    assert codes_of(await ask(program, member, reward)) == ["OUT_OF_STOCK"]
    await check_books(program)


async def test_codes_are_made_for_each_piece_and_those_that_nobody_saw_are_forgotten() -> None:
    program = await new_program()
    member, reward = (
        await rich_member(program, 10_000),
        await new_reward(program, "VOUCHER", generate_codes=True),
    )
    redemptions = [await redeemed(program, member, reward, quantity=20) for _ in range(2)]
    codes = [code for each in redemptions for code in await codes_had(program, each)]
    assert len(set(codes)) == 40
    reserved = await redeemed(program, member, reward, quantity=2, hold_seconds=60)
    (unseen, _) = await codes_had(program, reserved)
    await cancel(program.id, reserved.id, "No", "key")
    assert await codes_had(program, reserved) == []
    assert (await refusal(use_code(program.id, unseen, "key", VAULT)))[0] == "NOT_FOUND"
    assert (await stock_of(program, reward)).codes is None
    await check_books(program)


async def test_a_reward_can_change_between_a_pool_and_codes_that_are_made() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 10_000), await new_reward(program, "VOUCHER")
    await load(program, reward, "A", "B", "C")
    from_pool = await redeemed(program, member, reward, quantity=2, hold_seconds=60)
    await update_reward(program.id, reward.id, {"generate_codes": True})
    assert (await stock_of(program, reward)).left is None
    made = await redeemed(program, member, reward, quantity=2, hold_seconds=60)
    assert not {"A", "B", "C"} & set(await codes_had(program, made))
    await cancel(program.id, from_pool.id, "No", "1")
    await update_reward(program.id, reward.id, {"generate_codes": False})
    assert (await stock_of(program, reward)).codes == 3
    # Those that were made are nobody's pool.
    await cancel(program.id, made.id, "No", "2")
    assert (await stock_of(program, reward)).codes == 3
    assert await codes_had(program, await redeemed(program, member, reward, quantity=3)) == ["A", "B", "C"]
    await check_books(program)


async def test_codes_that_come_back_while_the_pool_is_switched_on_are_counted_once() -> None:
    program = await new_program()
    member, reward = await rich_member(program, 10_000), await new_reward(program, "VOUCHER")
    await load(program, reward, *(f"C{n}" for n in range(20)))
    for n in range(5):
        reserved = [await redeemed(program, member, reward, hold_seconds=60) for _ in range(6)]
        await update_reward(program.id, reward.id, {"generate_codes": True})
        works = [
            lambda each=each, n=n: cancel(program.id, each.id, "No", f"{n}-{each.id}") for each in reserved
        ]
        works.insert(n, lambda: update_reward(program.id, reward.id, {"generate_codes": False}))  # type: ignore
        await all_at_once(works)
        assert (await stock_of(program, reward)).codes == 20
        await check_books(program)


async def test_a_redemption_is_used_when_the_last_of_its_codes_is() -> None:
    program = await new_program()
    member, reward = await rich_member(program), await new_reward(program, "GIFT_CARD", generate_codes=True)
    redemption = await redeemed(program, member, reward, quantity=3)
    *codes, last = await codes_had(program, redemption)
    for n, code in enumerate(codes):
        done = await use_code(program.id, code, f"{n}", VAULT)
        assert (done.redemption.status, done.redemption.used_at) == (RedemptionStatus.CONFIRMED, None)
    done = await use_code(program.id, f" {last}\n", "last", VAULT)
    assert done.redemption.status is RedemptionStatus.USED
    assert done.redemption.used_at is not None


async def test_codes_are_found_as_they_are_written_and_in_their_own_program_alone() -> None:
    program, elsewhere = await new_program(), await new_program()
    member, reward = await rich_member(program), await new_reward(program, "VOUCHER")
    await load(program, reward, "Abc-1")
    stranger, other = await rich_member(elsewhere), await new_reward(elsewhere, "VOUCHER")
    await load(elsewhere, other, "Abc-1", "Def-2")
    await redeemed(program, member, reward)
    redemption = await redeemed(elsewhere, stranger, other, quantity=2)
    for code in ("abc-1", "ABC-1", "Abc", "", "Def-2"):
        assert await refusal(use_code(program.id, code, "key", VAULT)) == (
            "NOT_FOUND",
            "No such code has been issued.",
        )
    done = await use_code(program.id, "Abc-1", "key", VAULT)
    assert done.redemption.member_id == member.id
    done = await use_code(elsewhere.id, "Abc-1", "key", VAULT)
    assert done.redemption.id == redemption.id
    assert not done.replayed


async def test_nobody_pays_for_a_code_that_cannot_be_read() -> None:
    program = await new_program()
    reward, member = await new_reward(program, "VOUCHER"), await rich_member(program)
    await upload_codes(program.id, reward.id, ["A1"], Vault("a key that was lost"))
    with pytest.raises(SealBroken):
        await redeemed(program, member, reward)
    assert (await balance_of(program, member)).available == 1000
    await check_books(program)
