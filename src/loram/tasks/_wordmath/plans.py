"""Geometry and chains: lengths and areas, and plans that take four or five steps."""

from __future__ import annotations

from .core import Draw, Story, calc, dollars, story
from .words import BAKES, FLOWERS, FRACTIONS, TIMES, WORDS, cap, plural, qty

# --- geometry -----------------------------------------------------------------------------------


def fence(rng: Draw) -> Story:
    """The cost of a fence around a rectangle, less its gate."""
    p, wide = rng.person(), rng.integers(6, 24)
    long = wide + rng.integers(2, 20)
    gate, price, gate_price = rng.integers(1, 3), rng.integers(6, 20), rng.multiple(5, 30, 90)
    field = rng.choice(("vegetable garden", "chicken run", "playground", "orchard", "paddock"))
    around = calc(f"2 * ({long} + {wide})")
    boards = calc(f"{around} - {gate}")
    cost = dollars(f"{boards} * {price}")
    total = dollars(f"{cost} + {gate_price}")
    return story(
        [
            f"{p} puts a fence around a rectangular {field} that is {long} meters long and {wide} "
            "meters wide.",
            f"On one side {p.he} leaves {qty(gate, 'meter')} for a gate, which costs "
            f"${gate_price}. The fence costs ${price} a meter.",
            rng.choice(
                (
                    "How many dollars do the fence and the gate cost together?",
                    f"How many dollars does {p} spend on the fence and the gate?",
                )
            ),
        ],
        [
            f"The {field} measures {qty(around, 'meter')} all the way around.",
            f"{p} needs {qty(boards, 'meter')} of fence.",
            f"The fence costs {cost.work}.",
            f"With the gate it costs {total.work}.",
        ],
        total,
    )


def tiles(rng: Draw) -> Story:
    """Square tiles on a floor, bought by the box."""
    room = rng.choice(("kitchen", "hallway", "bathroom", "laundry room", "classroom"))
    p, side, pack = rng.person(), rng.choice((2, 3)), rng.choice((4, 5, 6, 8))
    along, across = rng.multiple(pack, 4, 12), rng.integers(3, 8)
    price = rng.integers(9, 30)
    floor = calc(f"{along * side} * {across * side}")
    tile = calc(f"{side} * {side}")
    needed = calc(f"{floor} / {tile}")
    packs = calc(f"{needed} / {pack}")
    cost = dollars(f"{packs} * {price}")
    return story(
        [
            f"{p} covers the floor of a {room} with square tiles. The floor "
            f"measures {along * side} feet by {across * side} feet, and the sides of each tile "
            f"are {side} feet long.",
            f"The tiles come in boxes of {pack}, and a box costs ${price}.",
            rng.choice(
                (
                    f"How many dollars does {p} pay for the tiles?",
                    "How many dollars do the tiles for the whole floor cost?",
                )
            ),
        ],
        [
            f"The area of the floor is {qty(floor, 'square foot')}.",
            f"One tile covers {qty(tile, 'square foot')}.",
            f"{p} needs {qty(needed, 'tile')}.",
            f"They come in {qty(packs, 'box')}.",
            f"The tiles cost {cost.work}.",
        ],
        cost,
    )


def path(rng: Draw) -> Story:
    """The area of a path of even width around a rectangle."""
    thing = rng.choice(("pool", "lawn", "flower bed", "fish pond"))
    wide, edge = rng.integers(4, 14), rng.integers(1, 3)
    long = wide + rng.integers(2, 12)
    town = rng.choice(
        ("a park", "a hotel garden", "a public garden", "a school yard", "a castle garden")
    )
    outer_long = calc(f"{long} + 2 * {edge}")
    outer_wide = calc(f"{wide} + 2 * {edge}")
    outer = calc(f"{outer_long} * {outer_wide}")
    inner = calc(f"{long} * {wide}")
    area = calc(f"{outer} - {inner}")
    return story(
        [
            f"A rectangular {thing} in {town} is {long} meters long and {wide} meters wide. A "
            f"path {qty(edge, 'meter')} wide runs all the way around it.",
            rng.choice(
                (
                    "How many square meters does the path cover?",
                    "What is the area of the path in square meters if its corners are square?",
                )
            ),
        ],
        [
            f"With the path the rectangle is {qty(outer_long, 'meter')} long.",
            f"It is {qty(outer_wide, 'meter')} wide.",
            f"Its area is {qty(outer, 'square meter')}.",
            f"The {thing} alone covers {qty(inner, 'square meter')}.",
            f"So the path covers {qty(area, 'square meter')}.",
        ],
        area,
    )


