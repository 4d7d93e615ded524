"""Decimal text as exact integers.

Exchanges send prices and sizes as text so that nobody rounds them. Going through a double would; going
through ``decimal`` or an Arrow cast costs 0.5 to 0.8 µs a number, more than the book takes to apply it.
"""

import numpy as np

cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cnp.import_array()

cdef enum:
    DIGITS_MAX = 19         # nor can a uint64 overflow with so many
    SCALE_MAX = 18
    EXPONENT_MAX = 1_000    # beyond, a number of ours is damage; and the sums below cannot overflow
    LENGTH_MAX = 1_000
    DIGIT_ZERO = 48         # "0"

DECIMALS_MAX = SCALE_MAX


cdef bint scale_text(const char* text, Py_ssize_t size, int decimals, int64_t* out) noexcept nogil:
    """Write the number times 10**decimals; False unless it is a number and that is a whole int64."""
    cdef Py_ssize_t at = 0
    cdef uint64_t mantissa = 0
    # Zeros are held back until a digit follows, so trailing ones cost no precision.
    cdef int significant = 0, zeros = 0, fraction = 0, digits = 0, exponent = 0, exponent_digits = 0, power
    cdef bint negative = False, after_point = False, exponent_negative = False
    cdef char symbol
    if size > LENGTH_MAX:
        return False
    if at < size and (text[at] == b"-" or text[at] == b"+"):
        negative = text[at] == b"-"
        at += 1
    while at < size:
        symbol = text[at]
        if symbol == b"." and not after_point:
            after_point = True
        elif b"0" <= symbol <= b"9":
            digits += 1
            fraction += after_point
            if symbol == b"0":
                zeros += significant > 0
            else:
                significant += zeros + 1
                if significant > DIGITS_MAX:
                    return False
                while zeros:
                    mantissa *= 10
                    zeros -= 1
                mantissa = mantissa * 10 + (symbol - DIGIT_ZERO)
        else:
            break
        at += 1
    if digits == 0:
        return False
    if at < size and (text[at] == b"e" or text[at] == b"E"):
        at += 1
        if at < size and (text[at] == b"-" or text[at] == b"+"):
            exponent_negative = text[at] == b"-"
            at += 1
        while at < size and b"0" <= text[at] <= b"9" and exponent < EXPONENT_MAX:
            exponent = exponent * 10 + (text[at] - DIGIT_ZERO)
            exponent_digits += 1
            at += 1
        if exponent_digits == 0:
            return False
    if at != size:
        return False
    if mantissa == 0:
        out[0] = 0
        return True
    power = decimals + zeros - fraction + (-exponent if exponent_negative else exponent)
    if power < 0 or significant + power > DIGITS_MAX:
        return False
    while power:
        mantissa *= 10
        power -= 1
    if mantissa > <uint64_t>INT64_MAX:
        return False
    out[0] = -<int64_t>mantissa if negative else <int64_t>mantissa
    return True


def decimal_units(list texts not None, int decimals):
    """Return texts as integers of 10**-decimals, exactly.

    Parameters
    ----------
    texts : list of str
        Digits with perhaps a sign, a point and an exponent.
    decimals : int
        0 to 18.

    Returns
    -------
    units : array of int64, shape (n,)
    good : int
        Texts converted: n, or the position of the first that is no such number, lies between two units, or
        does not fit an int64.
    """
    cdef Py_ssize_t count = PyList_GET_SIZE(texts), position, size = 0
    cdef const char* text
    cdef object item
    if not 0 <= decimals <= SCALE_MAX:
        raise ValueError(f"decimals must be 0 to {SCALE_MAX}, was {decimals}")
    units = np.zeros(count, np.int64)
    cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(units)
    for position in range(count):
        item = <object>PyList_GET_ITEM(texts, position)
        if not PyUnicode_Check(item):
            raise TypeError(f"texts must hold str, was {type(item).__name__} at {position}")
        try:
            text = PyUnicode_AsUTF8AndSize(item, &size)
        except UnicodeEncodeError:      # half of a surrogate pair is no digit
            return units, position
        if not scale_text(text, size, decimals, &out[position]):
            return units, position
    return units, count


def first_bad_pair(
    pairs not None, int price_decimals, int64_t price_max, int size_decimals, int64_t size_max
):
    """Return the place of the first pair that no event can hold, -1 where all can be held.

    Parameters
    ----------
    pairs : sequence of (price, size) as str
    price_decimals, size_decimals : int
        0 to 18.
    price_max, size_max : int
        Most units of 10**-decimals, prices of either sign; sizes are from 0 up.
    """
    cdef Py_ssize_t place = 0, length = 0
    cdef int64_t units = 0
    cdef const char* text
    if not (0 <= price_decimals <= SCALE_MAX and 0 <= size_decimals <= SCALE_MAX):
        raise ValueError(f"decimals must be 0 to {SCALE_MAX}, was {price_decimals} and {size_decimals}")
    for price, size in pairs:
        if not PyUnicode_Check(price) or not PyUnicode_Check(size):
            raise TypeError(f"pairs must hold str, was {type(price).__name__} and {type(size).__name__}")
        try:
            text = PyUnicode_AsUTF8AndSize(price, &length)
            if not scale_text(text, length, price_decimals, &units) or not -price_max <= units <= price_max:
                return place
            text = PyUnicode_AsUTF8AndSize(size, &length)
        except UnicodeEncodeError:
            return place
        if not scale_text(text, length, size_decimals, &units) or not 0 <= units <= size_max:
            return place
        place += 1
    return -1
