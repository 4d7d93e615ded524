"""A small network as a list of compiled steps.

Built once, step by step, from shapes and constants (engine/inference/dense.py reads them from ONNX
files), then run without allocating, locking or entering the interpreter. Every step owns its result
and nothing is reused, so that after a run each of them can be looked at (`trace`).

Over 400 lines because each of the eighteen kinds of step has its own checked way in, and all of them
append to one table of tensors and steps.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

import numpy as np

cnp.import_array()

VARIANT_NAMES = ("portable", "avx2", "avx512", "avx512vnni")
assert len(VARIANT_NAMES) == DENSE_VARIANTS

_CACHE_LINE = 64
_ELEMENT_BYTES = (4, 1, 4)             # by DenseType
_ELEMENTS_MAX = 1 << 24                # of all tensors together, padding included


def variants():
    """Return the forms that this machine runs, slowest first."""
    return tuple(name for code, name in enumerate(VARIANT_NAMES) if dense_supported(code))


@cython.final
@cython.auto_pickle(False)
cdef class DenseKernel(SignalSource):
    """A network over one (rows, cols) matrix, at most a few thousand numbers, per call.

    Each building method appends a step and returns the number of its result; `finish` names the
    answer. A kernel is used by one thread at a time.

    Parameters
    ----------
    rows, cols : int
        Of the input, tensor 0; flat rows of features have ``rows`` 1.
    variant : str, optional
        One of `variants`; the last, fastest by default. All give the same bits.

    Examples
    --------
    >>> kernel = DenseKernel(1, 2)
    >>> weights = kernel.constant(np.array([[1, 0, 2], [0, 1, 2]], np.float32))
    >>> kernel.finish(kernel.softmax(kernel.matmul(0, weights)))
    >>> kernel.run(np.array([[0, 0]], np.float32)).round(3).tolist()
    [[0.333, 0.333, 0.333]]
    """

    def __cinit__(self, int rows, int cols, *, variant=None):
        name = variant or variants()[len(variants()) - 1]
        if name not in variants():
            raise ValueError(f"variant must be one of {', '.join(variants())}, was {name}")
        self.variant_code = VARIANT_NAMES.index(name)
        self.form = dense_form(self.variant_code)
        self.constants = []
        self.output = -1
        self.add_tensor(FLOATS, rows, cols)
        self.feature_count = rows * cols

    def __dealloc__(self):
        cdef int index
        for index in range(self.tensor_count):
            free(self.tensors[index].data)
            free(self.tensors[index].row_scale)
        free(self.tensors)
        free(self.steps)

    @property
    def variant(self):
        """Which form runs: one of `variants`."""
        return VARIANT_NAMES[self.variant_code]

    @property
    def output_shape(self):
        """Rows and columns of the answer."""
        self.require_finished()
        return self.shape(self.output)

    def shape(self, int tensor):
        """Return (rows, cols) of a tensor."""
        cdef DenseTensor* found = self.tensor(tensor)
        return (found.rows, found.cols)

    # Building.

    cdef int add_tensor(self, DenseType type, int64_t rows, int64_t cols) except -1:
        cdef DenseTensor* tensor
        cdef void* grown
        cdef int64_t elements_max = _ELEMENTS_MAX, elements
        if not (1 <= rows <= elements_max and 1 <= cols <= elements_max):
            raise ValueError(f"a tensor must hold 1 to {elements_max} numbers, was {rows} x {cols}")
        # A column of single numbers takes a row of lanes for each, and every step has a tensor of its own.
        elements = self.element_count + rows * dense_padded(<int32_t>cols)
        if elements > elements_max:
            raise ValueError(f"all tensors together must hold at most {elements_max} numbers, was {elements}")
        grown = realloc(self.tensors, (self.tensor_count + 1) * sizeof(DenseTensor))
        if grown == NULL:
            raise MemoryError
        self.tensors = <DenseTensor*>grown
        tensor = &self.tensors[self.tensor_count]
        memset(tensor, 0, sizeof(DenseTensor))
        tensor.type, tensor.rows, tensor.cols = type, <int32_t>rows, <int32_t>cols
        tensor.stride = dense_padded(<int32_t>cols)
        tensor.scale = 1.0
        tensor.data = zeros(<size_t>tensor.rows * tensor.stride * <size_t>_ELEMENT_BYTES[<int>type])
        self.element_count = elements
        self.tensor_count += 1
        return self.tensor_count - 1

    cdef DenseTensor* tensor(self, int index) except NULL:
        """Return a tensor of this kernel; the pointer is good until the next `add_tensor`."""
        if not 0 <= index < self.tensor_count:
            raise ValueError(f"a tensor must be one of {self.tensor_count}, was {index}")
        return &self.tensors[index]

    cdef DenseTensor* argument(self, int index, DenseType type) except NULL:
        cdef DenseTensor* found = self.tensor(index)
        if found.type != type:
            raise ValueError(f"tensor {index} must be of type {<int>type}, was {<int>found.type}")
        return found

    cdef DenseStep* add_step(self, int kind, int out) except NULL:
        """Append a step that writes `out`; the caller fills in the rest at once."""
        cdef DenseStep* step
        cdef void* grown
        if self.output >= 0:
            raise ValueError("a finished kernel takes no more steps")
        grown = realloc(self.steps, (self.step_count + 1) * sizeof(DenseStep))
        if grown == NULL:
            raise MemoryError
        self.steps = <DenseStep*>grown
        step = &self.steps[self.step_count]
        memset(step, 0, sizeof(DenseStep))
        step.kind, step.out = kind, self.tensors[out].data
        step.rows, step.cols = self.tensors[out].rows, self.tensors[out].cols
        step.out_stride = self.tensors[out].stride
        step.low = -INFINITY
        self.step_count += 1
        return step

    cdef int unary(self, int kind, int a, int64_t rows, int64_t cols, DenseType to=FLOATS) except -1:
        """Append a step from one tensor of floats."""
        self.argument(a, FLOATS)
        cdef int out = self.add_tensor(to, rows, cols)
        cdef DenseStep* step = self.add_step(kind, out)
        step.a, step.a_stride, step.inner = self.tensors[a].data, self.tensors[a].stride, self.tensors[a].cols
        return out

    cdef int same(self, int kind, int a) except -1:
        """Append a step that keeps the shape."""
        cdef DenseTensor* source = self.tensor(a)
        return self.unary(kind, a, source.rows, source.cols)

    cdef const float* floats_row(self, values, int cols) except NULL:
        """Return a padded copy of one row that lives as long as the kernel."""
        row = np.zeros(dense_padded(cols), np.float32)
        row[:cols] = np.broadcast_to(np.asarray(values, np.float32), (cols,))
        self.constants.append(row)
        return <const float*>cnp.PyArray_DATA(row)

    cdef const int32_t* integers_row(self, values, int cols) except NULL:
        row = np.zeros(dense_padded(cols), np.int32)
        row[:cols] = values
        self.constants.append(row)
        return <const int32_t*>cnp.PyArray_DATA(row)

    def constant(self, values):
        """Add a matrix of constants.

        Parameters
        ----------
        values : array of float32, shape (rows, cols)
        """
        cdef cnp.ndarray matrix = np.ascontiguousarray(values, np.float32)
        if matrix.ndim != 2:
            raise ValueError(f"a constant must be a matrix, was of shape {np.shape(values)}")
        cdef int out = self.add_tensor(FLOATS, matrix.shape[0], matrix.shape[1])
        fill(&self.tensors[out], <const float*>cnp.PyArray_DATA(matrix))
        return out

    def matmul(self, int a, int b, *, bias=0.0, bint relu=False):
        """Append ``a b + bias``, and the maximum of that and 0 if asked."""
        cdef DenseTensor* left = self.argument(a, FLOATS)
        cdef DenseTensor* right = self.argument(b, FLOATS)
        if left.cols != right.rows:
            raise ValueError(f"matmul must join equal lengths, was {self.shape(a)} by {self.shape(b)}")
        cdef int out = self.unary(DENSE_MATMUL, a, left.rows, right.cols)
        cdef DenseStep* step = &self.steps[self.step_count - 1]
        step.b, step.b_stride = self.tensors[b].data, self.tensors[b].stride
        step.bias = self.floats_row(bias, step.cols)
        step.low = 0.0 if relu else -INFINITY
        return out

    def binary(self, str name, int a, int b):
        """Append ``a + b``, ``a - b``, ``a * b`` or ``a / b``; rows and columns of 1 are repeated.

        Parameters
        ----------
        name : str
            ``"add"``, ``"sub"``, ``"mul"`` or ``"div"``.
        """
        cdef DenseTensor* left = self.argument(a, FLOATS)
        cdef DenseTensor* right = self.argument(b, FLOATS)
        kind = {"add": DENSE_ADD, "sub": DENSE_SUB, "mul": DENSE_MUL, "div": DENSE_DIV}[name]
        rows, cols = max(left.rows, right.rows), max(left.cols, right.cols)
        for operand in (self.shape(a), self.shape(b)):
            if operand[0] not in (1, rows) or operand[1] not in (1, cols):
                raise ValueError(f"{name} must repeat to one shape, was {self.shape(a)} and {self.shape(b)}")
        cdef int out = self.unary(kind, a, rows, cols)
        cdef DenseStep* step = &self.steps[self.step_count - 1]
        left, right = &self.tensors[a], &self.tensors[b]
        step.a_stride = left.stride if left.rows > 1 else 0
        step.a_column = left.cols > 1
        step.b, step.b_stride = right.data, right.stride if right.rows > 1 else 0
        step.b_column = right.cols > 1
        return out

    def clip(self, int a, *, float low=-INFINITY, float high=INFINITY):
        """Append the limits of `a`; NaN stays."""
        cdef int out = self.same(DENSE_CLIP, a)
        self.steps[self.step_count - 1].low, self.steps[self.step_count - 1].high = low, high
        return out

    def sqrt(self, int a):
        """Append the square root."""
        return self.same(DENSE_SQRT, a)

    def softmax(self, int a):
        """Append the softmax along each row."""
        return self.same(DENSE_SOFTMAX, a)

    def mean(self, int a, int axis):
        """Append the mean over rows (axis 0) or columns (axis 1), kept as a dimension of 1."""
        if axis not in (0, 1):
            raise ValueError(f"axis must be 0 or 1, was {axis}")
        rows, cols = self.shape(a)
        if axis == 1:
            return self.unary(DENSE_MEAN_COLUMNS, a, rows, 1)
        cdef int out = self.unary(DENSE_MEAN_ROWS, a, 1, cols)
        self.steps[self.step_count - 1].inner = rows
        return out

    def transpose(self, int a):
        """Append the transpose."""
        rows, cols = self.shape(a)
        return self.unary(DENSE_TRANSPOSE, a, cols, rows)

    def reshape(self, int a, int rows, int cols):
        """Append the same numbers, in row-major order, in another shape."""
        old_rows, old_cols = self.shape(a)
        if rows * cols != old_rows * old_cols:
            raise ValueError(f"reshape must keep {old_rows * old_cols} numbers, was {rows} x {cols}")
        return self.unary(DENSE_RESHAPE, a, rows, cols)

    # Building, quantized parts.

    def quantize(self, int a, *, float scale, int zero_point):
        """Append ``clamp(round(a / scale) + zero_point, 0, 255)``."""
        check_quantization(scale, zero_point)
        cdef int out = self.unary(DENSE_QUANTIZE, a, self.shape(a)[0], self.shape(a)[1], BYTES)
        cdef DenseStep* step = &self.steps[self.step_count - 1]
        step.scale, step.zero_point = self.floats_row(scale, 1), zero_point
        self.tensors[out].scale, self.tensors[out].zero_point = scale, zero_point
        return out

    def quantize_dynamic(self, int a):
        """Append ONNX's DynamicQuantizeLinear of each row by its own range."""
        cdef int rows = self.shape(a)[0]
        cdef int out = self.unary(DENSE_QUANTIZE_DYNAMIC, a, rows, self.shape(a)[1], BYTES)
        self.tensors[out].row_scale = <float*>zeros(2 * rows * sizeof(float))
        self.steps[self.step_count - 1].row_scale = self.tensors[out].row_scale
        return out

    def integer_matmul(self, int q, weights, *, offset=0):
        """Append ``(q - zero point) weights + offset``, exact in 32 bits.

        Parameters
        ----------
        weights : array of int8, shape (cols of q, n)
        offset : array of int, shape (n,)

        Raises
        ------
        ValueError
            A sum could leave 32 bits.
        """
        cdef DenseTensor* left = self.argument(q, BYTES)
        matrix = np.asarray(weights)
        if matrix.dtype != np.int8 or matrix.ndim != 2 or matrix.shape[0] != left.cols:
            raise ValueError(f"weights must be int8 of {left.cols} rows, was {matrix.dtype}{matrix.shape}")
        cols = matrix.shape[1]
        wide = matrix.astype(np.int64)
        offsets = np.broadcast_to(np.asarray(offset, np.int64), (cols,))
        if (np.abs(offsets) + 510 * np.abs(wide).sum(axis=0)).max() >= 1 << 31:
            raise ValueError("integer sums must fit 32 bits, could overflow")
        packed = pack(matrix, self.variant_code == DENSE_AVX512_VNNI)
        self.constants.append(packed)
        cdef int out = self.add_tensor(INTEGERS, left.rows, cols)
        cdef DenseStep* step = self.add_step(DENSE_INTEGER_MATMUL, out)
        left = &self.tensors[q]
        step.a, step.a_stride, step.inner = left.data, left.stride, left.cols
        step.b = cnp.PyArray_DATA(packed)
        step.zero_point, step.row_scale = left.zero_point, left.row_scale
        step.offset = self.integers_row(offsets, cols)
        step.sums = self.integers_row(wide.sum(axis=0), cols)
        return out

    def requantize(self, int acc, scale, *, float out_scale, int zero_point):
        """Append ``clamp(round(acc * scale) + zero_point, 0, 255)``; `out_scale` is what the result means."""
        check_quantization(out_scale, zero_point)
        cdef DenseTensor* source = self.argument(acc, INTEGERS)
        cdef int out = self.add_tensor(BYTES, source.rows, source.cols)
        cdef DenseStep* step = self.add_step(DENSE_REQUANTIZE, out)
        step.a, step.a_stride = self.tensors[acc].data, self.tensors[acc].stride
        step.scale, step.zero_point = self.floats_row(scale, step.cols), zero_point
        self.tensors[out].scale, self.tensors[out].zero_point = out_scale, zero_point
        return out

    def rescale(self, int acc, scale, *, bias=0.0, int rows_of=-1, bint relu=False):
        """Append ``acc * scale + bias``, `scale` times the row's own where `rows_of` was quantized so."""
        cdef DenseTensor* source = self.argument(acc, INTEGERS)
        cdef int out = self.add_tensor(FLOATS, source.rows, source.cols)
        cdef DenseStep* step = self.add_step(DENSE_RESCALE, out)
        step.a, step.a_stride = self.tensors[acc].data, self.tensors[acc].stride
        step.scale, step.bias = self.floats_row(scale, step.cols), self.floats_row(bias, step.cols)
        step.low = 0.0 if relu else -INFINITY
        if rows_of >= 0:
            if self.argument(rows_of, BYTES).rows != step.rows:
                raise ValueError(f"rows must agree, was {self.shape(rows_of)} for {self.shape(acc)}")
            step.row_scale = self.tensors[rows_of].row_scale
        return out

    def dequantize(self, int q):
        """Append ``(q - zero point) * scale`` of a tensor quantized with constants."""
        cdef DenseTensor* source = self.argument(q, BYTES)
        if source.row_scale != NULL:
            raise ValueError("only a tensor quantized with constants can be dequantized")
        cdef int out = self.add_tensor(FLOATS, source.rows, source.cols)
        cdef DenseStep* step = self.add_step(DENSE_DEQUANTIZE, out)
        source = &self.tensors[q]
        step.a, step.a_stride, step.zero_point = source.data, source.stride, source.zero_point
        step.scale = self.floats_row(source.scale, 1)
        return out

    def finish(self, int output):
        """Name the tensor that answers; no step can follow."""
        self.argument(output, FLOATS)
        if self.output >= 0:
            raise ValueError("a kernel is finished once")
        self.output = output

    # Running.

    cdef bint run_row(self, const float* features) noexcept nogil:
        """Run one row; False, and nothing was run, when a feature is not finite."""
        if not dense_finite(features, self.feature_count):
            return False
        fill(&self.tensors[0], features)
        self.form(self.steps, self.step_count)
        return True

    cdef float signal(self, const float* features) noexcept nogil:
        cdef const float* answer
        cdef float difference
        if self.output >= 0 and self.run_row(features):
            answer = <const float*>self.tensors[self.output].data
            difference = answer[self.tensors[self.output].cols - 1] - answer[0]
            if difference - difference == 0.0:
                return difference
        self.abstentions += 1
        return 0.0

    def run(self, cnp.ndarray features not None):
        """Return the answers of many rows, one after another.

        Parameters
        ----------
        features : array of float32, shape (n, feature_count)

        Returns
        -------
        array of float32, shape (n, rows * cols of the output)
            NaN where a feature is not finite.
        """
        self.require_finished()
        if features.ndim != 2 or features.shape[1] != self.feature_count:
            got = (<object>features).shape
            raise ValueError(f"features must have shape (n, {self.feature_count}), was {got}")
        cdef cnp.ndarray rows = np.ascontiguousarray(features, np.float32)
        cdef DenseTensor* output = &self.tensors[self.output]
        cdef Py_ssize_t row, width = output.rows * output.cols, count = rows.shape[0]
        cdef cnp.ndarray answers = np.empty((count, width), np.float32)
        cdef const float* given = <const float*>cnp.PyArray_DATA(rows)
        cdef float* answer = <float*>cnp.PyArray_DATA(answers)
        cdef Py_ssize_t column
        with nogil:
            for row in range(count):
                if self.run_row(given + row * self.feature_count):
                    spill(output, answer + row * width)
                else:
                    for column in range(width):
                        answer[row * width + column] = not_a_number()
        return answers

    def trace(self, int tensor):
        """Return what a tensor held after the last row: float32, uint8 or int32, shape (rows, cols)."""
        cdef DenseTensor* found = self.tensor(tensor)
        cdef cnp.ndarray out = np.empty(
            (found.rows, found.stride), (np.float32, np.uint8, np.int32)[<int>found.type]
        )
        memcpy(cnp.PyArray_DATA(out), found.data, cnp.PyArray_NBYTES(out))
        return (<object>out)[:, : found.cols].copy()

    cdef require_finished(self):
        if self.output < 0:
            raise ValueError("a kernel must be finished before it is run")


