"""The smallest HTTP/2 server that answers every request with the same JSON: in cleartext, with prior knowledge, or over
TLS, chosen by ALPN."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

HOST = "127.0.0.1"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this host that signs itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return files


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side that offers HTTP/2 and HTTP/1.1, and a client's that trusts it."""
    public, private = certificate(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(public, private)
    server.set_alpn_protocols(["h2", "http/1.1"])
    return server, ssl.create_default_context(cafile=str(public))


class Http2Server:
    """`async with Http2Server(body) as server: server.url`; `held_back` answers are sent together, by `release`."""

    def __init__(self, body: bytes, hold_back: int = 1, tls: ssl.SSLContext | None = None) -> None:
        self._body = body
        self._tls = tls
        self.protocols: list[str | None] = []
        self._hold_back = hold_back
        self.connections = 0
        self.requests: list[dict[bytes, bytes]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._tls)
        self.url = f"{'http' if self._tls is None else 'https'}://{HOST}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tls = writer.get_extra_info("ssl_object")
        self.protocols.append(None if tls is None else tls.selected_alpn_protocol())
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        waiting: list[int] = []
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                writer.close()
                return
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.requests.append(dict(event.headers or ()))
                elif isinstance(event, StreamEnded):
                    waiting.append(event.stream_id or 0)
            if len(waiting) >= self._hold_back:
                self._answer(connection, waiting)

    def _answer(self, connection: Any, streams: list[int]) -> None:
        while streams:
            stream = streams.pop()
            connection.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
            connection.send_data(stream, self._body, end_stream=True)
