"""Rates and time: speed, work, unit prices, schedules and durations."""

from __future__ import annotations

from .core import Calc, Draw, Story, calc, cents, dollars, story
from .words import a, cap, clock, duration, plural, qty


def minutes(length: int) -> Calc:
    """Work out the minutes in a length of time of an hour or more."""
    hours, rest = divmod(length, 60)
    return calc(f"{hours} * 60 + {rest}" if rest else f"{hours} * 60")


# --- rates --------------------------------------------------------------------------------------


def road_trip(rng: Draw) -> Story:
    """Two stretches at different speeds; how far is still to go?"""
    p = rng.person()
    first, second = rng.multiple(5, 50, 70), rng.multiple(5, 30, 45)
    t1, t2, left = rng.integers(2, 4), rng.integers(2, 3), rng.integers(20, 90)
    where = rng.choice(("the coast", "the mountains", "a family reunion", "a national park"))
    distance = first * t1 + second * t2 + left
    one, two = calc(f"{first} * {t1}"), calc(f"{second} * {t2}")
    driven = calc(f"{one} + {two}")
    rest = calc(f"{distance} - {driven}")
    return story(
        [
            rng.choice(
                (
                    f"{p} is driving {distance} miles to {where}.",
                    f"{p} sets out on a drive of {distance} miles to {where}.",
                )
            ),
            f"{p.He} drives for {t1} hours at {first} miles per hour on the highway and then for "
            f"{t2} hours at {second} miles per hour on smaller roads.",
            rng.choice(
                (
                    f"How many miles does {p} still have to drive?",
                    f"How many miles are left of {p.his} trip?",
                )
            ),
        ],
        [
            f"On the highway {p} drives {qty(one, 'mile')}.",
            f"On smaller roads {p.he} drives {qty(two, 'mile')}.",
            f"So far that is {qty(driven, 'mile')}.",
            f"{p} still has {qty(rest, 'mile')} to drive.",
        ],
        rest,
    )


def machines(rng: Draw) -> Story:
    """Two machines finish an order together."""
    place, thing = rng.choice(
        (
            ("candle workshop", "candle"),
            ("toy factory", "toy car"),
            ("print shop", "poster"),
            ("bakery", "loaf of bread"),
            ("paper mill", "notebook"),
        )
    )
    slow, more = rng.multiple(5, 20, 60), rng.multiple(5, 5, 30)
    hours, stock = rng.integers(3, 9), rng.integers(15, 120)
    many = plural(thing)
    order = (2 * slow + more) * hours + stock
    fast = calc(f"{slow} + {more}")
    both = calc(f"{slow} + {fast}")
    missing = calc(f"{order} - {stock}")
    time = calc(f"{missing} / {both}")
    return story(
        [
            f"{cap(a(place))} has an order for {order} {many}, and {stock} of them are ready.",
            f"Its old machine makes {slow} {many} an hour, and its new machine makes {more} "
            "more an hour than the old one.",
            rng.choice(
                (
                    "If both machines run at the same time, how many hours will it take to make "
                    "the rest?",
                    "How many hours must both machines run together to complete the order?",
                )
            ),
        ],
        [
            f"The new machine makes {qty(fast, thing)} an hour.",
            f"Together the machines make {qty(both, thing)} an hour.",
            f"There are {qty(missing, thing)} still to make.",
            f"That takes {qty(time, 'hour')}.",
        ],
        time,
    )