cdef inline float not_a_number() noexcept nogil:
    return INFINITY - INFINITY


cdef inline void fill(DenseTensor* tensor, const float* packed) noexcept nogil:
    """Copy a matrix without padding into a tensor."""
    cdef int row
    for row in range(tensor.rows):
        memcpy(
            <float*>tensor.data + <int64_t>row * tensor.stride, packed + <int64_t>row * tensor.cols,
            tensor.cols * sizeof(float),
        )


cdef inline void spill(const DenseTensor* tensor, float* packed) noexcept nogil:
    """Copy a tensor out, without its padding."""
    cdef int row
    for row in range(tensor.rows):
        memcpy(
            packed + <int64_t>row * tensor.cols, <float*>tensor.data + <int64_t>row * tensor.stride,
            tensor.cols * sizeof(float),
        )


cdef void* zeros(size_t count_bytes) except NULL:
    cdef void* memory = NULL
    if posix_memalign(&memory, _CACHE_LINE, count_bytes) != 0:
        raise MemoryError
    memset(memory, 0, count_bytes)
    return memory


cdef check_quantization(float scale, int zero_point):
    if not 0.0 < scale < INFINITY or not 0 <= zero_point <= 255:
        raise ValueError(f"scale must be positive and zero_point a byte, was {scale} and {zero_point}")


cdef cnp.ndarray pack(matrix, bint by_four):
    """Lay weights out by groups of inputs, then blocks of 16 columns: 64 bytes each.

    A group is four inputs in bytes for VNNI, two inputs in 16 bits elsewhere.
    """
    group = 4 if by_four else 2
    rows, cols = matrix.shape
    groups, width = -(-rows // group), dense_padded(cols)
    padded = np.zeros((groups * group, width), np.int8 if by_four else np.int16)
    padded[:rows, :cols] = matrix
    return np.ascontiguousarray(padded.reshape(groups, group, width).transpose(0, 2, 1))
