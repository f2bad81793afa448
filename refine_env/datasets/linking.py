"""Passages by title: what pointers of questions are resolved against."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from refine_env.datasets.fields import Paragraph, Support
from refine_env.datasets.passages import PassageStore
from refine_env.scoring import normalize_answer
from refine_env.types import Document


class TitleGroup:
    """The documents of one title, and what pointers ask of them: found without looking at each."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = list(documents)
        self._exact: dict[str, Document] = {}
        self._bare: dict[str, Document] = {}
        """The first document of each text, as it is and without white space, ..."""
        self._indexed = 0
        """... of so many documents."""
        self._words: dict[str, int] = {}
        """Where in the normalised texts the first document with a word begins, ..."""
        self._starts: list[int] = []
        """... and every one that is in them."""
        self._normalized = ""

    def add(self, document: Document) -> None:
        self._documents.append(document)

    def find(self, support: Support) -> Document | None:
        """By text, else the only one there is, else the first with the hint."""
        if support.text:
            found = self._with_text(support.text)
            if found is not None:
                return found
        if len(self._documents) == 1:
            return self._documents[0]
        return self._with_words(support.hint) if support.hint and self._documents else None

    def _with_text(self, text: str) -> Document | None:
        """The first with this text, or with one that differs in white space alone."""
        for document in self._documents[self._indexed :]:
            self._exact.setdefault(document.text, document)
            self._bare.setdefault(_without_space(document.text), document)
        self._indexed = len(self._documents)
        return self._exact.get(text) or self._bare.get(_without_space(text))

    def _with_words(self, hint: str) -> Document | None:
        """The first that holds the hint, as `cover_match` has it."""
        self._normalize()
        wanted = normalize_answer(hint)
        words = wanted.split()
        if not words or not all(word in self._words for word in words):
            return None
        earliest = max(self._words[word] for word in words)
        place = self._normalized.find(f" {wanted} ", earliest)
        return None if place < 0 else self._documents[bisect_right(self._starts, place) - 1]

    def _normalize(self) -> None:
        """Bring the normalised texts up to the documents."""
        parts, start = [self._normalized], len(self._normalized)
        for document in self._documents[len(self._starts) :]:
            text = normalize_answer(document.text)
            self._starts.append(start)
            for word in text.split():
                self._words.setdefault(word, start)
            parts.append(f" {text} \n")  # a text holds no line break any more
            start += len(parts[-1])
        self._normalized = "".join(parts)


class PassageTable:
    """The documents of a corpus by title."""

    _keeps_groups = True

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._by_title: dict[str, list[Document]] = {}
        for document in documents:
            self._by_title.setdefault(document.title.strip(), []).append(document)
        self._groups: dict[str, TitleGroup] = {}
        """Of the titles that were looked for, and have several documents."""

    def find(self, supports: Iterable[Support]) -> tuple[str, ...]:
        """Ids of the passages in the order of the pointers; empty when one points nowhere."""
        found: dict[str, None] = {}
        for support in supports:
            document_id = self._find_id(support)
            if document_id is None:
                return ()
            found[document_id] = None
        return tuple(found)

    def _find_id(self, support: Support) -> str | None:
        group = self._groups.get(support.title)
        if group is None:
            documents = self._documents_of(support.title)
            group = TitleGroup(documents)
            if len(documents) > 1 and self._keeps_groups:
                self._groups[support.title] = group
        document = group.find(support)
        return None if document is None else document.id

    def _documents_of(self, title: str) -> list[Document]:
        return self._by_title.get(title, [])


class OwnPassages(PassageTable):
    """The paragraphs that came with questions: each text of a title once.

    Nearly every title has one text, and that document has the title as its id. A million
    paragraphs are therefore kept as one dictionary of strings; documents are made when asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, str] = {}
        """The first text of each title."""
        self._others: dict[str, dict[str, Document]] = {}
        """The documents of a title behind its first, by text, where there are any."""
        self._first_ids: dict[str, str] = {}
        """The ids of first texts that are not the title: it is blank, or was given out before."""
        self._made_ids: set[str] = set()
        """Every id that is not its document's title."""
        self._last_numbers: dict[str, int] = {}
        """The number that a title was given last: those before it are not free, either."""

    def __bool__(self) -> bool:
        return bool(self._first)

    def documents(self) -> tuple[Document, ...]:
        """By title, those of one title together."""
        return tuple(document for title in self._first for document in self._documents_of(title))

    def add(self, paragraphs: Iterable[Paragraph]) -> None:
        """Keep each paragraph whose title and text are not here yet.

        Its id is the title, numbered from the second text of that title on.
        """
        first_of = self._first.get
        for title, text in paragraphs:
            first = first_of(title)
            if first is None:
                if not title or title in self._made_ids:
                    self._first_ids[title] = self._make_id(title, 1)
                self._first[title] = text
            elif first != text:
                self._add_other(title, text)

    def _add_other(self, title: str, text: str) -> None:
        others = self._others.setdefault(title, {})
        if text not in others:
            document = Document(self._make_id(title, len(others) + 2), title, text)
            others[text] = document
            if title in self._groups:
                self._groups[title].add(document)

    def _make_id(self, title: str, number: int) -> str:
        """The title, from the second document on with its number, or the next that is free."""
        name = title or "untitled"
        number = max(number, self._last_numbers.get(name, 0) + 1)
        document_id = name if number == 1 else f"{name} #{number}"
        while document_id in self._made_ids or document_id in self._first:
            number += 1
            document_id = f"{name} #{number}"
        if number > 1:
            self._last_numbers[name] = number
        self._made_ids.add(document_id)
        return document_id

    def _find_id(self, support: Support) -> str | None:
        if support.text and support.text == self._first.get(support.title):
            return self._first_ids.get(support.title, support.title)  # nearly always, and no search
        other = self._others.get(support.title, {}).get(support.text)
        if other is not None:
            return other.id
        return super()._find_id(support)

    def _documents_of(self, title: str) -> list[Document]:
        text = self._first.get(title)
        if text is None:
            return []
        first = Document(self._first_ids.get(title, title), title, text)
        return [first, *self._others.get(title, {}).values()]


class StoredPassages(PassageTable):
    """The documents of a store, looked up there."""

    _keeps_groups = False  # they are on the disk because they are many

    def __init__(self, store: PassageStore) -> None:
        super().__init__()
        self._store = store

    def _documents_of(self, title: str) -> list[Document]:
        return self._store.by_title(title)


def _without_space(text: str) -> str:
    return "".join(text.split())
