/* SPDX-License-Identifier: AGPL-3.0-only */
/* Beat: I am here; and with the echo of the other's last beat, what the round trip takes. */
#include "wire/schemas.h"

#define AT(member) offsetof(struct chp_beat, member)

static const struct wire__field fields[] = {
    {.name = "sent", .type = WIRE_TYPE_UINT64, .offset = AT(sent_us), .max = WIRE_NUMBER_MAX},
    {.name = "echo",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(echo_us),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "held",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(held_us),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "wall", .type = WIRE_TYPE_UINT64, .offset = AT(wall_ms), .max = WIRE_MS_MAX},
    {.name = "version",
     .type = WIRE_TYPE_UINT32,
     .offset = AT(version),
     .min = 1,
     .max = UINT32_MAX},
    {.name = "version_min",
     .type = WIRE_TYPE_UINT32,
     .offset = AT(version_min),
     .min = 1,
     .max = UINT32_MAX},
    {.name = "software",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(software),
     .min = 1,
     .max = CHP_TYPE_MAX_BYTES,
     .check = wire__printable_check},
};
const struct wire__schema wire__beat_schema = {.fields = fields,
                                               .field_count = WIRE_LENGTH(fields)};
