"""Pseudonyms: at the door, `user_id` becomes HMAC-SHA-256 of itself under the shop's key.

The key comes from the environment and is never written; ops.files keeps a hash that tells whether
it is still the same one. RFC 2104; SQL has no HMAC, so it is made of two SHA-256.
"""

import hashlib
import hmac
import os

from tasks.errors import SettingsError
from tasks.lake.session import Session

KEY_VARIABLE = "NIGHTRANK_PSEUDONYM_KEY"
SHORTEST_KEY = 16  # bytes
LENGTH = 32  # hexadecimal digits: 128 bits
_BLOCK = 64  # bytes that SHA-256 takes at once


def pseudonym_sql(user_id: str) -> str:
    """SQL of the pseudonym of a text; NULL stays NULL. `use_key` must have been called."""
    inner = f"unhex(sha256(getvariable('pseudonym_inner') || encode({user_id})))"
    return f"left(sha256(getvariable('pseudonym_outer') || {inner}), {LENGTH})"


def pseudonym(key: bytes, user_id: str) -> str:
    """The pseudonym of one user, for who must find their rows."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def use_key(s: Session, key: bytes) -> None:
    """Give the session the key's two pads, as variables: SQL text can stand in error messages."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    for name, pad in (("inner", 0x36), ("outer", 0x5C)):
        hexed = bytes(byte ^ pad for byte in block).hex()
        s.con.execute(f"SET VARIABLE pseudonym_{name} = unhex('{hexed}')")


def key_from_environment() -> bytes:
    """The key. Raises SettingsError where there is none, or one that could be guessed."""
    key = os.environb.get(KEY_VARIABLE.encode(), b"")
    if len(key) < SHORTEST_KEY:
        raise SettingsError(
            "ids are to be pseudonymised, but there is "
            + (f"no key of {SHORTEST_KEY} bytes or more" if not key else "only a short key"),
            where=f"the environment variable {KEY_VARIABLE}",
            unchanged="nothing was read or written",
            fix=f"set {KEY_VARIABLE} to a long random text, and keep it as you keep a password",
        )
    return key


def key_id(key: bytes | None) -> str | None:
    """What the lake keeps of a key: enough to know it again, not enough to use it."""
    if key is None:
        return None
    return hmac.new(key, b"nightrank key id", hashlib.sha256).hexdigest()[:16]


def hold_to_key(s: Session, key: bytes | None) -> None:
    """Refuse to mix keys, or pseudonyms with ids as they came: one user would become two.

    Raises SettingsError.
    """
    s.read("ops.files", newest=True)
    known = s.rows("SELECT DISTINCT key_id FROM ops.files ORDER BY key_id")
    others = [row[0] for row in known if row[0] != key_id(key)]
    if others:
        raise SettingsError(
            _change(others[0], key),
            where=f"privacy.pseudonymise, {KEY_VARIABLE}",
            unchanged="nothing was read or written",
            fix="go back to what the lake was made with, or ingest everything into a new lake",
        )


def _change(known: str | None, key: bytes | None) -> str:
    if known is None:
        return "this lake holds ids as they came; it cannot go on with pseudonyms"
    if key is None:
        return "this lake holds pseudonyms; it cannot go on with ids as they came"
    return f"this lake was made with another key (its id is {known}); a key cannot be rotated"
