"""The memory under a ring, on the heap or shared between processes, and who holds which role.

A shared ring is a POSIX shared-memory object of mode 0600, created exclusively. An attacher copies the
header, checks the copy against the object's size, owner and mode, and from then on uses the copy: nobody
can move a boundary under its feet. Roles are file locks, so a process that dies gives its role back.
"""

cimport cython
from libc.errno cimport EBUSY, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_CREAT, O_EXCL, O_RDWR, open
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap, shm_open, shm_unlink
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.stdlib cimport posix_memalign
from posix.unistd cimport close, geteuid, pread

import os
import re

import numpy as np

from .ring cimport (
    CURSOR_STRIDE, RING_ACTIVE, RING_BLOCK, RING_BROADCAST, RING_DROP_OLDEST, RING_INDEX, RING_LANES_MAX,
    RING_MPSC, RING_REFUSE, RING_SPIN, RING_SPSC, RING_STAMPED, RING_WAIT_FOR_ROOM, RING_YIELD, Ring,
    RingBlock, RingIdentity, ring_allocate, ring_check, ring_check_cursors, ring_check_shape,
    ring_close, ring_drop_role, ring_format, ring_hash, ring_is_closed, ring_leave, ring_open,
    ring_role_is_held, ring_take_role, ring_total_bytes,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MODES = {"index": RING_INDEX, "stamped": RING_STAMPED}
POLICIES = {"refuse": RING_REFUSE, "block": RING_WAIT_FOR_ROOM, "drop-oldest": RING_DROP_OLDEST}
WAITS = {"spin": RING_SPIN, "yield": RING_YIELD, "block": RING_BLOCK}
KINDS = {RING_SPSC: "SPSC", RING_BROADCAST: "broadcast", RING_MPSC: "MPSC"}


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class RingMemory:
    """The memory of one ring. Rings make it; nobody else needs to."""

    def __cinit__(self):
        self.descriptor = -1

    def __dealloc__(self):
        if self.descriptor >= 0:
            if self.block != NULL:
                munmap(self.block, self.identity.total_bytes)
            close(self.descriptor)      # gives this end's roles back
        else:
            free(self.block)

    cdef int take_role(self, uint32_t role, str title) except -1:
        """Become the only living holder of a role, for as long as this memory is open."""
        if self.descriptor >= 0 and ring_take_role(self.descriptor, role):
            raise OSError(EBUSY, f"a ring has one {title} at a time, another is alive", self.name)
        return 0

    cdef bint is_held(self, uint32_t role):
        return self.descriptor >= 0 and ring_role_is_held(self.descriptor, role)

    cdef void reap(self) noexcept:
        """End the parts of dead processes: free a dead consumer's place, close a dead producer's lane.

        The role is taken while that happens, so that nobody takes the place in between.
        """
        cdef Ring ring
        cdef uint32_t index
        if self.descriptor < 0:
            return
        if self.identity.kind == RING_BROADCAST:
            ring_open(&ring, self.block, &self.identity, 0, 0)
            for index in range(self.identity.consumer_count):
                if ring.consumers[index].state != RING_ACTIVE:
                    continue
                if ring_take_role(self.descriptor, consumer_role(index)) == 0:
                    ring_leave(&ring, index)
                    ring_drop_role(self.descriptor, consumer_role(index))
        elif self.identity.kind == RING_MPSC:
            for index in range(self.identity.lane_count):
                ring_open(&ring, self.block, &self.identity, index, 0)
                if not ring_is_closed(&ring) and ring_take_role(self.descriptor, index) == 0:
                    ring_close(&ring)
                    ring_drop_role(self.descriptor, index)


cdef uint32_t consumer_role(uint32_t consumer) noexcept nogil:
    return RING_LANES_MAX + consumer


cdef int choice(dict choices, str title, object value) except -1:
    if value not in choices:
        raise ValueError(f"{title} must be one of {', '.join(choices)}, was {value!r}")
    return choices[value]


cdef uint64_t type_hash(object dtype) except? 0:
    cdef bytes text = f"{dtype.itemsize} {dtype.descr}".encode()
    return ring_hash(<const char*>text, len(text))


cdef object record_dtype(object dtype):
    dtype = np.dtype(dtype)
    if dtype.hasobject or dtype.itemsize % 8 or not 8 <= dtype.itemsize <= 4096:
        raise ValueError(f"records must be of 8 to 4096 bytes, whole words, without objects, was {dtype}")
    return dtype


cdef bytes shm_name(object name):
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"a ring's name must be letters, digits, dots, dashes and underscores, was {name!r}")
    return b"/" + (<str>name).encode()


