import pickle

import pytest
import torch

from asrgan.errors import UserError
from asrgan.inference.memory import MemoryBudgetError, as_text, held_bytes, parse_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GiB", 4 * 2**30),
        ("1.5 GB", 1_500_000_000),
        ("500mib", 500 * 2**20),
        ("4294967296", 2**32),
        (77, 77),
        (None, None),
    ],
)
def test_amounts_are_read(text: str | int | None, expected: int | None):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "4 gigabytes", "-1GiB", "0", "GiB", "1e9", 0, True])
def test_what_is_no_amount_is_refused(text: str | int):
    with pytest.raises(UserError, match="must be an amount like 4GiB"):
        parse_memory(text)


@pytest.mark.parametrize("num_bytes", [1, 2**20, 2**20 + 1, 3 * 2**30, 3 * 10**9])
def test_an_amount_as_text_is_enough(num_bytes: int):
    read = parse_memory(as_text(num_bytes))
    assert read is not None
    assert num_bytes <= read < num_bytes + 2**20


def test_what_a_process_holds_grows_with_what_it_touches():
    cpu = torch.device("cpu")
    before = held_bytes(cpu)
    tensor = torch.ones(50 * 2**20, dtype=torch.uint8)
    assert held_bytes(cpu) - before > 45 * 2**20
    del tensor
    assert held_bytes(cpu) - before < 5 * 2**20


def test_a_budgets_error_reaches_another_process():
    error = pickle.loads(pickle.dumps(MemoryBudgetError("too little", needed_bytes=7)))
    assert (str(error), error.needed_bytes) == ("too little", 7)
