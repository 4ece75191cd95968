"""A program to play with: made-up members of a made-up shop, through the same services as real ones."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog

from app import database
from app.access.keys import add_key, hash_secret
from app.access.models import ApiKey
from app.access.scopes import PROGRAM_SCOPES
from app.access.tenancy import scoped
from app.access.tokens import MemberTokens, create_member_token
from app.campaigns.service import create_campaign
from app.catalog.vault import Vault
from app.database import transaction
from app.demo_friends import fill_friends
from app.demo_rewards import PAID_ORDER, PAYER, fill_catalog
from app.demo_rules import QUIZ, RULES, STORES, TIERS, campaigns, gold_rule
from app.earning.events import Incoming, OwnDeed
from app.earning.reads import find_event
from app.earning.recording import record_now
from app.earning.refunding import EventRef, Item, refund_purchase, return_items
from app.earning.remainders import Wish
from app.earning.rule_service import create_rule, list_rules
from app.earning.rules import EventKind, RuleStatus
from app.imports.purchases import Order, OrderLine
from app.keyring import codes_key, read_secret, secret_key, write_secret
from app.ledger.adjusting import adjust_points
from app.ledger.expiry import ExpiryKind, ExpiryPolicy
from app.members.inputs import NewMember
from app.members.reads import MemberRef
from app.members.service import enroll_members
from app.paging import make_page
from app.programs.inputs import NewProgram
from app.programs.models import Program
from app.programs.service import create_program, find_program
from app.settings import Settings
from app.stores.reads import StoreRef
from app.stores.service import create_store
from app.tiers.policy import TierBasis, TierDowngrade, TierPolicy, TierWindow
from app.tiers.service import create_tier, get_tiers, set_member_tier
from app.tiers.standings import evaluate_members

log = structlog.get_logger(__name__)

PROGRAM = NewProgram(
    slug="demo",
    name="Nordhaus Tea & Coffee",
    currency="EUR",
    timezone="Europe/Berlin",
    max_points_per_day=2000,
    expiry=ExpiryPolicy(ExpiryKind.ROLLING_MONTHS, 24),
    debt_limit=500,
    tier_policy=TierPolicy(
        TierBasis.AMOUNT_SPENT, TierWindow.ROLLING_MONTHS, 12, TierDowngrade.ONE_STEP, grace_days=30
    ),
)
MEMBERS = 48
MONTHS = 7
_TOKEN_SECONDS = 86_400
_KEY_FILE = "demo.key"
_BATCH = 150
"""Purchases after which tiers are looked at: so those who climb earn by their new tier from then on."""

_FIRST = (
    "Ada", "Ben", "Chloé", "Dario", "Elif", "Finn", "Grace", "Hugo", "Ines", "Jonas", "Kaja", "Luca",
    "Mia", "Noor", "Olek", "Pia",
)  # fmt: skip
_LAST = (
    "Albers", "Bianchi", "Costa", "Demir", "Evans", "Fischer", "Garcia", "Haas", "Ivanova", "Jansen",
    "Kovač", "Lindqvist",
)  # fmt: skip
_GOODS = (
    ("TEA-EARL-100", "Earl Grey, 100 g", "Tea", "Nordhaus", "7.90"),
    ("TEA-SENCHA-100", "Sencha, 100 g", "Tea", "Nordhaus", "9.40"),
    ("TEA-ROOIBOS-250", "Rooibos, 250 g", "Tea", "Nordhaus", "11.20"),
    ("COF-HOUSE-500", "House blend, 500 g", "Coffee", "Alba", "12.95"),
    ("COF-ETHIO-250", "Ethiopia Sidamo, 250 g", "Coffee", "Alba", "10.50"),
    ("POT-GLASS-1L", "Glass teapot, 1 l", "Tableware", "Lumen", "34.00"),
    ("CUP-STONE-2", "Stoneware cups, pair", "Tableware", "Lumen", "24.50"),
    ("MIL-HAND-1", "Hand coffee mill", "Equipment", "Kern", "79.00"),
    ("KET-GOOSE-1", "Gooseneck kettle", "Equipment", "Kern", "64.90"),
    ("CHO-DARK-70", "Dark chocolate, 70 %", "Sweets", "Rosa", "4.20"),
    ("BIS-ALMOND", "Almond biscuits", "Sweets", "Rosa", "5.60"),
)
_STORES = tuple(StoreRef(external_id=store.external_id) for store in STORES)
_PLACES = (*_STORES, None, None)
"""Where purchases were made; None is the web."""
_TIERS_GIVEN = {5: "Gold", 14: "Gold", 30: "Blossom", 41: "Gold"}
"""By hand; the others climb by what they spend."""


class Demo(NamedTuple):
    """What it takes to look around: a key of the program, and the token of one member."""

    api_key: str
    member_token: str


async def ensure_demo(settings: Settings) -> Demo | None:
    """Fill an empty database with the demo program, and return its credentials.

    Opens and closes a connection of its own. What was begun and not finished is finished. The key
    is kept in the data folder, readable by its owner only, so that later starts can show it again.

    Returns:
        None when the database holds programs, and none of them is the demo.
    """
    await database.connect(settings, "laurel-demo")
    try:
        program = await find_program(PROGRAM.slug)
        if program is None:
            if await Program.exists():
                return None
            program, _ = await create_program(PROGRAM)
        if await find_event(program.id, _LAST_ORDER) is None:
            await fill(program, Vault(codes_key(settings)))
            log.info("demo.filled", members=MEMBERS)
        key = await _key(settings.data_dir / _KEY_FILE, program.id)
        tokens = MemberTokens(secret_key(settings))
        token = await create_member_token(
            tokens, program.id, MemberRef(external_id=_external_id(1)), _TOKEN_SECONDS
        )
        return Demo(key, token.token)
    finally:
        await database.disconnect()


def _external_id(number: int) -> str:
    return f"demo-{number:04}"


def _ref(number: int) -> MemberRef:
    return MemberRef(external_id=_external_id(number))


async def fill(program: Program, vault: Vault) -> None:
    """Give a program stores, tiers, rules, campaigns, a catalog, members, and what they did in MONTHS months.

    Safe to be broken off and begun again: all of it follows from the time at which the program was
    made, and what is there already is recognised. The last purchase is recorded last of all. What workers
    would find out later is found out here: a demo is complete without one, and with any number.

    Args:
        vault: seals the codes of the catalog.
    """
    now = program.created_at
    tiers = await _set_up(program)
    chance = random.Random(20)  # noqa: S311 - plausible, not secret
    members = [_member(number, now, chance) for number in range(1, MEMBERS + 1)]
    enrolled = [each.member for each in await enroll_members(program.id, members)]
    there = [member for member in enrolled if member is not None]
    ids = [member.id for member in there]
    since = now - timedelta(days=90)
    for number, tier in _TIERS_GIVEN.items():
        await set_member_tier(program.id, _ref(number), tiers[tier], since, None, "A regular for years")
    orders = sorted((order for member in members for order in _orders(member, now, chance)), key=_moment)
    events = [_incoming(order, chance.choice(_PLACES)) for order in orders]
    events += [event for member in members for event in _deeds(member, now, chance)]
    events.sort(key=lambda event: event.content.occurred_at or now)
    for start in range(0, len(events), _BATCH):
        await record_now(program.id, events[start : start + _BATCH])
        await evaluate_members(program.id, ids, None)
    await _give_back(program, orders)
    for number, points, reason in (
        (1, 150, "Sorry for the broken cup"),
        (7, 40, "Goodwill after a late delivery"),
        (12, -25, "Booked twice by mistake"),
    ):
        await adjust_points(program.id, _ref(number), points, reason, f"demo-{number}")
    payment = await fill_catalog(program, tiers["Blossom"], vault)
    await record_now(program.id, [_incoming(_paid_order(now))._replace(redemption_id=payment)])
    ids += await fill_friends(program, there[0])
    await evaluate_members(program.id, ids, None)
    await record_now(program.id, [_incoming(_last_order(now))])


async def _set_up(program: Program) -> dict[str, UUID]:
    """Make what members meet; return the tiers by name."""
    for store in STORES:
        await create_store(program.id, store)
    known = {tier.name for tier in await get_tiers(program.id)}
    for new in TIERS:
        if new.name not in known:
            await create_tier(program.id, new)
    tiers = {tier.name: tier.id for tier in await get_tiers(program.id)}
    there = (await list_rules(program.id, make_page(first=100), set(RuleStatus))).items
    names = {rule.definition.name for rule in there}
    for definition, status in (*RULES, (gold_rule(tiers["Gold"]), RuleStatus.ACTIVE)):
        if definition.name not in names:
            await create_rule(program.id, definition, status)
    for campaign in campaigns(program.created_at, tiers["Gold"]):
        await create_campaign(program.id, campaign)
    return tiers


async def _give_back(program: Program, orders: Sequence[Order]) -> None:
    """Refund one piece of some purchases, all of one, and take something back without a receipt."""
    of_first = [order for order in orders if order.member_id == _external_id(1)]
    for order in (*orders[40::60], of_first[-1]):
        piece = [Wish(1, Decimal(1))]
        moment = _moment(order) + timedelta(hours=20)
        await refund_purchase(
            program.id,
            EventRef(external_id=order.external_id),
            f"{order.external_id}-back",
            occurred_at=moment,
            lines=piece,
        )
    whole, returned = orders[-9], orders[-30]
    await refund_purchase(
        program.id,
        EventRef(external_id=whole.external_id),
        f"{whole.external_id}-all-back",
        occurred_at=_moment(whole) + timedelta(hours=21),
    )
    line = returned.lines[0]
    await return_items(
        program.id,
        MemberRef(external_id=returned.member_id),
        f"{returned.external_id}-no-receipt",
        [Item(line.sku, Decimal(1), line.amount)],
        occurred_at=_moment(returned) + timedelta(hours=22),
    )


def _moment(order: Order) -> datetime:
    assert order.occurred_at
    return order.occurred_at


def _incoming(order: Order, store: StoreRef | None = None) -> Incoming:
    return Incoming(order, MemberRef(external_id=order.member_id), store)


def _member(number: int, now: datetime, chance: random.Random) -> NewMember:
    name = f"{_FIRST[number % len(_FIRST)]} {_LAST[number % len(_LAST)]}"
    joined_at = now - timedelta(days=chance.randint(20, 30 * MONTHS), minutes=chance.randint(0, 600))
    return NewMember(
        external_id=_external_id(number),
        email=f"member{number}@example.com" if number % 5 else None,
        phone=f"+49 30 5550 {number:04}" if number % 3 else None,
        name=name,
        birthday=date(chance.randint(1950, 2005), chance.randint(1, 12), chance.randint(1, 28)),
        locale=chance.choice(("de-DE", "de-AT", "en-GB", "fr-FR")),
        attributes={"newsletter": bool(number % 2)},
        joined_at=joined_at,
    )


def _orders(member: NewMember, now: datetime, chance: random.Random) -> list[Order]:
    """Return a member's purchases: some come weekly, some once."""
    assert member.joined_at
    days_between = chance.choice((6, 11, 19, 33, 60))
    orders: list[Order] = []
    moment = member.joined_at
    while moment < now - timedelta(days=1):
        opened = moment.astimezone(UTC).replace(hour=chance.randint(8, 18), minute=chance.randint(0, 59))
        orders.append(_order(f"{member.external_id}-{len(orders) + 1}", member.external_id, opened, chance))
        moment += timedelta(days=max(1, round(chance.gauss(days_between, days_between / 3))))
    return orders


