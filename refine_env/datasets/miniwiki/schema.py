"""What a level of MiniWiki is made of: kinds of things, relations between them, question forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing; its names are a word of `first` and a word of `last`."""

    name: str
    share: float
    """Its share of the documents."""
    first: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A fact that every thing of a kind has, and the sentence that states it."""

    kind: str
    name: str
    values: str | tuple[str, ...]
    """A kind, whose things are the values; or the plain values."""
    sentence: str
    """With `{value}`, and `{name}` or `{They}`."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A question form: follow these relations from `{name}`; the last value is the answer."""

    relations: tuple[str, ...]
    question: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A level: everything that the generator needs to know of it."""

    default_size: int
    smallest_size: int
    default_hops: tuple[int, ...]
    """Hop counts of the questions unless others are asked for."""
    kinds: tuple[Kind, ...]
    relations: tuple[Relation, ...]
    """In the order of their sentences in a document. Relation names are unique."""
    chains: tuple[Chain, ...]
    pronouns: Mapping[str, str]
    """First word of a name -> its pronoun."""

    @property
    def hop_counts(self) -> tuple[int, ...]:
        return tuple(sorted({len(chain.relations) for chain in self.chains}))

    def relations_of(self, kind: str) -> tuple[Relation, ...]:
        return tuple(relation for relation in self.relations if relation.kind == kind)
