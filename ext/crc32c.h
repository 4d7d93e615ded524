/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of 64-bit little-endian words and of bytes.
 *
 * The instruction set has had it since SSE4.2 (part of x86-64-v2) and ARMv8.1; the slicing-by-8 form
 * (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-based CRC
 * Generators", 2005) stands in elsewhere and is compiled everywhere, so that a test can compare both.
 * All functions continue from `crc`; start with and finish by flipping every bit (see crc32c_of).
 */
#ifndef ANYTICK_CRC32C_H
#define ANYTICK_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE4_2__) && defined(__x86_64__)
#include <nmmintrin.h>
#define CRC32C_VARIANT "sse4.2"
#define CRC32C_HARDWARE_WORD(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define CRC32C_HARDWARE_BYTE(crc, byte) ((uint32_t)_mm_crc32_u8((crc), (byte)))
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define CRC32C_VARIANT "armv8"
#define CRC32C_HARDWARE_WORD(crc, word) __crc32cd((crc), (word))
#define CRC32C_HARDWARE_BYTE(crc, byte) __crc32cb((crc), (byte))
#else
#define CRC32C_VARIANT "portable"
#endif

/* table[k][b]: the remainder of byte b followed by k zero bytes. */
static uint32_t crc32c_table[8][256];

/* Filled when the extension is loaded: 8 KiB that no caller has to remember to initialise. */
__attribute__((constructor)) static void crc32c_fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
        crc32c_table[0][byte] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t shorter = crc32c_table[slice - 1][byte];
            crc32c_table[slice][byte] = (shorter >> 8) ^ crc32c_table[0][shorter & 0xFF];
        }
}

static inline uint32_t crc32c_byte_portable(uint32_t crc, uint8_t byte) {
    return (crc >> 8) ^ crc32c_table[0][(crc ^ byte) & 0xFF];
}

static inline uint32_t crc32c_word_portable(uint32_t crc, uint64_t word) {
    uint32_t next = 0;
    word ^= crc;
    for (int byte = 0; byte < 8; byte++) next ^= crc32c_table[7 - byte][(word >> (8 * byte)) & 0xFF];
    return next;
}

#ifdef CRC32C_HARDWARE_WORD
static inline uint32_t crc32c_word(uint32_t crc, uint64_t word) { return CRC32C_HARDWARE_WORD(crc, word); }
static inline uint32_t crc32c_byte(uint32_t crc, uint8_t byte) { return CRC32C_HARDWARE_BYTE(crc, byte); }
#else
static inline uint32_t crc32c_word(uint32_t crc, uint64_t word) { return crc32c_word_portable(crc, word); }
static inline uint32_t crc32c_byte(uint32_t crc, uint8_t byte) { return crc32c_byte_portable(crc, byte); }
#endif

#define CRC32C_DEFINE_OF(name, word_step, byte_step)                      \
    static inline uint32_t name(const void *data, size_t byte_count) {    \
        const uint8_t *bytes = (const uint8_t *)data;                     \
        uint32_t crc = UINT32_MAX;                                        \
        for (; byte_count >= 8; byte_count -= 8, bytes += 8) {            \
            uint64_t word;                                                \
            memcpy(&word, bytes, 8);                                      \
            crc = word_step(crc, word);                                   \
        }                                                                 \
        while (byte_count--) crc = byte_step(crc, *bytes++);              \
        return ~crc;                                                      \
    }
CRC32C_DEFINE_OF(crc32c_of, crc32c_word, crc32c_byte)
CRC32C_DEFINE_OF(crc32c_of_portable, crc32c_word_portable, crc32c_byte_portable)

#endif
