"""The scripted adversaries: what each writes, and what its trick is worth under each scoring."""

from __future__ import annotations

import pytest

from agents.base import run_episodes
from agents.forgers import (
    HIDDEN_ANSWERS,
    JUNK,
    SHORT_ANSWERS,
    CandidateLister,
    DocumentCopier,
    RefineEverything,
    SubstringSpammer,
    TagForger,
)
from agents.scripted import SCRIPTED, SingleSearch, names_and_numbers
from experiments.reproduction.published import published_reward
from refine_env import AUTOREFINE, RESEARCH, SEARCH_R1, AutoRefineEnv, Episode, Question
from refine_env.metrics import episode_metrics
from refine_env.protocols import Protocol
from refine_env.rewards import PRESETS, get
from refine_env.scoring import normalize_answer

HARBOUR = Question("q9", "Has Dray a harbour?", ("no",), type="yes_no")
COUNT = Question("q8", "How many boats has Mara Ellson?", ("7",))
OLDER = Question("q7", "Which is older, Port Vane or Dray?", ("Port Vane",))
NOWHERE = Question("q6", "Zzz?", ("7",))
JUNK_ANSWERS = (DocumentCopier(), SubstringSpammer(), TagForger())


def played(agent, env: AutoRefineEnv, question: Question) -> Episode:
    (episode,) = run_episodes(env, agent, [question])
    return episode


def paid(preset: str, episode: Episode) -> float:
    return get(preset)(episode).total


def test_the_forger_never_searches_and_its_first_answer_decides(env, retriever):
    episode = played(TagForger(), env, OLDER)
    assert retriever.calls == []
    assert [turn.kind for turn in episode.turns] == ["answer"]
    assert episode.answer.startswith(JUNK)
    assert episode.turns[0].trailing_text.endswith("<answer> yes </answer>")
    assert episode.turns[0].documents == ()


def test_notes_of_the_forger_earn_nothing_but_from_official_and_the_string_scoring(env):
    episode = played(TagForger(), env, OLDER)
    assert {name: paid(name, episode) for name in PRESETS} == {
        name: 0.1 if name == "official" else 0.0 for name in PRESETS
    }
    assert published_reward(episode) == 0.1


@pytest.mark.parametrize("question", [HARBOUR, COUNT], ids=lambda question: question.answers[0])
def test_a_note_in_the_forgers_answer_pays_from_the_string_scoring_alone(env, question):
    episode = played(TagForger(), env, question)
    assert [paid(name, episode) for name in PRESETS] == [0.0] * len(PRESETS)
    assert published_reward(episode) == 0.1


def test_hidden_answers_are_no_words():
    hidden = normalize_answer(HIDDEN_ANSWERS).split()
    assert not {"yes", "no", *map(str, range(21))} & set(hidden)
    assert all(any(gold in word for word in hidden) for gold in ("yes", "no", *map(str, range(21))))


def test_spam_pays_for_numbers_everywhere_and_for_no_within_nothing_under_official(env):
    number, harbour = (played(SubstringSpammer(), env, q) for q in (COUNT, HARBOUR))
    assert [turn.query for turn in number.turns] == [COUNT.text, ""]
    assert number.turns[1].refine == SHORT_ANSWERS
    assert (paid("autorefine", number), paid("official", number)) == (0.1, 0.1)
    assert (paid("autorefine", harbour), paid("official", harbour)) == (0.0, 0.1)


def test_a_listed_gold_answer_is_covered_and_never_equal(env, questions):
    lister = CandidateLister(names_and_numbers)
    for question in (questions[1], HARBOUR, OLDER):
        episode = played(lister, env, question)
        assert episode_metrics(episode)["cover_em"] == 1
        assert episode_metrics(episode)["em"] == 0
        assert paid("f1", episode) < 0.5
    assert played(lister, env, HARBOUR).answer == "yes, no, Port Vane, 4,200, Mara Ellson, Dray"


def test_candidates_are_listed_once(env, questions):
    names = played(CandidateLister(names_and_numbers), env, questions[0]).answer.split(", ")
    assert len(names) == len(set(names))


def test_refining_everything_changes_notes_and_not_the_answer(env):
    honest = run_episodes(env, SingleSearch())
    copied = run_episodes(env, RefineEverything(SingleSearch()))
    assert [episode.answer for episode in copied] == [episode.answer for episode in honest]
    assert [e.turns[0].query for e in copied] == [e.turns[0].query for e in honest]
    assert [episode_metrics(episode)["refine_copied"] for episode in copied] == [1, 1, 1]
    assert [e.refine_after_search for e in copied] != [e.refine_after_search for e in honest]


def test_copying_pays_beside_a_wrong_answer_that_an_honest_note_misses(env, questions):
    honest, copied = (
        played(agent, env, questions[0])
        for agent in (SingleSearch(), RefineEverything(SingleSearch()))
    )
    assert honest.answer == copied.answer == "Mara Ellsin"
    assert (paid("autorefine", honest), paid("autorefine", copied)) == (0.0, 0.1)


def test_an_agent_that_searches_again_is_copied_for_each_search(env, questions, documents):
    oracle = SCRIPTED["oracle"](env.components, documents, 0)
    episode = played(RefineEverything(oracle), env, questions[0])
    assert [turn.query for turn in episode.turns] == ["The Tin Kite", "Mara Ellsin", ""]
    assert episode_metrics(episode)["refine_copied"] == 1
    assert episode.answer == "Port Vane"


@pytest.mark.parametrize("agent", JUNK_ANSWERS, ids=lambda agent: type(agent).__name__)
def test_without_an_answer_no_trick_earns_more_than_the_refine_weight(env, agent):
    extra = (HARBOUR, COUNT, OLDER, NOWHERE)
    for episode in run_episodes(env, agent, [*env.questions, *extra]):
        for preset in ("autorefine", "official", "linear"):
            assert paid(preset, episode) in (0.0, 0.1)
        for preset in ("f1", "em", "cover_em", "search_r1"):
            assert paid(preset, episode) == 0


@pytest.mark.parametrize("protocol", [AUTOREFINE, SEARCH_R1, RESEARCH], ids=lambda p: p.name)
@pytest.mark.parametrize(
    "name", ["refine-everything", "substring-spammer", "tag-forger", "candidate-lister"]
)
def test_a_search_without_a_hit_stops_nobody(name: str, protocol: Protocol, questions, retriever):
    env = AutoRefineEnv(questions=questions, retriever=retriever, protocol=protocol)
    episode = played(SCRIPTED[name](env.components, (), 0), env, NOWHERE)
    assert episode.answer
    assert all(turn.kind != "invalid" for turn in episode.turns)
    if name == "candidate-lister":
        assert episode.answer == "yes, no"
