"""What is wrong with the last-good copies: told once, and taken back when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is wrong with the copies, or no longer is.

    Attributes:
        code: ``copies-unwritten``, ``copies-unread``, ``copies-foreign``,
            ``copies-elsewhere`` and ``copies-dropped`` last until they are over;
            ``copy-damaged`` is told once for each file, ``copy-expired`` for each copy.
        subject: the folder, the damaged file, or the store's key of the expired one.
        sentence: what is wrong and what to do; ``None``: it is over.
    """

    code: str
    subject: str
    sentence: str | None


class Faults:
    """Tells a listener each fault of a folder's copies once.

    Args:
        folder: what most of them are about.
        listener: must not block or raise.
    """

    def __init__(self, folder: Path, listener: Callable[[Fault], None]) -> None:
        self._folder = folder
        self._listener = listener
        self._told: set[tuple[str, str]] = set()

    def tell(self, code: str, sentence: str, *, subject: str | None = None) -> None:
        """Tell a fault, of the folder or of another ``subject``, unless it was told."""
        subject = str(self._folder) if subject is None else subject
        if (code, subject) not in self._told:
            self._told.add((code, subject))
            self._listener(Fault(code, subject, sentence))

    def tell_failed(self, code: str, what: str, error: BaseException) -> None:
        """Tell that copies cannot be ``what`` (``read``, ``written``), and why."""
        why = error.strerror if isinstance(error, OSError) else "the disk does not answer"
        self.tell(code, f"Last-good copies in {self._folder} cannot be {what}: {why}.")

    def tell_damaged(self, file_name: str) -> None:
        """Tell of a damaged file, as often as one is found."""
        path = self._folder / file_name
        sentence = (
            f"{path} is damaged, missing or another file renamed: it is removed; what it held is"
            " kept anew when it is looked up again."
        )
        self._listener(Fault("copy-damaged", str(path), sentence))

    def over(self, code: str) -> None:
        """Take back what was told of the folder."""
        if (code, str(self._folder)) in self._told:
            self._told.remove((code, str(self._folder)))
            self._listener(Fault(code, str(self._folder), None))

    def forgive(self, code: str, subject: str) -> None:
        """Let a fault that is told once be told again, should it come again."""
        self._told.discard((code, subject))
