"""Arithmetic and comparison: how many in all, how many left, how many more."""

from __future__ import annotations

from .core import Draw, Story, calc, story
from .words import FRUITS, TIMES, TREASURES, WEEKDAYS, plural, qty

# --- arithmetic ---------------------------------------------------------------------------------


def harvest(rng: Draw) -> Story:
    """Pick from several trees, use some, give some away."""
    p, fruit = rng.person(), rng.choice(FRUITS)
    trees, each = rng.integers(3, 9), rng.integers(15, 40)
    used, given = rng.integers(8, 20), rng.integers(5, 20)
    use = rng.choice(("to make jam", "to bake pies", "to make juice"))
    picked = calc(f"{trees} * {each}")
    left = calc(f"{picked} - {used} - {given}")
    many = plural(fruit)
    return story(
        [
            rng.choice(
                (
                    f"{p} has {trees} {fruit} trees in {p.his} backyard, and this year each tree "
                    f"gave {each} {many}.",
                    f"There are {trees} {fruit} trees in {p}'s orchard. Last weekend {p.he} "
                    f"picked {each} {many} from each tree.",
                )
            ),
            f"{p.He} used {used} of them {use} and gave {given} to {p.his} neighbors.",
            rng.choice((f"How many {many} does {p} have left?", f"How many {many} are left over?")),
        ],
        [
            f"{p} picked {qty(picked, fruit)}.",
            f"After that, {p.he} has {qty(left, fruit)} left.",
        ],
        left,
    )


def library(rng: Draw) -> Story:
    """Books on shelves in bookcases, less those on loan, plus a delivery."""
    cases, shelves, books = rng.integers(4, 12), rng.integers(3, 7), rng.integers(15, 30)
    out, new = rng.integers(25, 150), rng.integers(10, 60)
    place = rng.choice(("town library", "school library", "reading room at the museum"))
    full = calc(f"{cases} * {shelves}")
    held = calc(f"{full} * {books}")
    now = calc(f"{held} - {out} + {new}")
    return story(
        [
            rng.choice(
                (
                    f"The {place} has {cases} bookcases with {shelves} shelves each, and every "
                    f"shelf holds {books} books.",
                    f"Each of the {cases} bookcases in the {place} has {shelves} shelves, and "
                    f"there are {books} books on each shelf.",
                )
            ),
            f"This week visitors borrowed {out} of the books, and then {new} new ones arrived "
            "and were put on the shelves.",
            "How many books are on the shelves now?",
        ],
        [
            f"There are {qty(full, 'shelf')}.",
            f"At first they hold {qty(held, 'book')}.",
            f"Now there are {qty(now, 'book')} on the shelves.",
        ],
        now,
    )


def theater(rng: Draw) -> Story:
    """Empty seats over two nights of a show."""
    rows, seats = rng.integers(10, 20), rng.integers(12, 24)
    first, more = rng.integers(50, 90), rng.integers(5, 30)
    show = rng.choice(("play", "concert", "talent show", "puppet show"))
    room = calc(f"{rows} * {seats}")
    second = calc(f"{first} + {more}")
    sold = calc(f"{first} + {second}")
    empty = calc(f"2 * {room} - {sold}")
    return story(
        [
            f"The seats in a school auditorium are set out in {rows} rows of {seats}.",
            f"The school puts on a {show} there on two nights.",
            f"On Friday {first} tickets are sold, and on Saturday {more} more than on Friday.",
            rng.choice(
                (
                    "How many seats stay empty over the two nights?",
                    "Counting both nights, how many seats are not sold?",
                )
            ),
        ],
        [
            f"The auditorium has {qty(room, 'seat')}.",
            f"On Saturday {qty(second, 'ticket')} are sold.",
            f"Over the two nights {qty(sold, 'ticket')} are sold.",
            f"That leaves {qty(empty, 'empty seat')}.",
        ],
        empty,
    )


def bus(rng: Draw) -> Story:
    """Passengers get on and off at two stops."""
    start, off, on = rng.integers(18, 32), rng.integers(3, 9), rng.integers(2, 6)
    k, off2, number = rng.integers(2, 3), rng.integers(2, 8), rng.integers(2, 60)
    after = calc(f"{start} - {off} + {on}")
    on2 = calc(f"{k} * {on}")
    end = calc(f"{after} + {on2} - {off2}")
    return story(
        [
            rng.choice(
                (
                    f"The number {number} bus leaves the station with {start} passengers.",
                    f"When the number {number} bus sets off, {start} passengers are on board.",
                    f"There are {start} passengers on the number {number} bus as it starts its "
                    "route.",
                )
            ),
            f"At the first stop, {off} people get off and {on} get on.",
            f"At the second stop, {TIMES[k]} as many people get on as at the first stop, "
            f"and {off2} get off.",
            rng.choice(
                (
                    "How many passengers are on the bus now?",
                    "With how many passengers does the bus leave the second stop?",
                )
            ),
        ],
        [
            f"After the first stop there are {qty(after, 'passenger')} on the bus.",
            f"At the second stop {on2.work} people get on.",
            f"After the second stop there are {qty(end, 'passenger')} on the bus.",
        ],
        end,
    )


