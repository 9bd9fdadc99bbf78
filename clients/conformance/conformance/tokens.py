"""Tokens (JWT) signed with a secret, as an issuer would make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

ISSUER, AUDIENCE = "https://issuer.example", "tickgate"


class Issuer:
    """Somebody whose tokens a gateway takes."""

    def __init__(self, folder: Path) -> None:
        self._secret = b"a secret of 32 bytes or more, of which there is no second"
        self._file = folder / "issuer.secret"
        self._file.write_bytes(self._secret)

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a gateway is set to that takes them."""
        return {
            "auth__mode": "required",
            "auth__issuers": ISSUER,
            "auth__audiences": AUDIENCE,
            "auth__algorithms": "HS256",
            "auth__key_files": f"HS256:{self._file}",
            **more,
        }

    def token(self, lasts_s: int, **rights: Any) -> str:
        """A token for one subject, which sees everything unless `rights` say otherwise."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": int(time.time()) + lasts_s,
            "tickgate": {"symbols": ["*"], "wildcard": True, **rights},
        }
        head = _text(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        body = _text(json.dumps(claims).encode())
        signed = f"{head}.{body}"
        mark = hmac.new(self._secret, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_text(mark)}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
