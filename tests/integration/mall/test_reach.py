"""A POST to a stranger's address: the name is looked up once, the connection goes there, and TLS is checked against the name."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ballast.mall.webhooks import reach
from tests.integration.mall.test_webhooks import Receiver

look_up = socket.getaddrinfo


class Names:
    """What names mean: each answer once, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> None:
        self.asked: list[str] = []

        def answer(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            known = answers.get(str(name).replace(".", "_"))
            if known is None:
                return look_up(host, port, *rest, **more)
            self.asked.append(name)
            address = known.pop(0) if len(known) > 1 else known[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", answer)


def post(url: str, private: bool = True) -> reach.Answer:
    async def run() -> reach.Answer:
        async with reach.client() as client:
            return await reach.post(client, url, b"{}", {"x-test": "1"}, private=private)

    return asyncio.run(run())


def certificate_of(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side for this name, and what has to be trusted for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, private)
    return server, pem


def test_a_name_that_means_something_else_a_moment_later_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    names = Names(monkeypatch, shop_test=["127.0.0.1", "192.0.2.1"])
    assert post(f"http://shop.test:{receiver.port}/a?b=c").status == 200
    receiver.close()
    ((path, headers, body),) = receiver.heard
    assert (path, headers["host"], headers["x-test"], body) == ("/a?b=c", f"shop.test:{receiver.port}", "1", b"{}")
    assert names.asked == ["shop.test"]


def test_a_name_with_one_address_inside_is_refused_whatever_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(reach.NotReached, match="not public"):
        post("https://shop.test/", private=False)


def test_tls_is_checked_against_the_name_and_not_against_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls, trusted = certificate_of("shop.test", tmp_path)
    monkeypatch.setattr(reach, "_tls", lambda: ssl.create_default_context(cafile=str(trusted)))
    Names(monkeypatch, shop_test=["127.0.0.1"], other_test=["127.0.0.1"])
    receiver = Receiver(tls)
    try:
        assert post(f"https://shop.test:{receiver.port}/").status == 200
        with pytest.raises(reach.NotReached, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://other.test:{receiver.port}/")
        monkeypatch.undo()
        Names(monkeypatch, shop_test=["127.0.0.1"])
        with pytest.raises(reach.NotReached, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://shop.test:{receiver.port}/")
    finally:
        receiver.close()
    assert len(receiver.heard) == 1
