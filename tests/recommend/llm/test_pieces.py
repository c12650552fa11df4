"""Prompts, injection, gates, the curriculum: each against what it must equal."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from llm_tiny import TITLES, cases, make_gpt2, make_llama, make_tokenizer, parts, tables

from loram.methods import named
from loram.peft import LoramError
from loram.peft.attach import attach
from loram.peft.gated import Gates, expert_alpha, gate_
from loram.peft.layers import lora_layers
from loram.recommend.interactions import UNKNOWN
from loram.recommend.llm.batch import collate
from loram.recommend.llm.case import Case, Slot
from loram.recommend.llm.examples import Writer, window_of
from loram.recommend.llm.inject import inject
from loram.recommend.llm.projector import Projectors
from loram.recommend.llm.prompt import Prompter, PromptError, Template
from loram.recommend.llm.recommender import Recommender, Router
from loram.recommend.llm.schedule import Stage, is_hybrid, order
from loram.recommend.llm.scoring import log_likelihoods, shared_prefix, word_ids, yes_no
from loram.recommend.llm.settings import read_yaml
from loram.recommend.llm.vectors import Vectors
from loram.recommend.llm.written import chosen, judge, write

TOKENIZER = make_tokenizer()
MAKERS = {"llama": make_llama, "gpt2": make_gpt2}
ASK = "Preference: {liked}. Not: {disliked}. Will the user like {target}?"


@pytest.fixture(params=MAKERS)
def llm(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param](len(TOKENIZER))


def prompter(text: str = ASK, length: int = 400, **changes: Any) -> Prompter:
    return Prompter(TOKENIZER, Template(text, **changes), TITLES, length)


# ---- prompts -------------------------------------------------------------------------------------


def test_a_prompt_without_slots_is_its_text_as_the_tokenizer_has_it() -> None:
    case = Case(0, (0, 1, 2), (True, False, True), 5)
    text = 'Preference: "Red Fox", "Red Sea". Not: "Red Door". Will the user like "Blue Door"?'
    assert list(prompter()(case)) == TOKENIZER(text, add_special_tokens=False).input_ids


def test_slots_stand_where_the_template_has_them() -> None:
    write_ = prompter("A {user_slot} B {history} C {target_slot}", item="{title} {slot}")
    tokens = write_(Case(3, (4, 7), (True, True), 9, row=2))
    assert [t for t in tokens if isinstance(t, Slot)] == [
        *(Slot("user", 3), Slot("item", 4), Slot("item", 7), Slot("item", 9))
    ]
    texts = ["A ", " B Blue Fox ", ", Blue Song ", " C "]
    ids = [i for text in texts for i in TOKENIZER(text, add_special_tokens=False).input_ids]
    assert [t for t in tokens if not isinstance(t, Slot)] == ids


def test_a_beginning_token_is_there_if_the_tokenizer_puts_it() -> None:
    def starts(text: str, add_special_tokens: bool = True) -> Any:
        return SimpleNamespace(input_ids=[*[9] * add_special_tokens, *text.encode()])

    starts.bos_token_id = 9  # pyright: ignore[reportFunctionMemberAccess]
    assert Prompter(starts, Template("ab"), [], 9)(Case(0, (), (), 0)) == (9, 97, 98)


def test_empty_histories_and_missing_titles_are_written_as_the_template_says() -> None:
    write_ = Prompter(TOKENIZER, Template("{liked}|{history}|{target}"), ["A", None, " "], 99)
    expected = 'None|None|"an unknown title"'
    for target in (1, 2, 7, UNKNOWN):
        got = write_(Case(0, (), (), target))
        assert list(got) == TOKENIZER(expected, add_special_tokens=False).input_ids


@pytest.mark.parametrize("length", [16, 24, 40, 61])
def test_truncation_drops_as_few_of_the_oldest_as_fit(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    history = tuple(range(12))
    case = Case(0, history, (True,) * 12, 15)
    write_, whole = prompter("{history} -> {target}", length), prompter("{history} -> {target}")
    with caplog.at_level(logging.WARNING):
        tokens = write_(case)
        write_(case)
    fits = [
        k
        for k in range(13)
        if len(whole(case._replace(history=history[12 - k :], liked=(True,) * k))) <= length
    ]
    best = case._replace(history=history[12 - max(fits) :], liked=(True,) * max(fits))
    assert tokens == whole(best)
    assert len(tokens) <= length
    assert write_.truncated == 2
    assert len(caplog.records) == 1  # said once
    assert f"oldest {12 - max(fits)} of 12" in caplog.text


def test_a_prompt_that_never_fits_is_an_error() -> None:
    with pytest.raises(PromptError, match="without any history and 5 fit"):
        prompter(length=5)(cases(1)[0])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (Template("{likes}"), "unknown field 'likes'; expected liked"),
        (Template("{title}"), "unknown field 'title'"),
        (Template("{history", item="x"), "write {{ for a brace"),
        (Template("{history}", item="{name}"), "unknown field 'name'; expected title"),
    ],
)
def test_a_wrong_template_is_an_error(template: Template, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompter(TOKENIZER, template, TITLES, 10)


def test_kinds_of_a_template() -> None:
    assert Template("{user_slot} {target_slot} {context_slot}").kinds() == {
        "user",
        "item",
        "context",
    }
    assert Template("{history}", item="{slot}", candidate="{title}").kinds() == {"item"}
    assert Template("{history}", item="{title}", candidate="{slot}").kinds() == set()
    assert Template("{candidates}", candidate="{slot}").kinds() == {"item"}


# ---- Yes and No ----------------------------------------------------------------------------------


def test_words_come_from_the_tokenizer() -> None:
    yes, no = word_ids(TOKENIZER)
    assert TOKENIZER.convert_ids_to_tokens([yes, no]) == ["Yes", "No"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(("Yes", "Xylophone"), "'Yes' 1, 'Xylophone'"), (("Yes", "Yes"), "one token for several")],
)
def test_words_of_several_tokens_or_the_same_are_an_error(
    words: tuple[str, str], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        word_ids(TOKENIZER, words)


# ---- injection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_vectors_that_are_the_embeddings_change_nothing(llm: Any, side: Any) -> None:
    """Slots filled with the embeddings of items' tokens = those tokens there, in padded batches."""
    table = llm.get_input_embeddings().weight
    projectors = Projectors({"item": 32}, 32, "llara")
    projectors.of["shared"] = torch.nn.Identity()
    model = Recommender(llm, Vectors({"item": table}), projectors)
    plain = [(3, 50, 9, 71), (8, 9), (60, 7, 8)]
    slotted = [(3, Slot("item", 50), 9, Slot("item", 71)), (Slot("item", 8), 9), (60, 7, 8)]
    both = [
        model(collate(prompts, [[]] * 3, [0] * 3, 0, side=side)).logits
        for prompts in (plain, slotted)
    ]
    real = collate(plain, [[]] * 3, [0] * 3, 0, side=side).mask.bool()
    torch.testing.assert_close(both[0][real], both[1][real])
    for row, ids in enumerate(plain):  # and padding does not count
        alone = llm(input_ids=torch.tensor([ids])).logits[0]
        torch.testing.assert_close(both[1][row][real[row]], alone, atol=1e-5, rtol=1e-4)


