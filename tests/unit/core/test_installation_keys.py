"""Each purpose has its own key, derived from the installation secret."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import InstallationKeys, Purpose

OLD, NEW = "o" * 43, "n" * 43


@pytest.mark.parametrize("purpose", Purpose)
def test_a_key_is_what_hkdf_derives(purpose: Purpose) -> None:
    hkdf = HKDF(SHA256(), 32, b"gatehouse installation secret", b"gatehouse/" + purpose.encode())

    assert InstallationKeys(NEW).key(purpose).key == hkdf.derive(NEW.encode())


def test_purposes_and_secrets_have_keys_of_their_own() -> None:
    keys = {InstallationKeys(secret).key(purpose).key for secret in (OLD, NEW) for purpose in Purpose}

    assert len(keys) == 2 * len(Purpose)


def test_after_a_rotation_the_new_secret_writes_and_the_old_one_reads() -> None:
    before, after = InstallationKeys(OLD), InstallationKeys.parse(f"{NEW}, {OLD}")

    assert after.key(Purpose.REVIEW) == InstallationKeys(NEW).key(Purpose.REVIEW)
    assert after.key_of(Purpose.REVIEW, before.epoch) == before.key(Purpose.REVIEW)
    assert after.epochs == (InstallationKeys(NEW).epoch, before.epoch)
    assert list(after.keys(Purpose.RECORDS)) == [after.key(Purpose.RECORDS), before.key(Purpose.RECORDS)]
    assert before.key_of(Purpose.REVIEW, after.epoch) is None


def test_a_keyed_hash_knows_where_each_part_ends() -> None:
    key = InstallationKeys(NEW).key(Purpose.MASKING)

    assert key.mac("ab", "c") != key.mac("a", "bc")
    assert key.mac("abc") == key.mac(b"abc")


@pytest.mark.parametrize("text", ["", " , ", "short", f"{NEW},short"])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SetupError, match="GATEHOUSE_SECRET") as refused:
        InstallationKeys.parse(text)

    assert "short" not in str(refused.value)


def test_no_secret_is_printed() -> None:
    keys = InstallationKeys(NEW)

    assert NEW not in f"{keys!r} {keys.key(Purpose.RECORDS)!r}"
    assert keys.key(Purpose.RECORDS).key.hex() not in repr(keys.key(Purpose.RECORDS))
