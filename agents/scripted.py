"""Scripted policies: fixed points to compare others with, and the names of all that are scripted.

They read what the environment wrote and know the protocol; only the oracle knows the answers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.base import Agent
from agents.forgers import (
    CandidateLister,
    DocumentCopier,
    RefineEverything,
    SubstringSpammer,
    TagForger,
)
from agents.reading import (
    document_blocks,
    is_documents_block,
    question_text,
    read_documents,
    sentences,
    words,
    write_turn,
)
from refine_env.config import Components
from refine_env.protocols import AUTOREFINE, Protocol
from refine_env.scoring import cover_match
from refine_env.types import Document, Question, Transcript

UNKNOWN = "unknown"
_YES_NO = {"is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "will"}
_PRONOUNS = {"It", "Its", "He", "She", "His", "Her", "They", "Their", "This", "In", "The", "An"}
_NAME = re.compile(r"[A-Z][\w'’.-]*\w(?: (?:of |the |de |and )?[A-Z][\w'’.-]*\w)*|\d[\d.,]*\d|\d")


@dataclass(frozen=True)
class Oracle:
    """Knows the evidence: searches for each supporting document in the order of the hops, by its
    title and, when that does not bring it up, by its text; refines the sentence that matters and
    gives the gold answer. The upper bound of the retriever. Raises `KeyError` for a question that
    it was not given.
    """

    questions: Iterable[Question]
    documents: Iterable[Document]
    """The corpus, or at least the supporting documents."""
    protocol: Protocol = AUTOREFINE
    max_searches: int | None = None
    """Answer after this many searches at the latest."""
    _questions: dict[str, Question] = field(init=False, default_factory=dict, repr=False)
    _documents: dict[str, Document] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for question in self.questions:
            self._questions.setdefault(_key(question.text), question)
        wanted = {name for q in self._questions.values() for name in q.supporting_ids}
        self._documents.update({doc.id: doc for doc in self.documents if doc.id in wanted})

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        text = question_text(transcript, self.protocol)
        if _key(text) not in self._questions:
            raise KeyError(f"the oracle was not given the question {text!r}")
        question = self._questions[_key(text)]
        blocks = _read_blocks(transcript, self.protocol)
        found, query = self._progress(question, blocks)
        titles = [self._documents[i].title for i in question.supporting_ids if i in self._documents]
        refine = _evidence(question, found, titles)
        if query is None or (self.max_searches is not None and len(blocks) >= self.max_searches):
            return write_turn(
                self.protocol, refine=refine, answer=next(iter(question.answers), UNKNOWN)
            )
        return write_turn(self.protocol, refine=refine, think="I look this up.", query=query)

    def _progress(
        self, question: Question, blocks: Sequence[_Block]
    ) -> tuple[list[Document], str | None]:
        """(the supporting documents that the last block was first to show, the next query)."""
        evidence = [self._documents[i] for i in question.supporting_ids if i in self._documents]
        shown = [self.protocol.show_document(document, 10**9) for document in evidence]
        found = [
            document
            for document in shown
            if [block.shows(document) for block in blocks].count(True) == 1
            and blocks[-1].shows(document)
        ]
        searched = 0
        for document in shown:
            for query in (document.title, f"{document.title} {document.text[:200]}"):
                if searched == len(blocks):
                    return found, query
                searched += 1
                if blocks[searched - 1].shows(document):
                    break
        return found, None if evidence or blocks else question.text


@dataclass(frozen=True)
class SingleSearch:
    """Searches once, with the question. Refines the sentence of the top document that shares most
    words with it, those of the title apart. Answers yes to a yes/no question, else the first name
    or number in the document that the question does not have.
    """

    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        question = question_text(transcript, self.protocol)
        blocks = document_blocks(transcript, self.protocol)
        if not blocks and len(transcript.segments) == 1:
            return write_turn(self.protocol, think="I search for the question.", query=question)
        documents = read_documents(blocks[0], self.protocol) if blocks else []
        if not documents:
            return write_turn(self.protocol, refine="Nothing was found.", answer=UNKNOWN)
        title, text = documents[0].title, documents[0].text
        asked = " ".join(word for word in words(question) if word not in words(title))
        best = _closest_sentence(asked, sentences(text))
        return write_turn(self.protocol, refine=best, answer=_guess(question, f"{best} {text}"))


@dataclass(frozen=True)
class ClosedBook:
    """Never searches: yes to a yes/no question, the first choice of an either-or, else unknown."""

    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(question_text(t, self.protocol)) for t in transcripts]

    def _turn(self, question: str) -> str:
        choice = re.search(rf"({_NAME.pattern}),? or ", question)
        answer = _guess(question, choice[1] if choice else "", new=False)
        return write_turn(self.protocol, think="I answer from memory.", answer=answer)


@dataclass(frozen=True)
class RandomAgent:
    """Searches for, refines and answers random words of what the environment wrote last, and now
    and then writes no tag at all. Drawn from the transcript and `seed`, so it keeps no state.
    """

    protocol: Protocol = AUTOREFINE
    seed: int = 0

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        digest = hashlib.sha256(f"{self.seed}\n{transcript.text}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        source = transcript.segments[-1].text if document_blocks(transcript, self.protocol) else ""
        vocabulary = words(source or question_text(transcript, self.protocol)) or [UNKNOWN]
        drawn = " ".join(str(word) for word in rng.choice(vocabulary, int(rng.integers(1, 5))))
        kind = rng.choice(["search", "answer", "nothing"], p=[0.55, 0.35, 0.1])
        if kind == "nothing":
            return drawn
        if kind == "search":
            return write_turn(self.protocol, refine=drawn, query=drawn)
        return write_turn(self.protocol, refine=drawn, answer=drawn)


def make_oracle(components: Components, documents: Iterable[Document], seed: int = 0) -> Agent:
    """An oracle for all questions of an environment that never runs out of turns."""
    return Oracle(
        components.questions, documents, components.protocol, components.limits.max_turns - 1
    )


SCRIPTED: Mapping[str, Callable[[Components, Iterable[Document], int], Agent]] = {
    "oracle": make_oracle,
    "single-search": lambda components, documents, seed: SingleSearch(components.protocol),
    "closed-book": lambda components, documents, seed: ClosedBook(components.protocol),
    "random": lambda components, documents, seed: RandomAgent(components.protocol, seed),
    "document-copier": lambda components, documents, seed: DocumentCopier(components.protocol),
    "refine-everything": lambda components, documents, seed: RefineEverything(
        SingleSearch(components.protocol), components.protocol
    ),
    "substring-spammer": lambda components, documents, seed: SubstringSpammer(components.protocol),
    "tag-forger": lambda components, documents, seed: TagForger(components.protocol),
    "candidate-lister": lambda components, documents, seed: CandidateLister(
        names_and_numbers, components.protocol
    ),
}
"""Name -> factory of (components, corpus documents, seed). Only the oracle reads the documents."""


def _key(question: str) -> str:
    """The question as an instruction shows it, so that known ones are found again."""
    return " ".join(question.split()).removesuffix("?")


@dataclass(frozen=True, slots=True)
class _Block:
    """What is known of a search: the documents, or the notes where those are no longer shown."""

    documents: str
    notes: str

    def shows(self, document: Document) -> bool:
        """Whether the document was there; its text may have been cut."""
        if self.documents or not self.notes:
            return document.title in self.documents and document.text[:40] in self.documents
        return any(sentence in self.notes for sentence in sentences(document.text))


def _read_blocks(transcript: Transcript, protocol: Protocol) -> list[_Block]:
    """A block for each search, with what the policy wrote after it."""
    blocks: list[_Block] = []
    for segment in transcript.segments[1:]:
        if is_documents_block(segment, protocol):
            found = document_blocks(Transcript((transcript.segments[0], segment)), protocol)
            blocks.append(_Block(found[0], ""))
        elif blocks and segment.source == "policy":
            notes = f"{blocks[-1].notes} {protocol.parse(segment.text).refine}".strip()
            blocks[-1] = _Block(blocks[-1].documents, notes)
    return blocks


def _evidence(question: Question, found: Sequence[Document], titles: Iterable[str]) -> str:
    """Of each document the sentence that has a gold answer or leads on to another title, or else
    the one that is closest to the question.
    """
    notes = []
    for document in found:
        candidates = sentences(document.text)
        wanted = [*question.answers, *(title for title in titles if title != document.title)]
        telling = [text for text in candidates if cover_match(text, wanted)]
        notes.append(_closest_sentence(question.text, telling or candidates))
    return " ".join(notes)


def _closest_sentence(question: str, candidates: Sequence[str]) -> str:
    """The first of the sentences that share most words with the question."""
    wanted = set(words(question))
    return max(candidates, key=lambda text: len(wanted & set(words(text))))


def _guess(question: str, text: str, new: bool = True) -> str:
    """Yes to a yes/no question; else the first name or number of `text`, with `new` one that
    shares no word with the question; a number where the question asks for one.
    """
    asked = words(question)
    if asked and asked[0] in _YES_NO:
        return "yes"
    numeric = bool({"when", "year", "many"} & set(asked[:4]))
    for name in names_and_numbers(text):
        if new and (set(words(name)) & set(asked) or numeric != name[0].isdigit()):
            continue
        return name
    return UNKNOWN


def names_and_numbers(text: str) -> list[str]:
    """What looks like a name or a number, in order; what opens a sentence may be neither."""
    return [name for name in _NAME.findall(text) if name not in _PRONOUNS]
