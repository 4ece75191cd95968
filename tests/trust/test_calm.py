"""What the processes cost while nothing happens, and while what they need is away."""

import asyncio
import os
import signal
from time import monotonic

from tests.trust.books import check, drained
from tests.trust.place import Place
from tests.trust.tills import Shop

WATCHED_SECONDS = 3.0
# Of one core. The worker asks Redis for jobs fifty times a second.
IDLE_SHARE = 0.25
AWAY_SHARE = 0.25
MORE_MEMORY_BYTES = 40 * 1024 * 1024


async def shares(place: Place) -> dict[str, float]:
    """Return how much of a core the API and the worker use."""
    before = {child.log.stem: child.cpu_seconds() for child in (place.api, place.worker)}
    started = monotonic()
    await asyncio.sleep(WATCHED_SECONDS)
    seconds = monotonic() - started
    return {
        child.log.stem: (child.cpu_seconds() - before[child.log.stem]) / seconds
        for child in (place.api, place.worker)
    }


async def test_nobody_spins_while_nothing_happens_or_what_they_need_is_away(place: Place, shop: Shop) -> None:
    await shop.send(shop.batch(10))
    await drained(place, monotonic())
    idle = await shares(place)
    memory = {child.log.stem: child.memory() for child in (place.api, place.worker)}
    logs = place.log_places()
    place.signal(place.redis, signal.SIGKILL)
    place.signal(place.postgres, signal.SIGQUIT)
    away = await shares(place)
    lines = place.logged(logs)
    await place.bring_back(place.postgres)
    await place.bring_back(place.redis)
    await shop.send(shop.batch(10))
    await drained(place, monotonic())
    await check(place, shop)
    text = ", ".join(
        f"{name}: {idle[name]:.1%} idle, {away[name]:.1%} with both servers away, {len(lines[name])} lines"
        for name in idle
    )
    grown = {child.log.stem: child.memory() - memory[child.log.stem] for child in (place.api, place.worker)}
    print(f"\n  {text}; memory grew by {grown}; load of the machine {os.getloadavg()[0]:.1f}")
    assert max(idle.values()) < IDLE_SHARE
    assert max(away.values()) < AWAY_SHARE
    assert max(grown.values()) < MORE_MEMORY_BYTES
    place.assert_calm(logs)
