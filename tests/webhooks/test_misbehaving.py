"""A webhook receiver that answers 500, times out, redirects, or sends a gigabyte; and worse."""

import asyncio
import resource
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.programs.models import Program
from tests.helpers import new_member
from tests.webhooks.receiver import (
    QUICK,
    Behaviour,
    Receiver,
    Request,
    deliver,
    drip,
    drip_headers,
    endless_headers,
    endless_hints,
    gibberish,
    gigabyte,
    hang,
    hang_up,
    hook,
    receiving,
    reset,
    status,
    tell,
    waiting,
)


async def _fails(program: Program, url: str, says: str, **options: object) -> None:
    webhook, _ = await hook(program, url)
    await tell(program, 1)
    started = time.monotonic()
    await deliver(program, limits=QUICK, **options)
    assert time.monotonic() - started < 2.5
    (delivery,) = await waiting(webhook)
    assert delivery["attempts"] == 1
    assert says in delivery["error"], delivery["error"]


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (status(500, "Sorry,\n\x00 no"), "The receiver answered 500: Sorry, no"),
        (status(404), "The receiver answered 404."),
        (status(500, "H4sIAAAA", "content-encoding: gzip"), "The receiver answered 500."),
        (status(101, "", "upgrade: h2c", "connection: upgrade"), "Error"),
        (hang, "No answer in time"),
        (hang_up, "Server disconnected"),
        (reset, "Error"),
        (gigabyte(500), "The receiver answered 500: xxxx"),
        (drip(503), "The receiver answered 503: zz"),
        (drip_headers, "No answer in time"),
        (endless_headers, "Error"),
        (endless_hints, "No answer in time"),
        (gibberish, "Error"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:20],
)
async def test_receiver_that_does_not_acknowledge_is_asked_again_later(
    program: Program, receiver: Receiver, behaviour: Behaviour, says: str
) -> None:
    receiver.behaviour = behaviour
    await _fails(program, receiver.url, says)


@pytest.mark.parametrize(
    "behaviour",
    [status(204), status(299, "fine"), gigabyte(200), drip(200)],
    ids=["204", "299", "gigabyte", "drip"],
)
async def test_any_status_of_success_is_enough_whatever_follows_it(
    program: Program, receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.behaviour = behaviour
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    await deliver(program)
    assert time.monotonic() - started < 2.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert await waiting(webhook) == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(program: Program, receiver: Receiver, code: int) -> None:
    async with receiving() as other:
        receiver.behaviour = status(code, "", f"location: {other.url}")
        await _fails(program, receiver.url, f"answered {code}; redirects are not followed")
        assert other.connections == 0


async def test_nobody_listens_at_the_address(program: Program) -> None:
    async with receiving() as receiver:
        pass
    await _fails(program, receiver.url, "ConnectError")


async def test_name_is_not_known_or_its_server_says_nothing(program: Program) -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    async def silent(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    await _fails(program, "https://nowhere.example/", "nowhere.example is not known", resolve=unknown)
    await _fails(program, "https://silent.example/", "No answer in time", resolve=silent)


async def test_connection_is_kept_for_the_next_message(program: Program, receiver: Receiver) -> None:
    webhook, _ = await hook(program, receiver.url)
    await tell(program, *range(20))
    await deliver(program)
    assert [request.n for request in receiver.got] == list(range(20))
    assert receiver.connections == 1
    assert await waiting(webhook) == []


async def test_message_that_one_receiver_does_not_take_another_takes(
    program: Program, receiver: Receiver
) -> None:
    async with receiving() as bad:
        bad.behaviour = hang
        webhook, _ = await hook(program, bad.url)
        await hook(program, receiver.url)
        member = await new_member(program)
        await tell(program, 1, 2, member=member)
        await deliver(program, limits=QUICK)
        assert [request.n for request in receiver.got] == [1, 2]
        assert [request.n for request in bad.got] == [1]
        assert len(await waiting(webhook)) == 2


def _certificate(folder: Path, *, name: str, days: int = 1) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_tls_is_verified_by_the_name_although_the_address_is_ours(
    program: Program, tmp_path: Path
) -> None:
    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    certificate, key = _certificate(tmp_path, name="hooks.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusted = ssl.create_default_context(cafile=str(certificate))
    async with receiving(server) as receiver:
        url = f"https://hooks.example:{receiver.port}/"
        _, secret = await hook(program, url)
        await tell(program, 1)
        await deliver(program, resolve=here, tls=trusted)
        assert receiver.got[0].verified(secret)["data"]["n"] == 1
        assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert asked == ["hooks.example"]
        other = f"https://other.example:{receiver.port}/"
        await _fails(program, other, "CERTIFICATE_VERIFY_FAILED", resolve=here, tls=trusted)
        await _fails(program, url, "CERTIFICATE_VERIFY_FAILED", resolve=here)


async def test_receiver_that_speaks_no_tls_is_not_waited_for(program: Program) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for serve, says in ((plain, "Error"), (silent, "No answer in time")):
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await _fails(program, f"https://127.0.0.1:{port}/", says)


async def test_proxies_of_the_environment_are_not_asked(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await hook(program, receiver.url)
        await tell(program, 1)
        await deliver(program)
        assert (len(receiver.got), proxy.connections) == (1, 0)


async def test_one_member_that_the_receiver_does_not_take_keeps_nobody_else(
    program: Program, receiver: Receiver
) -> None:
    ada, bob = await new_member(program, external_id="ada"), await new_member(program, external_id="bob")

    async def not_ada(request: Request, writer: asyncio.StreamWriter) -> None:
        await status(400 if request.member == "ada" else 200)(request, writer)

    receiver.behaviour = not_ada
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1, 2, member=ada)
    await tell(program, 3, 4, member=bob)
    await tell(program, 5)
    await deliver(program)
    assert receiver.by_member() == {"ada": [1], "bob": [3, 4], None: [5]}
    assert [each["attempts"] for each in await waiting(webhook)] == [1, 0]