def unit_price(rng: Draw) -> Story:
    """From the price of a pack to the price of another number."""
    p = rng.person()
    thing = rng.choice(("pencil", "battery", "light bulb", "juice box", "granola bar", "marker"))
    size, price = rng.choice((4, 6, 8, 10, 12)), rng.integers(1, 5) * 50
    pack = cents(size * price)
    rooms, each = rng.integers(2, 6), rng.integers(2, 9) * 2
    many = plural(thing)
    one = dollars(f"{pack} / {size}")
    needed = calc(f"{rooms} * {each}")
    cost = dollars(f"{needed} * {one}")
    return story(
        [
            f"A pack of {size} {many} costs ${pack}.",
            f"{p} needs {each} {many} for each of {rooms} classrooms and may buy them singly at "
            "the same price per piece.",
            rng.choice(
                (
                    f"How many dollars will {p.he} spend?",
                    f"How many dollars do all the {many} cost {p.him}?",
                )
            ),
        ],
        [
            f"One {thing} costs {one.work}.",
            f"{p} needs {qty(needed, thing)}.",
            f"They cost {cost.work}.",
        ],
        cost,
    )


def fuel(rng: Draw) -> Story:
    """The cost of the gas for a trip there and back."""
    p, mpg, gallons = rng.person(), rng.integers(20, 40), rng.integers(2, 7) * 2
    way = mpg * gallons // 2
    price = cents(rng.integers(6, 10) * 50)
    vehicle = rng.choice(("car", "van", "pickup truck"))
    where = rng.choice(("visit an old friend", "see a ball game", "pick up a puppy", "go camping"))
    round_trip = calc(f"2 * {way}")
    used = calc(f"{round_trip} / {mpg}")
    cost = dollars(f"{used} * {price}")
    return story(
        [
            f"{p}'s {vehicle} goes {mpg} miles on a gallon of gas. Gas costs ${price} a gallon.",
            f"{p.He} drives {way} miles to {where} and takes the same road back.",
            rng.choice(
                (
                    "How many dollars does the gas for the whole trip cost?",
                    f"How many dollars does {p} spend on gas, there and back?",
                )
            ),
        ],
        [
            f"There and back {p} drives {qty(round_trip, 'mile')}.",
            f"That takes {qty(used, 'gallon')} of gas.",
            f"The gas costs {cost.work}.",
        ],
        cost,
    )


def tank(rng: Draw) -> Story:
    """A tank fills while it also leaks."""
    inflow, leak = rng.integers(12, 30), rng.integers(2, 8)
    time, start = rng.integers(8, 30), rng.integers(20, 90)
    full = (inflow - leak) * time + start
    vessel = rng.choice(("water tank", "fish pond", "wading pool", "horse trough"))
    net = calc(f"{inflow} - {leak}")
    missing = calc(f"{full} - {start}")
    needed = calc(f"{missing} / {net}")
    return story(
        [
            f"A {vessel} holds {full} gallons when it is full. Right now there are {start} "
            "gallons of water in it.",
            f"A hose adds {inflow} gallons a minute, but {leak} gallons a minute leak out "
            "through a crack.",
            rng.choice(
                (
                    f"After how many minutes is the {vessel} full?",
                    f"How many minutes does it take to fill the {vessel}?",
                )
            ),
        ],
        [
            f"Every minute the {vessel} gains {qty(net, 'gallon')}.",
            f"It still has room for {qty(missing, 'gallon')}.",
            f"It is full after {qty(needed, 'minute')}.",
        ],
        needed,
    )


def cyclists(rng: Draw) -> Story:
    """Two riders move apart; one of them stops earlier."""
    x, y = rng.people(2)
    first, second = rng.integers(9, 16), rng.integers(9, 16)
    together, alone = rng.integers(2, 4), rng.integers(1, 2)
    one, two = rng.choice((("north", "south"), ("east", "west")))
    start = rng.choice(("the same campsite", "the same bridge", "the same village"))
    long = calc(f"{together} + {alone}")
    far_x = calc(f"{first} * {together}")
    far_y = calc(f"{second} * {long}")
    apart = calc(f"{far_x} + {far_y}")
    return story(
        [
            f"{x} and {y} leave {start} on their bikes at the same time. {x} rides {one} at "
            f"{first} miles per hour, and {y} rides {two} at {second} miles per hour.",
            f"{x} stops after {together} hours, while {y} keeps going for {qty(alone, 'hour')} "
            "longer.",
            "How many miles apart are they then?",
        ],
        [
            f"{x} rides {qty(far_x, 'mile')}.",
            f"{y} rides for {qty(long, 'hour')}.",
            f"{y} rides {qty(far_y, 'mile')}.",
            f"They ride in opposite directions, so they are {qty(apart, 'mile')} apart.",
        ],
        apart,
    )


