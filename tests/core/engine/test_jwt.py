"""Engine tokens: what is accepted and what is refused, with tokens written out by hand as the oracle."""

from __future__ import annotations

import hmac
import json
import math
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import jwt as pyjwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.core.engine import jwt
from flashctl.errors import AuthError, IoError, UsageError

SECRET = bytes(range(32))
NOW = 1_760_000_000.4


def signed_by_pyjwt(claims: dict[str, object], algorithm: str = "HS256", key: bytes = SECRET) -> bytes:
    return b"Bearer " + pyjwt.encode(claims, key, algorithm=algorithm).encode()


class TestTokens:
    def test_our_token_is_what_the_specification_says(self) -> None:
        signed, _, signature = jwt.mint(SECRET, NOW).encode().rpartition(b".")
        head, claims = (json.loads(urlsafe_b64decode(part + b"==")) for part in signed.split(b"."))
        assert (head, claims) == ({"alg": "HS256", "typ": "JWT"}, {"iat": int(NOW)})
        assert urlsafe_b64decode(signature + b"=") == hmac.digest(SECRET, signed, "sha256")

    def test_claims_that_the_engine_api_does_not_define_do_not_matter(self) -> None:
        others = {
            "id": "geth",
            "clv": "op-node/v1.2",
            "aud": "x",
            "iss": 1,
            "sub": 2,
            "nbf": NOW + 900,
            "jti": 3,
        }
        jwt.verify(SECRET, _sign({"iat": int(NOW), **others}), NOW)

    @pytest.mark.parametrize("offset", [-60, -1, 0, 1, 60])
    def test_tokens_of_other_clients_within_a_minute_pass(self, offset: int) -> None:
        jwt.verify(SECRET, signed_by_pyjwt({"iat": int(NOW) + offset}), int(NOW))

    def test_null_and_future_expiry_pass(self) -> None:
        jwt.verify(SECRET, signed_by_pyjwt({"iat": int(NOW), "exp": int(NOW) + 5}), NOW)
        jwt.verify(SECRET, _sign({"iat": int(NOW), "exp": None}), NOW)

    def test_scheme_is_case_insensitive(self) -> None:
        jwt.verify(SECRET, b"bearer " + jwt.mint(SECRET, NOW).encode(), NOW)

    @given(st.binary(min_size=32, max_size=32), st.integers(0, 2**40))
    def test_round_trip(self, secret: bytes, now: int) -> None:
        jwt.verify(secret, jwt.bearer(secret, now), now)


class TestRefusals:
    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (None, "missing token"),
            (b"", "missing token"),
            (b"Basic dXNlcg==", "missing token"),
            (b"Bearer", "missing token"),
            (b"Bearer abc", "malformed token"),
            (b"Bearer a.b", "malformed token"),
            (b"Bearer ...", "malformed token"),
            (b"Bearer \xff.\xff.\xff", "malformed token"),
            (b"Bearer " + b"a" * 5000, "token too long"),
        ],
    )
    def test_shape(self, header: bytes | None, reason: str) -> None:
        with pytest.raises(AuthError, match=reason):
            jwt.verify(SECRET, header, NOW)

    @pytest.mark.parametrize("offset", [-61, 61, 3600])
    def test_stale(self, offset: int) -> None:
        with pytest.raises(AuthError, match="stale token"):
            jwt.verify(SECRET, signed_by_pyjwt({"iat": int(NOW) + offset}), int(NOW))

    @pytest.mark.parametrize("issued_at", [None, "1", True, [], {}])
    def test_issue_time_must_be_a_number(self, issued_at: object) -> None:
        with pytest.raises(AuthError, match="missing issued-at"):
            jwt.verify(SECRET, _sign({"iat": issued_at}), NOW)

    def test_issue_time_nan_is_stale(self) -> None:
        with pytest.raises(AuthError, match="stale"):
            jwt.verify(SECRET, _sign({"iat": math.nan}), NOW)

    def test_issue_time_beyond_any_float(self) -> None:
        with pytest.raises(AuthError, match="malformed"):
            jwt.verify(SECRET, _sign({"iat": 10**400}), NOW)

    def test_expired(self) -> None:
        with pytest.raises(AuthError, match="expired"):
            jwt.verify(SECRET, signed_by_pyjwt({"iat": int(NOW), "exp": int(NOW) - 1}), NOW)

    def test_other_secret(self) -> None:
        with pytest.raises(AuthError, match="signature"):
            jwt.verify(SECRET, jwt.bearer(bytes(32), NOW), NOW)

    def test_other_algorithms(self) -> None:
        with pytest.raises(AuthError, match="HS256"):
            jwt.verify(SECRET, signed_by_pyjwt({"iat": int(NOW)}, "HS512", SECRET * 2), NOW)
        with pytest.raises(AuthError, match="HS256"):
            jwt.verify(SECRET, b"Bearer " + _part({"alg": "none"}) + b"." + _part({"iat": 1}) + b".", NOW)

    def test_an_unsigned_token_and_one_with_a_detached_payload(self) -> None:
        for head in (
            {"alg": "HS256", "b64": False},
            {"alg": "HS256", "crit": ["b64"]},
            {"alg": ["HS256"]},
            {},
        ):
            with pytest.raises(AuthError):
                jwt.verify(SECRET, b"Bearer " + _part(head) + b"." + _part({"iat": int(NOW)}) + b".AAAA", NOW)

    @pytest.mark.parametrize("body", [b"1", b"[]", b'{"iat"', b"[" * 1500, b"\xff"])
    def test_signed_claims_that_are_none(self, body: bytes) -> None:
        with pytest.raises(AuthError, match="malformed"):
            jwt.verify(SECRET, _sign_bytes(body), NOW)

    @given(st.binary(max_size=200))
    def test_no_input_escapes_as_another_error(self, garbage: bytes) -> None:
        with pytest.raises(AuthError):
            jwt.verify(SECRET, b"Bearer " + garbage, NOW)


class TestSecrets:
    @pytest.mark.parametrize("text", [SECRET.hex(), "0x" + SECRET.hex(), f"  0x{SECRET.hex().upper()}\n"])
    def test_forms(self, text: str) -> None:
        assert jwt.parse_secret(text) == SECRET

    def test_wrong_length_says_how_long_it_was(self) -> None:
        with pytest.raises(UsageError, match=r"64 digits\. 10 digits key provided"):
            jwt.parse_secret("0x" + "ab" * 5)

    def test_not_hex_does_not_repeat_the_key(self) -> None:
        with pytest.raises(UsageError, match="not hexadecimal") as caught:
            jwt.parse_secret("zz" * 32)
        assert "zz" not in str(caught.value)

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "jwt.hex"
        secret = jwt.create_secret(path)
        assert jwt.load_secret(path) == secret
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(IoError, match="File exists"):
            jwt.create_secret(path)

    def test_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(IoError, match="cannot read JWT secret"):
            jwt.load_secret(tmp_path / "absent")

    def test_bad_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "jwt.hex"
        path.write_bytes(b"\xff\x00")
        with pytest.raises(UsageError, match=r"jwt\.hex: JWT key"):
            jwt.load_secret(path)


def _part(value: object) -> bytes:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def _sign(claims: dict[str, object]) -> bytes:
    return _sign_bytes(json.dumps(claims).encode())


def _sign_bytes(claims: bytes) -> bytes:
    signed = _part({"alg": "HS256"}) + b"." + urlsafe_b64encode(claims).rstrip(b"=")
    signature = urlsafe_b64encode(hmac.digest(SECRET, signed, "sha256")).rstrip(b"=")
    return b"Bearer " + signed + b"." + signature
