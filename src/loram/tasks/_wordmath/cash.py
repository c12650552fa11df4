"""Money, fractions and percentages: buying, earning, saving and parts of a whole."""

from __future__ import annotations

from .core import Calc, Draw, Story, calc, cents, dollars, story
from .words import CRAFTS, FRACTIONS, SUPPLIES, TREASURES, WORDS, a, cap, plural, qty

# --- money --------------------------------------------------------------------------------------


def change(rng: Draw) -> Story:
    """Two kinds of things bought with one bill; the change."""
    p, (one, two) = rng.person(), rng.sample(SUPPLIES, 2)
    n, m = rng.integers(1, 4) * 2, rng.integers(2, 5)
    price, other = cents(rng.integers(1, 7) * 50), rng.integers(1, 4)
    shop = rng.choice(("the school store", "the stationery shop", "the corner shop"))
    first, second = dollars(f"{n} * {price}"), dollars(f"{m} * {other}")
    cost = dollars(f"{first} + {second}")
    bill = next(bill for bill in (20, 50) if bill > cost.value)
    back = dollars(f"{bill} - {cost}")
    return story(
        [
            f"{p} goes to {shop} and buys {qty(n, one)} for ${price} each and {qty(m, two)} for "
            f"${other} each.",
            rng.choice(
                (
                    f"{p.He} pays with a ${bill} bill. How many dollars does {p.he} get back?",
                    f"If {p.he} hands over a ${bill} bill, how many dollars of change does "
                    f"{p.he} receive?",
                )
            ),
        ],
        [
            f"The {plural(one)} cost {first.work}.",
            f"The {plural(two)} cost {second.work}.",
            f"Everything together costs {cost.work}.",
            f"{p} gets {back.work} back.",
        ],
        back,
    )


def coupon(rng: Draw) -> Story:
    """Several at a sale price, less a coupon, against the full price."""
    p = rng.person()
    item = rng.choice(("T-shirt", "board game", "sweater", "baseball cap", "backpack"))
    full, n = rng.integers(12, 30), rng.integers(2, 6)
    off, voucher = rng.integers(2, 6), rng.integers(3, 9)
    price = dollars(f"{full} - {off}")
    all_of_them = dollars(f"{n} * {price}")
    paid = dollars(f"{all_of_them} - {voucher}")
    many = plural(item)
    return story(
        [
            rng.choice(
                (
                    f"{cap(a(item))} normally costs ${full}, but during a sale the price "
                    f"of each one is cut by ${off}.",
                    f"A store sells {many} for ${full} each. This week it takes ${off} off the "
                    "price of each one.",
                )
            ),
            f"{p} buys {n} {many} during the sale and also uses a coupon that takes ${voucher} "
            "off the whole bill.",
            rng.choice(
                (
                    f"How many dollars does {p} pay?",
                    f"How many dollars does {p.he} have to pay in the end?",
                )
            ),
        ],
        [
            f"On sale, {a(item)} costs {price.work}.",
            f"{n} {many} cost {all_of_them.work}.",
            f"With the coupon {p} pays {paid.work}.",
        ],
        paid,
    )


def craft_profit(rng: Draw) -> Story:
    """The profit on homemade things sold at a market."""
    p, craft = rng.person(), rng.choice(CRAFTS)
    made, price = rng.integers(4, 12) * 2, rng.integers(9, 18)
    each, table = cents(rng.integers(4, 10) * 50), rng.integers(10, 25)
    market = rng.choice(("the spring market", "a craft fair", "the holiday market"))
    many = plural(craft)
    income = dollars(f"{made} * {price}")
    spent = dollars(f"{made} * {each} + {table}")
    profit = dollars(f"{income} - {spent}")
    return story(
        [
            f"{p} makes {made} {many} and sells all of them at {market} for ${price} each.",
            f"The materials for each {craft} cost ${each}, and {p} also pays ${table} for a table.",
            rng.choice(
                (
                    f"How many dollars of profit does {p} make?",
                    f"After paying for everything, how many dollars has {p} earned?",
                )
            ),
        ],
        [
            f"{p} takes in {income.work}.",
            f"The materials and the table cost {spent.work}.",
            f"{p}'s profit is {profit.work}.",
        ],
        profit,
    )