def test_a_slot_is_overwritten_whatever_id_stands_there() -> None:
    embeddings, positions = torch.zeros(2, 3, 4), torch.zeros(2, 3).bool()
    positions[0, 2] = positions[1, 0] = True
    vectors = torch.arange(8.0).view(2, 4).requires_grad_()
    written = inject(embeddings.requires_grad_(), positions, vectors)
    assert written[0, 2].tolist() == [0, 1, 2, 3]
    assert written[1, 0].tolist() == [4, 5, 6, 7]
    assert written.sum() == 28
    written.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.eq(1).all()
    assert embeddings.grad is not None
    assert embeddings.grad.sum() == 16  # not at the marked positions


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 5)])
def test_vectors_that_do_not_fit_are_an_error(shape: tuple[int, int]) -> None:
    positions = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="expected 2 vectors of width 4"):
        inject(torch.zeros(1, 3, 4), positions, torch.zeros(shape))


def test_the_gradient_reaches_the_projector_and_nothing_frozen(llm: Any) -> None:
    llm.requires_grad_(False)
    vectors = Vectors(tables(4))
    model = Recommender(llm, vectors, Projectors(vectors.widths, 32, "collm"))
    prompt = prompter("{user_slot} {context_slot} {target_slot} {history}")
    batch = collate([prompt(c) for c in cases(4)], [[5]] * 4, [0] * 4, 0)
    model(batch).logits[:, -2].log_softmax(-1)[:, 5].sum().backward()
    found = {name.rsplit(".", 1)[0] for name in parts(model)}
    assert found == {f"projectors.of.{g}.{i}" for g in ("shared", "context") for i in (0, 2)}