def soil(rng: Draw) -> Story:
    """Bags of soil for several beds of the same size."""
    p, beds, flower = rng.person(), rng.integers(2, 5), rng.choice(FLOWERS)
    long, wide = rng.integers(3, 10), rng.integers(2, 5) * 2
    cover = rng.choice([size for size in (4, 5, 6, 8, 10, 12) if beds * long * wide % size == 0])
    price = rng.integers(3, 8)
    bed = calc(f"{long} * {wide}")
    area = calc(f"{beds} * {bed}")
    bags = calc(f"{area} / {cover}")
    cost = dollars(f"{bags} * {price}")
    return story(
        [
            f"{p} digs {beds} rectangular beds for {plural(flower)}. Each bed "
            f"measures {long} feet by {wide} feet.",
            f"One bag of soil is enough for {cover} square feet and costs ${price}.",
            rng.choice(
                (
                    f"How many dollars does {p} spend on soil for all the beds?",
                    "How many dollars does the soil for all the beds cost?",
                )
            ),
        ],
        [
            f"The area of one bed is {qty(bed, 'square foot')}.",
            f"Together the beds cover {qty(area, 'square foot')}.",
            f"{p} needs {qty(bags, 'bag')} of soil.",
            f"The soil costs {cost.work}.",
        ],
        cost,
    )


def carpet(rng: Draw) -> Story:
    """The area of an L-shaped room as a rectangle less its missing corner."""
    p, wide = rng.person(), rng.integers(8, 15)
    long = wide + rng.integers(2, 8)
    cut, cut_wide, price = rng.integers(2, 5), rng.integers(2, 5), rng.integers(3, 9)
    room = rng.choice(("living room", "office", "playroom", "studio"))
    whole = calc(f"{long} * {wide}")
    corner = calc(f"{cut} * {cut_wide}")
    area = calc(f"{whole} - {corner}")
    cost = dollars(f"{area} * {price}")
    return story(
        [
            f"{p}'s {room} has the shape of a rectangle {long} feet long and {wide} feet wide with "
            "one corner missing.",
            f"The missing corner is a rectangle that measures {cut} feet by {cut_wide} feet.",
            f"Carpet costs ${price} a square foot.",
            rng.choice(
                (
                    f"How many dollars does it cost {p} to carpet the whole {room}?",
                    f"How many dollars does {p} pay for carpet if it covers the whole {room}?",
                )
            ),
        ],
        [
            f"The full rectangle would be {qty(whole, 'square foot')}.",
            f"The missing corner is {qty(corner, 'square foot')}.",
            f"So the {room} has an area of {qty(area, 'square foot')}.",
            f"The carpet costs {cost.work}.",
        ],
        cost,
    )


def from_perimeter(rng: Draw) -> Story:
    """The area of a rectangle from its perimeter and one side."""
    long, wide = rng.integers(15, 45), rng.integers(8, 14)
    grow = rng.integers(2, 6)
    crop = rng.choice(("tomato plants", "strawberry plants", "pepper plants", "bean plants"))
    owner = rng.person()
    half = calc(f"{2 * (long + wide)} / 2")
    width = calc(f"{half} - {long}")
    area = calc(f"{long} * {width}")
    plants = calc(f"{area} * {grow}")
    return story(
        [
            f"{owner} walks once around the edge of a rectangular field, which is a walk of "
            f"{2 * (long + wide)} yards. The field is {long} yards long.",
            f"{owner.He} wants to set {grow} {crop} on every square yard of it.",
            f"How many {crop} does {owner.he} need?",
        ],
        [
            f"The length and the width add up to {qty(half, 'yard')}.",
            f"The field is {qty(width, 'yard')} wide.",
            f"Its area is {qty(area, 'square yard')}.",
            f"{owner} needs {plants.work} {crop}.",
        ],
        plants,
    )


# --- chains -------------------------------------------------------------------------------------


