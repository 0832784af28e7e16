"""What tests/benchmarks computes by itself; the benchmarks are run by hand."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "a model"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    return importlib.import_module


def run_of(start_up, seconds, loss):
    memory = {"Pss": 100.4, "Pss_Anon": 50.2, "processes": 3}
    return {"start_up": start_up, "seconds": seconds, "in_steps": [s / 2 for s in seconds], "loss": loss, **memory}


def whole_rounds(flower=True):
    loss = [{0: 0.7, 5: 0.6}, {1: 0.5}]
    ours, theirs = run_of(1.0, [2.0, 4.0, 2.0], loss), run_of(9.0, [6.0, 5.0, 6.0], loss)
    reason = None if flower else "no index"
    return {"ours": [ours], "flower": [theirs] if flower else [], "missing": reason, "loss_difference": 1e-6}


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


# Random123's known answers, kat_vectors of threefry4x64 with 20 rounds.
@pytest.mark.parametrize(
    ("key", "counter", "answer"),
    [
        ((0,) * 4, (0,) * 4, (0x09218EBDE6C85537, 0x55941F5266D86105, 0x4BD25E16282434DC, 0xEE29EC846BD2E40B)),
        (
            (0x452821E638D01377, 0xBE5466CF34E90C6C, 0xBE5466CF34E90C6C, 0xC0AC29B7C97C50DD),
            (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0xA7E8FDE591651BD9, 0xBAAFD0C30138319B, 0x84A5C1A729E685B9, 0x901D406CCEBC1BA4),
        ),
    ],
)
def test_threefry_answers_the_published_vectors(load, key, counter, answer):
    assert load("draws").threefry(key, counter) == answer


def test_draws_are_those_of_the_program(load):
    draws = load("draws")
    # took_part of a run with --seed 1 --clients 100 --clients-per-round 20, round 3.
    cohort = [0, 2, 16, 19, 25, 27, 28, 34, 38, 40, 43, 46, 52, 54, 67, 69, 73, 77, 78, 92]
    assert draws.cohort(1, 3, 100, 20) == cohort
    rows = list(range(100, 120))
    assert draws.batch(1, 7, 2, 0, rows, 20) == rows
    batches = [draws.batch(1, 7, 2, step, rows, 16) for step in range(10)]
    assert all(batch == sorted(set(batch)) and len(batch) == 16 and set(batch) <= set(rows) for batch in batches)
    assert len({tuple(batch) for batch in batches}) > 5


def test_family_holds_descendants_alone(load):
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20}
    assert load("rounds").family(parents, 10) == {10, 11, 12, 13}


def test_losses_are_compared_client_by_client(load):
    rounds = load("rounds")
    ours = [{0: 0.5, 1: 0.25}, {2: 1.0}, {3: 1.0}]
    assert rounds.loss_difference([{1: 0.25, 0: 0.5}, {2: 1.5}, {3: 9.0}], ours) == 0.5  # two rounds count
    with pytest.raises(KeyError):
        rounds.loss_difference([{0: 0.5}], ours)


def test_products_of_a_step_are_counted_matrix_by_matrix(load, tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 3, "intermediate_size": 5, "num_hidden_layers": 2}')
    tokens, examples = 7, 2
    square, wide = 2 * 3 * 3, 2 * 3 * 5  # of a row
    lower = tokens * (4 * square + 2 * wide) + tokens * (square + 2 * wide)  # back: attention's output and the MLP
    last = 2 * examples * (4 * square + 2 * wide)
    assert load("core_rate").flop(tmp_path, tokens, examples) == lower + last


def test_share_of_the_core_is_over_the_faster_product_of_each_shape(load):
    core_rate = load("core_rate")
    shapes = [(2, 2), (2, 4), (4, 2)]
    products = [{"in": i, "out": o, "ours": 8.0, "torch": 4.0} for i, o in shapes]
    products[0] = {"in": 2, "out": 2, "ours": 2.0, "torch": 4.0}
    assert core_rate.best_rate(products) == 32 / (16 / 4 + 16 / 8)
    blocks = [{"flop": 32.0, "products": products}] * 3
    plain = [[4.0, 4.0], [3.0, 5.0], [6.0, 6.0]]
    assert core_rate.shares(blocks, plain) == [0.75, 0.75, 0.5]
    assert core_rate.line(MODEL, blocks, plain, 0.75)[1] and not core_rate.line(MODEL, blocks, plain, 0.8)[1]
    run = load("run")
    results = {MODEL: {"products": blocks, "seconds": {f"{run.HOMLORA} 1": plain}}}
    (text,), met = run.core_lines(results)
    assert met and "75% (50 to 75)" in text and "target" not in text


def test_forecast_is_the_busiest_rank_and_an_all_reduce_that_doubles_with_ranks(load):
    scale = load("scale")
    page = """
  all-reduce of a round                  0.12 ms

  on ranks  local steps of a round  rounds 1 to 2  ranks busy
  1                     5 min 11 s    11 min 20 s      100.0%
  2                     2 min 36 s     5 min 41 s      100.0%
  1,024                     389 ms        1.52 s       78.0%
  More ranks than groups of clients in a round have nothing to do; a smaller --lockstep makes more groups.

