"""A webhook on loopback, over https, that this process trusts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhook_receiver import Receiver, receiving


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
        yield running
