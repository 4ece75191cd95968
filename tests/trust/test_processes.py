"""The API, and all of `laurel run`, are ended in every way, and start again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import httpx
import psutil
import pytest

from app.outbox.service import LEASE
from tests.platform.instance import Instance, free_port
from tests.trust.books import check, drained, report
from tests.trust.place import Child, Place, until
from tests.trust.tills import Shop, open_shop

DRAINED_SECONDS = LEASE.total_seconds() + 20
FIRST_WRITE_SECONDS = 15
STOP_SECONDS = 30
# A caller of an API that ends sees its connection end, or is told that the process is stopping.
ENDED = {"ok", "ConnectError", "ReadError", "RemoteProtocolError", "WriteError", "UNAVAILABLE"}


async def test_the_api_is_killed_in_the_middle_of_requests(place: Place, shop: Shop) -> None:
    async with shop.busy(pause_seconds=0.005):
        for _ in range(2):
            await asyncio.sleep(0.7)
            place.api.kill()
            place.api.spawn()
            back = monotonic()
            await until(place.is_ready, FIRST_WRITE_SECONDS, "the API is ready")
        await asyncio.sleep(0.3)
    await drained(place, back)
    first = shop.journal.first_after(back)
    report(shop, f"the API killed twice: first write {first:.2f} s after its start")
    await check(place, shop)
    assert first < FIRST_WRITE_SECONDS
    assert set(shop.journal.answers) <= ENDED


async def test_the_api_and_the_worker_stop_in_order_under_load(place: Place, shop: Shop) -> None:
    logs = place.log_places()
    async with shop.busy(pause_seconds=0.005):
        await asyncio.sleep(1)
        for child in (place.api, place.worker):
            started = monotonic()
            assert await asyncio.to_thread(child.stop) == 0
            assert monotonic() - started < STOP_SECONDS
            child.spawn()
        back = monotonic()
        await until(place.is_ready, FIRST_WRITE_SECONDS, "the API is ready")
    await drained(place, back, DRAINED_SECONDS)
    report(shop, "the API and the worker stopped by SIGTERM under load")
    await check(place, shop)
    assert set(shop.journal.answers) <= ENDED
    place.assert_calm(logs)


async def test_what_cannot_start_says_so_with_its_exit_code(place: Place) -> None:
    nowhere = {**place.environment, "LAUREL_DATABASE_URL": "postgresql://nobody@/nothing?host=/nowhere"}
    nowhere["LAUREL_PORT"] = str(free_port())
    for command, code in (("serve", 3), ("work", 1)):
        failed = Child([command], place.folder, nowhere, place.folder / f"failed-{command}.txt")
        try:
            assert await asyncio.to_thread(failed.process.wait, 30) == code
        finally:
            failed.kill()
    # uvicorn tells of a start that failed with the whole traceback.
    assert failed.log.read_text().startswith("laurel: The database cannot be reached")


class Whole(Place):
    """`laurel run` in a folder, seen as a place: all of its processes are the supervisor's."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.data_dir, instance.environment)
        self.instance = instance
        self.url = f"http://127.0.0.1:{instance.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**self.instance.environment, "LAUREL_DATA_DIR": str(self.instance.data_dir)}


@pytest.fixture
async def whole(tmp_path: Path, clean_environment: dict[str, str]) -> AsyncIterator[Whole]:
    instance = Instance(tmp_path / "whole", {**clean_environment, "LAUREL_LOG_FORMAT": "json"})
    await asyncio.to_thread(instance.start)
    yield Whole(instance)
    try:
        await asyncio.to_thread(instance.stop)
    except Exception:
        for process in instance.family():
            process.kill()
        raise


async def test_all_of_it_is_killed_under_load_and_a_new_start_recovers_and_stops_in_order(
    whole: Whole,
) -> None:
    instance = whole.instance
    admin_key = (instance.data_dir / "admin.key").read_text().strip()
    async with open_shop(whole.url, admin_key) as shop:
        async with shop.busy():
            await asyncio.sleep(1.5)
            for process in instance.family():
                process.kill()
            assert instance.process
            instance.process.wait(10)
            killed = monotonic()
            await asyncio.to_thread(instance.start)
            back = monotonic()
            await asyncio.sleep(0.5)
            # What the supervisor looks after comes back by itself, too.
            instance.child("valkey-server").kill()
            await asyncio.sleep(1)
        empty = await drained(whole, back, DRAINED_SECONDS)
        first = shop.journal.first_after(back)
        report(
            shop,
            f"all of it killed: started in {back - killed:.2f} s, first write {first:.2f} s,"
            f" drained {empty:.2f} s after that",
        )
        await check(whole, shop)
        assert first < FIRST_WRITE_SECONDS

        # And now in order, with clients who go on writing until nobody answers any more.
        writing = asyncio.create_task(write_until_refused(shop))
        await asyncio.sleep(1)
        family = instance.family()
        started = monotonic()
        assert await asyncio.to_thread(instance.stop, signal.SIGTERM, STOP_SECONDS) == 0
        stopped = monotonic() - started
        await asyncio.wait_for(writing, 20)
        assert await until(lambda: gone(family), 5, "nothing is left running")
        print(f"\n  SIGTERM under load: stopped in {stopped:.2f} s")
        await asyncio.to_thread(instance.start)
        await settle(shop)
        await drained(whole, monotonic(), DRAINED_SECONDS)
        await check(whole, shop)
        log = instance.errors.read_text()
        assert "Traceback" not in log


async def gone(family: list[psutil.Process]) -> bool:
    """Return whether none of them runs; orphans that nobody has collected yet do not."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)


async def write_until_refused(shop: Shop) -> None:
    """Send purchases one after the other until the API is gone; the last stays in doubt."""
    while True:
        request = shop.purchase("NOW" if shop.journal.replays % 2 else "DEFERRED")
        shop.in_doubt.append(request)
        try:
            async with asyncio.timeout(10):
                if not await shop.try_once(request):
                    return
        except httpx.HTTPError:
            return
        shop.in_doubt.remove(request)


async def settle(shop: Shop) -> None:
    """Send once more what is in doubt."""
    while shop.in_doubt:
        await shop.send(shop.in_doubt.pop())
