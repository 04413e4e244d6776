"""Why a log-in or a negotiation failed, in plain words: what was wrong, and what to do about it.

The words are for operators and for the client's own people (GET /api/v1/connections/failures); whoever is trying to log
in is told nothing of them.
"""

from collections.abc import Iterator, Mapping

from .ssh_algorithms import LEGACY, MODERN, Offer

CAUSES = {
    "unknown_user": "no folder has this user name: compare it with the one that the operator gave, letter by letter",
    "user_name_format": "this is no user name of the gateway: 1 to 64 of A-Z a-z 0-9 . _ @ -",
    "unknown_key": "the folder does not know this key: add its public half (gateway key add), or use the right one",
    "key_expired": "this key has expired: make a new pair and add its public half",
    "key_revoked": "this key was revoked: make a new pair and add its public half",
    "wrong_password": "the password is wrong",
    "password_expired": "this password has expired: ask for a new one",
    "password_revoked": "this password was revoked: use the new one",
    "folder_disabled": "the folder is disabled: ask the operator",
    "client_disabled": "the client is closed: ask the operator",
    "address": "the folder does not list the address that this came from: add it, or come from a listed one",
    "no_permit": "right user and key, but no permit of the legacy listener for it, from there, now: use the main port "
    "with a newer program, or ask the operator for a permit",
    "unavailable": "the gateway could not look it up at that moment: try again",
    "banned": "too many failed log-ins from this address; it is let in again after some minutes, or put it on "
    "[sftp] safe_sources if many share it",
    "connections": "the gateway has as many connections as it takes: try again later",
    "connections_before_login": "too many connections were waiting to log in: try again",
    "connections_before_login_per_source": "too many connections from this address were waiting to log in: end those "
    "that hang, open fewer at once",
    "connections_per_client": "the client has all of its connections: close those that are left open",
    "too_many_keys": "the program offered too many keys: name the right one (IdentitiesOnly)",
    "no_login": "the connection ended before a log-in was tried",
    "tls_required": "it sent a user name without TLS: choose FTP over TLS, explicit (AUTH TLS), in the program",
    "tls_version": "its TLS is older than 1.2: update the program, or let it use TLS 1.2",
    "tls_cipher": "it shares no cipher with us: TLS 1.2 needs ECDHE with AES-GCM or ChaCha20; update the program",
    "tls_plain": "it spoke without TLS to the port for implicit TLS: choose implicit TLS, or the other port",
    "tls_certificate": "it does not trust our certificate: import the certificate's authority there",
}
_TLS = (  # what OpenSSL's message holds
    ("no shared cipher", "tls_cipher"),
    ("unsupported protocol", "tls_version"),
    ("wrong version number", "tls_plain"),
    ("http request", "tls_plain"),
    ("unknown ca", "tls_certificate"),
    ("bad certificate", "tls_certificate"),
    ("certificate unknown", "tls_certificate"),
    ("certificate expired", "tls_certificate"),
    ("protocol version", "tls_version"),
)
_UPDATE = "update the program, or ask the operator for a permit of the legacy listener"


def of_login(reasons: list[str]) -> tuple[str, str]:
    """Code and cause of a refused SSH log-in; `reasons` are codes, each perhaps with what it is about.

    An agent offers many keys: the most telling reason counts, and unknown keys last.
    """
    if not reasons:
        return "no_login", CAUSES["no_login"]
    told = sorted(reasons, key=lambda reason: reason.startswith("unknown_key"))
    code, _, about = told[0].partition(" ")
    if code == "signature":
        return "signature", f"the program signs with {about} only; this listener needs {_needs(about)}: {_UPDATE}"
    about = f" ({about})" if about else ""
    return code, f"{CAUSES.get(code, code)}{about}"


def _needs(signature: str) -> str:
    return "rsa-sha2-256 or rsa-sha2-512" if signature.startswith("ssh-rsa") else "another kind of key, such as Ed25519"


def of_negotiation(offered: Mapping[str, list[str]], offer: Offer) -> str:
    """The cause when SSH found no common algorithm; `offered` is the client's, by kind (ssh_algorithms.offered)."""
    return "; ".join(_missing(offered, offer)) or "the client and this listener have no algorithm in common"


def _missing(offered: Mapping[str, list[str]], offer: Offer) -> Iterator[str]:
    for kind, theirs in offered.items():
        ours = offer.of(kind)
        if theirs and not set(theirs) & set(ours):
            helps = set(theirs) & set(LEGACY.of(kind)) and offer is MODERN
            do = _UPDATE if helps else "update the program"
            yield f"the client offers only {_list(theirs)} as {kind}; this listener needs one of {_list(ours)}: {do}"


def _list(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(name[:60] for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} others"


def of_tls(message: str) -> tuple[str, str]:
    """Code and cause of a TLS handshake that failed, by what OpenSSL says of it."""
    code = next((code for words, code in _TLS if words in message.lower()), "")
    return (code, CAUSES[code]) if code else ("tls", f"the TLS handshake failed: {message}")
