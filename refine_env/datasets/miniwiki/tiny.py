"""Level `tiny`: the words, sentences and questions of a world with a closed vocabulary.

Every name is a pair of words from two short lists, so that most names have near-namesakes and
the names of one split are new combinations of words that the others use too.
"""

from __future__ import annotations

from refine_env.datasets.miniwiki.schema import Chain, Kind, Relation, Schema

_HER = "Anna Clara Edith Flora Greta Ida Judith Lena Mona Olga Petra Vera".split()
_HIS = "Adam Bruno Edgar Felix Hugo Jonas Klaus Ludwig Martin Oskar Rufus Victor".split()
_FAMILY = (
    "Abbott Barlow Carver Dalton Ellwood Fenwick Garrow Hadley Ingram Jessop Kendal Larkin "
    "Mercer Norwood Orton Pascoe Quayle Redfern Sutton Thorne Upton Vickers Walden Yarrow"
).split()
_PLACES = (
    "Alden Brook Cresting Dunmore Elmsby Farley Glenholm Harrow Islay Kelso Lindale Marsh "
    "Neston Oakham Penrith Quarry Rosslyn Selby Tarn Ulverton Verity Whitby Yelland Zennor"
).split()

_COLOURS = "red blue green white black yellow orange purple silver brown".split()
_JOBS = "baker doctor farmer teacher painter lawyer sailor printer tailor miller".split()
_GOODS = "glass cheese clocks boats wool paper salt honey carpets pottery".split()
_YEARS = tuple(str(year) for year in range(1901, 1941))

SCHEMA = Schema(
    default_size=440,
    smallest_size=400,
    default_hops=(1, 2),
    kinds=(
        Kind("person", 0.46, tuple(_HER + _HIS), tuple(_FAMILY)),
        Kind("club", 0.20, tuple(_PLACES), ("Rovers", "United", "Athletic", "Wanderers", "Albion")),
        Kind("stadium", 0.16, tuple(_PLACES), ("Park", "Road", "Lane", "Field", "Ground")),
        Kind("city", 0.18, ("Port", "North", "South", "Upper", "Lower", "New"), tuple(_PLACES)),
    ),
    pronouns=dict.fromkeys(_HER, "She") | dict.fromkeys(_HIS, "He"),
    relations=(
        Relation("person", "birthplace", "city", "{name} was born in {value}."),
        Relation("person", "club", "club", "{They} played for {value}."),
        Relation("person", "job", tuple(_JOBS), "{They} worked as a {value}."),
        Relation("club", "home", "stadium", "{name} played at {value}."),
        Relation("club", "founded", _YEARS, "It was founded in {value}."),
        Relation("club", "colour", tuple(_COLOURS), "Its shirts were {value}."),
        Relation("stadium", "place", "city", "{name} is a stadium in {value}."),
        Relation("stadium", "opened", _YEARS, "It opened in {value}."),
        Relation("city", "goods", tuple(_GOODS), "{name} is a city known for {value}."),
        Relation("city", "mayor", "person", "Its mayor was {value}."),
    ),
    chains=(
        Chain(("birthplace",), "Where was {name} born?"),
        Chain(("club",), "Which club did {name} play for?"),
        Chain(("job",), "What was the job of {name}?"),
        Chain(("home",), "At which stadium did {name} play?"),
        Chain(("founded",), "When was {name} founded?"),
        Chain(("colour",), "What colour were the shirts of {name}?"),
        Chain(("place",), "Which city is {name} in?"),
        Chain(("opened",), "When was {name} opened?"),
        Chain(("goods",), "What is {name} known for?"),
        Chain(("mayor",), "Who was the mayor of {name}?"),
        Chain(("club", "home"), "At which stadium did the club of {name} play?"),
        Chain(("club", "founded"), "When was the club of {name} founded?"),
        Chain(("club", "colour"), "What colour were the shirts of the club of {name}?"),
        Chain(("birthplace", "goods"), "What is the city where {name} was born known for?"),
        Chain(("birthplace", "mayor"), "Who was the mayor of the city where {name} was born?"),
        Chain(("home", "place"), "Which city is the stadium of {name} in?"),
        Chain(("home", "opened"), "When was the stadium of {name} opened?"),
        Chain(("place", "goods"), "What is the city of {name} known for?"),
        Chain(("place", "mayor"), "Who was the mayor of the city of {name}?"),
        Chain(("mayor", "job"), "What was the job of the mayor of {name}?"),
        Chain(("mayor", "club"), "Which club did the mayor of {name} play for?"),
        Chain(("club", "home", "place"), "Which city is the stadium of the club of {name} in?"),
        Chain(("club", "home", "opened"), "When was the stadium of the club of {name} opened?"),
        Chain(
            ("birthplace", "mayor", "job"),
            "What was the job of the mayor of the city where {name} was born?",
        ),
        Chain(
            ("birthplace", "mayor", "club"),
            "Which club did the mayor of the city where {name} was born play for?",
        ),
        Chain(("home", "place", "goods"), "What is the city of the stadium of {name} known for?"),
        Chain(
            ("home", "place", "mayor"), "Who was the mayor of the city of the stadium of {name}?"
        ),
        Chain(("place", "mayor", "job"), "What was the job of the mayor of the city of {name}?"),
        Chain(
            ("mayor", "club", "home"), "At which stadium did the club of the mayor of {name} play?"
        ),
        Chain(
            ("mayor", "club", "colour"),
            "What colour were the shirts of the club of the mayor of {name}?",
        ),
    ),
)
