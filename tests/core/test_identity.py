"""Who a node is, without its secrets showing."""

from __future__ import annotations

from world import make_identity


def test_an_identity_names_its_device_and_shows_no_secret() -> None:
    identity = make_identity("BE", "1")
    assert identity.device == identity.device_key.public
    shown = repr(identity)
    for secret in (identity.store_key, identity.device_key.seed):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert "store_key" not in shown