# --- time ---------------------------------------------------------------------------------------


def practice(rng: Draw) -> Story:
    """Daily practice with longer weekends, over weeks, in hours."""
    p, weeks = rng.person(), rng.choice((2, 3, 4, 6))
    what = rng.choice(("the piano", "the violin", "the drums", "the flute", "the guitar"))
    # Five short days and two long ones have to fill whole hours over the weeks.
    short, long = rng.choice(
        [
            (short, long)
            for short in range(15, 50, 5)
            for long in range(short + 5, 95, 5)
            if (5 * short + 2 * long) * weeks % 60 == 0
        ]
    )
    school = calc(f"5 * {short}")
    weekend = calc(f"2 * {long}")
    week = calc(f"{school} + {weekend}")
    total = calc(f"{week} * {weeks}")
    hours = calc(f"{total} / 60")
    return story(
        [
            f"{p} practices {what} for {short} minutes on each of the five school days and for "
            f"{long} minutes on each day of the weekend.",
            rng.choice(
                (
                    f"How many hours does {p} practice in {weeks} weeks?",
                    f"If {p.he} keeps this up for {weeks} weeks, how many hours does {p.he} "
                    "practice in all?",
                )
            ),
        ],
        [
            f"On school days {p} practices {qty(school, 'minute')} a week.",
            f"On weekends {p.he} practices {qty(weekend, 'minute')}.",
            f"In one week that makes {qty(week, 'minute')}.",
            f"In {weeks} weeks it makes {qty(total, 'minute')}.",
            f"This is {qty(hours, 'hour')}.",
        ],
        hours,
    )


def movie(rng: Draw) -> Story:
    """A film, its trailers and the way home against a time to be back."""
    p, start = rng.person(), rng.multiple(5, 16 * 60, 19 * 60)
    ads, length, walk = rng.multiple(5, 10, 20), rng.integers(88, 135), rng.integers(8, 25)
    end = (start + ads + length + walk) // 15 * 15 + rng.choice((15, 30))
    way = rng.choice(("walk", "bus ride", "bike ride"))
    needed = calc(f"{ads} + {length} + {walk}")
    allowed = minutes(end - start)
    spare = calc(f"{allowed} - {needed}")
    return story(
        [
            f"At {clock(start)} {p} sits down in a movie theater. First there are {ads} "
            f"minutes of trailers, and then the movie lasts {length} minutes.",
            f"{p.He} has promised to be home by {clock(end)}, and the {way} home takes {walk} "
            "minutes.",
            rng.choice(
                (
                    f"If {p.he} leaves as soon as the movie ends, how many minutes early is "
                    f"{p.he} home?",
                    f"{p.He} leaves as soon as the movie ends. How many minutes before the "
                    f"promised time is {p.he} home?",
                )
            ),
        ],
        [
            f"The trailers, the movie and the {way} take {qty(needed, 'minute')}.",
            f"From {clock(start)} to {clock(end)} it is {duration(end - start)}, which is "
            f"{qty(allowed, 'minute')}.",
            f"{p} is home {qty(spare, 'minute')} early.",
        ],
        spare,
    )