def bake_sale(rng: Draw) -> Story:
    """Bake, sell at two prices, pay the costs, give a part away."""
    p, bake = rng.person(), rng.choice(BAKES)
    batches, each = rng.integers(4, 9), rng.integers(5, 10) * 2
    price, den = rng.integers(2, 4), rng.choice((2, 3, 4))
    name = {2: "half", 3: "a third", 4: "a quarter"}[den]
    cause = rng.choice(("the animal shelter", "the school library", "the children's hospital"))
    income = batches * each * price
    cost = income % den + den * rng.integers(3, 7)
    many = plural(bake)
    made = calc(f"{batches} * {each}")
    taken = dollars(f"{made} * {price}")
    profit = dollars(f"{taken} - {cost}")
    given = dollars(f"{profit} / {den}")
    kept = dollars(f"{profit} - {given}")
    return story(
        [
            f"For a bake sale {p} makes {batches} batches of {each} {many}. The ingredients cost "
            f"${cost} in all.",
            f"{p.He} sells every {bake} for ${price}. After paying for the ingredients "
            f"{p.he} gives {name} of {p.his} profit to {cause}.",
            rng.choice(
                (
                    f"How many dollars does {p} keep?",
                    f"How many dollars of the profit are left for {p}?",
                )
            ),
        ],
        [
            f"{p} makes {qty(made, bake)}.",
            f"{p.He} sells them for {taken.work}.",
            f"{p.His} profit is {profit.work}.",
            f"{p.He} gives {given.work} to {cause}.",
            f"{p} keeps {kept.work}.",
        ],
        kept,
    )


def saving(rng: Draw) -> Story:
    """How many weeks of earning and spending until a goal is met?"""
    p = rng.person()
    goal = rng.choice(("bike", "telescope", "guitar", "skateboard", "tent", "camera"))
    allowance, jobs, pay = rng.integers(4, 10), rng.integers(2, 5), rng.integers(3, 8)
    spends, weeks, saved = rng.integers(1, 6), rng.integers(5, 14), rng.integers(10, 60)
    task = rng.choice(
        (
            "walks a neighbor's dog",
            "helps at a farm stand",
            "cleans a stable",
            "delivers flyers",
        )
    )
    price = saved + weeks * (allowance + jobs * pay - spends)
    earned = dollars(f"{jobs} * {pay}")
    income = dollars(f"{allowance} + {earned}")
    weekly = dollars(f"{income} - {spends}")
    missing = dollars(f"{price} - {saved}")
    needed = calc(f"{missing} / {weekly}")
    return story(
        [
            f"{p} wants to buy a {goal} for ${price} and has already saved ${saved}.",
            f"Every week {p.he} gets an allowance of ${allowance}, {task} {TIMES[jobs]} for ${pay} "
            f"each time, and spends ${spends} on snacks. {p.He} saves the rest.",
            rng.choice(
                (
                    f"In how many weeks will {p} have enough money for the {goal}?",
                    f"How many more weeks does {p} have to save before {p.he} can buy the {goal}?",
                )
            ),
        ],
        [
            f"The work brings {p} {earned.work} a week.",
            f"With the allowance {p.he} gets {income.work} a week.",
            f"{p.He} saves {weekly.work} of it.",
            f"{p} still needs {missing.work}.",
            f"That takes {qty(needed, 'week')}.",
        ],
        needed,
    )


def field_trip(rng: Draw) -> Story:
    """Students, chaperones, tickets and buses: what is the price for one student?"""
    classes, per_adult, groups = rng.integers(2, 5), rng.choice((4, 5, 6, 8)), rng.integers(3, 6)
    size = per_adult * groups
    ticket, adult_ticket = rng.integers(5, 12), rng.integers(10, 18)
    place = rng.choice(("the aquarium", "the zoo", "a history museum", "the planetarium"))
    number = WORDS[classes]
    students = calc(f"{classes} * {size}")
    adults = calc(f"{students} / {per_adult}")
    for_students = dollars(f"{students} * {ticket}")
    for_adults = dollars(f"{adults} * {adult_ticket}")
    total = dollars(f"{for_students} + {for_adults}")
    return story(
        [
            rng.choice(
                (
                    f"{cap(number)} classes of {size} students each are visiting {place}.",
                    f"A school takes {number} classes with {size} students each to {place}.",
                )
            ),
            f"There must be one adult for every {per_adult} students. A ticket costs ${ticket} "
            f"for a student and ${adult_ticket} for an adult.",
            rng.choice(
                (
                    "How many dollars do all the tickets cost?",
                    "How many dollars does the school pay for everyone's tickets?",
                )
            ),
        ],
        [
            f"There are {qty(students, 'student')}.",
            f"They need {qty(adults, 'adult')}.",
            f"The tickets for the students cost {for_students.work}.",
            f"The tickets for the adults cost {for_adults.work}.",
            f"All the tickets cost {total.work}.",
        ],
        total,
    )


