"""The scoring of the published code, from its description, with the quirk that rewards forgery.

It reads one string in which the policy's words and the documents stand side by side: the last
answer block of it is the answer, and every refine block of it counts.
"""

from __future__ import annotations

import re

from refine_env.scoring import normalize_answer, token_f1
from refine_env.types import Episode


def transcript_of(episode: Episode) -> str:
    """All that follows the prompt, with the documents as they were found, nothing disarmed."""
    pieces = []
    for turn in episode.turns:
        pieces.append(turn.action)
        if turn.kind == "search" and turn.observation:
            lines = [f"Doc {i}(Title: {d.title}) {d.text}" for i, d in enumerate(turn.documents, 1)]
            tag = episode.protocol.tags.documents
            pieces.append("\n\n<{0}>{1}\n</{0}>\n\n".format(tag, "\n".join(lines)))
        else:
            pieces.append(turn.observation)
    return "".join(pieces)


def published_reward(episode: Episode) -> float:
    """F1 of the last answer if above 0; else 0.1 where there is an answer and all refine blocks
    together hold a gold answer as a raw substring; else 0.
    """
    tags, text, golds = episode.protocol.tags, transcript_of(episode), episode.question.answers
    answers = _contents(text, tags.answer)
    if not answers:
        return 0.0
    f1 = token_f1(answers[-1], golds)
    if f1 > 0:
        return f1
    refined = normalize_answer(" ".join(_contents(text, tags.refine or "refine")))
    return 0.1 if any(normalize_answer(gold) in refined for gold in golds) else 0.0


def _contents(text: str, tag: str) -> list[str]:
    return [match.strip() for match in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)]
