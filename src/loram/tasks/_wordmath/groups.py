"""Sharing and ages: splitting into groups, with what is left over, and people growing older."""

from __future__ import annotations

from .core import Draw, Story, calc, story
from .words import BAKES, FLOWERS, TIMES, WORDS, plural, qty

# --- sharing ------------------------------------------------------------------------------------


def boxes(rng: Draw) -> Story:
    """Fill as many boxes as possible; how many are left over?"""
    p, bake = rng.person(), rng.choice(BAKES)
    size, full = rng.integers(6, 12), rng.integers(5, 12)
    total = full * size + rng.integers(1, size - 1)
    first = rng.integers(total // 3, total // 2)
    many = plural(bake)
    baked = calc(f"{first} + {total - first}")
    packed = calc(f"{full} * {size}")
    left = calc(f"{baked} - {packed}")
    return story(
        [
            f"{p} bakes {first} {many} on Saturday and {total - first} more on Sunday.",
            f"{p.He} packs them into boxes of {size} and fills as many boxes as {p.he} can.",
            rng.choice(
                (
                    f"How many {many} are left over?",
                    f"How many {many} remain when no more boxes can be filled?",
                )
            ),
        ],
        [
            f"{p} bakes {qty(baked, bake)}.",
            f"{p.He} can fill {full} boxes, which hold {qty(packed, bake)}.",
            f"That leaves {qty(left, bake)} over.",
        ],
        left,
    )


def vans(rng: Draw) -> Story:
    """The number of vans that carry everyone, the last one not full."""
    seats, full = rng.integers(6, 14), rng.integers(3, 8)
    everyone = full * seats + rng.integers(1, seats - 1)
    adults = rng.integers(3, 7)
    group, trip = rng.choice(
        (
            ("students", "to a science museum"),
            ("players", "to a tournament"),
            ("campers", "to the lake"),
            ("singers", "to a choir festival"),
        )
    )
    total = calc(f"{everyone - adults} + {adults}")
    carried = calc(f"{full} * {seats}")
    over = calc(f"{total} - {carried}")
    needed = calc(f"{full} + 1")
    return story(
        [
            f"A group of {everyone - adults} {group} and {adults} adults is going {trip}.",
            rng.choice(
                (
                    f"They travel in vans that each carry {seats} passengers besides the driver, "
                    "who is not part of the group.",
                    f"They rent vans with drivers, and each van has room for {seats} passengers.",
                )
            ),
            "What is the smallest number of vans that can carry everyone?",
        ],
        [
            f"There are {qty(total, 'passenger')}.",
            f"{full} full vans carry {qty(carried, 'passenger')}.",
            f"Then {qty(over, 'passenger')} still {'needs' if int(over) == 1 else 'need'} a seat.",
            f"One more van is needed, which makes {qty(needed, 'van')}.",
        ],
        needed,
    )


def party_bags(rng: Draw) -> Story:
    """Open packs, set some aside, share the rest equally."""
    p, friend = rng.people(2)
    sweet = rng.choice(("lollipop", "gummy bear", "chocolate coin", "toffee", "mint"))
    bags, each, packs = rng.integers(4, 9), rng.integers(5, 12), rng.integers(3, 6)
    size = bags * each // packs + rng.integers(1, 3)
    aside = packs * size - bags * each
    many = plural(sweet)
    bought = calc(f"{packs} * {size}")
    rest = calc(f"{bought} - {aside}")
    share = calc(f"{rest} / {bags}")
    return story(
        [
            f"For {p.his} birthday party {p} buys {packs} packs of {many} with {size} in each "
            "pack.",
            f"{p.He} sets {aside} aside for {friend}, who cannot come, and shares the rest equally "
            f"among {bags} party bags.",
            rng.choice(
                (
                    f"How many {many} go into each bag?",
                    f"How many {many} are there in each party bag?",
                )
            ),
        ],
        [
            f"{p} buys {qty(bought, sweet)}.",
            f"There are {qty(rest, sweet)} to share.",
            f"Each bag gets {qty(share, sweet)}.",
        ],
        share,
    )


def bunches(rng: Draw) -> Story:
    """Cut rows of flowers, drop the wilted ones, tie bunches, keep a few."""
    p, flower = rng.person(), rng.choice(FLOWERS)
    size, tied, rows = rng.integers(5, 9), rng.integers(10, 24), rng.integers(4, 9)
    row = size * tied // rows + rng.integers(1, 2)
    wilted = rows * row - size * tied
    kept = rng.integers(2, 6)
    many = plural(flower)
    cut = calc(f"{rows} * {row}")
    good = calc(f"{cut} - {wilted}")
    made = calc(f"{good} / {size}")
    sold = calc(f"{made} - {kept}")
    has = "has" if wilted == 1 else "have"
    return story(
        [
            f"{p} grows {many} to sell at the market. One morning {p.he} cuts {rows} rows of "
            f"{row} {many}, but {wilted} of them {has} wilted and must be thrown away.",
            f"{p.He} ties the others into bunches of {size} and keeps {kept} bunches for "
            f"{p.his} family.",
            rng.choice(
                (
                    f"How many bunches can {p} sell?",
                    "How many bunches are left to take to the market?",
                )
            ),
        ],
        [
            f"{p} cuts {qty(cut, flower)}.",
            f"Of these, {qty(good, flower)} can be used.",
            f"They make {qty(made, 'bunch')}.",
            f"{p} can sell {qty(sold, 'bunch')}.",
        ],
        sold,
    )


def teams(rng: Draw) -> Story:
    """How many more children would make the teams come out even?"""
    size, full = rng.integers(5, 11), rng.integers(5, 12)
    total = full * size + rng.integers(1, size - 1)
    girls = rng.integers(total * 2 // 5, total * 3 // 5)
    event = rng.choice(("relay race", "treasure hunt", "quiz", "dodgeball game", "tug-of-war"))
    where = rng.choice(("summer camp", "school festival", "sports camp"))
    everyone = calc(f"{girls} + {total - girls}")
    placed = calc(f"{full} * {size}")
    over = calc(f"{everyone} - {placed}")
    missing = calc(f"{size} - {over}")
    return story(
        [
            f"At a {where} {girls} girls and {total - girls} boys sign up for a {event}.",
            f"Every team must have exactly {size} children.",
            "What is the smallest number of children who would still have to sign up so that "
            "nobody is left without a team?",
        ],
        [
            f"{everyone.work} children have signed up.",
            f"{full} teams take {placed.work} children.",
            f"That leaves {qty(over, 'child')} without a team.",
            f"To complete one more team, {qty(missing, 'child')} would have to sign up.",
        ],
        missing,
    )


def fair_share(rng: Draw) -> Story:
    """Three finds evened out: how many does the luckiest give away?"""
    x, y, z = rng.people(3)
    thing, place = rng.choice(
        (
            ("seashell", "on the beach"),
            ("acorn", "in the park"),
            ("pinecone", "in the forest"),
            ("blackberry", "along the path"),
        )
    )
    share, low, lower = rng.integers(15, 40), rng.integers(2, 7), rng.integers(3, 8)
    many = plural(thing)
    found = (share + low + lower, share - low, share - lower)
    total = calc(f"{found[0]} + {found[1]} + {found[2]}")
    each = calc(f"{total} / 3")
    given = calc(f"{found[0]} - {each}")
    return story(
        [
            f"{x}, {y} and {z} gather {many} {place}. {x} finds {found[0]}, {y} finds "
            f"{found[1]} and {z} finds {found[2]}.",
            f"They decide that everyone should end up with the same number of {many}.",
            rng.choice(
                (
                    f"How many {many} does {x} have to give away?",
                    f"How many of {x.his} {many} does {x} hand over to the other two?",
                )
            ),
        ],
        [
            f"Together they find {qty(total, thing)}.",
            f"Each of them should have {qty(each, thing)}.",
            f"So {x} gives away {qty(given, thing)}.",
        ],
        given,
    )


# --- ages ---------------------------------------------------------------------------------------


def siblings(rng: Draw) -> Story:
    """Three ages linked by comparison; their sum in some years."""
    x, y, z = rng.people(3)
    age, older, k = rng.integers(4, 12), rng.integers(2, 8), rng.integers(2, 3)
    years = rng.integers(2, 9)
    second = calc(f"{age} + {older}")
    third = calc(f"{k} * {age}")
    now = calc(f"{age} + {second} + {third}")
    then = calc(f"{now} + 3 * {years}")
    return story(
        [
            rng.choice(
                (
                    f"{x} is {age} years old. {x.His} cousin {y} is {older} years older than "
                    f"{x.he} is, and {z} is {TIMES[k]} as old as {x}.",
                    f"{x}, {y} and {z} are neighbors. {x} is {age} years old, {y} is {older} "
                    f"years older than {x}, and {z} is {TIMES[k]} as old as {x}.",
                )
            ),
            rng.choice(
                (
                    f"What will be the sum of their three ages in {years} years?",
                    f"In {years} years, what will their three ages add up to?",
                )
            ),
        ],
        [
            f"{y} is {qty(second, 'year')} old.",
            f"{z} is {qty(third, 'year')} old.",
            f"Their ages now add up to {now.work}.",
            f"In {years} years each of the three is {years} years older, so the sum is "
            f"{then.work}.",
        ],
        then,
    )


def parent(rng: Draw) -> Story:
    """A parent will be some times as old as the child: how old is the parent now?"""
    p, years, k = rng.person(), rng.integers(2, 6), rng.integers(3, 4)
    then = rng.integers(12, 18) if k == 3 else rng.integers(9, 13)
    who, he = rng.choice((("mother", "she"), ("father", "he"), ("aunt", "she"), ("uncle", "he")))
    child = calc(f"{then - years} + {years}")
    adult = calc(f"{k} * {child}")
    now = calc(f"{adult} - {years}")
    return story(
        [
            f"{p} is {then - years} years old.",
            f"In {years} years {p.his} {who} will be {TIMES[k]} as old as {p} will be then.",
            rng.choice((f"How old is {p}'s {who} now?", f"How old is {p.his} {who} today?")),
        ],
        [
            f"In {years} years {p} will be {qty(child, 'year')} old.",
            f"{p.His} {who} will then be {qty(adult, 'year')} old.",
            f"So {he} is {qty(now, 'year')} old now.",
        ],
        now,
    )


def years_ago(rng: Draw) -> Story:
    """One was some times as old as the other; how old will that one be?"""
    x, y = rng.people(2)
    then, ago, k = rng.integers(3, 9), rng.integers(2, 6), rng.integers(2, 4)
    later = rng.integers(2, 9)
    young = calc(f"{then + ago} - {ago}")
    old = calc(f"{k} * {young}")
    now = calc(f"{old} + {ago}")
    future = calc(f"{now} + {later}")
    return story(
        [
            rng.choice(
                (
                    f"{x} is {then + ago} years old now. {WORDS[ago].capitalize()} years ago {y} "
                    f"was {TIMES[k]} as old as {x} was.",
                    f"{WORDS[ago].capitalize()} years ago {y} was {TIMES[k]} as old as {x}, who "
                    f"is now {then + ago}.",
                )
            ),
            rng.choice(
                (
                    f"How old will {y} be in {later} years?",
                    f"How old will {y} be {later} years from now?",
                )
            ),
        ],
        [
            f"{WORDS[ago].capitalize()} years ago {x} was {qty(young, 'year')} old.",
            f"At that time {y} was {qty(old, 'year')} old.",
            f"Now {y} is {qty(now, 'year')} old.",
            f"In {later} years {y} will be {qty(future, 'year')} old.",
        ],
        future,
    )


def sum_and_difference(rng: Draw) -> Story:
    """Two ages from their sum and difference."""
    x, y = rng.people(2)
    young, older, later = rng.integers(6, 30), rng.integers(2, 12), rng.integers(2, 10)
    total = 2 * young + older
    twice = calc(f"{total} - {older}")
    first = calc(f"{twice} / 2")
    second = calc(f"{first} + {older}")
    future = calc(f"{second} + {later}")
    return story(
        [
            rng.choice(
                (
                    f"The ages of {x} and {y} add up to {total} years, and {y} is {older} years "
                    f"older than {x}.",
                    f"{y} is {older} years older than {x}, and together they are {total} years "
                    "old.",
                    f"{x} is {older} years younger than {y}. The sum of their ages is {total}.",
                )
            ),
            rng.choice(
                (
                    f"How old will {y} be in {later} years?",
                    f"What will {y}'s age be {later} years from now?",
                )
            ),
        ],
        [
            f"If {y} were as young as {x}, their ages would add up to {twice.work}.",
            f"So {x} is {qty(first, 'year')} old.",
            f"{y} is {qty(second, 'year')} old.",
            f"In {later} years {y} will be {qty(future, 'year')} old.",
        ],
        future,
    )


def grandparent(rng: Draw) -> Story:
    """Three generations: each age from the one before, then their sum later."""
    p, years = rng.person(), rng.integers(2, 9)
    child, first, second = rng.integers(4, 16), rng.integers(22, 34), rng.integers(21, 32)
    elder, parent_ = rng.choice((("grandmother", "mother"), ("grandfather", "father")))
    oldest = child + first + second
    middle = calc(f"{oldest} - {second}")
    young = calc(f"{middle} - {first}")
    now = calc(f"{oldest} + {middle} + {young}")
    then = calc(f"{now} + 3 * {years}")
    return story(
        [
            f"{p}'s {elder} is {oldest} years old. The {elder} was {second} when {p}'s "
            f"{parent_} was born, and the {parent_} was {first} when {p} was born.",
            rng.choice(
                (
                    f"What will their three ages add up to in {years} years?",
                    f"What will be the sum of the ages of all three {years} years from now?",
                    f"In {years} years, how old will the three be together?",
                )
            ),
        ],
        [
            f"{p}'s {parent_} is {qty(middle, 'year')} old.",
            f"{p} is {qty(young, 'year')} old.",
            f"Their ages now add up to {now.work}.",
            f"In {years} years the sum will be {then.work}.",
        ],
        then,
    )