def test_mixed_kinds_come_out_in_the_order_of_the_slots() -> None:
    vectors = Vectors(tables(4))
    projectors = Projectors(vectors.widths, 32, "llara")
    slots = [Slot("context", 1), Slot("item", 3), Slot("user", 2), Slot("context", 0)]
    together = projectors(slots, vectors)
    for i, slot in enumerate(slots):
        torch.testing.assert_close(together[i : i + 1], projectors([slot], vectors))


def test_projectors_need_one_width_where_they_are_shared() -> None:
    assert Projectors({"item": 4, "context": 9}, 8, "collm").of.keys() == {"shared", "context"}
    with pytest.raises(ValueError, match="need one width"):
        Projectors({"item": 4, "user": 5}, 8, "collm")


def test_collm_has_ten_times_the_width_inside_and_llara_the_hidden_size() -> None:
    sizes = {
        shape: [p.shape for p in Projectors({"item": 4}, 8, shape).of["shared"].parameters()]
        for shape in ("collm", "llara")
    }
    assert sizes["collm"] == [(40, 4), (40,), (8, 40), (8,)]
    assert sizes["llara"] == [(8, 4), (8,), (8, 8), (8,)]


# ---- vectors -------------------------------------------------------------------------------------


def test_an_unknown_user_or_item_reads_zeros() -> None:
    vectors = Vectors(tables(3))
    rows = vectors.rows("item", [2, UNKNOWN, 99])
    table = vectors.tables["item"]
    torch.testing.assert_close(rows[0], table[2])
    assert not rows[1:].any()


def test_controls() -> None:
    vectors = Vectors(tables(3))
    table = vectors.tables["item"]
    shuffled, zeroed = (
        vectors.controlled(c, seed=1).tables["item"] for c in ("shuffled", "zeroed")
    )
    assert not zeroed.any()
    assert not torch.equal(shuffled, table)
    torch.testing.assert_close(shuffled.sort(0).values, table.sort(0).values)
    assert torch.equal(vectors.controlled("none").tables["item"], table)


def test_shuffled_vectors_are_of_others_and_the_cold_stay_cold() -> None:
    table = torch.zeros(20, 3)
    table[::4] = torch.arange(1.0, 6)[:, None]
    shuffled = Vectors({"user": table}).controlled("shuffled", seed=1).tables["user"]
    assert torch.equal(shuffled.any(1), table.any(1))
    assert sorted(shuffled[::4, 0].tolist()) == [1, 2, 3, 4, 5]
    assert not torch.equal(shuffled, table)


@pytest.mark.parametrize(
    "table", [torch.zeros(0, 3), torch.zeros(3), torch.tensor([[float("nan")]])]
)
def test_a_table_that_is_empty_or_not_finite_is_an_error(table: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="finite matrix with a row or more"):
        Vectors({"item": table})


def test_a_kind_without_vectors_is_an_error() -> None:
    with pytest.raises(ValueError, match="asks for a context vector and the encoder gives item"):
        Vectors({"item": torch.zeros(1, 2)}).rows("context", [0])


@pytest.mark.parametrize("control", ["shuffled", "zeroed"])
def test_controls_change_scores_with_slots_and_leave_text_alone(llm: Any, control: Any) -> None:
    asked = cases(6)
    vectors = Vectors(tables(6))
    projectors = Projectors(vectors.widths, 32, "llara")
    words = word_ids(TOKENIZER)
    for text, same in ((ASK, True), (ASK + "{target_slot}", False)):
        prompts = [prompter(text)(case) for case in asked]
        scores = [
            yes_no(Recommender(llm, v, projectors), prompts, range(6), words, 0)
            for v in (vectors, vectors.controlled(control))
        ]
        assert torch.equal(*scores) is same


# ---- gates ---------------------------------------------------------------------------------------


def adapted(llm: Any, method: str = "lora", *, rank: int = 8, alpha: float = 16) -> Any:
    torch.manual_seed(1)
    llm.requires_grad_(False)
    model, _ = attach(llm, named(method), rank=rank, alpha=alpha)
    return model