def appointments(rng: Draw) -> Story:
    """How many visits of equal length fit between two times, with a break?"""
    job, visitor = rng.choice(
        (
            ("dentist", "patient"),
            ("barber", "customer"),
            ("vet", "pet"),
            ("piano teacher", "student"),
            ("eye doctor", "patient"),
        )
    )
    slot, visits = rng.multiple(5, 15, 30), rng.integers(5, 12)
    pause, start = rng.multiple(5, 10, 30), rng.multiple(15, 8 * 60, 13 * 60)
    day = rng.choice(("On Mondays", "On Saturdays", "Today", "On Wednesdays"))
    end = start + slot * visits + pause
    open_ = minutes(end - start)
    busy = calc(f"{open_} - {pause}")
    seen = calc(f"{busy} / {slot}")
    many = plural(visitor)
    return story(
        [
            f"{day} {a(job)} works from {clock(start)} to {clock(end)}, with one break of {pause} "
            "minutes in between.",
            f"Each {visitor} takes {slot} minutes, and the next one comes in right away.",
            rng.choice(
                (
                    f"How many {many} can the {job} see in that time?",
                    f"For how many {many} does the {job} have time?",
                )
            ),
        ],
        [
            f"From {clock(start)} to {clock(end)} it is {duration(end - start)}, which is "
            f"{qty(open_, 'minute')}.",
            f"Without the break {qty(busy, 'minute')} remain.",
            f"The {job} can see {qty(seen, visitor)}.",
        ],
        seen,
    )


def oven(rng: Draw) -> Story:
    """Batches in an oven, with time to mix and to reload."""
    p = rng.person()
    bake = rng.choice(("cookie", "biscuit", "scone", "pretzel", "bread roll"))
    tray, batches = rng.integers(8, 16), rng.integers(3, 7)
    mix, heat, swap = rng.multiple(5, 15, 40), rng.integers(11, 19), rng.integers(2, 5)
    many = plural(bake)
    loads = calc(f"{tray * batches} / {tray}")
    baking = calc(f"{loads} * {heat}")
    swaps = calc(f"({loads} - 1) * {swap}")
    total = calc(f"{mix} + {baking} + {swaps}")
    return story(
        [
            f"{p} wants to bake {tray * batches} {many}. The dough takes {mix} minutes to make, "
            f"and the oven holds {tray} {many} at a time.",
            f"Each batch bakes for {heat} minutes, and it takes {swap} minutes to change from one "
            "batch to the next.",
            rng.choice(
                (
                    f"After how many minutes are all the {many} baked?",
                    f"How many minutes pass from the start until all the {many} are baked?",
                )
            ),
        ],
        [
            f"{p} has to bake {loads.work} batches.",
            f"The batches are in the oven for {qty(baking, 'minute')}.",
            f"Changing between batches takes {qty(swaps, 'minute')}.",
            f"With the dough it takes {qty(total, 'minute')}.",
        ],
        total,
    )


def shuttle(rng: Draw) -> Story:
    """Departures at regular times, the first and the last included."""
    every, gaps = rng.choice((10, 12, 15, 20, 30)), rng.integers(5, 14)
    start, seats = rng.multiple(30, 6 * 60, 13 * 60), rng.integers(9, 24)
    end = start + every * gaps
    kind, where = rng.choice(
        (
            ("shuttle bus", "the airport"),
            ("ferry", "the island"),
            ("cable car", "the summit"),
            ("tram", "the fairground"),
        )
    )
    span = minutes(end - start)
    steps = calc(f"{span} / {every}")
    trips = calc(f"{steps} + 1")
    people = calc(f"{trips} * {seats}")
    return story(
        [
            f"{cap(a(kind))} leaves for {where} every {every} minutes. The first one leaves at "
            f"{clock(start)}, and the one at {clock(end)} is the last.",
            f"Each {kind} carries up to {seats} passengers.",
            f"What is the largest number of passengers who can travel to {where} in that time?",
        ],
        [
            f"From {clock(start)} to {clock(end)} it is {duration(end - start)}, which is "
            f"{qty(span, 'minute')}.",
            f"After the first departure there are {steps.work} more.",
            f"So there are {qty(trips, 'departure')}.",
            f"They carry up to {qty(people, 'passenger')}.",
        ],
        people,
    )
