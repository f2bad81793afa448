"""Passages by title: what pointers of questions are resolved against."""

from __future__ import annotations

from collections.abc import Iterable

from refine_env.datasets.fields import Paragraph, Support
from refine_env.datasets.passages import PassageStore
from refine_env.scoring import cover_match
from refine_env.types import Document


class PassageTable:
    """The documents of a corpus by title."""

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._by_title: dict[str, list[Document]] = {}
        for document in documents:
            self._by_title.setdefault(document.title.strip(), []).append(document)

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
        document = self._find(support)
        return None if document is None else document.id

    def _group(self, title: str) -> list[Document]:
        return self._by_title.get(title, [])

    def _find(self, support: Support) -> Document | None:
        """By title and text, else by title alone; where several have it, the one with the hint."""
        group = self._group(support.title)
        if support.text:
            for document in group:
                if document.text == support.text:
                    return document
            wanted = _without_space(support.text)
            for document in group:
                if _without_space(document.text) == wanted:
                    return document
        if len(group) == 1:
            return group[0]
        if support.hint:
            hinted = (doc for doc in group if cover_match(doc.text, (support.hint,)))
            return next(hinted, None)
        return None


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

    def __bool__(self) -> bool:
        return bool(self._first)

    def documents(self) -> tuple[Document, ...]:
        """By title, those of one title together."""
        return tuple(document for title in self._first for document in self._group(title))

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
            others[text] = Document(self._make_id(title, len(others) + 2), title, text)

    def _make_id(self, title: str, number: int) -> str:
        """The title, from the second document on with its number, or the next that is free."""
        name = title or "untitled"
        document_id = name if number == 1 else f"{name} #{number}"
        while document_id in self._made_ids or document_id in self._first:
            number += 1
            document_id = f"{name} #{number}"
        self._made_ids.add(document_id)
        return document_id

    def _find_id(self, support: Support) -> str | None:
        if support.text and support.text == self._first.get(support.title):
            return self._first_ids.get(support.title, support.title)  # nearly always, and no search
        other = self._others.get(support.title, {}).get(support.text)
        if other is not None:
            return other.id
        return super()._find_id(support)

    def _group(self, title: str) -> list[Document]:
        text = self._first.get(title)
        if text is None:
            return []
        first = Document(self._first_ids.get(title, title), title, text)
        return [first, *self._others.get(title, {}).values()]


class StoredPassages(PassageTable):
    """The documents of a store, looked up there."""

    def __init__(self, store: PassageStore) -> None:
        super().__init__()
        self._store = store

    def _group(self, title: str) -> list[Document]:
        return self._store.by_title(title)


def _without_space(text: str) -> str:
    return "".join(text.split())