def moved(model: Any) -> Any:
    """As if trained."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=draw))
    return model


def test_one_hot_gates_are_the_plain_lora_of_that_expert(ids: torch.Tensor) -> None:
    """s = α/(r/E): expert e alone is LoRA of rank r/E with the same α."""
    gated = moved(adapted(make_llama(64), alpha=expert_alpha(16, 4)))
    gates = Gates(4)
    gate_(gated, gates)
    plain = adapted(make_llama(64), rank=2)
    for expert in range(4):
        rows = slice(2 * expert, 2 * expert + 2)
        with torch.no_grad():
            for (_, mine), (_, theirs) in zip(lora_layers(gated), lora_layers(plain), strict=True):
                theirs.lora_A["default"].weight.copy_(mine.lora_A["default"].weight[rows])
                theirs.lora_B["default"].weight.copy_(mine.lora_B["default"].weight[:, rows])
            chosen_ = torch.eye(4)[expert].expand(3, 4)
            with gates.using(chosen_):
                got = gated(input_ids=ids).logits
            torch.testing.assert_close(got, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", "lora+", "loram", "loram-etf", "orthogonal"])
def test_equal_gates_are_the_adapter_itself(ids: torch.Tensor, method: str) -> None:
    """g = 1/E and s = α/(r/E): the adapter with s = α/r, also after training."""
    gated, gates = moved(adapted(make_llama(64), method, alpha=expert_alpha(16, 4))), Gates(4)
    gate_(gated, gates)
    plain = moved(adapted(make_llama(64), method))
    with gates.using(torch.full((3, 4), 0.25)), torch.no_grad():
        got = gated(input_ids=ids).logits
    torch.testing.assert_close(got, plain(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


def test_loram_under_any_gates_starts_at_the_base(ids: torch.Tensor) -> None:
    base = make_llama(64)(input_ids=ids).logits
    gated, gates = adapted(make_llama(64), "loram"), Gates(4)
    gate_(gated, gates)
    with gates.using(torch.rand(3, 4)):
        assert torch.equal(gated(input_ids=ids).logits, base)


def test_loram_under_gates_is_s_of_bda_less_its_start() -> None:
    """s(B D A − B⁰ D A⁰) written out, on one layer, for each example's own gates."""
    gated, gates = moved(adapted(make_llama(64), "loram")), Gates(4)
    gate_(gated, gates)
    _, layer = next(iter(lora_layers(gated)))
    anchor = layer.lora_basis["default"].anchor(
        layer.out_features, layer.in_features, 8, layer.weight
    )
    A0, B0 = anchor.A0, anchor.B0
    A, B = A0 + layer.lora_A["default"].weight, B0 + layer.lora_B["default"].weight
    x, g = torch.randn(3, 5, 32), torch.rand(3, 4)
    with gates.using(g), torch.no_grad():
        got = layer(x) - layer.base_layer(x)
        for i in range(3):
            D = torch.diag(g[i].repeat_interleave(2))
            update = layer.scaling["default"] * (B @ D @ A - B0 @ D @ A0)
            torch.testing.assert_close(got[i], x[i] @ update.T, atol=1e-5, rtol=1e-4)


def test_the_gradient_reaches_the_router_and_the_experts(ids: torch.Tensor) -> None:
    llm, gates = moved(adapted(make_llama(64), "loram")), Gates(4)
    gate_(llm, gates)
    model = Recommender(llm, Vectors(tables(3)), None, Router(6, 4, "sequence"), gates)
    batch = collate([tuple(row) for row in ids.tolist()], [[]] * 3, range(3), 0)
    model(batch).logits.logsumexp(-1).sum().backward()
    found = parts(model)
    assert {"router.linear.weight", "router.linear.bias"} < set(found)
    assert all("lora_" in name or "router" in name for name in found)
    assert gates._now is None  # nothing is left behind


def test_gates_are_asked_for_and_checked(ids: torch.Tensor) -> None:
    llm, gates = adapted(make_llama(64)), Gates(4)
    gate_(llm, gates)
    with pytest.raises(LoramError, match="without gates"):
        llm(input_ids=ids)
    with pytest.raises(LoramError, match="for 2 examples"), gates.using(torch.ones(2, 4)):
        llm(input_ids=ids)
    with pytest.raises(LoramError, match=r"shape \(batch, 4\)"), gates.using(torch.ones(3, 5)):
        pass
    for safe in (True, False):
        with pytest.raises(LoramError, match="can't be merged"):
            llm.merge_and_unload(safe_merge=safe)


