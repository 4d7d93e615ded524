"""A network run by ONNX Runtime's C interface: bound once, then one call without the interpreter.

The library is the one inside the installed wheel. It is opened once per process and stays open: it
has threads and caches of its own that do not survive being unloaded.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ext.dense_kernel cimport dense_finite
from ext.layout cimport monotonic_ns

import numpy as np

cnp.import_array()

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    const char* dlerror()
    enum:
        RTLD_NOW
        RTLD_LOCAL

cdef extern from *:
    """
    /* ISO C knows no cast from an object to a function; POSIX asks for this one. */
    #define as_get_base(symbol) ((OrtGetBase)(symbol))
    #define has_api(table) ((table) != NULL)
    """
    OrtGetBase as_get_base(void* symbol) nogil
    bint has_api(OrtTable table) nogil

cdef enum:
    RANK_MAX = 8


class OrtError(RuntimeError):
    """ONNX Runtime refused something; its own words."""


@cython.final
@cython.auto_pickle(False)
cdef class OrtLibrary:
    """ONNX Runtime's shared library, opened; one per process is enough.

    Parameters
    ----------
    path : str
        Of ``libonnxruntime.so.*``.
    version : str
        Expected, as the wheel says.

    Raises
    ------
    OSError
        The file cannot be opened or is no ONNX Runtime.
    OrtError
        It is another version, or older than what is called here.
    """

    def __init__(self, str path not None, str version not None):
        cdef bytes name = path.encode()
        cdef void* handle
        cdef void* symbol = NULL
        cdef const OrtBase* base
        if self.env != NULL:
            raise TypeError("a library is opened once")
        handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)
        if handle != NULL:
            symbol = dlsym(handle, b"OrtGetApiBase")
        if symbol == NULL:
            raise OSError(f"{path}: {dlerror().decode(errors='replace')}")
        base = as_get_base(symbol)()
        found = base.get_version().decode(errors="replace")
        if found != version:
            raise OrtError(f"{path}: the library must be version {version}, was {found}")
        self.api = base.get_api(ORT_API_VERSION)
        if not has_api(self.api):
            raise OrtError(f"{path}: the library must serve interface {ORT_API_VERSION}, was {found}")
        self.version = found
        self.check(ort_create_env(self.api, b"anytick", &self.env))

    cdef check(self, void* status):
        """Raise what a status says and release it."""
        if status == NULL:
            return
        message = ort_message(self.api, status).decode(errors="replace")
        ort_release(self.api, ORT_RELEASE_STATUS, status)
        raise OrtError(message)


@cython.final
@cython.auto_pickle(False)
cdef class OrtKernel(SignalSource):
    """One network with its input and output in place, used by one thread at a time.

    Write rows into `inputs`, call `run`, read `outputs`. One thread, no arena: two threads on one session
    are slower than one.

    Parameters
    ----------
    library : OrtLibrary
    model : bytes
        Checked before: what the graph may contain is decided elsewhere.
    input_name, output_name : str
    row_shape : tuple of int
        Of one input, without the batch axis.
    output_width : int
    batch_max : int, optional
        Rows that can be run at once.

    Raises
    ------
    OrtError
        The runtime refuses the model.
    """

    def __init__(
        self, OrtLibrary library not None, bytes model not None, *, str input_name not None,
        str output_name not None, tuple row_shape not None, int output_width, int batch_max=1,
    ):
        if self.library is not None:
            raise TypeError("a kernel is opened once")
        if not 1 <= batch_max <= 4096 or output_width < 1 or not 1 <= len(row_shape) < RANK_MAX:
            raise ValueError(
                f"batch_max must be 1 to 4,096 and shapes sound, was {batch_max}, {row_shape}, {output_width}"
            )
        self.library, self.api = library, library.api
        self.batch_max, self.output_width = batch_max, output_width
        self.inputs = np.zeros((batch_max, *row_shape), dtype=np.float32)
        self.outputs = np.zeros((batch_max, output_width), dtype=np.float32)
        self.input_data = <float*>cnp.PyArray_DATA(self.inputs)
        self.output_data = <float*>cnp.PyArray_DATA(self.outputs)
        self.feature_count = self.inputs.size // batch_max
        self.input_name, self.output_name = input_name.encode(), output_name.encode()
        self.input_name_data, self.output_name_data = self.input_name, self.output_name
        self.open_session(model)
        library.check(ort_create(self.api, ORT_CREATE_RUN_OPTIONS, &self.run_options))
        self.bind(row_shape)
        self.target.api, self.target.run_options = self.api, self.run_options
        guard_add(&self.guard, stop_run, &self.target)
        self.guarded = True

    def __dealloc__(self):
        cdef int count
        if self.guarded:
            guard_remove(&self.guard)
        for count in range(self.batch_max):
            if self.inputs_by_count != NULL and self.inputs_by_count[count] != NULL:
                ort_release(self.api, ORT_RELEASE_VALUE, self.inputs_by_count[count])
            if self.outputs_by_count != NULL and self.outputs_by_count[count] != NULL:
                ort_release(self.api, ORT_RELEASE_VALUE, self.outputs_by_count[count])
        free(self.inputs_by_count)
        free(self.outputs_by_count)
        if self.failure != NULL:
            ort_release(self.api, ORT_RELEASE_STATUS, self.failure)
        if self.run_options != NULL:
            ort_release(self.api, ORT_RELEASE_RUN_OPTIONS, self.run_options)
        if self.session != NULL:
            ort_release(self.api, ORT_RELEASE_SESSION, self.session)

    cdef open_session(self, bytes model):
        cdef void* options = NULL
        cdef void* status
        cdef const char* data = model
        cdef size_t size = len(model)
        cdef OrtTable api = self.api
        self.library.check(ort_create(api, ORT_CREATE_SESSION_OPTIONS, &options))
        try:
            self.library.check(ort_set(api, ORT_SET_SESSION_LOG_SEVERITY_LEVEL, options, ORT_FATAL))
            self.library.check(
                ort_set(api, ORT_SET_SESSION_GRAPH_OPTIMIZATION_LEVEL, options, ORT_OPTIMIZE_ALL)
            )
            self.library.check(ort_set(api, ORT_SET_INTRA_OP_NUM_THREADS, options, 1))
            self.library.check(ort_set(api, ORT_SET_INTER_OP_NUM_THREADS, options, 1))
            self.library.check(ort_apply(api, ORT_DISABLE_CPU_MEM_ARENA, options))
            with nogil:
                status = ort_create_session(api, self.library.env, data, size, options, &self.session)
            self.library.check(status)
        finally:
            ort_release(api, ORT_RELEASE_SESSION_OPTIONS, options)

    cdef bind(self, tuple row_shape):
        """Make the tensors over the first n rows of both buffers, for every n."""
        cdef void* memory = NULL
        cdef int count, axis, rank = 1 + len(row_shape)
        cdef int64_t[RANK_MAX] shape
        cdef size_t in_bytes, out_bytes
        for axis in range(1, rank):
            shape[axis] = row_shape[axis - 1]
        self.inputs_by_count = <void**>calloc(self.batch_max, sizeof(void*))
        self.outputs_by_count = <void**>calloc(self.batch_max, sizeof(void*))
        if self.inputs_by_count == NULL or self.outputs_by_count == NULL:
            raise MemoryError
        self.library.check(ort_create_cpu_memory_info(self.api, &memory))
        try:
            for count in range(1, self.batch_max + 1):
                shape[0] = count
                in_bytes = <size_t>count * self.feature_count * sizeof(float)
                self.library.check(ort_create_tensor(
                    self.api, memory, self.input_data, in_bytes, shape, rank, &self.inputs_by_count[count - 1]
                ))
            shape[1] = self.output_width
            for count in range(1, self.batch_max + 1):
                shape[0] = count
                out_bytes = <size_t>count * self.output_width * sizeof(float)
                self.library.check(ort_create_tensor(
                    self.api, memory, self.output_data, out_bytes, shape, 2, &self.outputs_by_count[count - 1]
                ))
        finally:
            ort_release(self.api, ORT_RELEASE_MEMORY_INFO, memory)

    cdef RunOutcome infer(self, int count, int64_t deadline_ns) noexcept nogil:
        """Run the first `count` rows of `inputs`; `deadline_ns` is on the monotonic clock, 0 has none."""
        cdef void* status
        cdef bint stopped
        if deadline_ns > 0:
            if monotonic_ns() >= deadline_ns:
                self.runs_late += 1
                return LATE
            guard_begin(&self.guard, deadline_ns)
        status = ort_run(
            self.api, self.session, self.run_options, self.input_name_data, self.inputs_by_count[count - 1],
            self.output_name_data, self.outputs_by_count[count - 1],
        )
        stopped = deadline_ns > 0 and guard_end(&self.guard, deadline_ns)
        if stopped:
            # A flag left standing would stop the next run.
            if status != NULL:
                ort_release(self.api, ORT_RELEASE_STATUS, status)
            status = ort_apply(self.api, ORT_RUN_OPTIONS_UNSET_TERMINATE, self.run_options)
        if status != NULL:
            if self.failure != NULL:
                ort_release(self.api, ORT_RELEASE_STATUS, self.failure)
            self.failure = status
            return FAILED
        if stopped or (deadline_ns > 0 and monotonic_ns() >= deadline_ns):
            self.runs_late += 1
            return LATE
        return ANSWERED

    cdef float signal(self, const float* features) noexcept nogil:
        cdef float difference
        if dense_finite(features, self.feature_count):
            memcpy(self.input_data, features, self.feature_count * sizeof(float))
            if self.infer(1, 0) == ANSWERED:
                difference = self.output_data[self.output_width - 1] - self.output_data[0]
                if difference - difference == 0.0:
                    return difference
        self.abstentions += 1
        return 0.0

    def run(self, int count=1, *, int64_t deadline_ns=0):
        """Run the first rows of `inputs` into `outputs`.

        Parameters
        ----------
        count : int
            From 1 to `batch_max`.
        deadline_ns : int, optional
            On the clock of `time.monotonic_ns`; 0 has none. A run under way then is stopped.

        Returns
        -------
        bool
            False when it was late; `outputs` then means nothing.

        Raises
        ------
        OrtError
            The run failed; the kernel stays usable.
        """
        cdef RunOutcome outcome
        if not 1 <= count <= self.batch_max:
            raise ValueError(f"count must be 1 to {self.batch_max}, was {count}")
        with nogil:
            outcome = self.infer(count, deadline_ns)
        if outcome == FAILED:
            self.raise_failure()
        return outcome == ANSWERED

    @property
    def error(self):
        """What the last failed run said, for whoever ran without the interpreter; None without one."""
        if self.failure == NULL:
            return None
        return OrtError(ort_message(self.api, self.failure).decode(errors="replace"))

    cdef raise_failure(self):
        cdef void* failure = self.failure
        self.failure = NULL
        self.library.check(failure)


cdef void stop_run(void* context) noexcept nogil:
    """Ask a run to stop; called by the watcher of the guards."""
    cdef StopTarget* target = <StopTarget*>context
    cdef void* status = ort_apply(target.api, ORT_RUN_OPTIONS_SET_TERMINATE, target.run_options)
    if status != NULL:
        ort_release(target.api, ORT_RELEASE_STATUS, status)
