/* SPDX-License-Identifier: AGPL-3.0-only */
/* UUID version 7 (RFC 9562): ids of operations. Made from inputs, so that the same events give the
 * same bytes. */
#ifndef CHP_BASE_UUID_H
#define CHP_BASE_UUID_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHP_UUID_BYTES = 16, CHP_UUID_TEXT_BYTES = 37 };

struct chp_uuid {
    uint8_t bytes[CHP_UUID_BYTES];
};

/* wall_ms: Unix time in milliseconds; random: ten random bytes. */
struct chp_uuid chp_uuid_v7(uint64_t wall_ms, const uint8_t random[10]);
/* From the wall clock and getrandom. */
struct chp_uuid chp_uuid_new(void);
void chp_uuid_format(const struct chp_uuid *uuid, char text[CHP_UUID_TEXT_BYTES]);
/* The 36-character form, either case; CHP_EMALFORMED otherwise. */
int chp_uuid_parse(const char *text, struct chp_uuid *uuid) CHP_MUST_CHECK;
bool chp_uuid_equal(const struct chp_uuid *a, const struct chp_uuid *b);
/* memcmp order. */
int chp_uuid_compare(const struct chp_uuid *a, const struct chp_uuid *b);

#endif