def overtime(rng: Draw) -> Story:
    """A week's wages with overtime at a higher rate."""
    p, base = rng.person(), rng.integers(12, 20) * 100 + rng.choice((0, 50))
    extra, bonus = rng.integers(2, 6) * 2, rng.integers(4, 9)
    hours = rng.choice((30, 32, 36, 38, 40))
    job = rng.choice(("a hardware store", "a bakery", "a garden center", "a car wash"))
    rate = cents(base)
    higher = dollars(f"{rate} + {bonus}")
    normal = dollars(f"{hours} * {rate}")
    beyond = calc(f"{hours + extra} - {hours}")
    more = dollars(f"{beyond} * {higher}")
    pay = dollars(f"{normal} + {more}")
    return story(
        [
            f"{p} works at {job} for ${rate} an hour. For every hour beyond {hours} in a week "
            f"{p.he} is paid ${bonus} more.",
            f"Last week {p} worked {hours + extra} hours.",
            rng.choice(
                (
                    f"How many dollars did {p.he} earn?",
                    f"How many dollars did {p} earn that week?",
                )
            ),
        ],
        [
            f"The first {hours} hours bring {normal.work}.",
            f"{p} worked {beyond.work} hours of overtime.",
            f"An hour of overtime is paid {higher.work}.",
            f"The overtime brings {more.work}.",
            f"In total {p} earned {pay.work}.",
        ],
        pay,
    )


def taxi(rng: Draw) -> Story:
    """A fare with a base price, a price per mile and a tip, shared by the riders."""
    p, friends, miles = rng.person(), rng.integers(2, 4), rng.integers(3, 12) * 2
    base, per_mile = rng.integers(3, 6), cents(rng.integers(3, 7) * 50)
    by_meter = dollars(f"{miles} * {per_mile}")
    fare = dollars(f"{base} + {by_meter}")
    riders = calc(f"{friends} + 1")
    tip = -int(fare) % (friends + 1) + friends + 1
    total = dollars(f"{fare} + {tip}")
    share = dollars(f"{total} / {riders}")
    return story(
        [
            f"A taxi ride costs ${base} plus ${per_mile} for every mile.",
            f"{p} and {WORDS[friends]} friends ride {miles} miles together, give the driver a tip "
            f"of ${tip}, and split the cost equally.",
            "How many dollars does each of them pay?",
        ],
        [
            f"The miles cost {by_meter.work}.",
            f"The whole fare is {fare.work}.",
            f"With the tip they pay {total.work}.",
            f"There are {qty(riders, 'person')} in the taxi.",
            f"Each of them pays {share.work}.",
        ],
        share,
    )


def coin_jar(rng: Draw) -> Story:
    """Coins of three kinds, and how much is missing for a purchase."""
    p, dimes = rng.person(), rng.integers(10, 30)
    fewer, quarters = rng.integers(3, 8), rng.integers(8, 30)
    thing = rng.choice(("kite", "water bottle", "puzzle", "flashlight", "jump rope"))
    worth = quarters * 25 + dimes * 10 + (dimes - fewer) * 5
    price = worth // 100 + 1
    of_quarters = calc(f"{quarters} * 25")
    of_dimes = calc(f"{dimes} * 10")
    of_nickels = calc(f"({dimes} - {fewer}) * 5")
    total = calc(f"{of_quarters} + {of_dimes} + {of_nickels}")
    short = calc(f"{price} * 100 - {total}")
    return story(
        [
            f"{p} keeps coins in a jar. It holds {quarters} quarters, {dimes} dimes, and "
            f"{fewer} fewer nickels than dimes.",
            f"{p.He} would like to buy a {thing} that costs ${price}.",
            f"How many more cents does {p} need?",
        ],
        [
            f"The quarters are worth {qty(of_quarters, 'cent')}.",
            f"The dimes are worth {qty(of_dimes, 'cent')}.",
            f"The nickels are worth {qty(of_nickels, 'cent')}.",
            f"In all the jar holds {qty(total, 'cent')}.",
            f"{p} needs {qty(short, 'more cent')}.",
        ],
        short,
    )


