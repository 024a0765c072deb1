/* SPDX-License-Identifier: AGPL-3.0-only */
#include "wire/token.h"

#include "base/limits.h"

static uint64_t big_endian(const uint8_t *data, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        value = value << 8 | data[i];
    }
    return value;
}

/* What the first byte says: how many bytes of number follow it, and what they are. */
struct head {
    enum wire__token_kind kind;
    uint8_t number_bytes; /* 0: number is in the first byte */
    bool is_signed;
    uint8_t fixed; /* bytes of a fixed-size ext or float behind the first byte, ext type included */
    uint8_t extra; /* bytes behind the length that it does not count (type of an ext) */
    uint64_t number; /* when number_bytes is 0 */
};

/* First bytes from 0xc0 to 0xdf; kind WIRE_NIL with fixed 255 is the one that is never used. */
static const struct head heads[32] = {
    [0x00] = {.kind = WIRE_NIL},
    [0x01] = {.kind = WIRE_NIL, .fixed = 255},
    [0x02] = {.kind = WIRE_FALSE},
    [0x03] = {.kind = WIRE_TRUE},
    [0x04] = {.kind = WIRE_BIN, .number_bytes = 1},
    [0x05] = {.kind = WIRE_BIN, .number_bytes = 2},
    [0x06] = {.kind = WIRE_BIN, .number_bytes = 4},
    [0x07] = {.kind = WIRE_EXT, .number_bytes = 1, .extra = 1},
    [0x08] = {.kind = WIRE_EXT, .number_bytes = 2, .extra = 1},
    [0x09] = {.kind = WIRE_EXT, .number_bytes = 4, .extra = 1},
    [0x0a] = {.kind = WIRE_FLOAT, .fixed = 4},
    [0x0b] = {.kind = WIRE_FLOAT, .fixed = 8},
    [0x0c] = {.kind = WIRE_UNSIGNED, .number_bytes = 1},
    [0x0d] = {.kind = WIRE_UNSIGNED, .number_bytes = 2},
    [0x0e] = {.kind = WIRE_UNSIGNED, .number_bytes = 4},
    [0x0f] = {.kind = WIRE_UNSIGNED, .number_bytes = 8},
    [0x10] = {.kind = WIRE_UNSIGNED, .number_bytes = 1, .is_signed = true},
    [0x11] = {.kind = WIRE_UNSIGNED, .number_bytes = 2, .is_signed = true},
    [0x12] = {.kind = WIRE_UNSIGNED, .number_bytes = 4, .is_signed = true},
    [0x13] = {.kind = WIRE_UNSIGNED, .number_bytes = 8, .is_signed = true},
    [0x14] = {.kind = WIRE_EXT, .fixed = 2},
    [0x15] = {.kind = WIRE_EXT, .fixed = 3},
    [0x16] = {.kind = WIRE_EXT, .fixed = 5},
    [0x17] = {.kind = WIRE_EXT, .fixed = 9},
    [0x18] = {.kind = WIRE_EXT, .fixed = 17},
    [0x19] = {.kind = WIRE_STR, .number_bytes = 1},
    [0x1a] = {.kind = WIRE_STR, .number_bytes = 2},
    [0x1b] = {.kind = WIRE_STR, .number_bytes = 4},
    [0x1c] = {.kind = WIRE_ARRAY, .number_bytes = 2},
    [0x1d] = {.kind = WIRE_ARRAY, .number_bytes = 4},
    [0x1e] = {.kind = WIRE_MAP, .number_bytes = 2},
    [0x1f] = {.kind = WIRE_MAP, .number_bytes = 4},
};

static struct head head_of(uint8_t first)
{
    if (first <= 0x7f) {
        return (struct head){.kind = WIRE_UNSIGNED, .number = first};
    }
    if (first <= 0x8f) {
        return (struct head){.kind = WIRE_MAP, .number = first & 0x0f};
    }
    if (first <= 0x9f) {
        return (struct head){.kind = WIRE_ARRAY, .number = first & 0x0f};
    }
    if (first <= 0xbf) {
        return (struct head){.kind = WIRE_STR, .number = first & 0x1f};
    }
    if (first <= 0xdf) {
        return heads[first - 0xc0];
    }
    return (struct head){.kind = WIRE_NEGATIVE, .number = (uint64_t)(int64_t)(int8_t)first};
}

