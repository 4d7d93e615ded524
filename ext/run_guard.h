/* Deadlines for calls that can be asked to stop: one thread per process watches every guard.
 *
 * A guard is one number: 0 idle, above 0 the deadline of the run under way, GUARD_FIRING while the watcher asks it to stop,
 * GUARD_FIRED after. Whoever moves it away from the deadline owns the end of that run: either the runner (it was in
 * time) or the watcher (it was not, and the runner waits for GUARD_FIRED, so that a request to stop never hits the next run).
 *
 * While runs are under way the watcher looks every millisecond, or at the nearest deadline if that is sooner; after fifty
 * looks at nothing it parks and costs nothing. A run is armed by some stores and one load. A forked child has no watcher:
 * there it counts as parked, and the first run starts another.
 *
 * It looks from the core on which the nearest run began (Linux). A run obeys only when it runs, and beside a thread that spins
 * it waits for the core up to a tick of the kernel, 4 ms at 250 Hz. Every time the watcher has looked, the kernel
 * chooses anew who goes on, so that becomes a millisecond.
 */
#ifndef ANYTICK_RUN_GUARD_H
#define ANYTICK_RUN_GUARD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getcpu */
#endif
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "layout.h"

enum { GUARD_FIRING = -1, GUARD_FIRED = -2, GUARD_LOOKS_IDLE = 50 };
#define GUARD_PERIOD_NS 1000000

typedef struct RunGuard {
    _Atomic int64_t state;
    _Atomic int core;            /* where the run began, -1 where that is not known */
    void (*stop)(void* context); /* called by the watcher, at most once per run */
    void* context;
    struct RunGuard* next;
} RunGuard;

static struct {
    pthread_mutex_t lock;    /* of the list, of `running` and of parking */
    pthread_cond_t unpark;
    RunGuard* first;
    _Atomic int parked;
    int running;
    int prepared;
} guard_watch = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 1, 0, 0};

static inline int guard_own_core(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Move the calling thread to a core; where that is not possible it stays anywhere, and only wakes later. */
static void guard_move_to(int core) {
#ifdef __linux__
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (core < CPU_SETSIZE) CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof(cores), &cores);
#else
    (void)core;
#endif
}

/* Stop what is late; return the nearest deadline and its run's core, or 0 where nothing is under way. */
static int64_t guard_look(int64_t now_ns, int* core) {
    int64_t nearest_ns = 0;
    for (RunGuard* guard = guard_watch.first; guard; guard = guard->next) {
        int64_t deadline_ns = atomic_load(&guard->state);
        if (deadline_ns <= 0) continue;
        if (deadline_ns <= now_ns) {
            if (atomic_compare_exchange_strong(&guard->state, &deadline_ns, GUARD_FIRING)) {
                guard->stop(guard->context);
                atomic_store(&guard->state, GUARD_FIRED);
            }
        } else if (nearest_ns == 0 || deadline_ns < nearest_ns) {
            nearest_ns = deadline_ns;
            *core = atomic_load_explicit(&guard->core, memory_order_relaxed);
        }
    }
    return nearest_ns;
}

static void* guard_watcher(void* unused) {
    int idle = 0, core = -1, nearest_core = -1;
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&guard_watch.lock);
        int64_t now_ns = monotonic_ns(), nearest_ns = guard_look(now_ns, &nearest_core);
        idle = nearest_ns ? 0 : idle + 1;
        if (idle >= GUARD_LOOKS_IDLE) {
            /* Said before the last look: a run armed after that look sees it and wakes us. */
            atomic_store(&guard_watch.parked, 1);
            if (guard_look(now_ns, &nearest_core) == 0)
                while (atomic_load(&guard_watch.parked)) pthread_cond_wait(&guard_watch.unpark, &guard_watch.lock);
            atomic_store(&guard_watch.parked, 0);
            idle = 0;
        }
        pthread_mutex_unlock(&guard_watch.lock);
        if (nearest_core != core && nearest_core >= 0) guard_move_to(core = nearest_core);
        int64_t wait_ns = GUARD_PERIOD_NS;
        if (nearest_ns && nearest_ns - now_ns < wait_ns) wait_ns = nearest_ns - now_ns;
        struct timespec pause = {0, (long)wait_ns};
        nanosleep(&pause, 0);
    }
    return 0;
}

static void guard_after_fork(void) {
    pthread_mutex_init(&guard_watch.lock, 0);
    pthread_cond_init(&guard_watch.unpark, 0);
    guard_watch.running = 0;
    atomic_store(&guard_watch.parked, 1);
}

static void guard_unpark(void) {
    pthread_mutex_lock(&guard_watch.lock);
    if (atomic_load(&guard_watch.parked)) {
        pthread_t thread;
        if (!guard_watch.prepared) {
            pthread_atfork(0, 0, guard_after_fork);
            guard_watch.prepared = 1;
        }
        if (guard_watch.running) {
            atomic_store(&guard_watch.parked, 0);
            pthread_cond_signal(&guard_watch.unpark);
        } else if (pthread_create(&thread, 0, guard_watcher, 0) == 0) {
            /* Without a thread it stays parked, and the next run tries again. */
            pthread_detach(thread);
            guard_watch.running = 1;
            atomic_store(&guard_watch.parked, 0);
        }
    }
    pthread_mutex_unlock(&guard_watch.lock);
}

static inline void guard_add(RunGuard* guard, void (*stop)(void*), void* context) {
    atomic_store(&guard->state, 0);
    atomic_store(&guard->core, -1);
    guard->stop = stop;
    guard->context = context;
    pthread_mutex_lock(&guard_watch.lock);
    guard->next = guard_watch.first;
    guard_watch.first = guard;
    pthread_mutex_unlock(&guard_watch.lock);
}

static inline void guard_remove(RunGuard* guard) {
    pthread_mutex_lock(&guard_watch.lock);
    for (RunGuard** link = &guard_watch.first; *link; link = &(*link)->next)
        if (*link == guard) {
            *link = guard->next;
            break;
        }
    pthread_mutex_unlock(&guard_watch.lock);
}

static inline void guard_begin(RunGuard* guard, int64_t deadline_ns) {
    atomic_store_explicit(&guard->core, guard_own_core(), memory_order_relaxed);
    atomic_store(&guard->state, deadline_ns);
    if (atomic_load(&guard_watch.parked)) guard_unpark();
}

/* Return 1 when the run was asked to stop; whatever `stop` set can be unset now. */
static inline int guard_end(RunGuard* guard, int64_t deadline_ns) {
    if (atomic_compare_exchange_strong(&guard->state, &deadline_ns, 0)) return 0;
    while (atomic_load(&guard->state) != GUARD_FIRED) sched_yield();
    atomic_store(&guard->state, 0);
    return 1;
}

#endif