@pytest.mark.parametrize(
    ("method", "rank", "message"),
    [("lora", 6, "can't be cut into 4"), ("loram-residual", 8, "got ResidualVariant")],
)
def test_what_can_not_be_gated_is_refused(method: str, rank: int, message: str) -> None:
    with pytest.raises(LoramError, match=message):
        gate_(adapted(make_llama(64), method, rank=rank), Gates(4))


def test_a_model_without_an_adapter_can_not_be_gated() -> None:
    with pytest.raises(LoramError, match="nothing to gate"):
        gate_(make_llama(64), Gates(4), adapter="default")


# ---- schedule ------------------------------------------------------------------------------------


def test_the_curriculum_draws_hybrid_prompts_with_probability_tau_over_t() -> None:
    total = 50
    drawn = [
        sum(is_hybrid("curriculum", step, total, seed=seed) for seed in range(400)) / 400
        for step in range(total)
    ]
    assert drawn[0] == 0
    for step, part in enumerate(drawn):  # four standard errors
        assert abs(part - step / total) < 0.1
    again = [is_hybrid("curriculum", s, total, seed=3) for s in range(total)]
    assert again == [is_hybrid("curriculum", s, total, seed=3) for s in range(total)]
    assert is_hybrid("hybrid", 0, total, seed=0)
    assert not is_hybrid("text", 49, total, seed=0)


def test_an_order_is_a_permutation_of_seed_and_epoch() -> None:
    assert sorted(order(9, 0, seed=0)) == list(range(9))
    assert order(9, 0, seed=0) == order(9, 0, seed=0)
    assert order(9, 0, seed=0) != order(9, 1, seed=0) != order(9, 1, seed=1)


def test_a_stage_that_trains_the_projector_on_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no gradient from text prompts"):
        Stage(trains=("adapter", "projector"))
    assert Stage(epochs=3).steps(10, 4) == 9
    assert Stage(epochs=3, max_steps=5).steps(10, 4) == 5


# ---- scoring -------------------------------------------------------------------------------------


@pytest.fixture
def model(llm: Any) -> Recommender:
    vectors = Vectors(tables(12))
    return Recommender(llm, vectors, Projectors(vectors.widths, 32, "llara"))


def gated_model() -> Recommender:
    llm, gates = moved(adapted(make_llama(len(TOKENIZER)))), Gates(4)
    gate_(llm, gates)
    vectors = Vectors(tables(12))
    projectors = Projectors(vectors.widths, 32, "llara")
    return Recommender(llm, vectors, projectors, Router(6, 4, "sequence"), gates)


def naive_words(model: Recommender, prompt: Any, row: int, words: Any) -> torch.Tensor:
    batch = collate([prompt], [[]], [row], 0)
    with torch.no_grad():
        return model(batch).logits[0, -1, list(words)]


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_yes_no_is_that_of_each_prompt_alone(model: Recommender, batch_size: int) -> None:
    prompts = [prompter(ASK + " {user_slot}{target_slot}")(case) for case in cases(12)]
    words = word_ids(TOKENIZER)
    alone = torch.stack([naive_words(model, p, i, words) for i, p in enumerate(prompts)])
    done: list[int] = []
    for cached in (True, False):
        got = yes_no(
            model,
            prompts,
            range(12),
            words,
            0,
            batch_size=batch_size,
            cached=cached,
            progress=done.append,
        )
        torch.testing.assert_close(got, alone, atol=1e-4, rtol=0)
    assert sum(done) == 24
    assert shared_prefix(prompts) >= 4  # there was something to share


