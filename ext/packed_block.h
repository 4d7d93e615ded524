/* One block of the packed cache: a header, a table of distinct event tails, then one run of
 * little-endian integers per column, each as wide as its block needs (0 to 8 bytes).
 *
 * What a column holds is added, modulo 2^64 or 2^32, to a base, so any bit pattern round-trips:
 * ts_ns and seq as steps from the event before, the rest as distance from the block's smallest value,
 * recv_ns from ts_ns where every event has one. The last 8 bytes of an event (ids, kind, side, flags)
 * take few values and are an index into the table.
 */
#ifndef ANYTICK_PACKED_BLOCK_H
#define ANYTICK_PACKED_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#define PACKED_MAGIC 0x31425041u    /* "APB1" */
#define PACKED_EVENTS_MAX 65536
#define PACKED_CRC_START 32         /* what stands before is compared or enters the checksums as their start */
#define PACKED_GRAIN 32             /* a block is a whole number of four-word rows, one word per checksum */
#define PACKED_SLACK 8              /* columns are read eight bytes at a time, so the last may be overrun */

enum PackedColumn {
    PACKED_TS, PACKED_RECV, PACKED_ID_LOW, PACKED_ID_HIGH, PACKED_SIZE, PACKED_PRICE, PACKED_SEQ, PACKED_TAIL,
    PACKED_COLUMNS
};

typedef struct {
    uint32_t magic;
    uint32_t block_bytes;     /* header, slack and padding included                          */
    uint32_t crc32c[4];       /* checksum k covers words k, k + 4, ... from PACKED_CRC_START: four short
                               * chains run side by side, a single one would cost half the decoding */
    uint64_t _reserved;       /* always 0                                                    */
    uint64_t ts_base;         /* of the first event                                          */
    uint64_t recv_base;
    uint64_t size_base;
    uint32_t id_low_base;
    uint32_t id_high_base;
    uint32_t price_base;
    uint32_t seq_base;        /* of the first event                                          */
    uint8_t  width[8];        /* bytes per value, by enum PackedColumn                       */
    uint32_t count;           /* events, 1 to PACKED_EVENTS_MAX                              */
    uint32_t tail_count;      /* entries of the table, 1 to count                            */
    uint64_t recv_relative;   /* 1: recv_ns counts from ts_ns                                */
    uint64_t _padding;        /* always 0                                                    */
} PackedHeader;

_Static_assert(sizeof(PackedHeader) == 104, "PackedHeader has no hidden padding");
_Static_assert(offsetof(PackedHeader, ts_base) == PACKED_CRC_START, "checksums start at ts_base");

#endif
