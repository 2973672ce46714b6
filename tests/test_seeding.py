import contextlib

import torch

from workbench.seeding import mixed, seeded

CPU = torch.device("cpu")


def test_what_is_drawn_depends_on_the_seed_alone_and_leaves_the_generator_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    with seeded(7, CPU):
        first = torch.rand(4)
    assert torch.equal(torch.rand(5), expected)
    torch.manual_seed(99)
    with seeded(7):
        assert torch.equal(torch.rand(4), first)


def test_it_draws_as_torch_does_after_manual_seed():
    with seeded(7, CPU):
        drawn = torch.nn.functional.dropout(torch.ones(100)), torch.randn(3), torch.randperm(9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        theirs = torch.nn.functional.dropout(torch.ones(100)), torch.randn(3), torch.randperm(9)
    assert all(torch.equal(mine, other) for mine, other in zip(drawn, theirs, strict=True))


def test_the_generator_is_put_back_after_an_error_and_one_block_fits_in_another():
    before = torch.get_rng_state()
    with seeded(1, CPU):
        first = torch.rand(3)
        with contextlib.suppress(ZeroDivisionError), seeded(2, CPU):
            torch.rand(3)
            _ = 1 / 0
        rest = torch.rand(3)
    with seeded(1, CPU):
        assert torch.equal(torch.rand(6), torch.cat([first, rest]))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_of_other_streams_and_steps_differ():
    seeds = {mixed(seed, index, stream=stream) for seed in (0, 1) for index in range(9) for stream in ("a", "b")}
    assert len(seeds) == 2 * 9 * 2
