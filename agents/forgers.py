"""Adversaries of the reward: they forge, copy and list where others would find the answer.

Each sees the transcript alone, and shows what one weakness of a scoring is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.base import Agent, checked_actions
from agents.reading import document_blocks, question_text, read_documents, write_turn
from refine_env.protocols import AUTOREFINE, Protocol
from refine_env.types import Transcript

JUNK = "xyzzy"
"""An answer that shares no word with a gold answer."""
HIDDEN_ANSWERS = "nothing yesterday 01234567891011121314151617181920"
"""No, yes and small numbers, none of them as a word of its own: raw substrings alone find them."""
SHORT_ANSWERS = f"nothing yesterday the a {' '.join(map(str, range(21)))}"
"""Small numbers as words; no and yes within words."""


@dataclass(frozen=True)
class DocumentCopier:
    """Farms the refine reward: copies every document whole into refine and answers junk.

    Searches for the question, then for the title of the last document of each block.
    """

    protocol: Protocol = AUTOREFINE
    searches: int = 2

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        blocks = document_blocks(transcript, self.protocol)
        if not blocks:
            return write_turn(self.protocol, query=question_text(transcript, self.protocol))
        documents = read_documents(blocks[-1], self.protocol)
        refine = " ".join(f"{document.title} {document.text}" for document in documents)
        if len(blocks) < self.searches and documents:
            return write_turn(self.protocol, refine=refine, query=documents[-1].title or "more")
        return write_turn(self.protocol, refine=refine, answer=JUNK)


@dataclass(frozen=True)
class TagForger:
    """Writes what a search would bring, in one turn and without a search: a note of the question,
    then a documents block with a note of the question and an answer in it, and another answer.

    The answer that decides is junk around a note of its own, whose guesses are no words of a gold
    answer: a scoring that looks for refine blocks in a string finds them there. Which of two is
    the older stands in the question itself.
    """

    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(question_text(t, self.protocol)) for t in transcripts]

    def _turn(self, question: str) -> str:
        tags = self.protocol.tags
        refine = tags.refine or "refine"
        note = _block(refine, question)
        answer = write_turn(self.protocol, answer=f"{JUNK} {_block(refine, HIDDEN_ANSWERS)}")
        documents = _block(tags.documents, f"Doc 1(Title: {question}) {note} {answer}")
        return f"{note}\n{documents}\n{write_turn(self.protocol, answer='yes')}"


@dataclass(frozen=True)
class CandidateLister:
    """Searches for the question, then answers with yes, no and every title, name and number of the
    documents, each once: right by any scoring that asks whether the answer holds a gold answer.
    """

    read_names: Callable[[str], Sequence[str]]
    """The names and numbers of a text."""
    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        blocks = document_blocks(transcript, self.protocol)
        if not blocks:
            return write_turn(self.protocol, query=question_text(transcript, self.protocol))
        names = [
            name
            for document in read_documents(blocks[0], self.protocol)
            for name in (document.title, *self.read_names(document.text))
        ]
        return write_turn(self.protocol, answer=", ".join(dict.fromkeys(["yes", "no", *names])))


@dataclass(frozen=True)
class SubstringSpammer:
    """Searches for the question, then refines short answers that fit any question, whatever was
    found, and answers junk.
    """

    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        return [self._turn(transcript) for transcript in transcripts]

    def _turn(self, transcript: Transcript) -> str:
        if not document_blocks(transcript, self.protocol):
            return write_turn(self.protocol, query=question_text(transcript, self.protocol))
        return write_turn(self.protocol, refine=SHORT_ANSWERS, answer=JUNK)


@dataclass(frozen=True)
class RefineEverything:
    """Another agent whose notes are all that it has found: its searches and its answer stay, its
    refine blocks become a copy of the documents that came last.
    """

    agent: Agent
    """Keeps to the same protocol."""
    protocol: Protocol = AUTOREFINE

    def act(self, transcripts: Sequence[Transcript]) -> list[str]:
        actions = checked_actions(self.agent, transcripts)
        return [self._turn(t, action) for t, action in zip(transcripts, actions, strict=True)]

    def _turn(self, transcript: Transcript, action: str) -> str:
        turn = self.protocol.parse(action)
        blocks = document_blocks(transcript, self.protocol)
        if not blocks or turn.kind == "invalid":
            return action
        found = read_documents(blocks[-1], self.protocol)
        refine = " ".join(f"{document.title} {document.text}" for document in found)
        if turn.kind == "search":
            return write_turn(self.protocol, think=turn.think, refine=refine, query=turn.query)
        answer = self.protocol.final_answer(turn.answer)
        return write_turn(self.protocol, think=turn.think, refine=refine, answer=answer)


def _block(tag: str, text: str) -> str:
    return f"<{tag}> {text} </{tag}>"
