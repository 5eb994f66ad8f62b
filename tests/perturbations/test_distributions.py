import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsafe.errors import UnknownNameError, UserError
from failsafe.perturbations.distributions import Choice, Normal, Uniform, parse_distribution

kinds = st.sampled_from(["uniform", "normal", "choice"])
some_numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6)


def make(kind, numbers):
    if kind == "uniform":
        return Uniform(min(numbers), max(numbers))
    return Normal(numbers[0], abs(numbers[1]) + 1e-3) if kind == "normal" else Choice(tuple(numbers))


@pytest.mark.parametrize(
    ("distribution", "share", "expected"),
    [
        (Uniform(2.0, 6.0), 0.0, 2.0),
        (Uniform(2.0, 6.0), 0.25, 3.0),
        (Uniform(2.0, 6.0), 1.0, 6.0),
        (Uniform(-1.0, -1.0), 0.7, -1.0),
        # the standard normal: 0 at a half, 0.6745 at three quarters, 1.2816 at nine tenths
        (Normal(5.0, 2.0), 0.5, 5.0),
        (Normal(5.0, 2.0), 0.75, 5.0 + 2 * 0.67449),
        (Normal(5.0, 2.0), 0.1, 5.0 - 2 * 1.28155),
        (Normal(0.0, 1.0), 1.0, 2.99998),  # cut off at three standard deviations
        (Normal(0.0, 1.0), 0.0, -2.99998),
        # quarters of [0, 1): 1, 3, 5, 7, whatever the order in which they are given
        (Choice((7.0, 1.0, 5.0, 3.0)), 0.0, 1.0),
        (Choice((7.0, 1.0, 5.0, 3.0)), 0.2499, 1.0),
        (Choice((7.0, 1.0, 5.0, 3.0)), 0.25, 3.0),
        (Choice((7.0, 1.0, 5.0, 3.0)), 0.6, 5.0),
        (Choice((7.0, 1.0, 5.0, 3.0)), 1.0, 7.0),
        (Choice((4.0,)), 0.9, 4.0),
    ],
)
def test_quantiles(distribution, share, expected):
    assert distribution.quantile(share) == pytest.approx(expected, abs=1e-4)


@given(kinds, some_numbers, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quantiles_never_fall(kind, numbers, one, other):
    distribution, (low, high) = make(kind, numbers), sorted((one, other))
    assert distribution.quantile(low) <= distribution.quantile(high)


@given(kinds, some_numbers)
def test_what_is_written_is_read_back(kind, numbers):
    distribution = make(kind, numbers)
    assert parse_distribution(distribution.to_plain(), "here") == distribution


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"uniform": [0.02, 0.1]}, Uniform(0.02, 0.1)),
        ({"uniform": [1, 2]}, Uniform(1.0, 2.0)),
        ({"normal": [0.05, 0.01]}, Normal(0.05, 0.01)),
        ({"choice": [3, 1]}, Choice((3.0, 1.0))),
        ({"choice": 3}, Choice((3.0,))),
        (0.05, Choice((0.05,))),
        (8, Choice((8.0,))),
    ],
)
def test_a_configuration_file_has_it_so(data, expected):
    assert parse_distribution(data, "here") == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("0.05", "modes.slip.magnitude: expected a finite number or one of uniform, normal, choice"),
        (True, "modes.slip.magnitude: expected a finite number or one of"),
        (None, "modes.slip.magnitude: expected a finite number or one of"),
        ([0.1, 0.2], r"modes.slip.magnitude: expected a finite number or one of .* got \[0.1, 0.2\]"),
        ({}, "modes.slip.magnitude: expected a finite number or one of"),
        ({"uniform": [0, 1], "normal": [0, 1]}, "modes.slip.magnitude: expected a finite number or one of"),
        ({"uniform": [1.0]}, "modes.slip.magnitude.uniform: expected 2 numbers, got 1"),
        ({"normal": [0.0, 1.0, 2.0]}, "modes.slip.magnitude.normal: expected 2 numbers, got 3"),
        (
            {"uniform": ["a", "b"]},
            r"modes.slip.magnitude.uniform: expected a list of finite numbers, got \['a', 'b'\]",
        ),
        ({"choice": [True]}, "modes.slip.magnitude.choice: expected a list of finite numbers"),
        ({"choice": []}, r"modes.slip.magnitude: a choice needs at least one finite number, got \[\]"),
        (
            {"uniform": [2, 1]},
            r"modes.slip.magnitude: a uniform distribution needs low <= high, got \[2.0, 1.0\]",
        ),
        ({"uniform": [0, float("inf")]}, "expected a list of finite numbers"),
        ({"uniform": [float("nan"), 1]}, "expected a list of finite numbers"),
        ({"normal": [0, 0]}, r"a normal distribution needs std > 0, got \[0.0, 0.0\]"),
        ({"normal": [float("nan"), 1]}, "expected a list of finite numbers"),
        ({"normal": [0, float("inf")]}, "expected a list of finite numbers"),
        ({"choice": [float("nan")]}, "expected a list of finite numbers"),
        (float("inf"), "modes.slip.magnitude: expected a finite number or one of"),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(UserError, match=message):
        parse_distribution(data, "modes.slip.magnitude")


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        parse_distribution({"unifrom": [0, 1]}, "modes.slip.moment")
    assert str(caught.value) == (
        "unknown distribution at modes.slip.moment 'unifrom': did you mean 'uniform'? "
        "There are: choice, normal, uniform."
    )
