/* How evenly ids stand in a table's buckets: of each rule by which a venue may make them, the share that finds its
 * bucket full, and the share that meets its own tag in its bucket. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>

#include "order_index.h"

enum { BITS = 14, IDS = 40000 };

static uint32_t met[1 << BITS][128];

static void judge(const char *rule, uint64_t (*id_of)(uint64_t, uint64_t), uint64_t step)
{
    uint32_t full = 0, twins = 0;
    memset(met, 0, sizeof(met));
    for (uint64_t count = 1; count <= IDS; count++) {
        uint64_t id = id_of(count, step), in = 0;
        uint32_t *bucket = met[order_spread(id) >> (64 - BITS)];
        for (int tag = 0; tag < 128; tag++)
            in += bucket[tag];
        full += in >= ORDER_BUCKET_PLACES;
        twins += bucket[order_tag(id) & 0x7f]++ != 0;
    }
    printf("%s %llu %.4f %.4f\n", rule, (unsigned long long)step, (double)full / IDS, (double)twins / IDS);
}

static uint64_t times(uint64_t count, uint64_t step) { return count * step; }
static uint64_t past_a_time(uint64_t count, uint64_t step) { return 1700000000000000000ull + count * step; }
static uint64_t ours(uint64_t count, uint64_t legs)
{
    return 1ull << 63 | count / legs << 24 | count % legs << 8 | 1;
}

int main(void)
{
    const uint64_t golden = 0x9E3779B97F4A7C15ull;
    for (uint64_t step = 1; step < 1ull << 48; step <<= 1)
        judge("times", times, step);
    for (uint64_t step = 3; step < 1ull << 48; step *= 10)
        judge("times", times, step / 3);
    for (uint64_t step = 1; step <= 15; step += 2)
        judge("times", times, golden * step);
    judge("times", times, 0xF1DE83E19937733Dull);       /* golden's inverse modulo 2^64 */
    judge("times", times, 0xBF58476D1CE4E5B9ull);
    for (uint64_t step = 1; step < 1ull << 40; step *= 10)
        judge("past_a_time", past_a_time, step);
    for (uint64_t legs = 1; legs <= 16; legs *= 2)
        judge("ours", ours, legs);
    return 0;
}
