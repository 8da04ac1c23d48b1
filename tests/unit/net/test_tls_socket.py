from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from broker.certificates import Authority

from dispatchd.net.tls_socket import TlsSocket


@pytest.mark.parametrize("is_over", [False, True])
def test_a_socket_without_tls_yet_or_any_more_can_be_looked_at(tmp_path: Path, is_over: bool) -> None:
    """The admin looks at connections whenever it likes."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", "/CN=localhost"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        server = TlsSocket(ours, context)
        if is_over:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            trusting = ssl.create_default_context(cafile=authority.certificate)
            client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    theirs.sendall(outgoing.read())
                    with pytest.raises(BlockingIOError):
                        server.recv(1)
                    incoming.write(theirs.recv(65_536))
                else:
                    break
            theirs.sendall(outgoing.read())
            with pytest.raises(BlockingIOError):
                server.recv(1)
            server.shutdown(socket.SHUT_WR)
        assert server.certificate() is None
        assert server.facts()["ssl"]
