/* How a ring's thread waits: spin, yield its core, or sleep on a futex.
 *
 * A sleeper announces itself (asleep = 1), fences, and looks at the ring once more before it sleeps; a
 * waker publishes, fences, and looks for sleepers. One of the two therefore sees the other. `wakes` is the
 * futex word: it grows with every wake-up, so a sleeper whose waker came in between does not fall asleep.
 * The waker takes the announcement back, so a sleeper that was killed costs one needless wake-up, not one
 * for every message. Rings that never sleep skip the fence.
 */
#ifndef ANYTICK_RING_WAIT_H
#define ANYTICK_RING_WAIT_H

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <time.h>

#include "layout.h"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum RingWait { RING_SPIN = 1, RING_YIELD = 2, RING_BLOCK = 3 };

/* Turns of spinning before a blocking ring's thread sleeps: about what going to sleep costs. */
#define RING_TURNS_BEFORE_SLEEP 512
/* A waker can be killed between taking the announcement and waking, so no sleep is longer than this. */
#define RING_SLEEP_NS_MAX 20000000

typedef struct {
    _Alignas(ANYTICK_CURSOR_STRIDE) uint32_t wakes;   /* futex word, written by wakers            */
    uint32_t asleep;                                  /* 1: somebody sleeps or is about to        */
} RingPark;

/* One thread's patience while it waits for one thing. Starts as zeros. */
typedef struct {
    uint32_t turns;
    uint32_t ticket;     /* `wakes` as it was when the sleeper announced itself                    */
    bool announced;
} RingPatience;

static inline void ring_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline void ring_futex_sleep(RingPark *park, uint32_t ticket, int64_t ns) {
    struct timespec span = {ns / 1000000000, ns % 1000000000};
#ifdef __linux__
    /* Not the private form: the word may lie in memory shared with another process. */
    syscall(SYS_futex, &park->wakes, FUTEX_WAIT, ticket, &span, NULL, 0);
#else
    (void)park, (void)ticket;
    span.tv_nsec = span.tv_nsec > 50000 || span.tv_sec ? 50000 : span.tv_nsec;
    span.tv_sec = 0;
    nanosleep(&span, NULL);
#endif
}

/* Wake whoever sleeps. What they wait for must have been stored before. */
static inline void ring_wake(RingPark *park) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&park->asleep, __ATOMIC_RELAXED), 0)
        && __atomic_exchange_n(&park->asleep, 0, __ATOMIC_SEQ_CST)) {
        __atomic_fetch_add(&park->wakes, 1, __ATOMIC_SEQ_CST);
#ifdef __linux__
        syscall(SYS_futex, &park->wakes, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#endif
    }
}

/* Let time pass once, the ring's way. The caller looks at the ring again after every call: the look that
 * follows the announcement is the one that makes sleeping safe. */
static inline void ring_pause(RingPark *park, int wait, RingPatience *patience, int64_t deadline_ns) {
    if (patience->announced) {
        int64_t left_ns = deadline_ns - monotonic_ns();
        if (left_ns > RING_SLEEP_NS_MAX) left_ns = RING_SLEEP_NS_MAX;
        if (left_ns > 0) ring_futex_sleep(park, patience->ticket, left_ns);
        patience->announced = false;
        return;
    }
    patience->turns++;
    if (wait == RING_YIELD) {
        sched_yield();
    } else if (wait == RING_SPIN || patience->turns < RING_TURNS_BEFORE_SLEEP) {
        ring_relax();
    } else {
        patience->ticket = __atomic_load_n(&park->wakes, __ATOMIC_SEQ_CST);
        __atomic_store_n(&park->asleep, 1, __ATOMIC_SEQ_CST);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        patience->announced = true;
    }
}

/* Reading the clock costs as much as sixteen looks at a cached cursor, so spinners read it rarely. */
static inline bool ring_time_is_up(const RingPatience *patience, int wait, int64_t deadline_ns) {
    return (wait != RING_SPIN || patience->turns % 64 == 0) && monotonic_ns() >= deadline_ns;
}

#endif
