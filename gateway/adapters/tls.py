"""TLS contexts of the listeners: 1.3 only, one a process, built before the fork so that workers share ticket keys."""

import os
import ssl

from gateway.wire.secret import Secret


def server_context(client_issuer_pem: str) -> ssl.SSLContext:
    """A context that asks for a client certificate of this issuer. It is optional here: routes demand it.

    Only the one issuer is trusted (partial chain), so that an operator's certificate is none on the instance listener,
    and the other way round. A resumed or kept-alive session proves nothing here that is not checked on each request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=client_issuer_pem)
    context.num_tickets = 1  # each costs a signature's time once a client certificate is in the session
    return context


def show(context: ssl.SSLContext, chain_pem: str, key: Secret) -> None:
    """Let the context show this chain from the next handshake on. The key goes through memory, never to a disk."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with key as plain, os.fdopen(os.dup(fd), "wb") as file:
            file.write(chain_pem.encode() + plain)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
