/* SPDX-License-Identifier: AGPL-3.0-only */
/* Ack: how an operation stands at one site (design section 4.6). */
#include "wire/schemas.h"

#define AT(member) offsetof(struct chp_ack, member)

static const struct wire__field fields[] = {
    {.name = "operation", .type = WIRE_TYPE_UUID, .offset = AT(operation)},
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "site",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(site),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "inc", .type = WIRE_TYPE_UINT64, .offset = AT(incarnation), .max = WIRE_NUMBER_MAX},
    {.name = "run", .type = WIRE_TYPE_UINT32, .offset = AT(run), .max = INT32_MAX},
    {.name = "state", .type = WIRE_TYPE_STATE, .offset = AT(state)},
    {.name = "exit", .type = WIRE_TYPE_INT32, .offset = AT(exit_code)},
    {.name = "reason",
     .type = WIRE_TYPE_TEXT,
     .offset = AT(reason),
     .optional = true,
     .max = CHP_REASON_MAX_BYTES},
    {.name = "output",
     .type = WIRE_TYPE_BYTES,
     .offset = AT(output),
     .optional = true,
     .max = CHP_OUTPUT_MAX_BYTES},
    {.name = "cut", .type = WIRE_TYPE_BOOL, .offset = AT(output_cut), .optional = true},
    {.name = "unverified", .type = WIRE_TYPE_BOOL, .offset = AT(unverified), .optional = true},
    {.name = "started",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(started_ms),
     .optional = true,
     .max = WIRE_MS_MAX},
    {.name = "duration",
     .type = WIRE_TYPE_UINT64,
     .offset = AT(duration_ms),
     .optional = true,
     .max = WIRE_MS_MAX},
};
const struct wire__schema wire__ack_schema = {.fields = fields, .field_count = WIRE_LENGTH(fields)};
