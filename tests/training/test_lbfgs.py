"""The minimum is the one that algebra or SciPy finds, with about as many calls as SciPy's L-BFGS."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

from keras_cnn.training.lbfgs import minimise


def counted(function):
    def called(point):
        called.times += 1
        return function(point)

    called.times = 0
    return called


def quadratic(condition, size=60):
    """x'Ax / 2 - b'x, whose minimum solves Ax = b, with eigenvalues from 1 to `condition`."""
    random = np.random.default_rng(0)
    axes, _ = np.linalg.qr(random.normal(size=(size, size)))
    matrix, vector = (axes * np.geomspace(1, condition, size)) @ axes.T, random.normal(size=size)
    return counted(lambda x: (x @ matrix @ x / 2 - vector @ x, matrix @ x - vector)), np.linalg.solve(matrix, vector)


@pytest.mark.parametrize("condition", [1, 100, 1000])
def test_a_quadratic(condition):
    function, solution = quadratic(condition)
    found = minimise(function, np.zeros(60), 1e-9)
    np.testing.assert_allclose(found, solution, atol=3e-4)
    ours, function.times = function.times, 0
    optimize.minimize(function, np.zeros(60), jac=True, method="L-BFGS-B", options={"ftol": 1e-9})
    assert ours <= 1.1 * function.times + 2


def softplus(x):
    """The mean of log(1 + exp(a x)) over random a, and x'x / 100: as smooth as the loss of a head, and as little quadratic."""
    rows = np.random.default_rng(1).normal(size=(200, 20)) * 4 + 1
    scores = expit(rows @ x)
    return np.logaddexp(0, rows @ x).sum() / 200 + x @ x / 100, rows.T @ scores / 200 + x / 50


def test_a_function_that_is_not_quadratic():
    best = optimize.minimize(softplus, np.full(20, 3.0), jac=True, method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(minimise(softplus, np.full(20, 3.0), 1e-12), best.x, atol=1e-4)


def test_in_single_precision_it_stays_there_and_ends_at_rounding():
    function, solution = quadratic(100)
    single = counted(lambda x: tuple(np.float32(value) for value in function(x)))
    found = minimise(single, np.zeros(60, "float32"), 0.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, solution, atol=2e-3)
    assert single.times < 200


def test_at_the_minimum_it_stays():
    function, solution = quadratic(100)
    np.testing.assert_allclose(minimise(function, solution, 1e-9), solution, rtol=1e-12)
    assert function.times <= 60


def test_a_step_that_leads_uphill_is_halved():
    """The first one, of length 1, is a hundred times too long: what is seen next lies halfway."""
    visited = []

    def function(x):
        visited.append(x)
        return 1e6 * (x**4).sum(), 4e6 * x**3

    found = minimise(function, np.array([0.01, 0.02]), 1e-15)
    assert np.linalg.norm(visited[1] - visited[0]) == pytest.approx(1)
    np.testing.assert_allclose(visited[2], (visited[0] + visited[1]) / 2)
    assert np.abs(found).max() < 1e-3


def test_without_a_slope_it_stays():
    np.testing.assert_array_equal(minimise(lambda x: (x @ x, 2 * x), np.zeros(3), 1e-9), np.zeros(3))
