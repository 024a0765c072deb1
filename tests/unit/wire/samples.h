/* SPDX-License-Identifier: AGPL-3.0-only */
/* Items with every field set, and the encoding of one by hand. */
#ifndef CHP_TESTS_UNIT_WIRE_SAMPLES_H
#define CHP_TESTS_UNIT_WIRE_SAMPLES_H

#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

struct sample {
    struct chp_arena arena;
    struct chp_buf payload;
    struct chp_item item;
};

void sample_operation(struct sample *sample);
void sample_ack(struct sample *sample);
void sample_deinit(struct sample *sample);

/* A packer that appends to buf; text as str. */
msgpack_packer packer_to(struct chp_buf *buf);
void pack(msgpack_packer *packer, const char *text);
/* Bytes of hexadecimal text with spaces, in arena. */
struct chp_bytes unhex(struct chp_arena *arena, const char *hex);

#endif
