/* SPDX-License-Identifier: AGPL-3.0-only */
/* Show: a reading command for a resource, asked of each of its sites; and each site's answer. */
#include "wire/schemas.h"

#define SHOW(member)   offsetof(struct chp_show, member)
#define ANSWER(member) offsetof(struct chp_answer, member)

static const struct wire__field show_fields[] = {
    {.name = "id", .type = WIRE_TYPE_UUID, .offset = SHOW(id)},
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = SHOW(resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "driver",
     .type = WIRE_TYPE_TEXT,
     .offset = SHOW(driver),
     .min = 1,
     .max = CHP_TYPE_MAX_BYTES,
     .check = chp_type_check},
    {.name = "payload",
     .type = WIRE_TYPE_BYTES,
     .offset = SHOW(payload),
     .max = CHP_PAYLOAD_MAX_BYTES},
    {.name = "principal",
     .type = WIRE_TYPE_TEXT,
     .offset = SHOW(principal),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
    {.name = "deadline",
     .type = WIRE_TYPE_UINT64,
     .offset = SHOW(deadline_ms),
     .max = CHP_DEADLINE_MAX_MS},
};
const struct wire__schema wire__show_schema = {.fields = show_fields,
                                               .field_count = WIRE_LENGTH(show_fields)};

static int check_answer(const void *object, struct chp_error *error)
{
    const struct chp_answer *answer = object;
    return answer->state == CHP_STATE_DONE || answer->state == CHP_STATE_FAILED ||
                   answer->state == CHP_STATE_REFUSED
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "state must be done, failed or refused");
}

static const struct wire__field answer_fields[] = {
    {.name = "id", .type = WIRE_TYPE_UUID, .offset = ANSWER(id)},
    {.name = "site",
     .type = WIRE_TYPE_TEXT,
     .offset = ANSWER(site),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "state", .type = WIRE_TYPE_STATE, .offset = ANSWER(state)},
    {.name = "exit", .type = WIRE_TYPE_INT32, .offset = ANSWER(exit_code)},
    {.name = "reason",
     .type = WIRE_TYPE_TEXT,
     .offset = ANSWER(reason),
     .optional = true,
     .max = CHP_REASON_MAX_BYTES},
    {.name = "output",
     .type = WIRE_TYPE_BYTES,
     .offset = ANSWER(output),
     .optional = true,
     .max = CHP_OUTPUT_MAX_BYTES},
    {.name = "cut", .type = WIRE_TYPE_BOOL, .offset = ANSWER(output_cut), .optional = true},
    {.name = "duration",
     .type = WIRE_TYPE_UINT64,
     .offset = ANSWER(duration_ms),
     .optional = true,
     .max = WIRE_MS_MAX},
};
const struct wire__schema wire__answer_schema = {
    .fields = answer_fields, .field_count = WIRE_LENGTH(answer_fields), .check = check_answer};
