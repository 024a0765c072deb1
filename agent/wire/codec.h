/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The table-driven codec: every message is described once, as a table of fields over a struct of
 * wire/item.h, and that one table decodes it, encodes it and bounds it both ways. So the two
 * directions can't drift apart, and a table reads like the format's description in schema/wire.md.
 *
 * Rejected: a pair of hand-written functions per message (the bounds then stand in two places and
 * the twentieth if-ladder hides a mistake), and generated code (a second language for ten tables).
 */
#ifndef CHP_WIRE_CODEC_H
#define CHP_WIRE_CODEC_H

#include "wire/item.h"
#include "wire/token.h"

#include <msgpack.h>

enum wire__type {
    WIRE_TYPE_TEXT,   /* const char *; str */
    WIRE_TYPE_BYTES,  /* struct chp_bytes, borrowed from the input; bin (str is taken, too) */
    WIRE_TYPE_UINT64, /* uint64_t */
    WIRE_TYPE_UINT32,
    WIRE_TYPE_INT32,
    WIRE_TYPE_BOOL,
    WIRE_TYPE_UUID,   /* bin of 16 */
    WIRE_TYPE_SHA256, /* bin of 32 */
    WIRE_TYPE_KEY,    /* enum chp_key; str, its name; as the next three */
    WIRE_TYPE_LEVEL,
    WIRE_TYPE_STATE,
    WIRE_TYPE_RESOLUTION,
    WIRE_TYPE_STRUCT, /* an embedded struct */
    WIRE_TYPE_LIST,   /* pointer to an array, and a size_t count */
};

struct wire__schema;

struct wire__field {
    const char *name;
    enum wire__type type;
    bool optional; /* may be absent, which decodes as zero; zero is not encoded */
    uint64_t min;  /* TEXT and BYTES: bytes; integers: value; LIST: elements */
    uint64_t max;
    size_t offset;
    size_t given; /* offset of a bool that says whether an optional field is there, since its zero
                     means something; 0: no such bool */
    int (*check)(const char *text,
                 struct chp_error *error); /* TEXT: a rule beyond UTF-8 without NUL, or NULL */
    const struct wire__schema *schema;     /* STRUCT */
    const struct wire__field *element;     /* LIST: its offset is within an element */
    size_t element_bytes;                  /* LIST */
    size_t count;                          /* LIST: offset of the count */
};

struct wire__schema {
    const struct wire__field *fields; /* at most 64 */
    size_t field_count;
    bool tuple; /* an array of the fields in this order; otherwise a map of short names, in any
                   order */
    int (*check)(const void *object,
                 struct chp_error *error); /* what no single field can tell, or NULL */
};

/* All numbers fit in a signed 64-bit integer: a database has no other. */
#define WIRE_NUMBER_MAX    ((uint64_t)INT64_MAX)
#define WIRE_MS_MAX        (((uint64_t)1 << 48) - 1)
#define WIRE_LENGTH(table) (sizeof(table) / sizeof((table)[0]))

/* Reads one value of scanned input into the zeroed object. what names it in errors. Text is copied
 * into arena. */
int wire__read(const struct wire__schema *schema, const char *what, struct chp_bytes *at,
               struct chp_arena *arena, void *object, struct chp_error *error) CHP_MUST_CHECK;
/* Checks the object against its schema and packs it. */
int wire__write(const struct wire__schema *schema, const char *what, const void *object,
                msgpack_packer *packer, struct chp_error *error) CHP_MUST_CHECK;

/* What a name rule calls invalid is a malformed message when another agent sent it: changes
 * CHP_EINVAL. */
int wire__malformed(int code, struct chp_error *error) CHP_MUST_CHECK;

/* A packer that appends to out. */
msgpack_packer wire__packer(struct chp_buf *out);
void wire__pack_text(msgpack_packer *packer, const char *text); /* NULL: nil */
void wire__pack_bytes(msgpack_packer *packer, struct chp_bytes bytes);

/* 1 or more characters that are no controls: keys, principals, scopes. */
int wire__printable_check(const char *text, struct chp_error *error) CHP_MUST_CHECK;

#endif
