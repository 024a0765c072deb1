/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Reading msgpack without allocating: one token at a time, behind a scan that has proved the whole
 * input well-formed and within bounds.
 *
 * Not msgpack_unpack: it reserves memory for what a count claims (five bytes claim gigabytes),
 * ignores trailing bytes, and its tree of objects would only be walked once. The scan is needed
 * before it anyway, and with the scan done, the rest is this token reader. The fuzz target
 * wire_message compares the scan's verdict with the library's.
 */
#ifndef CHP_WIRE_TOKEN_H
#define CHP_WIRE_TOKEN_H

#include "base/buf.h"

enum wire__token_kind {
    WIRE_NIL,
    WIRE_FALSE,
    WIRE_TRUE,
    WIRE_UNSIGNED, /* any integer that is not negative, however it is written */
    WIRE_NEGATIVE,
    WIRE_FLOAT,
    WIRE_STR,
    WIRE_BIN,
    WIRE_EXT,
    WIRE_ARRAY,
    WIRE_MAP,
};

struct wire__token {
    enum wire__token_kind kind;
    uint64_t
        number; /* UNSIGNED; NEGATIVE: its two's complement; ARRAY and MAP: elements or pairs */
    struct chp_bytes bytes; /* STR and BIN: content, in the input */
};

/* Proves that input is exactly one msgpack value, nested at most CHP_WIRE_DEPTH_MAX arrays and maps
 * deep and with at most CHP_WIRE_ELEMENTS_MAX values in all. CHP_EMALFORMED, CHP_ETOODEEP or
 * CHP_ETOOBIG with a sentence otherwise. */
int wire__scan(struct chp_bytes input, struct chp_error *error) CHP_MUST_CHECK;

/* The next token of scanned input; *at moves behind it. Of an array or map only its head: the
 * elements follow. */
struct wire__token wire__next(struct chp_bytes *at);
/* Moves *at behind the next value, whole. */
void wire__skip(struct chp_bytes *at);
/* What a person calls the kind: "a string", "an array", ... */
const char *wire__kind_name(enum wire__token_kind kind);

#endif
