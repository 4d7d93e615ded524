"""What a condition nearly always is, said to the compiler.

What stands behind the other answer is left out of line and is not inlined, so that it takes no registers from
the path around it.
"""

cdef extern from *:
    """
    #define anytick_likely(condition) __builtin_expect_with_probability(!!(condition), 1, 1.0)
    #define anytick_unlikely(condition) __builtin_expect_with_probability(!!(condition), 0, 1.0)
    """
    bint likely "anytick_likely"(bint condition) noexcept nogil
    bint unlikely "anytick_unlikely"(bint condition) noexcept nogil