def album(rng: Draw) -> Story:
    """A collection in an album grows by packs and shrinks by a gift."""
    p, friend = rng.people(2)
    thing = rng.choice(("sticker", "stamp", "trading card", "postcard"))
    pages, each = rng.integers(6, 15), rng.integers(4, 9)
    packs, size, gift = rng.integers(3, 8), rng.integers(5, 10), rng.integers(4, 14)
    many = plural(thing)
    old = calc(f"{pages} * {each}")
    new = calc(f"{packs} * {size}")
    total = calc(f"{old} + {new} - {gift}")
    return story(
        [
            f"{p} keeps {p.his} {many} in an album and has filled {pages} pages, with {each} "
            f"{many} on each page.",
            f"For {p.his} birthday {p.he} gets {packs} packs of {size} {many}, and "
            f"{p.he} gives {gift} {many} to {friend}.",
            rng.choice(
                (
                    f"How many {many} does {p} have now?",
                    f"How many {many} are in {p}'s collection after that?",
                )
            ),
        ],
        [
            f"The album holds {qty(old, thing)}.",
            f"The packs contain {qty(new, thing)}.",
            f"Now {p} has {qty(total, thing)}.",
        ],
        total,
    )


def bracelets(rng: Draw) -> Story:
    """Beads left after making bracelets of two colors."""
    p, (one, two) = rng.person(), rng.sample(("red", "blue", "green", "white", "yellow"), 2)
    first, second, made = rng.integers(8, 15), rng.integers(5, 12), rng.integers(4, 9)
    spare = rng.integers(5, 60)
    bought = (first + second) * made + spare
    each = calc(f"{first} + {second}")
    used = calc(f"{each} * {made}")
    left = calc(f"{bought} - {used}")
    return story(
        [
            f"{p} makes bracelets for a craft fair. Each bracelet takes {first} {one} beads and "
            f"{second} {two} beads.",
            f"{p.He} bought a bag of {bought} beads and has made {made} bracelets so far.",
            rng.choice(
                ("How many beads are left in the bag?", f"How many beads does {p} still have?")
            ),
        ],
        [
            f"One bracelet takes {qty(each, 'bead')}.",
            f"So {made} bracelets take {qty(used, 'bead')}.",
            f"That leaves {qty(left, 'bead')}.",
        ],
        left,
    )


def garage(rng: Draw) -> Story:
    """Free spaces in a parking garage as cars come and go."""
    floors, spaces = rng.integers(3, 6), rng.integers(30, 55)
    parked, gone, come = rng.integers(45, 70), rng.integers(8, 30), rng.integers(5, 20)
    hour = rng.integers(7, 11)
    where = rng.choice(("at the airport", "next to a hospital", "by the station", "downtown"))
    room = calc(f"{floors} * {spaces}")
    cars = calc(f"{parked} - {gone} + {come}")
    free = calc(f"{room} - {cars}")
    return story(
        [
            rng.choice(
                (
                    f"A parking garage {where} has {floors} floors with {spaces} spaces on each "
                    "floor.",
                    f"There are {spaces} spaces on each of the {floors} floors of a parking garage "
                    f"{where}.",
                )
            ),
            f"At {hour} o'clock in the morning, {parked} cars are parked there. During the next "
            f"hour {gone} cars leave and {come} cars arrive.",
            rng.choice(
                (
                    "How many spaces are free after that hour?",
                    "How many free spaces does the garage have then?",
                )
            ),
        ],
        [
            f"The garage has {qty(room, 'space')}.",
            f"After an hour {cars.work} cars are parked there.",
            f"So {qty(free, 'space')} are free.",
        ],
        free,
    )


# --- comparison ---------------------------------------------------------------------------------


def collectors(rng: Draw) -> Story:
    """Three collections, each given by comparison with the one before."""
    (x, y, z), thing = rng.people(3), rng.choice(TREASURES)
    first, k = rng.integers(12, 45), rng.integers(2, 4)
    fewer = rng.integers(3, 20)
    many = plural(thing)
    second = calc(f"{k} * {first}")
    third = calc(f"{second} - {fewer}")
    total = calc(f"{first} + {second} + {third}")
    return story(
        [
            f"{x} has {first} {many}. {y} has {TIMES[k]} as many {many} as {x}, and {z} has "
            f"{fewer} fewer than {y}.",
            rng.choice(
                (
                    f"How many {many} do the three of them have altogether?",
                    f"If they put all their {many} together, how many will they have?",
                )
            ),
        ],
        [
            f"{y} has {qty(second, thing)}.",
            f"{z} has {qty(third, thing)}.",
            f"Together they have {qty(total, thing)}.",
        ],
        total,
    )


