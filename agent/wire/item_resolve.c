/* SPDX-License-Identifier: AGPL-3.0-only */
/* Resolve: how an execution that is in doubt ended (design section 4.5); resolved: its answer. */
#include "wire/schemas.h"

#define RESOLVE(member)  offsetof(struct chp_resolve, member)
#define RESOLVED(member) offsetof(struct chp_resolved, member)

static const struct wire__field resolve_fields[] = {
    {.name = "id", .type = WIRE_TYPE_UUID, .offset = RESOLVE(id)},
    {.name = "operation", .type = WIRE_TYPE_UUID, .offset = RESOLVE(operation)},
    {.name = "resolution", .type = WIRE_TYPE_RESOLUTION, .offset = RESOLVE(resolution)},
    {.name = "principal",
     .type = WIRE_TYPE_TEXT,
     .offset = RESOLVE(principal),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = wire__printable_check},
};
const struct wire__schema wire__resolve_schema = {.fields = resolve_fields,
                                                  .field_count = WIRE_LENGTH(resolve_fields)};

static int check_resolved(const void *object, struct chp_error *error)
{
    const struct chp_resolved *resolved = object;
    return resolved->ok == (resolved->reason == NULL)
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "a reason goes with what is not ok, only");
}

static const struct wire__field resolved_fields[] = {
    {.name = "id", .type = WIRE_TYPE_UUID, .offset = RESOLVED(id)},
    {.name = "ok", .type = WIRE_TYPE_BOOL, .offset = RESOLVED(ok)},
    {.name = "reason",
     .type = WIRE_TYPE_TEXT,
     .offset = RESOLVED(reason),
     .optional = true,
     .max = CHP_REASON_MAX_BYTES},
};
const struct wire__schema wire__resolved_schema = {.fields = resolved_fields,
                                                   .field_count = WIRE_LENGTH(resolved_fields),
                                                   .check = check_resolved};
