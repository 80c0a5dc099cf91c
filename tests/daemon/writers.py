"""Local clients that write as fast as they are answered, and remember what was acknowledged."""

from __future__ import annotations

import itertools
import threading
from types import TracebackType

from meshnode.client import ApiError, Client
from simulations.mesh import wait_for

_numbers = itertools.count()


class Writers:
    """Use as a context manager: they end when the daemon does, or at the end of the block."""

    def __init__(self, socket_path: str, incident: str, count: int) -> None:
        self.acknowledged: set[str] = set()
        """Texts of records whose write was answered: they must be there for ever."""
        self.errors: list[ApiError] = []
        self._socket_path = socket_path
        self._incident = incident
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_acknowledged(self, count: int) -> None:
        wait_for(lambda: len(self.acknowledged) >= count or bool(self.errors), 30.0, f"{count} acknowledged writes")
        assert not self.errors, self.errors

    def _write(self) -> None:
        try:
            with Client(self._socket_path, operator="writer", timeout_s=20.0) as client:
                while not self._stopping.is_set():
                    text = f"record {next(_numbers)}"
                    client.append_log(self._incident, text)
                    self.acknowledged.add(text)
        except ApiError as error:
            self.errors.append(error)