def readers(rng: Draw) -> Story:
    """How many more pages one reader needs to catch up with another."""
    (x, y), days = rng.people(2), rng.integers(4, 9)
    what = rng.choice(
        ("the same long novel", "a book for their club", "the same thick history book")
    )
    slow, more, bonus = rng.integers(12, 25), rng.integers(3, 12), rng.integers(5, 30)
    fast = calc(f"{slow} + {more}")
    pages_x = calc(f"{slow} * {days}")
    pages_y = calc(f"{fast} * {days} + {bonus}")
    gap = calc(f"{pages_y} - {pages_x}")
    return story(
        [
            f"{x} and {y} are reading {what}. For {days} days {x} reads {slow} pages "
            f"a day, and {y} reads {more} pages a day more than {x}.",
            f"On the last evening {y} reads {bonus} extra pages.",
            rng.choice(
                (
                    f"How many pages is {y} ahead of {x} by then?",
                    f"How many more pages has {y} read than {x}?",
                )
            ),
        ],
        [
            f"{y} reads {qty(fast, 'page')} a day.",
            f"{x} reads {qty(pages_x, 'page')} in all.",
            f"{y} reads {qty(pages_y, 'page')} in all.",
            f"{y} is {qty(gap, 'page')} ahead.",
        ],
        gap,
    )


def laps(rng: Draw) -> Story:
    """Laps over three days against a friend's total."""
    (x, y), days = rng.people(2), sorted(rng.sample(range(7), 3))
    one, two, three = (WEEKDAYS[day] for day in days)
    laps, k, more = rng.integers(8, 20), rng.integers(2, 3), rng.integers(2, 9)
    second = calc(f"{k} * {laps}")
    third = calc(f"{second} + {more}")
    total = calc(f"{laps} + {second} + {third}")
    friend = int(total) - rng.integers(5, 25)
    gap = calc(f"{total} - {friend}")
    moves = rng.choice(("swims", "runs"))
    return story(
        [
            f"On {one} {x} {moves} {laps} laps. On {two} {x.he} does {TIMES[k]} as many, "
            f"and on {three} {x.he} does {more} more laps than on {two}.",
            f"{y} does {friend} laps over the same three days.",
            rng.choice(
                (
                    f"How many more laps does {x} do than {y}?",
                    f"By how many laps does {x} beat {y}?",
                )
            ),
        ],
        [
            f"{x} does {qty(second, 'lap')} on {two}.",
            f"{x.He} does {qty(third, 'lap')} on {three}.",
            f"Over the three days {x.he} does {qty(total, 'lap')}.",
            f"That is {gap.work} more than {y} does.",
        ],
        gap,
    )


def shelter(rng: Draw) -> Story:
    """Animals in a shelter, compared kind by kind."""
    one, two, three = rng.sample(("cat", "dog", "rabbit", "guinea pig", "parrot"), 3)
    k, third_n, more = rng.integers(2, 4), rng.integers(3, 12), rng.integers(2, 15)
    town = rng.choice(("Brookfield", "Maple Hill", "Riverside", "Oakdale", "Lakeview"))
    base = k * third_n
    part = {2: "half", 3: "a third", 4: "a quarter"}[k]
    first = calc(f"{base} + {more}")
    third = calc(f"{base} / {k}")
    total = calc(f"{base} + {first} + {third}")
    many = [plural(kind) for kind in (one, two, three)]
    return story(
        [
            f"The animal shelter in {town} is looking after {base} {many[1]}. It has {more} more "
            f"{many[0]} than {many[1]}, and {part} as many {many[2]} as {many[1]}.",
            rng.choice(
                (
                    "How many animals are in the shelter if there are no others?",
                    f"How many {many[0]}, {many[1]} and {many[2]} does it have in all?",
                )
            ),
        ],
        [
            f"There are {qty(first, one)}.",
            f"There are {qty(third, three)}.",
            f"In all there are {qty(total, 'animal')}.",
        ],
        total,
    )


def towers(rng: Draw) -> Story:
    """Block towers, measured against one another."""
    x, y, z = rng.people(3)
    height, k, short = rng.integers(20, 45), rng.integers(2, 3), rng.integers(5, 15)
    grown = rng.integers(4, 18)
    material = rng.choice(("wooden blocks", "toy bricks", "paper cups", "playing cards"))
    second = calc(f"{k} * {height}")
    third = calc(f"{second} - {short}")
    final = calc(f"{third} + {grown}")
    gap = calc(f"{final} - {height}")
    return story(
        [
            f"Three friends are building towers out of {material}. {x}'s tower is {height} "
            f"centimeters tall, and {y}'s is {TIMES[k]} as tall as {x}'s.",
            f"{z}'s tower was {short} centimeters shorter than {y}'s, but then {z} made it "
            f"{grown} centimeters taller.",
            f"How many centimeters taller than {x}'s tower is {z}'s tower now?",
        ],
        [
            f"{y}'s tower is {qty(second, 'centimeter')} tall.",
            f"{z}'s tower was {qty(third, 'centimeter')} tall at first.",
            f"Now it is {qty(final, 'centimeter')} tall.",
            f"It is {qty(gap, 'centimeter')} taller than {x}'s tower.",
        ],
        gap,
    )
