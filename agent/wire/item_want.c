/* SPDX-License-Identifier: AGPL-3.0-only */
/* Want: operations of one origin that are missing at the sender (design section 4.4); none: the
 * answer of a site that lacks them, too. Repair: a stream that has a gap (design section 4.7). */
#include "wire/schemas.h"

static int check_range(const void *object, struct chp_error *error)
{
    const struct chp_range *range = object;
    return range->first <= range->last
               ? 0
               : chp_error_set(error, CHP_EMALFORMED, "first is greater than last");
}

static const struct wire__field range_fields[] = {
    {.name = "origin",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_range, origin),
     .min = 1,
     .max = CHP_SITE_MAX_BYTES,
     .check = chp_site_name_check},
    {.name = "inc",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_range, incarnation),
     .max = WIRE_NUMBER_MAX},
    {.name = "first",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_range, first),
     .min = 1,
     .max = WIRE_NUMBER_MAX},
    {.name = "last",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_range, last),
     .min = 1,
     .max = WIRE_NUMBER_MAX},
};
const struct wire__schema wire__range_schema = {.fields = range_fields,
                                                .field_count = WIRE_LENGTH(range_fields),
                                                .tuple = true,
                                                .check = check_range};

static const struct wire__field fields[] = {
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_want, resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "range",
     .type = WIRE_TYPE_STRUCT,
     .offset = offsetof(struct chp_want, range),
     .schema = &wire__range_schema},
};
const struct wire__schema wire__want_schema = {.fields = fields,
                                               .field_count = WIRE_LENGTH(fields)};

static const struct wire__field none_fields[] = {
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_none, resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "range",
     .type = WIRE_TYPE_STRUCT,
     .offset = offsetof(struct chp_none, range),
     .schema = &wire__range_schema},
    {.name = "forgotten",
     .type = WIRE_TYPE_BOOL,
     .offset = offsetof(struct chp_none, forgotten),
     .optional = true},
};
const struct wire__schema wire__none_schema = {.fields = none_fields,
                                               .field_count = WIRE_LENGTH(none_fields)};

static int check_repair(const void *object, struct chp_error *error)
{
    const struct chp_repair *repair = object;
    return repair->key == CHP_KEY_OPERATION || repair->key == CHP_KEY_ACK
               ? 0
               : chp_error_set(error, CHP_EMALFORMED,
                               "key must be operation or ack: only these are numbered");
}

static const struct wire__field repair_fields[] = {
    {.name = "key", .type = WIRE_TYPE_KEY, .offset = offsetof(struct chp_repair, key)},
    {.name = "after",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_repair, after),
     .max = WIRE_NUMBER_MAX},
};
const struct wire__schema wire__repair_schema = {
    .fields = repair_fields, .field_count = WIRE_LENGTH(repair_fields), .check = check_repair};
