"""A network run by ONNX Runtime's C interface, without the interpreter; its functions: ort_capi.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ext.signal_source cimport SignalSource

cdef extern from "ort_capi.h" nogil:
    cdef enum:
        ORT_API_VERSION
        ORT_CREATE_SESSION_OPTIONS
        ORT_DISABLE_CPU_MEM_ARENA
        ORT_SET_SESSION_LOG_SEVERITY_LEVEL
        ORT_SET_SESSION_GRAPH_OPTIMIZATION_LEVEL
        ORT_SET_INTRA_OP_NUM_THREADS
        ORT_SET_INTER_OP_NUM_THREADS
        ORT_CREATE_RUN_OPTIONS
        ORT_RUN_OPTIONS_SET_TERMINATE
        ORT_RUN_OPTIONS_UNSET_TERMINATE
        ORT_RELEASE_STATUS
        ORT_RELEASE_MEMORY_INFO
        ORT_RELEASE_SESSION
        ORT_RELEASE_VALUE
        ORT_RELEASE_RUN_OPTIONS
        ORT_RELEASE_SESSION_OPTIONS
        ORT_FATAL
        ORT_OPTIMIZE_ALL

    ctypedef void* OrtTable
    ctypedef struct OrtBase:
        OrtTable (*get_api)(uint32_t version) noexcept nogil
        const char* (*get_version)() noexcept nogil
    ctypedef const OrtBase* (*OrtGetBase)() noexcept nogil

    const char* ort_message(OrtTable api, const void* status)
    void ort_release(OrtTable api, int slot, void* object)
    void* ort_create_env(OrtTable api, const char* name, void** out)
    void* ort_create(OrtTable api, int slot, void** out)
    void* ort_apply(OrtTable api, int slot, void* object)
    void* ort_set(OrtTable api, int slot, void* options, int value)
    void* ort_create_session(
        OrtTable api, const void* env, const void* model, size_t model_bytes, const void* options, void** out
    )
    void* ort_create_cpu_memory_info(OrtTable api, void** out)
    void* ort_create_tensor(
        OrtTable api, const void* memory, float* data, size_t data_bytes, const int64_t* shape, size_t rank,
        void** out
    )
    void* ort_run(
        OrtTable api, void* session, const void* options, const char* input_name, const void* input,
        const char* output_name, void* output
    )

cdef extern from "run_guard.h" nogil:
    ctypedef struct RunGuard:
        pass
    void guard_add(RunGuard* guard, void (*stop)(void*) noexcept nogil, void* context)
    void guard_remove(RunGuard* guard)
    void guard_begin(RunGuard* guard, int64_t deadline_ns)
    bint guard_end(RunGuard* guard, int64_t deadline_ns)


cdef enum RunOutcome:
    ANSWERED
    LATE                                   # stopped at its deadline, or over only after it
    FAILED                                 # `failure` has the message


cdef struct StopTarget:
    OrtTable api
    void* run_options


cdef class OrtLibrary:
    cdef OrtTable api
    cdef void* env
    cdef readonly str version

    cdef check(self, void* status)


cdef class OrtKernel(SignalSource):
    cdef OrtLibrary library                # outlives what it made
    cdef OrtTable api
    cdef void* session                     # owned, like all up to the buffers
    cdef void* run_options
    cdef void** inputs_by_count            # the tensor over the first n rows, by n - 1
    cdef void** outputs_by_count
    cdef RunGuard guard
    cdef StopTarget target                 # what the guard stops
    cdef bint guarded
    cdef void* failure                     # status of the last failed run, or NULL
    cdef readonly object inputs            # bound memory; whoever writes here needs no copy
    cdef readonly object outputs
    cdef float* input_data                 # of `inputs`
    cdef float* output_data
    cdef bytes input_name
    cdef bytes output_name
    cdef const char* input_name_data
    cdef const char* output_name_data
    cdef readonly int batch_max
    cdef int output_width
    cdef readonly uint64_t runs_late

    cdef open_session(self, bytes model)
    cdef bind(self, tuple row_shape)
    cdef RunOutcome infer(self, int count, int64_t deadline_ns) noexcept nogil
    cdef raise_failure(self)