# --- fractions ----------------------------------------------------------------------------------


def part(whole: int | Calc, num: int, den: int) -> str:
    """Write ``num / den`` of ``whole`` as an expression."""
    return f"{whole} / {den}" if num == 1 else f"{whole} * {num} / {den}"


def spending(rng: Draw) -> Story:
    """Spend a fraction, then a fraction of the rest."""
    p, (n1, d1, first), (n2, d2, second) = (
        rng.person(),
        rng.choice(FRACTIONS),
        rng.choice(FRACTIONS[:5]),
    )
    total = rng.multiple(d1 * d2, 60, 240)
    one, two = rng.sample(
        ("a pair of shoes", "a birthday present", "concert tickets", "a model train", "a jacket"),
        2,
    )
    spent = dollars(part(total, n1, d1))
    rest = dollars(f"{total} - {spent}")
    more = dollars(part(rest, n2, d2))
    left = dollars(f"{rest} - {more}")
    return story(
        [
            rng.choice((f"{p} has saved ${total}.", f"{p} earned ${total} over the summer.")),
            f"{p.He} spends {first} of the money on {one}, and then {second} of what is left on "
            f"{two}.",
            rng.choice(
                (
                    f"How many dollars does {p} have after that?",
                    f"How many dollars does {p.he} still have?",
                )
            ),
        ],
        [
            f"{p} spends {spent.work} on {one}.",
            f"Then {p.he} has {rest.work} left.",
            f"{p.He} spends {more.work} on {two}.",
            f"{p} has {left.work} after that.",
        ],
        left,
    )


def school(rng: Draw) -> Story:
    """Percentages of the students of a school."""
    share, other = rng.sample((10, 20, 25, 30, 40), 2)
    students = rng.multiple(20, 120, 600)
    school = rng.choice(("Lincoln", "Hillside", "Greenwood", "Cedar Park", "Westbrook"))
    one, two, three = rng.choice(
        (
            ("walk to school", "come by bike", "take the bus"),
            ("bring lunch from home", "go home for lunch", "eat in the cafeteria"),
            ("play an instrument", "sing in the choir", "do neither"),
        )
    )
    first = calc(f"{students} * {share} / 100")
    second = calc(f"{students} * {other} / 100")
    rest = calc(f"{students} - {first} - {second}")
    note = "" if three == "do neither" else ", and the rest " + three
    ask = "How many students do neither" if not note else f"How many students {three}"
    return story(
        [
            f"{school} School has {students} students. Of these, {share}% {one} and {other}% "
            f"{two}{note}.",
            *(() if note else ("No student does both.",)),
            f"{ask}?",
        ],
        [
            f"{first.work} students {one}.",
            f"{second.work} students {two}.",
            f"So {rest.work} students {three}.",
        ],
        rest,
    )


def percent_off(rng: Draw) -> Story:
    """A percentage off one price; several bought; what is saved or paid."""
    p, pct = rng.person(), rng.choice((10, 15, 20, 25, 30, 40))
    price, n = rng.multiple(20, 20, 80), rng.integers(2, 5)
    item = rng.choice(
        ("desk lamp", "raincoat", "sleeping bag", "pair of sneakers", "easel", "backpack")
    )
    fee = rng.integers(4, 15)
    off = dollars(f"{price} * {pct} / 100")
    now = dollars(f"{price} - {off}")
    several = dollars(f"{n} * {now}")
    total = dollars(f"{several} + {fee}")
    many = plural(item)
    return story(
        [
            rng.choice(
                (
                    f"An online shop takes {pct}% off the price of {many}, which usually cost "
                    f"${price} each.",
                    f"{cap(a(item))} that usually costs ${price} is on sale online for "
                    f"{pct}% less.",
                )
            ),
            f"{p} orders {n} of them and pays ${fee} for delivery.",
            rng.choice(
                (
                    f"How many dollars does {p} pay in total?",
                    "How many dollars does the whole order cost?",
                )
            ),
        ],
        [
            f"The discount on {a(item)} is {off.work}.",
            f"So one costs {now.work}.",
            f"{n} of them cost {several.work}.",
            f"With delivery {p} pays {total.work}.",
        ],
        total,
    )