def test_yes_no_under_gates_is_that_of_each_prompt_alone() -> None:
    model = gated_model()
    prompts = [prompter()(case) for case in cases(12)]
    words = word_ids(TOKENIZER)
    alone = torch.stack([naive_words(model, p, i, words) for i, p in enumerate(prompts)])
    torch.testing.assert_close(
        yes_no(model, prompts, range(12), words, 0, batch_size=5), alone, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("gated", [False, True])
def test_likelihoods_are_the_sums_of_log_probabilities(model: Recommender, gated: bool) -> None:
    model = gated_model() if gated else model
    case = cases(12, candidates=8)[5]
    prompt = prompter("{history} {user_slot} of {candidates}?", candidate="{title} {slot}")(case)
    ends = [TOKENIZER.eos_token_id]
    answers = [TOKENIZER(TITLES[i]).input_ids + ends for i in case.candidates]
    answers.append(answers[2])
    expected: list[float] = []
    for answer in answers:
        with torch.no_grad():
            logits = model(collate([prompt], [answer], [5], 0)).logits[0].log_softmax(-1)
        first = len(prompt) - 1
        expected.append(sum(float(logits[first + k, token]) for k, token in enumerate(answer)))
    for cached in (True, False):
        for batch_size in (3, 32):
            got = log_likelihoods(
                model, prompt, 5, answers, 0, batch_size=batch_size, cached=cached
            )
            torch.testing.assert_close(got, torch.tensor(expected), atol=1e-4, rtol=0)
    assert got[-1] == pytest.approx(float(got[2]), abs=1e-4)


def test_the_head_gets_the_last_positions_without_gaps(model: Recommender) -> None:
    """torch's linear copies the weight once an example for a view of them."""
    seen: list[tuple[bool, int]] = []
    head = model.llm.get_output_embeddings()
    head.register_forward_hook(
        lambda _m, args, _o: seen.append((args[0].is_contiguous(), len(args[0])))
    )
    batch = collate([[3] * 6, [4] * 5], [[]] * 2, [0, 1], 0)
    model(batch, keep=2)
    assert seen == [(True, 2)]


def test_scoring_leaves_the_model_in_its_mode(model: Recommender) -> None:
    prompts = [prompter()(case) for case in cases(2)]
    for training in (True, False):
        model.train(training)
        yes_no(model, prompts, range(2), word_ids(TOKENIZER), 0)
        log_likelihoods(model, prompts[0], 0, [[3], [4, 5]], 0)
        assert model.training is training


def test_shared_prefix_leaves_a_token_of_each() -> None:
    slot = Slot("user", 1)
    assert shared_prefix([(1, slot, 3), (1, slot, 4)]) == 2
    assert shared_prefix([(1, slot, 3), (1, Slot("user", 2), 3)]) == 1
    assert shared_prefix([(1, 2, 3)] * 2) == 2
    assert shared_prefix([(1,), (1, 2)]) == 0


# ---- written answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Alien", 0),
        (" aliens. ", 1),
        ('"Heat" (1995)', 2),
        ("I think Aliens", 1),
        ("Alien, Heat", None),
        ("Up", None),
        ("", None),
    ],
)
def test_an_answer_names_one_candidate_or_none(answer: str, expected: int | None) -> None:
    assert chosen(answer, ["Alien", "Aliens", "Heat"]) == expected


def test_correct_is_of_all_answers_not_of_the_valid_ones() -> None:
    titles = [["A1", "B2"]] * 4
    assert judge(["A1", "B2", "none", "?"], titles, [0, 0, 0, 0]) == (0.5, 0.25)


def test_greedy_answers_are_those_of_each_prompt_alone() -> None:
    model = gated_model()
    prompts = [prompter(ASK + "{target_slot}")(case) for case in cases(5)]
    together = write(model, TOKENIZER, prompts, range(5), max_new_tokens=4, batch_size=3)
    alone = [write(model, TOKENIZER, [p], [i], max_new_tokens=4)[0] for i, p in enumerate(prompts)]
    assert together == alone
    assert len(set(together)) > 1


# ---- the model's window --------------------------------------------------------------------------


def test_a_prompt_leaves_room_for_its_answer_in_the_window() -> None:
    settings = read_yaml("tallrec-small")
    alone = Writer(settings, TOKENIZER, TITLES)
    case = max(cases(12), key=lambda each: len(alone(each).text))
    whole = alone(case)
    window = len(whole.text) + len(whole.answer)
    assert Writer(settings, TOKENIZER, TITLES, window)(case) == whole
    cut = Writer(settings, TOKENIZER, TITLES, window - 1)(case)
    assert len(cut.text) + len(cut.answer) < window


def test_the_window_is_the_models() -> None:
    assert window_of(make_gpt2(8)) == window_of(make_llama(8)) == 1024
