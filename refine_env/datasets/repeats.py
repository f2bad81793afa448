"""Questions that are the same: those whose normalised texts and sets of answers are."""

from __future__ import annotations

import string

from refine_env.scoring import normalize_answer

Key = tuple[str, frozenset[str]]
"""A normalised text and its normalised answers."""


class Content:
    """What makes a question what it is. Normalised when it is first compared, and only then."""

    __slots__ = ("_key", "answers", "text")

    def __init__(self, text: str, answers: tuple[str, ...]) -> None:
        self.text = text
        self.answers = answers
        self._key: Key | None = None

    @property
    def key(self) -> Key:
        """Equal for questions that are the same."""
        if self._key is None:
            answers = frozenset(map(normalize_answer, self.answers))
            self._key = normalize_answer(self.text), answers
        return self._key

    def same_as(self, other: Content) -> bool:
        return self is other or self.key == other.key


class SeenQuestions:
    """The questions so far. Only those with the same sketch are normalised and compared."""

    def __init__(self) -> None:
        self._first: dict[bytes, Content] = {}
        """Of each sketch."""
        self._keys: dict[bytes, set[Key]] = {}
        """Of each sketch that came again."""
        self.count = 0

    def add(self, content: Content) -> bool:
        """Keep a question; False, and nothing kept, where the same one is here already."""
        mark = sketch(content.text)
        first = self._first.setdefault(mark, content)
        if first is not content:
            keys = self._keys.setdefault(mark, {first.key})
            if content.key in keys:
                return False
            keys.add(content.key)
        self.count += 1
        return True


_KEPT = (set(string.ascii_lowercase) | set(string.digits)) - set("anthe")
_DROPPED = bytes(byte for byte in range(256) if chr(byte) not in _KEPT)


def sketch(text: str) -> bytes:
    """A text's ASCII letters and digits without those of a, an and the.

    Normalising changes none of them: texts with different sketches differ when normalised too, and
    a sketch takes a tenth of the time.
    """
    return text.lower().encode("utf-8", "surrogatepass").translate(None, _DROPPED)