def _order(external_id: str, member: str, occurred_at: datetime, chance: random.Random) -> Order:
    lines = []
    for sku, name, category, brand, price in chance.sample(_GOODS, chance.choice((1, 1, 2, 2, 3, 4))):
        quantity = Decimal(chance.choice((1, 1, 1, 2, 3)))
        lines.append(OrderLine(sku, name, category, brand, quantity, quantity * Decimal(price)))
    return Order(external_id, member, occurred_at, lines, [])


def _deeds(member: NewMember, now: datetime, chance: random.Random) -> list[Incoming]:
    """Return the quizzes that a member played, and the visits to one of the stores; some do neither."""
    assert member.joined_at
    ref = MemberRef(external_id=member.external_id)
    deeds = []
    for what, action, store, most in (("quiz", QUIZ, None, 6), ("visit", None, chance.choice(_STORES), 9)):
        kind = EventKind.CHECK_IN if action is None else EventKind.ACTION
        for number in range(1, max(0, chance.randint(-4, most)) + 1):
            day = now - timedelta(days=chance.randint(1, (now - member.joined_at).days - 1))
            moment = day.astimezone(UTC).replace(hour=chance.randint(9, 16), minute=chance.randint(0, 59))
            deed = OwnDeed(f"{member.external_id}-{what}-{number}", action, moment)
            deeds.append(Incoming(deed, ref, store, kind))
    return deeds


