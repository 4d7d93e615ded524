"""A small network as a list of compiled steps; what a step is and in which order it sums: dense_kernel.h."""

from libc.stdint cimport int32_t, int64_t

from ext.signal_source cimport SignalSource

cdef extern from "dense_kernel.h" nogil:
    cdef enum:
        DENSE_LANES
        DENSE_PORTABLE
        DENSE_AVX2
        DENSE_AVX512
        DENSE_AVX512_VNNI
        DENSE_VARIANTS
        DENSE_MATMUL
        DENSE_ADD
        DENSE_SUB
        DENSE_MUL
        DENSE_DIV
        DENSE_CLIP
        DENSE_SQRT
        DENSE_SOFTMAX
        DENSE_MEAN_COLUMNS
        DENSE_MEAN_ROWS
        DENSE_TRANSPOSE
        DENSE_RESHAPE
        DENSE_QUANTIZE
        DENSE_QUANTIZE_DYNAMIC
        DENSE_INTEGER_MATMUL
        DENSE_REQUANTIZE
        DENSE_RESCALE
        DENSE_DEQUANTIZE

    ctypedef struct DenseStep:
        int32_t kind
        int32_t rows
        int32_t inner
        int32_t cols
        int32_t a_stride
        int32_t b_stride
        int32_t out_stride
        int32_t a_column
        int32_t b_column
        int32_t zero_point
        float low
        float high
        const void* a
        const void* b
        const float* bias
        const float* scale
        const int32_t* offset
        const int32_t* sums
        float* row_scale
        void* out

    ctypedef void (*DenseRun)(const DenseStep* steps, int count) noexcept nogil

    int32_t dense_padded(int32_t columns)
    bint dense_finite(const float* values, int32_t count)
    bint dense_supported(int variant)
    DenseRun dense_form(int variant)


cdef enum DenseType:
    FLOATS
    BYTES            # quantized to u8; what a model calls s8 is kept 128 higher
    INTEGERS


cdef struct DenseTensor:
    DenseType type
    int32_t rows
    int32_t cols
    int32_t stride   # elements from row to row
    int32_t zero_point
    float scale      # of BYTES quantized with constants
    float* row_scale  # owned; scale and zero point of each row where they are the row's own
    void* data       # owned


cdef class DenseKernel(SignalSource):
    cdef DenseTensor* tensors              # owned
    cdef int tensor_count
    cdef int64_t element_count             # of all tensors, padding included
    cdef DenseStep* steps                  # owned
    cdef int step_count
    cdef DenseRun form
    cdef int variant_code
    cdef readonly int output               # tensor that answers; -1 while steps are being added
    cdef object constants                  # arrays that steps point into

    cdef int add_tensor(self, DenseType type, int64_t rows, int64_t cols) except -1
    cdef DenseTensor* tensor(self, int index) except NULL
    cdef DenseTensor* argument(self, int index, DenseType type) except NULL
    cdef DenseStep* add_step(self, int kind, int out) except NULL
    cdef int unary(self, int kind, int a, int64_t rows, int64_t cols, DenseType to=*) except -1
    cdef int same(self, int kind, int a) except -1
    cdef const float* floats_row(self, values, int cols) except NULL
    cdef const int32_t* integers_row(self, values, int cols) except NULL
    cdef require_finished(self)
    cdef bint run_row(self, const float* features) noexcept nogil