def novel(rng: Draw) -> Story:
    """A fraction of a book, then a daily number of pages to the end."""
    p, (num, den, name) = rng.person(), rng.choice(FRACTIONS)
    pages, days = rng.multiple(den, 200, 360), rng.integers(4, 7)
    # This morning's pages leave a number that the days ahead can share out.
    unread = pages * (den - num) // den
    extra = unread - (unread - rng.integers(5, 15)) // days * days
    read = calc(part(pages, num, den))
    left = calc(f"{pages} - {read}")
    after = calc(f"{left} - {extra}")
    each = calc(f"{after} / {days}")
    return story(
        [
            f"{p} is reading a book of {pages} pages. {p.He} read {name} of it last week and "
            f"{qty(extra, 'more page')} this morning.",
            f"{p.He} wants to finish it in the next {days} days, reading the same number of pages "
            "every day.",
            rng.choice(
                (
                    f"How many pages must {p.he} read each day?",
                    "How many pages a day is that?",
                )
            ),
        ],
        [
            f"Last week {p} read {qty(read, 'page')}.",
            f"That left {qty(left, 'page')}.",
            f"After this morning {qty(after, 'page')} are left.",
            f"{p} must read {qty(each, 'page')} each day.",
        ],
        each,
    )


def giveaway(rng: Draw) -> Story:
    """A fraction given away and a percentage of the rest lost."""
    (p, friend), thing = rng.people(2), rng.choice(TREASURES)
    num, den, name = rng.choice(FRACTIONS[:5])
    pct = rng.choice((10, 20, 25, 40, 50))
    total = rng.multiple(den * 20, 40, 240)
    many = plural(thing)
    given = calc(part(total, num, den))
    rest = calc(f"{total} - {given}")
    sold = calc(f"{rest} * {pct} / 100")
    left = calc(f"{rest} - {sold}")
    return story(
        [
            f"{p} owns {total} {many}. {p.He} gives {name} of them to {friend} and sells {pct}% "
            "of those that remain.",
            f"How many {many} does {p} keep?",
        ],
        [
            f"{p} gives away {qty(given, thing)}.",
            f"Then {qty(rest, thing)} remain.",
            f"{p} sells {qty(sold, thing)}.",
            f"{p} keeps {qty(left, thing)}.",
        ],
        left,
    )


def pay_raise(rng: Draw) -> Story:
    """A percentage raise on an hourly wage, over some weeks."""
    p, pct = rng.person(), rng.choice((5, 10, 20, 25))
    wage = rng.choice((10, 15, 20, 25, 30) if pct % 10 == 0 else (20,))
    hours, weeks = rng.integers(2, 9) * 4, rng.integers(2, 6)
    job = rng.choice(("gardener", "tutor", "lifeguard", "barista", "librarian", "cook"))
    more = dollars(f"{wage} * {pct} / 100")
    new = dollars(f"{wage} + {more}")
    weekly = dollars(f"{hours} * {new}")
    pay = dollars(f"{weeks} * {weekly}")
    return story(
        [
            f"{p} works {hours} hours a week as {a(job)} and earns ${wage} an hour.",
            f"Starting next week {p.he} gets a raise of {pct}%.",
            f"How many dollars will {p} earn in the first {weeks} weeks after the raise?",
        ],
        [
            f"The raise is {more.work} an hour.",
            f"{p} will earn {new.work} an hour.",
            f"That is {weekly.work} a week.",
            f"In {weeks} weeks {p} will earn {pay.work}.",
        ],
        pay,
    )
