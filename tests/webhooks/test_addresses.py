"""No request goes to a private address, whatever it is written like, and whatever a name leads to."""

import pytest

from app.errors import Refused
from app.programs.models import Program
from app.webhooks.addresses import is_public, literal_address
from app.webhooks.service import create_webhook
from tests.webhooks.receiver import Receiver, deliver, hook, receiving, status, tell, vault, waiting

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "no address",
    "",
]

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "64:ff9b::8.8.8.8",
    "::ffff:8.8.8.8",
    "2002:808:808::1",
]

SPELLINGS = {
    "127.0.0.1": "127.0.0.1",
    "127.1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "0177.0.0.1": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "::1": "::1",
    "example.com": None,
    "127.0.0.1.example.com": None,
    "1e100.net": None,
}


@pytest.mark.parametrize("address", PRIVATE)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_address_is_public(address: str) -> None:
    assert is_public(address)


def test_address_is_known_in_every_spelling_that_the_resolver_knows() -> None:
    assert {text: literal_address(text) for text in SPELLINGS} == SPELLINGS


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "127.0.0.1.",
        "hooks.localhost",
        "169.254.169.254",
        "metadata.google.internal",
        "１２７.0.0.1",
        "127。0。0。1",
    ],
)
async def test_private_address_is_refused_when_the_webhook_is_made(program: Program, host: str) -> None:
    with pytest.raises(Refused) as refused:
        await create_webhook(program.id, f"https://{host}/", [], vault=vault(), allow_private=False)
    assert [error.field for error in refused.value.errors] == [("url",)]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["64:ff9b::7f00:1"]],
)
async def test_name_that_leads_to_a_private_address_is_not_asked(
    program: Program, receiver: Receiver, addresses: list[str]
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    webhook, _ = await hook(program, f"http://rebind.example:{receiver.port}/")
    await tell(program, 1)
    await deliver(program, allow_private=False, resolve=resolve)
    assert receiver.connections == 0
    assert "private address" in (await waiting(webhook))[0]["error"]


async def test_address_that_was_vetted_is_the_one_that_is_asked(program: Program, receiver: Receiver) -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        # Nobody listens at the first one, and nobody at all knows the name.
        return ["127.0.0.2", "127.0.0.1"]

    webhook, _ = await hook(program, f"http://nobody.invalid:{receiver.port}/")
    await tell(program, 1, 2)
    await deliver(program, resolve=resolve)
    assert [request.headers["host"] for request in receiver.got] == [f"nobody.invalid:{receiver.port}"] * 2
    assert asked == [("nobody.invalid", receiver.port)]
    assert await waiting(webhook) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_private_address_is_not_asked_when_that_was_allowed_once_and_is_no_more(
    program: Program, receiver: Receiver, host: str
) -> None:
    webhook, _ = await hook(program, f"http://{host}:{receiver.port}/")
    await tell(program, 1)
    await deliver(program, allow_private=False)
    assert receiver.connections == 0
    assert "private address" in (await waiting(webhook))[0]["error"]


async def test_redirect_to_a_private_address_is_not_followed(program: Program, receiver: Receiver) -> None:
    async with receiving() as inner:
        receiver.behaviour = status(
            307, "", "location: http://169.254.169.254/", f"refresh: 0; url={inner.url}"
        )
        await hook(program, receiver.url)
        await tell(program, 1)
        await deliver(program)
        assert (len(receiver.got), inner.connections) == (1, 0)