static uint64_t extend_sign(uint64_t value, size_t len)
{
    CHP_ASSERT(len >= 1 && len <= 8);
    uint64_t sign = (uint64_t)1 << (8 * len - 1);
    return len < 8 && (value & sign) != 0 ? value | ~(2 * sign - 1) : value;
}

/* Bytes that the token at data takes (of an array or map: its head), 0 when it is malformed or does
 * not end within left. Lengths are compared with the bytes that are left, never added up. */
static size_t parse(const uint8_t *data, size_t left, struct wire__token *token)
{
    if (left == 0) {
        return 0;
    }
    struct head head = head_of(data[0]);
    size_t used = 1;
    if (head.fixed == 255 || left - used < head.number_bytes) {
        return 0;
    }
    uint64_t number = head.number;
    if (head.number_bytes > 0) {
        number = big_endian(data + used, head.number_bytes);
        used += head.number_bytes;
    }
    if (head.is_signed) {
        number = extend_sign(number, head.number_bytes);
        head.kind = number >> 63 != 0 ? WIRE_NEGATIVE : WIRE_UNSIGNED;
    }
    *token = (struct wire__token){.kind = head.kind, .number = number};
    uint64_t content = head.fixed;
    if (head.kind == WIRE_STR || head.kind == WIRE_BIN || head.kind == WIRE_EXT) {
        content += number + head.extra; /* at most 2^32 and a few */
    }
    if (content > left - used) {
        return 0;
    }
    token->bytes = chp_bytes(data + used, (size_t)content);
    return used + (size_t)content;
}

int wire__scan(struct chp_bytes input, struct chp_error *error)
{
    uint64_t open[CHP_WIRE_DEPTH_MAX]; /* values still to come on each level */
    size_t depth = 0;
    size_t elements = 0;
    size_t at = 0;
    do {
        struct wire__token token;
        size_t used = parse(input.data + at, input.len - at, &token);
        if (used == 0) {
            return chp_error_set(error, CHP_EMALFORMED, "not msgpack, or cut off, at byte %zu", at);
        }
        at += used;
        if (++elements > CHP_WIRE_ELEMENTS_MAX) {
            return chp_error_set(error, CHP_ETOOBIG, "more than %d values", CHP_WIRE_ELEMENTS_MAX);
        }
        if (depth > 0) {
            open[depth - 1]--;
        }
        if (token.kind == WIRE_ARRAY || token.kind == WIRE_MAP) {
            uint64_t count = token.kind == WIRE_MAP ? 2 * token.number : token.number;
            if (count > input.len - at) { /* a value takes a byte at least */
                return chp_error_set(error, CHP_EMALFORMED,
                                     "a count at byte %zu is greater than what follows", at - used);
            }
            if (depth == CHP_WIRE_DEPTH_MAX) {
                return chp_error_set(error, CHP_ETOODEEP, "nested deeper than %d levels",
                                     CHP_WIRE_DEPTH_MAX);
            }
            open[depth++] = count;
        }
        while (depth > 0 && open[depth - 1] == 0) {
            depth--;
        }
    } while (depth > 0);
    return at == input.len
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "%zu bytes too many", input.len - at);
}

struct wire__token wire__next(struct chp_bytes *at)
{
    struct wire__token token = {0};
    size_t used = parse(at->data, at->len, &token);
    CHP_ASSERT(used > 0); /* the scan has seen it */
    *at = chp_bytes(at->data + used, at->len - used);
    return token;
}

void wire__skip(struct chp_bytes *at)
{
    for (uint64_t todo = 1; todo > 0; todo--) {
        struct wire__token token = wire__next(at);
        if (token.kind == WIRE_ARRAY || token.kind == WIRE_MAP) {
            todo += token.kind == WIRE_MAP ? 2 * token.number : token.number;
        }
    }
}

const char *wire__kind_name(enum wire__token_kind kind)
{
    static const char *const names[] = {
        [WIRE_NIL] = "nil",
        [WIRE_FALSE] = "a boolean",
        [WIRE_TRUE] = "a boolean",
        [WIRE_UNSIGNED] = "an integer",
        [WIRE_NEGATIVE] = "a negative integer",
        [WIRE_FLOAT] = "a floating point number",
        [WIRE_STR] = "a string",
        [WIRE_BIN] = "binary",
        [WIRE_EXT] = "an extension",
        [WIRE_ARRAY] = "an array",
        [WIRE_MAP] = "a map",
    };
    CHP_ASSERT((unsigned)kind < sizeof names / sizeof names[0]);
    return names[kind];
}
