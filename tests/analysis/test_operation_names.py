"""Operations are known by the names of their classes, which are not public: a new Keras may rename them."""

import keras

from keras_cnn.analysis.fields import op_rules


def subclasses(cls):
    for one in cls.__subclasses__():
        yield one
        yield from subclasses(one)


def test_keras_still_has_each_operation_that_has_a_rule():
    names = {one.__name__ for one in subclasses(keras.Operation) if one.__module__.startswith("keras.")}
    known = (
        op_rules.ELEMENTWISE | op_rules.REDUCTIONS | op_rules.STATISTICS | op_rules.RESHAPES | set(op_rules.OTHER_RULES)
    )
    assert known - names == set(), f"Keras {keras.__version__} has no such operations"