cdef RingMemory memory_create(
    int kind, Py_ssize_t capacity, object dtype, dict options, uint32_t lane_count, uint32_t consumer_count
):
    """Make a ring's memory. `options`: mode, when_full, wait, first_cursor, name."""
    cdef RingMemory memory = RingMemory.__new__(RingMemory)
    cdef RingIdentity* identity = &memory.identity
    cdef const char* rule
    cdef uint64_t line = CURSOR_STRIDE
    if capacity <= 0 or capacity & (capacity - 1):
        raise ValueError(f"capacity must be a power of two, was {capacity}")
    memory.dtype = record_dtype(dtype)
    identity.kind = kind
    identity.mode = choice(MODES, "mode", options["mode"])
    identity.policy = choice(POLICIES, "when_full", options["when_full"])
    identity.wait = choice(WAITS, "wait", options["wait"])
    identity.record_bytes = memory.dtype.itemsize
    identity.capacity = capacity
    identity.lane_count = lane_count
    identity.consumer_count = consumer_count
    identity.record_type = type_hash(memory.dtype)
    identity.first_cursor = options["first_cursor"]
    rule = ring_check_shape(identity)
    if rule != NULL:
        raise ValueError(f"{rule.decode()}, was not so for capacity {capacity} and {options}")
    identity.total_bytes = ring_total_bytes(identity)
    if options["name"] is None:
        if posix_memalign(<void**>&memory.block, line, identity.total_bytes):
            raise MemoryError(f"no memory for a ring of {capacity} records")
        memset(<char*>memory.block, 0, identity.total_bytes)
    else:
        shm_create(memory, options["name"])
    ring_format(memory.block, identity)
    return memory


cdef int shm_create(RingMemory memory, object name) except -1:
    cdef bytes path = shm_name(name)
    cdef int failed
    memory.descriptor = shm_open(path, O_CREAT | O_EXCL | O_RDWR, 0o600)
    if memory.descriptor < 0:
        raise OSError(errno, os.strerror(errno), name)
    memory.name = name
    failed = ring_allocate(memory.descriptor, memory.identity.total_bytes)
    if failed == 0:
        failed = shm_map(memory)
    if failed:
        shm_unlink(path)
        raise OSError(failed, os.strerror(failed), name)
    return 0


cdef int shm_map(RingMemory memory):
    cdef void* block = mmap(
        NULL, memory.identity.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.descriptor, 0
    )
    if block == MAP_FAILED:
        return errno
    memory.block = <RingBlock*>block
    return 0


cdef RingMemory memory_attach(int kind, str name, object dtype):
    """Open a ring that another process made; refuse whatever is not exactly one."""
    cdef RingMemory memory = RingMemory.__new__(RingMemory)
    cdef bytes path = shm_name(name)
    cdef struct_stat status
    cdef const char* rule
    memory.dtype = record_dtype(dtype)
    memory.descriptor = shm_open(path, O_RDWR, 0)
    if memory.descriptor < 0 or fstat(memory.descriptor, &status):
        raise OSError(errno, os.strerror(errno), name)
    memory.name = name
    if not S_ISREG(status.st_mode):
        raise ValueError(f"ring {name}: must be a plain file, was of mode {status.st_mode:o}")
    if status.st_uid != geteuid() or status.st_mode & 0o77:
        raise ValueError(
            f"ring {name}: must be ours alone (mode 0600), was uid {status.st_uid}, "
            f"mode {status.st_mode & 0o777:o}"
        )
    if (
        <size_t>status.st_size < sizeof(RingBlock)
        or pread(memory.descriptor, &memory.identity, sizeof(RingIdentity), 0) != sizeof(RingIdentity)
    ):
        raise ValueError(f"ring {name}: must hold at least a header, was {status.st_size} bytes")
    rule = ring_check(&memory.identity, status.st_size)
    if rule != NULL:
        raise ValueError(f"ring {name}: {rule.decode()}, was not so in {status.st_size} bytes")
    if memory.identity.kind != <uint32_t>kind:
        raise ValueError(f"ring {name}: must be {KINDS[kind]}, was {KINDS[memory.identity.kind]}")
    if (
        memory.identity.record_bytes != memory.dtype.itemsize
        or memory.identity.record_type != type_hash(memory.dtype)
    ):
        raise ValueError(f"ring {name}: records must be {memory.dtype}, was another type")
    if shm_map(memory):
        raise OSError(errno, os.strerror(errno), name)
    rule = ring_check_cursors(memory.block, &memory.identity)
    if rule != NULL:
        raise ValueError(f"ring {name}: {rule.decode()}, was not so")
    return memory


cdef int memory_reopen(RingMemory memory) except? -2:
    """Return a descriptor with locks of its own, for one end of several; -1 on the heap."""
    cdef int descriptor
    if memory.descriptor < 0:
        return -1
    # By descriptor, not by name: the name may be gone or another ring's by now.
    path = f"/proc/self/fd/{memory.descriptor}".encode()
    descriptor = open(<const char*>path, O_RDWR | O_CLOEXEC)
    if descriptor < 0:
        raise OSError(errno, os.strerror(errno), memory.name)
    return descriptor


cdef Ring* handle_open(RingMemory memory, uint32_t lane, uint32_t consumer) except NULL:
    """Return a new handle; the caller frees it. Python aligns objects to 16 bytes only."""
    cdef Ring* ring = NULL
    cdef size_t line = CURSOR_STRIDE
    if memory.block == NULL:
        raise ValueError("a ring's memory comes from a ring or from attach()")
    if posix_memalign(<void**>&ring, line, sizeof(Ring)):
        raise MemoryError("no memory for a ring's handle")
    ring_open(ring, memory.block, &memory.identity, lane, consumer)
    return ring


def unlink_ring(str name):
    """Remove a shared ring's name. Processes that are attached go on; nobody else can attach.

    Raises
    ------
    FileNotFoundError
        No such ring.
    """
    if shm_unlink(shm_name(name)):
        raise OSError(errno, os.strerror(errno), name)