Partition iid
  0          16     1        2                 0.69               56.2
"""
    found = list(scale.forecast(page))
    assert [row[0] for row in found] == [1, 2, 1024]
    local = 311 / (1024 * 0.78)
    assert [row[1] for row in found] == pytest.approx([311, 155.5, local])
    assert found[2][2] == pytest.approx(1.2e-3) and found[2][4] == pytest.approx(311 / (local + 1.2e-3))
    assert cells(scale.forecast_table(page)[-1]) == ["1024", "0.389", "1.2", "78.0%", "796"]


def test_rounds_are_rows_of_the_tables(load):
    run = load("run")
    lines, met = run.step_table({MODEL: {"rounds": whole_rounds()}})
    ours, flower = map(cells, lines[2:])
    assert met and len(ours) == len(flower) == len(cells(lines[0]))
    assert ours[:4] == [MODEL, "homlora, whole rounds", "20", "10.0"]  # 2 s, 20 clients, 10 steps
    assert flower[:4] == [MODEL, "Flower, whole rounds", "20", "30.0"]
    assert flower[5] == "3.00 (3.00 to 3.00)"
    lines = run.fresh_table({MODEL: {"rounds": whole_rounds()}})
    assert cells(lines[-1]) == [MODEL, "Flower, first round", "9.00 (9.00 to 9.00)", "100", "50"]
    (line,) = run.loss_lines({MODEL: {"rounds": whole_rounds()}}, 0)
    assert "3 processes" in line and "50% of a round" in line


def test_tables_say_where_flower_is_missing(load):
    run = load("run")
    results = {MODEL: {"rounds": whole_rounds(flower=False)}}
    for lines in (run.step_table(results)[0], run.fresh_table(results)):
        assert len(cells(lines[-1])) == len(cells(lines[0])) and "not available" in lines[-1]
    assert run.loss_lines(results, 0) == [f"{MODEL}: no Flower: no index"]


def test_the_reason_of_a_failure_is_one_line(load):
    reason = load("rounds").why_not("Collecting flwr\nERROR: No matching | distribution\n[notice] a new pip\n\n")
    assert reason == "ERROR: No matching / distribution"


@pytest.mark.parametrize("text, expected", [("605 ms", 0.605), ("5.4 s", 5.4), ("1 min 09 s", 69), ("2 h 5 min", 7500)])
def test_times_of_a_dry_run_are_read_as_the_program_writes_them(load, text, expected):
    pytest.importorskip("transformers")
    assert load("full_size").seconds(text) == pytest.approx(expected)
