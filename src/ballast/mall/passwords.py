"""Passwords as argon2id hashes, worked out beside the event loop: two at a time, since each takes 64 MiB and a core."""

from __future__ import annotations

import asyncio
import base64
import secrets
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ballast.mall.rules.refused import Refused

SHORTEST = 8
LONGEST = 200

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")


def _by_chance() -> str:
    """A hash of which nobody knows the password, put together instead of worked out: every process comes by here."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (_hasher.salt_len, _hasher.hash_len)
    )
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


_NOBODY = _by_chance()
"""To check against it takes as long as against any other."""


def check(password: str) -> None:
    """Refused (`password.length`) for one that may not be chosen."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Refused(
            "password.length", f"A password has {SHORTEST} to {LONGEST} characters.", "Choose another.", least=SHORTEST
        )


async def hashed(password: str) -> str:
    """What is stored of a password."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(stored: str | None, password: str) -> bool:
    """Whether it is the password. None, for somebody who is not there, takes as long as a wrong one."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _matches, stored, password)


def needs_rehash(stored: str) -> bool:
    """Whether it was made with lower costs than are asked today."""
    return _hasher.check_needs_rehash(stored)


def _matches(stored: str | None, password: str) -> bool:
    try:
        return _hasher.verify(stored or _NOBODY, password[: LONGEST + 1]) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