def _paid_order(now: datetime) -> Order:
    """Return the purchase of which a part was paid with points."""
    assert PAYER.external_id
    sku, name, category, brand, price = _GOODS[7]
    assert Decimal(price) == PAID_ORDER
    line = OrderLine(sku, name, category, brand, Decimal(1), PAID_ORDER)
    return Order(f"{PAYER.external_id}-paid", PAYER.external_id, now - timedelta(hours=3), [line], [])


_LAST_ORDER = f"{_external_id(1)}-latest"


def _last_order(now: datetime) -> Order:
    """Return the purchase that is recorded last: by it a demo is known to be complete."""
    sku, name, category, brand, price = _GOODS[5]
    line = OrderLine(sku, name, category, brand, Decimal(2), 2 * Decimal(price))
    return Order(_LAST_ORDER, _external_id(1), now - timedelta(hours=2), [line], [])


async def _key(file: Path, program_id: UUID) -> str:
    """Return the key that the file holds, or a new one in its place when it opens nothing."""
    secret = read_secret(file)
    if secret is not None:
        keys = scoped(ApiKey, program_id).filter(secret_hash=hash_secret(secret), revoked_at=None)
        if await keys.exists():
            return secret
    async with transaction():
        _, secret = await add_key(program_id, "Demo", PROGRAM_SCOPES)
        write_secret(file, secret)
    return secret