def greenhouse(rng: Draw) -> Story:
    """Rows of flowers, of which a part blooms and is sold in pots."""
    p, flower, (num, den, name) = rng.person(), rng.choice(FLOWERS), rng.choice(FRACTIONS[1:5])
    rows, each = rng.integers(4, 10), rng.multiple(den * 2, 12, 40)
    kept, price = rng.integers(3, 10), rng.integers(2, 6)
    many = plural(flower)
    total = calc(f"{rows} * {each}")
    bloom = calc(f"{total} / {den}" if num == 1 else f"{total} * {num} / {den}")
    sold = calc(f"{bloom} - {kept}")
    money = dollars(f"{sold} * {price}")
    return story(
        [
            f"In {p.his} greenhouse {p} has planted {rows} rows of {each} {many}. By May "
            f"{name} of the plants are in bloom.",
            f"{p.He} keeps {kept} of the blooming plants and sells the others for ${price} each.",
            rng.choice(
                (
                    f"How many dollars does {p} get for them?",
                    f"How many dollars does the sale bring {p}?",
                )
            ),
        ],
        [
            f"There are {qty(total, flower)}.",
            f"Of these, {qty(bloom, flower)} are in bloom.",
            f"{p} sells {qty(sold, flower)}.",
            f"They bring {money.work}.",
        ],
        money,
    )


def car_wash(rng: Draw) -> Story:
    """A fundraiser at two prices, with costs, shared by the members of a club."""
    club = rng.choice(("chess club", "swim team", "robotics club", "drama club", "ski club"))
    cars, k = rng.integers(8, 20), rng.integers(2, 3)
    price, more = rng.integers(5, 9), rng.integers(2, 5)
    members = rng.integers(6, 12)
    income = cars * price + cars * k * (price + more)
    supplies = income % members + members * rng.integers(2, 4)
    trucks = calc(f"{k} * {cars}")
    small = dollars(f"{cars} * {price}")
    big = dollars(f"{trucks} * ({price} + {more})")
    profit = dollars(f"{small} + {big} - {supplies}")
    share = dollars(f"{profit} / {members}")
    return story(
        [
            f"The {members} members of a {club} run a car wash to pay for a trip. They charge "
            f"${price} for a motorcycle and ${more} more for a car.",
            f"In one day they wash {cars} motorcycles and {TIMES[k]} as many cars, and they spend "
            f"${supplies} on soap and sponges.",
            "The profit is divided equally among the members. How many dollars does each of them "
            "get toward the trip?",
        ],
        [
            f"They wash {trucks.work} cars.",
            f"The motorcycles bring {small.work}.",
            f"The cars bring {big.work}.",
            f"The profit is {profit.work}.",
            f"Each member gets {share.work}.",
        ],
        share,
    )


def charity_run(rng: Draw) -> Story:
    """Sponsors pay per lap; the money is matched and falls short of a goal."""
    p, sponsors, laps = rng.person(), rng.integers(4, 9), rng.integers(8, 20)
    per_lap, extra, left = rng.integers(1, 3), rng.multiple(5, 20, 60), rng.integers(10, 80)
    k = rng.integers(2, 3)
    cause = rng.choice(("a new playground", "a wheelchair ramp", "music lessons", "a food bank"))
    raised = k * (sponsors * laps * per_lap) + extra
    goal = raised + left
    each = dollars(f"{laps} * {per_lap}")
    pledged = dollars(f"{sponsors} * {each}")
    matched = dollars(f"{k} * {pledged}")
    total = dollars(f"{matched} + {extra}")
    missing = dollars(f"{goal} - {total}")
    times = "doubles" if k == 2 else "triples"
    return story(
        [
            f"{p} runs to raise ${goal} for {cause}. Each of {p.his} {sponsors} sponsors pays "
            f"${per_lap} a lap, and {p} runs {laps} laps.",
            f"A local company {times} the money from the sponsors, and {p}'s grandparents give "
            f"another ${extra}.",
            f"How many dollars is {p} still short of the goal?",
        ],
        [
            f"Each sponsor pays {each.work}.",
            f"The sponsors pay {pledged.work}.",
            f"The company turns this into {matched.work}.",
            f"With the gift from the grandparents it is {total.work}.",
            f"{p} is {missing.work} short of the goal.",
        ],
        missing,
    )
