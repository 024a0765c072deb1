/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/uuid.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

struct chp_uuid chp_uuid_v7(uint64_t wall_ms, const uint8_t random[10])
{
    struct chp_uuid uuid;
    for (int i = 0; i < 6; i++) {
        uuid.bytes[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    }
    memcpy(uuid.bytes + 6, random, 10);
    uuid.bytes[6] = (uint8_t)(0x70 | (uuid.bytes[6] & 0x0f));
    uuid.bytes[8] = (uint8_t)(0x80 | (uuid.bytes[8] & 0x3f));
    return uuid;
}

struct chp_uuid chp_uuid_new(void)
{
    uint8_t random[10];
    chp_random(random, sizeof random);
    return chp_uuid_v7(chp_clock_wall_ms(), random);
}

void chp_uuid_format(const struct chp_uuid *uuid, char text[CHP_UUID_TEXT_BYTES])
{
    static const int lengths[] = {4, 2, 2, 2, 6};
    const uint8_t *bytes = uuid->bytes;
    for (int part = 0; part < 5; part++) {
        chp_hex_encode(bytes, (size_t)lengths[part], text);
        bytes += lengths[part];
        text += 2 * lengths[part];
        *text++ = part < 4 ? '-' : 0;
    }
}

int chp_uuid_parse(const char *text, struct chp_uuid *uuid)
{
    char digits[2 * CHP_UUID_BYTES + 1];
    size_t count = 0;
    if (strlen(text) != CHP_UUID_TEXT_BYTES - 1) {
        return CHP_EMALFORMED;
    }
    for (size_t i = 0; i < CHP_UUID_TEXT_BYTES - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (text[i] == '-')) {
            return CHP_EMALFORMED;
        }
        if (!dash) {
            digits[count++] = text[i];
        }
    }
    digits[count] = 0;
    return chp_hex_decode(digits, uuid->bytes, sizeof uuid->bytes);
}

bool chp_uuid_equal(const struct chp_uuid *a, const struct chp_uuid *b)
{
    return chp_uuid_compare(a, b) == 0;
}

int chp_uuid_compare(const struct chp_uuid *a, const struct chp_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}
